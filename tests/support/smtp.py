"""An SMTP server on a free port with fakes behind it, and a raw client."""

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from postkeep.config.smtp import SmtpSettings
from postkeep.domain.account import Account, Domain
from postkeep.domain.address import Address, parse_address
from postkeep.domain.change import Appended
from postkeep.domain.errors import AuthenticationFailed, StorageFull
from postkeep.domain.mailbox import Mailbox, Role
from postkeep.protocols.smtp.server import SmtpServer
from postkeep.runtime.certificates import make_self_signed
from postkeep.runtime.clock import SystemClock
from postkeep.runtime.limits import ConnectionLimiter
from postkeep.services.deliver import Deliverer
from postkeep.services.quotas import Quotas
from postkeep.services.receive import Receiver

from tests.support.logs import FakeLogs
from tests.support.mailhouse import trusting_context

HOST = "127.0.0.1"


class FakeBody:
    def __init__(self, content: bytes, prefix: bytes) -> None:
        self.content, self.prefix = content, prefix
        self.size = len(content) + len(prefix)
        self.discarded = False

    def chunks(self, skip: int = 0) -> Iterator[bytes]:
        yield (self.prefix + self.content)[skip:]

    def discard(self) -> None:
        self.discarded = True


class FakeIncoming:
    def __init__(self, store: "FakeStore") -> None:
        self.size = 0
        self._store = store
        self._pieces: list[bytes] = []
        self.aborted = False

    def write(self, data: bytes) -> None:
        self.size += len(data)
        if self._store.room is not None and self.size > self._store.room:
            raise StorageFull("the disk is full")
        if self._store.keep:
            self._pieces.append(bytes(data))

    async def finish(self, prefix: bytes = b"") -> FakeBody:
        body = FakeBody(b"".join(self._pieces), prefix)
        self._store.bodies.append(body)
        return body

    def abort(self) -> None:
        self.aborted = True


class FakeDisk:
    def __init__(self) -> None:
        self.failures: list[BaseException] = []

    def failed(self, error: BaseException) -> None:
        self.failures.append(error)


class FakeStore:
    """Keeps deliveries in `delivered`: (account key, whole message)."""

    def __init__(self) -> None:
        self.disk = FakeDisk()
        self.accounts: dict[str, int] = {}
        self.delivered: list[tuple[str, bytes]] = []
        self.commits = 0
        self.used: dict[str, tuple[int, int]] = {}
        self.room: int | None = None
        self.keep = True
        self.failure: Exception | None = None
        self.gate: asyncio.Event | None = None
        self.incomings: list[FakeIncoming] = []
        self.bodies: list[FakeBody] = []
        self.order: list[str] = []

    def account_id(self, key: str) -> int | None:
        return self.accounts.get(key)

    async def create_account(self, key: str) -> int:
        return self.accounts.setdefault(key, len(self.accounts) + 1)

    def mailbox(self, account: int, name: str) -> Mailbox:
        return Mailbox(account * 100, account, name, 1, Role.NONE, True)

    def usage(self, account: int) -> tuple[int, int]:
        key = next(key for key, number in self.accounts.items() if number == account)
        return self.used.get(key, (0, 0))

    def incoming(self) -> FakeIncoming:
        incoming = FakeIncoming(self)
        self.incomings.append(incoming)
        return incoming

    async def deliver(
        self,
        body: FakeBody,
        targets: Sequence[Any],
        date: int,
        then: Callable[[tuple[Appended, ...]], None] | None = None,
    ) -> tuple[Appended, ...]:
        if self.gate is not None:
            await self.gate.wait()
        if self.failure is not None:
            raise self.failure
        self.order.append("store")
        self.commits += 1
        names = {number: key for key, number in self.accounts.items()}
        for target in targets:
            self.delivered.append((names[target.account], body.prefix + body.content))
        appended = tuple(Appended(target.account, target.mailbox, ()) for target in targets)
        if then is not None:
            then(appended)
        return appended

    def messages(self, key: str) -> list[bytes]:
        return [content for owner, content in self.delivered if owner == key]


class FakeResolution(tuple[Any, Any, bool]):
    accounts = property(lambda self: self[0])
    remote = property(lambda self: self[1])
    found = property(lambda self: self[2])


class FakeDirectory:
    """Users alice, bob, carol (disabled), dave (quota), root in example.test; an alias domain and aliases."""

    def __init__(self) -> None:
        self.users = {
            name: Account(name, "example.test", aliases=aliases, enabled=name != "carol", quota_bytes=quota)
            for name, aliases, quota in [
                ("alice", ("al.ice",), 0),
                ("bob", (), 0),
                ("carol", (), 0),
                ("dave", (), 10_000),
                ("root", ("postmaster",), 0),
            ]
        }
        self.size_limit = 0
        self.lists: dict[str, tuple[str, ...]] = {
            "sales@example.test": ("alice@example.test", "bob@example.test"),
            "twice@example.test": ("alice@example.test", "alice@example.test"),
            "away@example.test": ("someone@elsewhere.test",),
            "nobody@example.test": (),
        }

    primary_domain = "example.test"

    def account(self, login: str) -> Account | None:
        return self.users.get(login.partition("@")[0])

    def domain(self, name: str) -> Domain | None:
        known = Domain(
            "example.test", primary=True, aliases=("alias.test",), max_message_size=self.size_limit
        )
        return known if name == "example.test" else None

    def is_local(self, domain: str) -> bool:
        return domain in ("example.test", "alias.test")

    def resolve(self, address: Address) -> FakeResolution:
        if not self.is_local(address.domain):
            return FakeResolution(((), (address,), True))
        local = address.local.lower()
        for user in self.users.values():
            if local == user.name or local in user.aliases:
                return FakeResolution(((user,), (), True))
        members = self.lists.get(f"{local}@example.test")
        if members is None:
            return FakeResolution(((), (), False))
        accounts, remote = [], []
        for member in dict.fromkeys(members):
            found = self.resolve(parse_address(member))
            accounts += found.accounts
            remote += found.remote
        return FakeResolution((tuple(accounts), tuple(remote), True))


class FakePrepared:
    def __init__(self, number: int) -> None:
        self.id = f"q{number}"


class FakeQueue:
    def __init__(self, order: list[str]) -> None:
        self.prepared: list[dict[str, Any]] = []
        self.activated: list[str] = []
        self.discarded: list[str] = []
        self.failure: Exception | None = None
        self._order = order

    async def prepare(
        self, sender: Address | None, recipients: Sequence[Any], chunks: Iterable[bytes], **more: Any
    ) -> FakePrepared:
        if self.failure is not None:
            raise self.failure
        self._order.append("prepare")
        entry = {"sender": sender, "recipients": list(recipients), "content": b"".join(chunks), **more}
        self.prepared.append(entry)
        return FakePrepared(len(self.prepared))

    def activate(self, prepared: FakePrepared) -> None:
        self._order.append("activate")
        self.activated.append(prepared.id)

    async def post(
        self, sender: Address | None, recipients: Sequence[Any], content: bytes, smtputf8: bool = False
    ) -> str:
        eight_bit = not content.isascii()
        prepared = await self.prepare(
            sender, recipients, [content], size=len(content), smtputf8=smtputf8, eight_bit=eight_bit
        )
        self.activate(prepared)
        return prepared.id

    async def discard(self, prepared: FakePrepared) -> None:
        self._order.append("discard")
        self.discarded.append(prepared.id)


class FakeAuthenticator:
    """Everybody's password is "secret" and the name."""

    def __init__(self, directory: FakeDirectory) -> None:
        self._directory = directory
        self.gate: asyncio.Event | None = None
        self.error: Exception | None = None

    def same_login(self, one: str, other: str) -> bool:
        return one.lower().partition("@")[0] == other.lower().partition("@")[0]

    async def verify(self, login: str, password: str, *, peer: str, service: str) -> Account:
        if self.gate is not None:
            await self.gate.wait()
        if self.error is not None:
            raise self.error
        account = self._directory.users.get(login.partition("@")[0])
        if account is None or not account.enabled or password != "secret " + account.name:
            raise AuthenticationFailed("wrong name or password")
        return account


class FakeBus:
    def __init__(self) -> None:
        self.changes: list[Any] = []

    def publish(self, *changes: Any) -> None:
        self.changes += changes


class FakeCertificates:
    """One self-signed certificate for all tests of the process."""

    _context: ssl.SSLContext | None = None

    def server_context(self) -> ssl.SSLContext:
        if FakeCertificates._context is None:
            import tempfile

            certificate, key = make_self_signed("mail.example.test", 1767225600.0)
            with tempfile.TemporaryDirectory() as folder:
                pem = Path(folder) / "pair.pem"
                pem.write_bytes(certificate + key)
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                context.load_cert_chain(pem)
            FakeCertificates._context = context
        return FakeCertificates._context


class SmtpWorld:
    """All the parts; `connect` gives a client that has read the greeting."""

    def __init__(
        self,
        settings: SmtpSettings | None = None,
        clock: Any = None,
        store: Any = None,
        bus: Any = None,
        **changes: Any,
    ) -> None:
        self.settings = replace(settings or SmtpSettings(), **changes)
        self.clock = clock or SystemClock()
        self.logs: Any = FakeLogs()
        self.store: Any = FakeStore() if store is None else store
        self.directory: Any = FakeDirectory()
        self.queue: Any = FakeQueue(getattr(self.store, "order", []))
        self.bus: Any = FakeBus() if bus is None else bus
        self.authenticator: Any = FakeAuthenticator(self.directory)
        self.limiter = ConnectionLimiter(
            self.settings.maximum_connections, self.settings.maximum_connections_per_address
        )
        self.quotas = Quotas(self.store)
        self.deliverer = Deliverer(self.store, self.bus, self.directory, self.quotas, self.logs, self.clock)
        self.receiver = Receiver(
            self.settings,
            self.store,
            self.directory,
            self.queue,
            self.deliverer,
            self.logs,
            self.clock,
            "mail.example.test",
        )
        certificates: Any = FakeCertificates()
        self.server = SmtpServer(
            self.settings,
            self.receiver,
            self.authenticator,
            certificates,
            self.limiter,
            self.logs,
            self.clock,
            "mail.example.test",
        )
        self._listeners: list[asyncio.Server] = []
        self._clients: list[SmtpClient] = []
        self.ports: dict[str, int] = {}

    async def port(self, kind: str = "smtp", tls: Callable[..., Any] | None = None) -> int:
        if kind not in self.ports:
            factory = self.server.factory(kind)  # type: ignore[arg-type]
            listener = await asyncio.get_running_loop().create_server(
                factory if tls is None else tls(factory), HOST, 0
            )
            self._listeners.append(listener)
            self.ports[kind] = listener.sockets[0].getsockname()[1]
        return self.ports[kind]

    async def connect(self, kind: str = "smtp", *, greeting: bool = True) -> "SmtpClient":
        reader, writer = await asyncio.open_connection(HOST, await self.port(kind), limit=2**20)
        client = SmtpClient(reader, writer)
        self._clients.append(client)
        if greeting:
            assert (await client.reply()).startswith(b"220 ")
        return client

    async def close(self) -> None:
        for client in self._clients:
            await client.close()
        for listener in self._listeners:
            listener.close()
        for connection in list(self.server._connections):
            connection.abort()
        await asyncio.sleep(0)


class SmtpClient:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def reply(self) -> bytes:
        """One whole reply, all its lines; b"" at the end of the connection."""
        lines = []
        while True:
            line = await asyncio.wait_for(self.reader.readline(), 10)
            lines.append(line)
            if len(line) < 4 or line[3:4] != b"-":
                return b"".join(lines)

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def do(self, *lines: str | bytes) -> bytes:
        """Send a command line, read its reply; the last one's."""
        reply = b""
        for line in lines:
            self.send((line.encode() if isinstance(line, str) else line) + b"\r\n")
            reply = await self.reply()
        return reply

    async def hello(self, name: str = "client.example") -> bytes:
        return await self.do(f"EHLO {name}")

    async def begin(self, *recipients: str, sender: str = "sender@outside.test") -> bytes:
        """MAIL, RCPTs and DATA; the reply to DATA."""
        assert (await self.do(f"MAIL FROM:<{sender}>")).startswith(b"250 ")
        for recipient in recipients:
            assert (await self.do(f"RCPT TO:<{recipient}>")).startswith(b"250 ")
        return await self.do("DATA")

    async def message(self, content: bytes, *recipients: str, sender: str = "sender@outside.test") -> bytes:
        """A whole transaction; the reply to the end of DATA."""
        assert (await self.begin(*recipients or ("alice@example.test",), sender=sender)).startswith(b"354")
        self.send(content + b"\r\n.\r\n")
        return await self.reply()

    async def at_end(self) -> bytes:
        """What still comes until the connection ends."""
        pieces = []
        with contextlib.suppress(ConnectionError):  # closed with input unread: an RST behind the last words
            while piece := await asyncio.wait_for(self.reader.read(65_536), 10):
                pieces.append(piece)
        return b"".join(pieces)

    async def start_tls(self) -> None:
        assert (await self.do("STARTTLS")).startswith(b"220 ")
        await self.writer.start_tls(trusting_context())

    def reset(self) -> None:
        """End the connection as a crashed peer's kernel does: RST."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def close(self) -> None:
        self.writer.close()
        with contextlib.suppress(Exception):
            await asyncio.wait_for(self.writer.wait_closed(), 2)


@contextlib.asynccontextmanager
async def smtp_world(settings: SmtpSettings | None = None, **changes: Any) -> AsyncIterator[SmtpWorld]:
    world = SmtpWorld(settings, **changes)
    try:
        yield world
    finally:
        await world.close()
