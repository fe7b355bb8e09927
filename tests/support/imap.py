"""An IMAP server in the test's own loop, with a real store in a folder, and a client of plain lines."""

import asyncio
import dataclasses
import re
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from postkeep.config.imap import ImapSettings
from postkeep.domain.account import Account
from postkeep.domain.errors import AuthenticationFailed
from postkeep.protocols.imap.server import ImapServer
from postkeep.runtime.certificates import Certificates
from postkeep.runtime.clock import Clock, SystemClock
from postkeep.runtime.files import Files, SystemFiles
from postkeep.runtime.limits import ConnectionLimiter
from postkeep.runtime.tls import accept_tls
from postkeep.services.changes import ChangeBus
from postkeep.services.mailboxes import MailboxService
from postkeep.services.quotas import Quotas
from postkeep.storage.jobs import Target
from postkeep.storage.store import MailStore

LITERAL = re.compile(rb"\{(\d+)\}\r\n\Z")

MESSAGE = (
    b"From: Alice Example <alice@example.test>\r\n"
    b"To: Bob <bob@example.test>\r\n"
    b"Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\n"
    b"Date: Tue, 24 Nov 2026 17:40:01 +0100\r\n"
    b"Message-ID: <one@example.test>\r\n"
    b"\r\n"
    b"Hello Bob, here is the quarterly plan.\r\n"
)


class FakeAuthenticator:
    """`accounts` by login; every password is "secret". `error` is raised instead when set."""

    def __init__(self, *accounts: Account) -> None:
        self.accounts = {account.name: account for account in accounts}
        self.error: Exception | None = None
        self.tried: list[tuple[str, str, str, str]] = []

    def same_login(self, one: str, other: str) -> bool:
        return one.lower() == other.lower()

    async def verify(self, login: str, password: str, *, peer: str, service: str) -> Account:
        self.tried.append((login, password, peer, service))
        if self.error is not None:
            raise self.error
        account = self.accounts.get(login)
        if account is None or password != "secret":
            raise AuthenticationFailed("wrong name or password")
        return account


class Lines:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def write(self, text: str) -> None:
        self.lines.append(text)


class FakeLogs:
    """What was written, by log."""

    def __init__(self) -> None:
        self.mail = Lines()
        self.security = Lines()
        self.warning = Lines()
        self.operations = Lines()
        self.error = Lines()
        self.debug = Lines()

    def debug_on(self, topic: str) -> bool:
        return False


class ImapHouse:
    """The server and what it stands on. `port` is clear text, `tls_port` TLS."""

    def __init__(self, store: MailStore, settings: ImapSettings, clock: Clock, folder: Path) -> None:
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
        self.server = ImapServer(
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

    async def deliver(
        self, message: bytes = MESSAGE, mailbox: str = "INBOX", *, flags: int = 0, date: int = 1_700_000_000
    ) -> int:
        """As another session would: stored, then published. The UID."""
        box = self.store.mailbox(self.account, mailbox)
        incoming = self.store.incoming()
        incoming.write(message)
        body = await incoming.finish()
        (appended,) = await self.store.deliver(body, [Target(self.account, box.id, flags)], date)
        self.bus.publish(appended)
        return appended.rows[0].uid

    async def client(
        self, *, login: bool = True, select: str = "", tls: bool = False, limit: int = 1 << 24
    ) -> "ImapClient":
        context = None
        if tls:
            context = ssl.create_default_context()
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", self.tls_port if tls else self.port, ssl=context, limit=limit
        )
        client = ImapClient(reader, writer)
        client.greeting = await client.line()
        if login:
            assert (await client.command("LOGIN alice secret"))[-1].startswith(b"OK")
        if select:
            assert (await client.command(f"SELECT {select}"))[-1].startswith(b"OK")
        return client


@asynccontextmanager
async def imap_house(
    folder: Path, *, clock: Clock | None = None, files: Files | None = None, **settings: object
) -> AsyncIterator[ImapHouse]:
    clock = clock or SystemClock()
    chosen = dataclasses.replace(ImapSettings(plaintext_login=True, login_delay=0.0), **settings)  # type: ignore[arg-type]
    store = await MailStore.open(folder / "store", clock, files=files or SystemFiles())
    house = ImapHouse(store, chosen, clock, folder)
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


class ImapClient:
    """Speaks IMAP in plain lines; replies come as one bytes object each, literals inside."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.greeting = b""
        self._number = 0

    async def line(self) -> bytes:
        """One reply without its CRLF; literals are followed. b"" at the end of the connection."""
        whole = b""
        while True:
            piece = await asyncio.wait_for(self.reader.readline(), 10)
            whole += piece
            literal = LITERAL.search(piece)
            if literal is None:
                return whole.removesuffix(b"\r\n")
            whole += await asyncio.wait_for(self.reader.readexactly(int(literal[1])), 10)

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def command(self, text: str | bytes) -> list[bytes]:
        """Untagged replies, then the tagged one without its tag."""
        self._number += 1
        tag = b"t%d" % self._number
        self.send(tag + b" " + (text.encode() if isinstance(text, str) else text) + b"\r\n")
        return await self.until(tag)

    async def until(self, tag: bytes) -> list[bytes]:
        """All replies up to the one with this tag, which loses its tag."""
        replies = []
        while True:
            reply = await self.line()
            if not reply:
                raise ConnectionError(f"closed after {replies}")
            if reply.startswith(tag + b" "):
                return [*replies, reply[len(tag) + 1 :]]
            replies.append(reply)

    async def append(
        self, message: bytes, mailbox: str = "INBOX", *, options: str = "", plus: bool = False
    ) -> list[bytes]:
        self._number += 1
        tag = b"t%d" % self._number
        head = b"%b APPEND %b %b{%d%b}\r\n" % (
            tag,
            mailbox.encode(),
            (options + " ").encode() if options else b"",
            len(message),
            b"+" if plus else b"",
        )
        self.send(head)
        if not plus:
            reply = await self.line()
            if not reply.startswith(b"+"):
                return [reply.removeprefix(tag + b" ")]
        self.send(message + b"\r\n")
        return await self.until(tag)

    async def closed(self) -> bytes:
        """What still comes until the server hangs up."""
        return await asyncio.wait_for(self.reader.read(-1), 10)

    def close(self) -> None:
        self.writer.close()
