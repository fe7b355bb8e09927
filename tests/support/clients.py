"""What the tests of mail clients share: how one is run, and what is in the mailboxes then."""

import imaplib
import os
import shutil
import smtplib
import ssl
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from email import message_from_bytes
from email.message import EmailMessage

from tests.support.engine import Engine

ALICE, BOB = "alice's password", "bob's password"


HOST = "localhost"


"""The engine's name too, so that clients can check its self-signed certificate in full."""


LIMIT = 60


BODY = "Dear Bob,\r\n\r\n.a line that begins with a dot, and Ümläuts: žluťoučký kůň.\r\n"


def open_imap(engine: Engine, login: str, password: str) -> imaplib.IMAP4_SSL:
    context = ssl.create_default_context(cafile=str(engine.certificate))
    context.check_hostname = engine.hostname == HOST
    imap = imaplib.IMAP4_SSL(HOST, engine.ports.imaps, ssl_context=context, timeout=LIMIT)
    imap.login(login, password)
    return imap


def program(name: str) -> str:
    path = shutil.which(name)
    assert path, f"{name} is not installed: run `make clients`"
    return path


def run(
    *command: str,
    stdin: str = "",
    environment: Mapping[str, str] | None = None,
    accept: Sequence[int] = (0,),
) -> str:
    """What the program printed (both streams); fails on another exit status."""
    done = subprocess.run(
        [program(command[0]), *command[1:]],
        input=stdin.encode(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=LIMIT,
        env={**os.environ, "LC_ALL": "C.UTF-8", **(environment or {})},
    )
    printed = done.stdout.decode(errors="replace")
    assert done.returncode in accept, f"{' '.join(command)} ended with {done.returncode}:\n{printed}"
    return printed


def send(engine: Engine, subject: str, body: str = BODY) -> bytes:
    """Put a message into bob's INBOX by plain SMTP; its content as sent."""
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "alice@example.test", "bob@example.test", subject
    message.set_content(body.replace("\r\n", "\n"))
    content = message.as_bytes().replace(b"\n", b"\r\n")
    with smtplib.SMTP(engine.host, engine.ports.smtp, timeout=LIMIT) as smtp:
        smtp.sendmail("carol@elsewhere.test", ["bob@example.test"], content)
    return content


def select(imap: imaplib.IMAP4, mailbox: str) -> int:
    """Open it; how many messages it holds."""
    kind, answer = imap.select(mailbox)
    assert kind == "OK", answer
    return int(answer[0] or b"0")


def subjects(imap: imaplib.IMAP4, mailbox: str = "INBOX") -> list[str]:
    if not select(imap, mailbox):
        return []
    answer = imap.fetch("1:*", "(BODY.PEEK[HEADER.FIELDS (SUBJECT)])")[1]
    return [str(message_from_bytes(part[1])["Subject"]) for part in answer if isinstance(part, tuple)]


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """For what another process does in its own time (a queue run); looks four times a second."""
    deadline = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not happen in {LIMIT} s"
        time.sleep(0.25)


def swaks(engine: Engine, subject: str, *options: str, accept: Sequence[int] = (0,)) -> str:
    return run(
        *("swaks", "--server", engine.host, "--from", "alice@example.test", "--to", "bob@example.test"),
        *("--auth-user", "alice", "--auth-password", ALICE, "--timeout", "30"),
        *("--header", f"Subject: {subject}", "--body", "Hello Bob.", *options),
        accept=accept,
    )
