"""Memory of the engine for 2,000 IMAP connections that wait in IDLE, in the clear and under TLS.

`make bench-idle`. Measured is the growth of the resident memory (VmRSS), divided by the connections, from the
state in which a few connections have run every kind of command once and gone: all that the log-ins of many
users and their mailboxes leave in memory is counted to the connections. Then again after each connection has
left IDLE, uploaded a message of 100 KB by APPEND and gone back: buffers that grew must not stay.
"""

import argparse
import gc
import resource
import select
import socket
import ssl
import sys
import tempfile
import time
from pathlib import Path

from tests.bench import messages
from tests.bench.contenders import PASSWORD
from tests.support.engine import Engine

LIMITS = {"clear": 30_000, "TLS": 50_000}
"""Octets a connection."""
DOMAIN = "bench.test"
USERS = messages.users(100)
UPLOAD = 100_000
WARM_UP = 3
SPARE_FILES = 500
SETTLE_LIMIT = 10.0


class IdleClient:
    """A blocking IMAP connection that spends its life in IDLE (RFC 2177)."""

    def __init__(self, engine: Engine, user: str, context: ssl.SSLContext | None) -> None:
        port = engine.ports.imaps if context else engine.ports.imap
        raw = socket.create_connection((engine.host, port), 60)
        self._socket = context.wrap_socket(raw) if context else raw
        self._user = user
        self._until(b"* OK")
        self._command(b'LOGIN "%s@%s" "%s"' % (user.encode(), DOMAIN.encode(), PASSWORD.encode()))
        self._command(b"SELECT INBOX")

    def idle(self) -> None:
        self._socket.sendall(b"i IDLE\r\n")
        self._until(b"+ ")

    def done(self) -> None:
        self._socket.sendall(b"DONE\r\n")
        self._until(b"i OK")

    def upload(self, message: bytes) -> None:
        self._socket.sendall(b"a APPEND Drafts {%d}\r\n" % len(message))
        self._until(b"+ ")
        self._socket.sendall(message + b"\r\n")
        self._until(b"a OK")

    def close(self) -> None:
        self._socket.close()

    def _command(self, line: bytes) -> None:
        self._socket.sendall(b"a " + line + b"\r\n")
        self._until(b"a OK")

    def _until(self, start: bytes) -> None:
        """Read to the line that begins so."""
        reply = b""
        while not any(line.startswith(start) for line in reply.split(b"\r\n")[:-1]):
            data = self._socket.recv(65536)
            if not data or b"\r\na NO" in b"\r\n" + reply or b"\r\na BAD" in b"\r\n" + reply:
                raise AssertionError(f"{self._user}: {(reply + data)[-300:]!r} instead of {start!r}")
            reply += data


def settled(engine: Engine) -> int:
    """Resident memory once it has stopped to move."""
    last, deadline = engine.memory(), time.monotonic() + SETTLE_LIMIT
    while time.monotonic() < deadline:
        select.select([], [], [], 0.5)
        now = engine.memory()
        if abs(now - last) < 100_000:
            break
        last = now
    return engine.memory()


def measure(kind: str, count: int, folder: Path) -> list[str]:
    """One fresh engine; prints two lines, returns what is over its limit."""
    context = None
    if kind == "TLS":
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    message = messages.header("a@load.test", "b@bench.test", "upload") + messages.bodies(UPLOAD)[0]
    settings = {"ImapPlaintextLogin": True, "ImapConnectionsPerAddress": 0, "ImapMaximumConnections": 0}
    maker = Engine(folder, domain=DOMAIN, settings=settings)
    maker.users_add(USERS, PASSWORD)
    missed = []
    with maker as engine:
        _round(engine, context, WARM_UP, message)
        before = settled(engine)
        clients = []
        for number in range(count):
            client = IdleClient(engine, USERS[number % len(USERS)], context)
            client.idle()
            clients.append(client)
        missed += _say(kind, "in IDLE", count, settled(engine) - before)
        for client in clients:
            client.done()
            client.upload(message)
            client.idle()
        missed += _say(kind, "after 100 KB uploaded each", count, settled(engine) - before)
        for client in clients:
            client.close()
    return missed


def _round(engine: Engine, context: ssl.SSLContext | None, count: int, message: bytes) -> None:
    """Warm up: all code paths are loaded. Few on purpose: what they freed would be used by the others."""
    for number in range(count):
        client = IdleClient(engine, USERS[number % len(USERS)], context)
        client.idle()
        client.done()
        client.upload(message)
        client.close()


def _say(kind: str, state: str, count: int, growth: int) -> list[str]:
    each = growth / count
    line = f"{count:,} connections ({kind}) {state}: {each / 1000:.1f} kB each"
    print(f"{line} (limit {LIMITS[kind] / 1000:.0f})", flush=True)
    return [line] if each > LIMITS[kind] else []


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.bench.idle", description=__doc__)
    parser.add_argument("--count", type=int, default=2_000)
    parser.add_argument("--kinds", default="clear,TLS")
    options = parser.parse_args()
    needed = options.count + SPARE_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)  # the engine inherits it
    if soft < needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, max(hard, needed)))
    missed = []
    for kind in options.kinds.split(","):
        with tempfile.TemporaryDirectory(prefix="postkeep-bench-") as folder:
            missed += measure(kind, options.count, Path(folder))
        gc.collect()
    for line in missed:
        print(f"missed: {line}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
