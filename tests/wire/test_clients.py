"""Real mail clients from Debian against a real engine (issue: must show, point 1).

A client that is missing is a failure, never a skip: `make clients` installs them.
"""

import imaplib
import os
import poplib
import pty
import re
import signal
import smtplib
import ssl
import subprocess
import time
from collections.abc import Iterator, Sequence
from email import message_from_bytes
from email.message import EmailMessage
from multiprocessing.connection import wait
from pathlib import Path

import pytest

from tests.support.clients import (
    ALICE,
    BOB,
    HOST,
    LIMIT,
    open_imap,
    program,
    run,
    select,
    send,
    subjects,
    swaks,
)
from tests.support.engine import Engine

pytestmark = pytest.mark.clients


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    settings = {"ImapPlaintextLogin": True, "Pop3PlaintextLogin": True}
    folder = tmp_path_factory.mktemp("engine")
    with Engine(folder, hostname=HOST, users={"alice": ALICE, "bob": BOB}, settings=settings) as running:
        yield running


@pytest.fixture
def inbox(engine: Engine) -> Iterator[imaplib.IMAP4_SSL]:
    """Bob's mailboxes, empty; for looking at what the clients did."""
    with open_imap(engine, "bob", BOB) as imap:
        for name in ("INBOX", "Sent", "Drafts", "Trash"):
            if select(imap, name):
                imap.store("1:*", "+FLAGS", "\\Deleted")
                imap.expunge()
        imap.select("INBOX")
        yield imap


# --- submitting: swaks ----------------------------------------------------------------------------


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
def test_swaks_submits_by_starttls_on_587(engine: Engine, inbox: imaplib.IMAP4, mechanism: str) -> None:
    printed = swaks(
        engine, f"swaks {mechanism}", "--port", str(engine.ports.submission), "--tls", "--auth", mechanism
    )
    assert "TLS started" in printed
    assert re.search(r"^<~\s+235 ", printed, re.M), printed
    assert subjects(inbox) == [f"swaks {mechanism}"]


def test_swaks_submits_by_smtps_on_465(engine: Engine, inbox: imaplib.IMAP4) -> None:
    swaks(engine, "swaks SMTPS", "--port", str(engine.ports.smtps), "--tls-on-connect", "--auth", "PLAIN")
    assert subjects(inbox) == ["swaks SMTPS"]


def test_swaks_may_not_submit_without_a_password(engine: Engine, inbox: imaplib.IMAP4) -> None:
    command = ("swaks", "--server", engine.host, "--port", str(engine.ports.submission), "--tls")
    printed = run(*command, "--from", "alice@example.test", "--to", "bob@example.test", accept=range(1, 64))
    assert re.search(r"^<\S*\s+5\d\d ", printed, re.M), printed
    assert subjects(inbox) == []


def test_swaks_with_a_wrong_password_is_refused(engine: Engine, inbox: imaplib.IMAP4) -> None:
    options = ("--port", str(engine.ports.submission), "--tls", "--auth", "PLAIN", "--auth-password", "wrong")
    printed = swaks(engine, "wrong password", *options, accept=(28,))  # 28: authentication failed
    assert re.search(r"^<\S*\s+535 ", printed, re.M), printed
    assert subjects(inbox) == []


# --- reading: curl --------------------------------------------------------------------------------


def curl(engine: Engine, url: str, *options: str) -> bytes:
    command = [
        program("curl"),
        "--silent",
        "--show-error",
        "--cacert",
        str(engine.certificate),
        "--max-time",
        "30",
        *options,
    ]
    done = subprocess.run([*command, "--user", f"bob:{BOB}", url], capture_output=True, timeout=LIMIT)
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    return done.stdout


@pytest.mark.parametrize(("scheme", "options"), [("imap", ()), ("imap", ("--ssl-reqd",)), ("imaps", ())])
def test_curl_reads_over_imap(
    engine: Engine, inbox: imaplib.IMAP4, scheme: str, options: tuple[str, ...]
) -> None:
    content = send(engine, "for curl")
    port = engine.ports.imaps if scheme == "imaps" else engine.ports.imap
    fetched = curl(engine, f"{scheme}://{HOST}:{port}/INBOX;MAILINDEX=1", *options)
    assert fetched.endswith(content)
    listed = curl(engine, f"{scheme}://{HOST}:{port}/", *options)
    assert b'"Sent"' in listed or b" Sent" in listed


@pytest.mark.parametrize(("scheme", "options"), [("pop3", ()), ("pop3", ("--ssl-reqd",)), ("pop3s", ())])
def test_curl_reads_over_pop3(
    engine: Engine, inbox: imaplib.IMAP4, scheme: str, options: tuple[str, ...]
) -> None:
    content = send(engine, "for curl")
    port = engine.ports.pop3s if scheme == "pop3s" else engine.ports.pop3
    assert curl(engine, f"{scheme}://{HOST}:{port}/", *options).split()[0] == b"1"
    assert curl(engine, f"{scheme}://{HOST}:{port}/1", *options).endswith(content)


# --- synchronizing: mbsync ------------------------------------------------------------------------

MBSYNC = """\
IMAPAccount bob
Host {host}
Port {port}
User bob
Pass "{password}"
SSLType {tls}
CertificateFile {certificate}
AuthMechs LOGIN

IMAPStore far
Account bob

MaildirStore near
Path {folder}/mail/
Inbox {folder}/mail/INBOX
SubFolders Verbatim

Channel all
Far :far:
Near :near:
Patterns *
Create Near
Expunge Both
Sync All
SyncState *
"""


@pytest.mark.parametrize("tls", ["None", "STARTTLS", "IMAPS"])
def test_mbsync_syncs_both_ways(engine: Engine, inbox: imaplib.IMAP4, tmp_path: Path, tls: str) -> None:
    (tmp_path / "mail").mkdir()
    config = tmp_path / "mbsyncrc"
    port = engine.ports.imaps if tls == "IMAPS" else engine.ports.imap
    values = {"host": HOST, "port": port, "tls": tls, "password": BOB, "folder": tmp_path}
    config.write_text(MBSYNC.format(**values, certificate=engine.certificate))
    sent = [send(engine, "first"), send(engine, "second", "x" * 900 + "\r\n")]

    mbsync(config)
    near = tmp_path / "mail/INBOX"
    received = sorted(path.read_bytes() for path in (*near.glob("new/*"), *near.glob("cur/*")))
    assert len(received) == len(sent)
    for content in sent:
        assert any(content.replace(b"\r\n", b"\n").split(b"\n\n", 1)[1] in mail for mail in received)

    # Here: read one, answer from elsewhere; there: both must show.
    first = next(
        path for path in (*near.glob("new/*"), *near.glob("cur/*")) if b"Subject: first" in path.read_bytes()
    )
    first.rename(near / "cur" / (first.name.partition(":")[0] + ":2,S"))
    (tmp_path / "mail/Sent/cur/1.local:2,S").write_bytes(
        b"From: bob@example.test\nSubject: made here\n\nText.\n"
    )
    mbsync(config)
    assert subjects(inbox, "Sent") == ["made here"]
    inbox.select("INBOX")
    assert inbox.search(None, "SEEN")[1] == [b"1"]

    # Nothing is left to do: one file each, no change.
    before = snapshot(tmp_path / "mail")
    modseq = inbox.status("INBOX", "(UIDNEXT MESSAGES UNSEEN)")
    mbsync(config)
    assert snapshot(tmp_path / "mail") == before
    assert inbox.status("INBOX", "(UIDNEXT MESSAGES UNSEEN)") == modseq

    # Deleted here, gone there.
    next(path for path in near.glob("cur/*") if b"Subject: first" in path.read_bytes()).unlink()
    mbsync(config)
    assert subjects(inbox) == ["second"]


def mbsync(config: Path) -> str:
    return run(
        "mbsync", "--config", str(config), "--verbose", "all", environment={"HOME": str(config.parent)}
    )


def snapshot(folder: Path) -> dict[str, bytes]:
    """All mail files by path."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.parent.name in {"cur", "new"}
    }


# --- fetching: fetchmail --------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", ["pop3", "imap"])
@pytest.mark.parametrize("tls", ["clear", "starttls", "implicit"])
def test_fetchmail_fetches_once(
    engine: Engine, inbox: imaplib.IMAP4, tmp_path: Path, protocol: str, tls: str
) -> None:
    content = send(engine, "for fetchmail")
    standard = {"pop3": (110, 995), "imap": (143, 993)}[protocol][tls == "implicit"]
    options = {
        "clear": "sslproto ''",
        "starttls": f"sslproto 'TLS1.2+' sslcertfile '{engine.certificate}' sslcertck",
        "implicit": f"ssl sslcertfile '{engine.certificate}' sslcertck",
    }[tls]
    fetched = tmp_path / "fetched"
    config = tmp_path / "fetchmailrc"
    known = " uidl" if protocol == "pop3" else ""  # POP3 remembers by UIDL, IMAP by \\Seen
    config.write_text(
        "set no bouncemail\nset no spambounce\n"
        f"poll {HOST} protocol {protocol} port {engine.ports.of(standard)}{known}\n"
        f'  user "bob" password "{BOB}" {options} keep mda "cat >>{fetched}"\n'
    )
    config.chmod(0o600)
    fetchmail(config)
    text = fetched.read_bytes().replace(b"\r\n", b"\n")
    assert content.replace(b"\r\n", b"\n").split(b"\n\n", 1)[1].rstrip() in text
    size = fetched.stat().st_size
    fetchmail(config, accept=(1,))  # 1: there was no new mail
    assert fetched.stat().st_size == size


def fetchmail(config: Path, accept: Sequence[int] = (0,)) -> str:
    home = config.parent
    command = (
        "fetchmail",
        "--fetchmailrc",
        str(config),
        "--nodetach",
        "--verbose",
        "--pidfile",
        str(home / "pid"),
    )
    return run(*command, accept=accept, environment={"HOME": str(home), "FETCHMAILHOME": str(home)})


# --- reading and writing: neomutt -----------------------------------------------------------------

NEOMUTTRC = """\
set imap_user = "bob"
set imap_pass = "{password}"
set folder = "{url}"
set spool_file = "{url}/INBOX"
set record = "{url}/Sent"
set certificate_file = "{certificate}"
set ssl_starttls = {starttls}
set ssl_force_tls = no
set pipe_decode = no
set wait_key = no
set confirm_append = no
set quit = yes
set mail_check = 0
set header_cache = ""
set smtp_url = "smtps://alice@{host}:{smtps}"
set smtp_pass = "{alice}"
set from = "alice@example.test"
set use_from = yes
"""


def neomutt_config(engine: Engine, folder: Path, tls: str) -> Path:
    scheme, port = ("imaps", engine.ports.imaps) if tls == "implicit" else ("imap", engine.ports.imap)
    config = folder / "neomuttrc"
    config.write_text(
        NEOMUTTRC.format(
            url=f"{scheme}://{HOST}:{port}",
            host=HOST,
            smtps=engine.ports.smtps,
            password=BOB,
            alice=ALICE,
            certificate=engine.certificate,
            starttls="yes" if tls == "starttls" else "no",
        )
    )
    return config


def neomutt_types(config: Path, keys: str) -> None:
    """Run neomutt on a terminal of its own; `keys` is what is typed into it."""
    command = [program("neomutt"), "-n", "-F", str(config), "-e", f'push "{keys}"']
    environment = {**os.environ, "TERM": "xterm", "LC_ALL": "C.UTF-8", "HOME": str(config.parent)}
    process, terminal = pty.fork()
    if process == 0:
        os.execve(command[0], command, environment)
    screen = bytearray()
    ended = False
    deadline = time.monotonic() + LIMIT
    while not ended and time.monotonic() < deadline:
        if wait([terminal], timeout=1):
            try:
                screen += os.read(terminal, 65536)
            except OSError:  # EIO: it has ended
                ended = True
    if not ended:
        os.kill(process, signal.SIGKILL)
    os.close(terminal)
    status = os.waitpid(process, 0)[1]
    shown = screen[-3000:].decode(errors="replace")
    assert ended, f"neomutt did not end; its screen:\n{shown}"
    assert status == 0, shown


@pytest.mark.parametrize("tls", ["clear", "starttls", "implicit"])
def test_neomutt_reads_and_deletes(engine: Engine, inbox: imaplib.IMAP4, tmp_path: Path, tls: str) -> None:
    content = send(engine, "for neomutt")
    send(engine, "to be deleted")
    config = neomutt_config(engine, tmp_path, tls)
    out = tmp_path / "piped"
    # pipe the first raw into a file and show it; delete the second; leave, which expunges
    neomutt_types(
        config,
        f"<first-entry><pipe-message>cat > {out}<enter><display-message><exit><last-entry><delete-message><quit>y",
    )
    assert content.replace(b"\r\n", b"\n").split(b"\n\n", 1)[1] in out.read_bytes().replace(b"\r\n", b"\n")
    assert subjects(inbox) == ["for neomutt"]
    assert b"\\Seen" in bytes(inbox.fetch("1", "(FLAGS)")[1][0])


def test_neomutt_sends_over_smtps(engine: Engine, inbox: imaplib.IMAP4, tmp_path: Path) -> None:
    config = neomutt_config(engine, tmp_path, "implicit")
    config.write_text(config.read_text() + 'set record = ""\n')
    run("neomutt", "-n", "-F", str(config), "-s", "from neomutt", "bob@example.test", stdin="Hello.\n")
    assert subjects(inbox) == ["from neomutt"]


# --- Python's own clients -------------------------------------------------------------------------


def test_python_clients_submit_read_and_delete(engine: Engine, inbox: imaplib.IMAP4) -> None:
    context = ssl.create_default_context(cafile=str(engine.certificate))
    message = EmailMessage()
    message["From"], message["To"] = "alice@example.test", "bob@example.test"
    message["Subject"] = "Über alles"
    message.set_content("Text\n")
    message.add_attachment(
        os.urandom(50_000), maintype="application", subtype="octet-stream", filename="a.bin"
    )
    with smtplib.SMTP(HOST, engine.ports.submission, timeout=LIMIT) as smtp:
        smtp.starttls(context=context)
        smtp.login("alice", ALICE)
        assert smtp.send_message(message) == {}

    pop = poplib.POP3_SSL(HOST, engine.ports.pop3s, context=context, timeout=LIMIT)
    pop.user("bob")
    pop.pass_(BOB)
    lines = pop.retr(1)[1]
    parsed = message_from_bytes(b"\r\n".join(lines))
    sent = message.get_payload()[1].get_payload(decode=True)
    assert parsed.get_payload()[1].get_payload(decode=True) == sent
    pop.dele(1)
    pop.quit()
    assert subjects(inbox) == []
