"""A queue with everything around it, for the wire tests."""

import asyncio
import contextlib
from collections.abc import AsyncIterable, AsyncIterator, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

from postkeep.config.queue import QueueSettings
from postkeep.domain.address import Address, parse_address
from postkeep.domain.errors import NotFound
from postkeep.queue.queue import Queue, QueuedRecipient
from postkeep.queue.reports import Chunks
from postkeep.runtime.dialer import SystemDialer
from postkeep.runtime.files import Files, SystemFiles

from tests.support.clock import FakeClock
from tests.support.logs import FakeLogs
from tests.support.resolver import FakeResolver
from tests.support.smtpsink import Sink

MESSAGE = b"From: alice@example.test\r\nTo: bob@a.test\r\nSubject: hello\r\nMessage-ID: <1@x>\r\n\r\nbody\r\n"


class Local:
    """The house's own users: example.test."""

    def __init__(self) -> None:
        self.domains = {"example.test"}
        self.unknown: set[str] = set()
        self.failure: Exception | None = None
        self.longest = 0
        self.mail: list[tuple[Address | None, Address, bytes]] = []

    def is_local(self, domain: str) -> bool:
        return domain in self.domains

    async def deliver(self, sender: Address | None, recipient: Address, chunks: Chunks) -> None:
        if isinstance(chunks, AsyncIterable):
            pieces = [chunk async for chunk in chunks]
        else:
            pieces = list(chunks)
        self.longest = max(self.longest, *map(len, pieces))
        content = b"".join(pieces)
        if self.failure is not None:
            raise self.failure
        if str(recipient) in self.unknown:
            raise NotFound("nobody there")
        self.mail.append((sender, recipient, content))


class QueueWorld:
    """`a.test`, `b.test`, … lead to the sinks by the resolver's MX; ports are the sinks' (one for all)."""

    def __init__(self, folder: Path, settings: QueueSettings, clock: Any, resolver: FakeResolver) -> None:
        self.folder = folder / "queue"
        self.settings = settings
        self.clock = clock
        self.resolver = resolver
        self.logs = FakeLogs(debugging=True)
        self.local = Local()
        self.files: Files = SystemFiles()
        self.hostname = "mail.example.test"
        self.queue = self.make()

    def make(self) -> Queue:
        return Queue(
            self.folder,
            self.settings,
            self.hostname,
            resolver=self.resolver,
            dialer=SystemDialer(self.clock),
            is_local=self.local.is_local,
            deliver_local=self.local.deliver,
            logs=self.logs,  # type: ignore[arg-type]
            clock=self.clock,
            files=self.files,
            random=Random(7),
        )

    async def send(
        self,
        *recipients: str | QueuedRecipient,
        sender: str = "alice@example.test",
        content: bytes | Sequence[bytes] = MESSAGE,
        **more: Any,
    ) -> str:
        chunks = [content] if isinstance(content, bytes) else list(content)
        options: dict[str, Any] = {"smtputf8": False, "eight_bit": False, **more}
        prepared = await self.queue.prepare(
            parse_address(sender) if sender else None,
            [QueuedRecipient(parse_address(r)) if isinstance(r, str) else r for r in recipients],
            chunks,
            size=sum(map(len, chunks)),
            **options,
        )
        self.queue.activate(prepared)
        return prepared.id

    async def until(self, condition: Callable[[], bool], seconds: float = 10) -> None:
        """Wait for a state of the queue: real I/O is under way, so the loop has to turn."""
        async with asyncio.timeout(seconds):
            while not condition():  # noqa: ASYNC110 - a queue has no event for “something changed”
                await asyncio.sleep(0.002)

    async def pass_time(self, condition: Callable[[], bool], step: float = 30, seconds: float = 10) -> float:
        """Turn the clock in steps until `condition` holds, real I/O between; the seconds that it took."""
        passed = 0.0
        async with asyncio.timeout(seconds):
            while not condition():
                await self.clock.advance(step)
                passed += step
                await asyncio.sleep(0.005)
        return passed

    async def empty(self) -> None:
        """No entries, and the last files removed too."""
        await self.until(lambda: not self.queue.entries() and not self.names())

    async def settled(self) -> None:
        """Nothing under way."""
        await self.until(lambda: not any(entry.in_process for entry in self.queue.entries()))

    def names(self) -> list[str]:
        return sorted(path.name for path in self.folder.iterdir())

    async def restart(self) -> None:
        await self.queue.stop(0)
        self.queue = self.make()
        await self.queue.start()


def resolver_for(*domains: str) -> FakeResolver:
    """Each domain's MX is mx.<domain> at 127.0.0.1."""
    return FakeResolver(
        mx={domain: [(10, f"mx.{domain}")] for domain in domains},
        addresses={f"mx.{domain}": ["127.0.0.1"] for domain in domains},
    )


@contextlib.asynccontextmanager
async def queue_world(
    folder: Path,
    sink: Sink | None = None,
    *,
    clock: Any = None,
    resolver: FakeResolver | None = None,
    **settings: Any,
) -> AsyncIterator[QueueWorld]:
    base = QueueSettings(port=sink.port) if sink is not None else QueueSettings()
    world = QueueWorld(
        folder,
        replace(base, **settings),
        clock or FakeClock(),
        resolver or resolver_for("a.test", "b.test", "c.test"),
    )
    await world.queue.start()
    try:
        yield world
    finally:
        await world.queue.stop(0)


async def first_try(world: QueueWorld) -> str:
    """The last reply after the first try came to nothing."""
    await world.until(lambda: any(entry.tries for entry in world.queue.entries()))
    await world.settled()
    return world.queue.entries()[0].last_reply
