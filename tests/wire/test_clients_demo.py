"""What a newcomer does after `make run`: types the commands that it prints, then uses other clients."""

import imaplib
import poplib
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator

import pytest

from tests.support.engine import Engine

pytestmark = pytest.mark.clients

LIMIT = 60


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    with Engine(tmp_path_factory.mktemp("demo"), verb="demo") as engine:
        lines = (engine.data / "demo-passwords.txt").read_text().splitlines()
        engine.passwords = dict(line.split() for line in lines)
        yield engine


def printed_command(demo: Engine, name: str) -> list[str]:
    """The command that the demo says to try, as a shell would take it."""
    lines = [line.strip() for line in demo.log.splitlines() if line.strip().startswith(name + " ")]
    assert len(lines) == 1, demo.log
    command = shlex.split(lines[0])
    path = shutil.which(command[0])
    assert path, f"{name} is not installed: run `make clients`"
    return [path, *command[1:]]


def test_the_printed_curl_command_reads_a_message(demo: Engine) -> None:
    done = subprocess.run(printed_command(demo, "curl"), capture_output=True, timeout=LIMIT)
    assert done.returncode == 0, done.stderr
    assert re.search(rb"^Subject: ", done.stdout, re.M | re.I)


def test_the_printed_swaks_command_reaches_bob(demo: Engine) -> None:
    with imaplib.IMAP4(demo.host, demo.ports.imap, timeout=LIMIT) as imap:  # in the clear: it is loopback
        imap.login("bob", demo.passwords["bob"])
        before = int(imap.select("INBOX")[1][0] or b"0")
        done = subprocess.run(printed_command(demo, "swaks"), capture_output=True, timeout=LIMIT)
        assert done.returncode == 0, done.stdout.decode()
        imap.noop()
        kind, answer = imap.search(None, "ALL")
        assert kind == "OK"
        assert len(answer[0].split()) == before + 1


def test_pop3_in_the_clear_lists_the_demo_mail(demo: Engine) -> None:
    pop = poplib.POP3(demo.host, demo.ports.pop3, timeout=LIMIT)
    pop.user("alice")
    pop.pass_(demo.passwords["alice"])
    count, octets = pop.stat()
    assert count >= 10
    assert octets > 10_000
    pop.quit()
