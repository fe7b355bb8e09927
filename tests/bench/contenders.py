"""What is measured side by side: our engine, Postfix with Dovecot, and the bare ceiling.

Each is started afresh (empty mailboxes) for every measurement and answers the same few questions.
"""

import imaplib
import shutil
import ssl
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from tests.bench import peers
from tests.bench.load import Outcome
from tests.support.engine import Engine, cpu_seconds

PASSWORD = "measured password"
DELIVERY_LIMIT = 600.0


class Contender(Protocol):
    port: int

    def cpu(self) -> float:
        """CPU seconds used so far."""

    def delivered(self, outcome: Outcome, total: int) -> float:
        """When the last message of `outcome` was delivered, seconds since 1970; asserts that all `total`
        messages sent to this instance are in the mailboxes."""


class Us:
    """`postkeep serve`, from a prepared data folder."""

    name = "us"

    def __init__(self, engine: Engine, users: Sequence[str]) -> None:
        self.engine = engine
        self.port = engine.ports.smtp
        self._users = users

    def cpu(self) -> float:
        return self.engine.cpu()

    def delivered(self, outcome: Outcome, total: int) -> float:
        # 250 means durable in the mailbox; a sample of the mailboxes shows that it is so.
        for number in (0, len(self._users) // 2, len(self._users) - 1):
            expected = len(range(number, total, len(self._users)))
            found = inbox_count(self.engine, f"{self._users[number]}@{peers.DOMAIN}")
            assert found == expected, f"{self._users[number]} has {found} messages, not {expected}"
        return outcome.end


class Ceiling:
    """tests.bench.ceiling in a process of its own."""

    name = "ceiling"

    def __init__(self, process: "subprocess.Popen[bytes]", port: int) -> None:
        self._process = process
        self.port = port

    def cpu(self) -> float:
        return cpu_seconds(self._process.pid)

    def delivered(self, outcome: Outcome, total: int) -> float:
        return outcome.end


class Pair:
    """Postfix and Dovecot."""

    name = peers.Peer.name

    def __init__(self, peer: peers.Peer) -> None:
        self._peer = peer
        self.port = peer.port

    def cpu(self) -> float:
        return self._peer.cpu()

    def delivered(self, outcome: Outcome, total: int) -> float:
        return self._peer.wait_delivered(total, DELIVERY_LIMIT)


def inbox_count(engine: Engine, login: str) -> int:
    """Messages in the INBOX, as IMAP STATUS says."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with imaplib.IMAP4_SSL(engine.host, engine.ports.imaps, ssl_context=context, timeout=60) as imap:
        imap.login(login, PASSWORD)
        kind, answer = imap.status("INBOX", "(MESSAGES)")
        assert kind == "OK", answer
        return int(bytes(answer[0]).rpartition(b"MESSAGES ")[2].rstrip(b")"))


class Stage:
    """Starts contenders in folders of their own under `root`, which must lie on a disk."""

    def __init__(self, root: Path | None, users: Sequence[str]) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="postkeep-bench-", dir=root))
        self._folder.chmod(0o755)  # Postfix's and Dovecot's own users pass through
        self._users = users
        self._made = 0
        self._template: Path | None = None

    def close(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)

    def _fresh(self) -> Path:
        self._made += 1
        return self._folder / str(self._made)

    @contextmanager
    def us(self) -> Iterator[Us]:
        if self._template is None:
            maker = Engine(self._folder / "template", domain=peers.DOMAIN)
            maker.users_add(self._users, PASSWORD)
            maker.close()
            self._template = maker.data
        folder = self._fresh()
        with Engine(folder, domain=peers.DOMAIN, template=self._template) as engine:
            yield Us(engine, self._users)
        shutil.rmtree(folder)

    @contextmanager
    def ceiling(self) -> Iterator[Ceiling]:
        folder = self._fresh()
        command = [sys.executable, "-m", "tests.bench.ceiling", str(folder), str(len(self._users))]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            try:
                words = process.stdout.readline().split()
                assert words[:1] == [b"ready"], "the ceiling did not start"
                yield Ceiling(process, int(words[1]))
            finally:
                process.terminate()
        shutil.rmtree(folder)

    @contextmanager
    def pair(self) -> Iterator[Pair]:
        peer = peers.Peer(self._fresh(), self._users)
        try:
            peer.start()
            yield Pair(peer)
        finally:
            peer.stop()
