"""A POP3 server in the test's own loop, with a real store in a folder, and a client of plain lines."""

import asyncio
import dataclasses
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from postkeep.config.pop3 import Pop3Settings
from postkeep.domain.account import Account
from postkeep.domain.message import MessageRow
from postkeep.protocols.pop3.server import Pop3Server
from postkeep.runtime.certificates import Certificates
from postkeep.runtime.clock import Clock, SystemClock
from postkeep.runtime.files import Files, SystemFiles
from postkeep.runtime.limits import ConnectionLimiter
from postkeep.runtime.tls import accept_tls
from postkeep.services.changes import ChangeBus
from postkeep.services.mailboxes import MailboxService
from postkeep.services.quotas import Quotas
from postkeep.storage.store import MailStore, Target

from tests.support.clock import until as until
from tests.support.imap import FakeAuthenticator, FakeLogs


class Pop3House:
    """The server and what it stands on. `port` is clear text, `tls_port` TLS."""

    def __init__(self, store: MailStore, settings: Pop3Settings, clock: Clock, folder: Path) -> None:
        self.store = store
        self.clock = clock
        self.bus = ChangeBus()
        self.mailboxes = MailboxService(store, self.bus, Quotas(store), clock)
        self.alice = Account("alice", "example.test")
        self.bob = Account("bob", "example.test")
        self.authenticator = FakeAuthenticator(self.alice, self.bob)
        self.limiter = ConnectionLimiter(0, 0)
        self.logs = FakeLogs()
        self.certificates = Certificates(
            folder / "sslcert", "mail.example.test", SystemFiles(), SystemClock()
        )
        self.server = Pop3Server(
            settings,
            self.mailboxes,
            self.authenticator,  # type: ignore[arg-type]
            self.certificates,
            self.limiter,
            self.logs,  # type: ignore[arg-type]
            clock,
        )
        self.account = 0
        self.port = 0
        self.tls_port = 0

    async def deliver(self, message: bytes, prefix: bytes = b"") -> int:
        """Into Alice's INBOX, as another session would; the UID."""
        incoming = self.store.incoming()
        for start in range(0, len(message), 1 << 20):
            incoming.write(message[start : start + (1 << 20)])
        inbox = self.store.mailbox(self.account, "INBOX").id
        (appended,) = await self.store.deliver(
            await incoming.finish(prefix), [Target(self.account, inbox)], 1_700_000_000
        )
        return appended.rows[0].uid

    async def rows(self) -> list[MessageRow]:
        """What is in Alice's INBOX."""
        inbox = self.store.mailbox(self.account, "INBOX").id
        return [
            row async for batch in self.store.rows(self.account, inbox, [(1, 0xFFFFFFFF)]) for row in batch
        ]

    async def client(self, *, login: bool = True, tls: bool = False) -> "Pop3Client":
        context = trusting_context() if tls else None
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", self.tls_port if tls else self.port, ssl=context, limit=1 << 24
        )
        client = Pop3Client(reader, writer)
        client.greeting = await client.line()
        if login:
            assert (await client.command("USER alice")).startswith(b"+OK")
            assert (await client.command("PASS secret")).startswith(b"+OK")
        return client


def trusting_context() -> ssl.SSLContext:
    """A client's context that takes any certificate."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


@asynccontextmanager
async def pop3_house(
    folder: Path, *, clock: Clock | None = None, files: Files | None = None, **settings: object
) -> AsyncIterator[Pop3House]:
    clock = clock or SystemClock()
    chosen = dataclasses.replace(Pop3Settings(plaintext_login=True, login_delay=0.0), **settings)  # type: ignore[arg-type]
    store = await MailStore.open(folder / "store", clock, files=files or SystemFiles())
    house = Pop3House(store, chosen, clock, folder)
    house.account = await house.mailboxes.open_account(house.alice)
    loop = asyncio.get_running_loop()
    plain = await loop.create_server(house.server.factory(), "127.0.0.1", 0)
    secure = await loop.create_server(
        accept_tls(house.server.factory(), house.certificates.server_context()), "127.0.0.1", 0
    )
    house.port = plain.sockets[0].getsockname()[1]
    house.tls_port = secure.sockets[0].getsockname()[1]
    try:
        yield house
    finally:
        plain.close()
        secure.close()
        # With a clock that stands still there is no grace to wait for.
        await asyncio.wait_for(house.server.shutdown(5.0 if isinstance(clock, SystemClock) else 0.0), 10)
        await store.close()


class Pop3Client:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.greeting = b""

    async def line(self) -> bytes:
        """Without its CRLF; b"" at the end of the connection."""
        return (await asyncio.wait_for(self.reader.readline(), 10)).removesuffix(b"\r\n")

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def command(self, text: str | bytes) -> bytes:
        """The status line."""
        self.send((text.encode() if isinstance(text, str) else text) + b"\r\n")
        return await self.line()

    async def data(self) -> bytes:
        """The rest of a multi-line reply as the octets it stands for."""
        lines = []
        while True:
            line = await asyncio.wait_for(self.reader.readline(), 10)
            if line == b".\r\n":
                return b"".join(lines)
            if not line:
                raise ConnectionError("closed inside a reply")
            lines.append(line[1:] if line.startswith(b".") else line)

    async def fetch(self, text: str) -> bytes:
        """A command that must succeed, and its lines."""
        status = await self.command(text)
        assert status.startswith(b"+OK"), status
        return await self.data()

    async def closed(self) -> bytes:
        """What still comes until the server hangs up."""
        return await asyncio.wait_for(self.reader.read(-1), 10)

    def close(self) -> None:
        self.writer.close()
