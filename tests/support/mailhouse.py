"""A real store in a folder with Alice's and Bob's mail, and a line protocol's server before it."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self, TypeVar

from postkeep.domain.account import Account
from postkeep.domain.errors import AuthenticationFailed
from postkeep.protocols.lineserver import LineServer
from postkeep.runtime.certificates import Certificates
from postkeep.runtime.clock import Clock, SystemClock
from postkeep.runtime.files import Files, SystemFiles
from postkeep.runtime.limits import ConnectionLimiter
from postkeep.runtime.tls import accept_tls
from postkeep.services.changes import ChangeBus
from postkeep.services.mailboxes import MailboxService
from postkeep.services.quotas import Quotas
from postkeep.storage.store import MailStore, Target

from tests.support.logs import FakeLogs

_SLICE = 1 << 20


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


class MailHouse:
    """What a server stands on. `port` is clear text, `tls_port` TLS; `account` is Alice's in the store."""

    server: LineServer

    def __init__(self, store: MailStore, clock: Clock, folder: Path) -> None:
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
        self.account = 0
        self.port = 0
        self.tls_port = 0

    def serve(self, server: type[Any], settings: object) -> None:
        """Make the server, of ImapServer's or Pop3Server's type."""
        self.server = server(
            settings,
            self.mailboxes,
            self.authenticator,
            self.certificates,
            self.limiter,
            self.logs,
            self.clock,
        )

    async def deliver(
        self,
        message: bytes,
        mailbox: str = "INBOX",
        *,
        prefix: bytes = b"",
        flags: int = 0,
        date: int = 1_700_000_000,
    ) -> int:
        """To Alice, as another session would: stored, then published. The UID."""
        incoming = self.store.incoming()
        for start in range(0, len(message), _SLICE):
            incoming.write(message[start : start + _SLICE])
        body = await incoming.finish(prefix)
        target = Target(self.account, self.store.mailbox(self.account, mailbox).id, flags)
        (appended,) = await self.store.deliver(body, [target], date)
        self.bus.publish(appended)
        return appended.rows[0].uid

    async def connect(self, *, tls: bool, limit: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(
            "127.0.0.1",
            self.tls_port if tls else self.port,
            ssl=trusting_context() if tls else None,
            limit=limit,
        )


House = TypeVar("House", bound=MailHouse)


@asynccontextmanager
async def opened(
    kind: type[House], settings: Any, folder: Path, clock: Clock | None, files: Files | None
) -> AsyncIterator[House]:
    """A house of this kind, its store and listeners open: `kind(settings, store, clock, folder)`."""
    clock = clock or SystemClock()
    store = await MailStore.open(folder / "store", clock, files=files or SystemFiles())
    house: Any = kind(settings, store, clock, folder)  # type: ignore[call-arg,arg-type]
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


class LineClient:
    """A client's end of a connection; `greeting` is the server's first line."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.greeting = b""

    @classmethod
    async def greeted(cls, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Self:
        client = cls(reader, writer)
        client.greeting = await client.line()
        return client

    async def line(self) -> bytes:
        """Without its CRLF; b"" at the end of the connection."""
        return (await asyncio.wait_for(self.reader.readline(), 10)).removesuffix(b"\r\n")

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def closed(self) -> bytes:
        """What still comes until the server hangs up."""
        return await asyncio.wait_for(self.reader.read(-1), 10)

    def close(self) -> None:
        self.writer.close()


def trusting_context() -> ssl.SSLContext:
    """A client's context that takes any certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
