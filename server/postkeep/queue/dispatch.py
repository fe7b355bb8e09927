"""Which connection carries which message: few connections, kept for the next one, dead hosts left alone.

A job is one entry's recipients at one destination (a domain, or the relay host). There is a task for each
open connection, never one for each message.
"""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from postkeep.config.queue import QueueSettings
from postkeep.domain.errors import PostkeepError
from postkeep.queue.entry import Entry, Recipient, State
from postkeep.queue.routes import Unroutable, find_hops, find_route
from postkeep.queue.schedule import Times, host_down_interval
from postkeep.queue.session import Caller, Session, SessionFailed
from postkeep.queue.transaction import RECIPIENT_LIMIT, Content, Kind, Outcome, Stale, transmit
from postkeep.runtime.clock import Clock
from postkeep.runtime.resolver import Resolver

IDLE_LIMIT = 10.0
"""Seconds that a connection is kept for a next message."""
MESSAGE_LIMIT = 100
"""Messages over one connection; some servers end it there."""
FAIR_SHARE = 10
"""Messages over one connection while other destinations wait for a free one."""
_TOGETHER = 32
_KEPT_DESTINATIONS = 1000


class Job(NamedTuple):
    """Compared by identity of its two names: one entry has one job a destination."""

    entry_id: str
    destination: str


class Desk(Protocol):
    """What the dispatcher asks of the queue."""

    def entry(self, name: str) -> Entry | None:
        """None: removed meanwhile."""

    def reading(self, name: str) -> AbstractAsyncContextManager[Content]:
        """The message, open; PostkeepError when it cannot be read."""

    def destination(self, domain: str) -> str:
        """Where mail for `domain` goes: the domain, RELAY, or LOCAL (not the dispatcher's)."""

    async def settle(self, job: Job, outcomes: Sequence[Outcome], relay: str, *, final: bool) -> None:
        """Take note, durable on return. `final`: the job is over, what is left of it gets its next time.

        Does not raise."""

    def postpone(self, job: Job, until: float) -> None:
        """Not tried: the destination is down until then (seconds since 1970)."""

    def problem(self, text: str) -> None:
        """For the error log: the administrator has to act."""


@dataclass(eq=False)
class _Destination:
    name: str
    ready: deque[Job] = field(default_factory=deque)
    workers: int = 0
    idle: deque[asyncio.Future[None]] = field(default_factory=deque)
    failures: int = 0
    down_until: float = 0.0


class Dispatcher:
    """Give it jobs that are due with `submit`; it calls `desk.settle` or `desk.postpone` for each."""

    def __init__(
        self,
        settings: QueueSettings,
        desk: Desk,
        resolver: Resolver,
        caller: Caller,
        clock: Clock,
        own_names: Collection[str],
        shuffle: Callable[[list[str]], None],
    ) -> None:
        self.settings = settings
        self._desk = desk
        self._resolver = resolver
        self._caller = caller
        self._clock = clock
        self._own_names = own_names
        self._shuffle = shuffle
        self._destinations: dict[str, _Destination] = {}
        self._waiting: OrderedDict[str, None] = OrderedDict()  # destinations that want a connection
        self._workers: set[asyncio.Task[None]] = set()
        self._active: set[Job] = set()
        self._stopping = False

    @property
    def connections(self) -> int:
        """Tasks, one a connection (open or being opened)."""
        return len(self._workers)

    @property
    def active_entries(self) -> set[str]:
        return {job.entry_id for job in self._active}

    def submit(self, job: Job) -> None:
        """The job is due. It must not be submitted again before it was settled or postponed."""
        destination = self._destination(job.destination)
        if self._clock.now() < destination.down_until:
            self._desk.postpone(job, destination.down_until)
            return
        destination.ready.append(job)
        self._wake(destination)

    def forgive(self, name: str | None = None) -> None:
        """An administrator wants a try now: forget that this destination (or any) was down."""
        for destination in self._destinations.values() if name is None else [self._destination(name)]:
            destination.down_until = 0.0

    async def stop(self, limit: float) -> None:
        """Finish what is under way within `limit` seconds, abandon the rest. Nothing new is begun."""
        self._stopping = True
        for destination in self._destinations.values():
            destination.ready.clear()
            self._release(destination)
        if not self._workers:
            return
        everything = asyncio.gather(*self._workers, return_exceptions=True)

        def give_up() -> None:
            for task in self._workers:
                task.cancel()

        if limit <= 0:
            give_up()
        timer = self._clock.call_later(limit, give_up)
        try:
            await everything
        finally:
            timer.cancel()

    # --- connections and jobs --------------------------------------------------------------------------

    def _destination(self, name: str) -> _Destination:
        found = self._destinations.get(name)
        if found is None:
            if len(self._destinations) >= _KEPT_DESTINATIONS:
                now = self._clock.now()
                self._destinations = {
                    key: one
                    for key, one in self._destinations.items()
                    if one.workers or one.ready or one.down_until > now
                }
            found = self._destinations[name] = _Destination(name)
        return found

    def _wake(self, destination: _Destination) -> None:
        """There is work: use an idle connection, else open one if the bounds allow it."""
        while destination.idle:
            future = destination.idle.popleft()
            if not future.done():
                future.set_result(None)
                return
        # A destination that was down is probed over one connection.
        allowed = 1 if destination.failures else self.settings.domain_connections
        if destination.workers >= allowed or self._stopping:
            return
        if len(self._workers) >= self.settings.total_connections:
            self._waiting[destination.name] = None
            self._end_an_idle_one()
            return
        self._start(destination)

    def _start(self, destination: _Destination) -> None:
        destination.workers += 1
        task = asyncio.create_task(self._work(destination))
        self._workers.add(task)
        task.add_done_callback(lambda task: self._ended(destination, task))

    def _ended(self, destination: _Destination, task: asyncio.Task[None]) -> None:
        self._workers.discard(task)
        destination.workers -= 1
        if not task.cancelled() and (error := task.exception()) is not None:
            self._desk.problem(f"Delivery to {destination.name} failed: {error!r}")
        if self._stopping:
            return
        if destination.ready:
            self._waiting[destination.name] = None
        while self._waiting and len(self._workers) < self.settings.total_connections:
            name, _ = self._waiting.popitem(last=False)
            other = self._destinations.get(name)
            if other is not None and other.ready:
                self._wake(other)

    def _end_an_idle_one(self) -> None:
        for destination in self._destinations.values():
            if destination.idle and not destination.ready:
                self._release(destination)
                return

    @staticmethod
    def _release(destination: _Destination) -> None:
        while destination.idle:
            future = destination.idle.popleft()
            if not future.done():
                future.set_result(None)

    async def _work(self, destination: _Destination) -> None:
        """One connection's life: opened for the first job, kept for the next ones, closed when idle."""
        session: Session | None = None
        try:
            while (job := await self._next_job(destination, session)) is not None:
                self._active.add(job)
                try:
                    session = await self._deliver(destination, job, session)
                finally:
                    self._active.discard(job)
        finally:
            if session is not None:
                await session.quit()

    async def _next_job(self, destination: _Destination, session: Session | None) -> Job | None:
        if self._stopping:
            return None
        if session is not None:
            used_up = session.messages >= MESSAGE_LIMIT
            if used_up or (self._waiting and session.messages >= FAIR_SHARE):
                return None
        if destination.ready:
            return destination.ready.popleft()
        if session is None or not session.usable or self._waiting:
            return None
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        destination.idle.append(future)
        timer = self._clock.call_later(IDLE_LIMIT, lambda: None if future.done() else future.set_result(None))
        try:
            await future
        finally:
            timer.cancel()
            if future in destination.idle:
                destination.idle.remove(future)
        return destination.ready.popleft() if destination.ready and not self._stopping else None

    # --- one job ---------------------------------------------------------------------------------------

    def _recipients(self, job: Job) -> tuple[Entry | None, list[Recipient]]:
        entry = self._desk.entry(job.entry_id)
        if entry is None:
            return None, []
        return entry, [
            one
            for one in entry.recipients
            if one.state is State.PENDING and self._desk.destination(one.domain) == job.destination
        ]

    async def _deliver(self, destination: _Destination, job: Job, session: Session | None) -> Session | None:
        """All recipients of the job, in as many transactions as it takes. The session for the next job."""
        entry, recipients = self._recipients(job)
        outcomes: list[Outcome] = []
        while entry is not None and recipients:
            part, rest = recipients[:RECIPIENT_LIMIT], recipients[RECIPIENT_LIMIT:]
            if session is not None and not session.usable:
                await session.quit()
                session = None
            try:
                if session is None:
                    session = await self._connect(destination)
                async with self._desk.reading(entry.id) as content:
                    results = await transmit(session, entry, part, content)
            except Stale:
                session = None
                continue
            except (Unroutable, SessionFailed) as error:
                await self._no_way(destination, job, recipients, outcomes, error)
                return None
            except PostkeepError as error:  # the disk
                outcomes += _deferred(recipients, "4.3.0", f"the message cannot be read: {error}")
                break
            except Exception as error:  # a bug: it costs this try, not the message
                self._desk.problem(f"Delivery of {job.entry_id} to {destination.name} failed: {error!r}")
                if session is not None:
                    session.connection.abort()
                    session = None
                outcomes += _deferred(recipients, "4.3.0", f"internal error: {type(error).__name__}")
                break
            again = [one.recipient for one in results if one.kind is Kind.AGAIN]
            outcomes += [one for one in results if one.kind is not Kind.AGAIN]
            if not session.usable:
                outcomes += _deferred(again + rest, "4.4.2", f"{session.hop}: the connection was closed")
                break
            recipients = again + rest
            if recipients:
                # What was delivered is made durable before anything else happens.
                await self._settled(job, outcomes, session, final=False)
                outcomes = []
        await self._settled(job, outcomes, session)
        return session

    async def _connect(self, destination: _Destination) -> Session:
        settings = self.settings
        route = await find_route(destination.name, settings, self._resolver, self._own_names, self._shuffle)
        hops = await find_hops(route, destination.name, self._resolver, prefer_ipv4=settings.prefer_ipv4)
        session = await self._caller.call(hops, route)
        destination.failures = 0
        destination.down_until = 0.0
        for _ in range(len(destination.ready)):  # it is up: more connections may help
            if destination.workers >= settings.domain_connections:
                break
            before = len(self._workers)
            self._wake(destination)
            if len(self._workers) == before:
                break
        return session

    async def _no_way(
        self,
        destination: _Destination,
        job: Job,
        recipients: Sequence[Recipient],
        outcomes: list[Outcome],
        error: Unroutable | SessionFailed,
    ) -> None:
        """No connection: that holds for all that waits for this destination, none of it tries alone."""
        kind = Kind.FAILED if error.permanent else Kind.DEFERRED
        host = error.host if isinstance(error, SessionFailed) else ""
        if isinstance(error, SessionFailed) and error.our_fault:
            self._desk.problem(f"The relay host cannot be used: {error}")
        if not error.permanent and self._clock.now() >= destination.down_until:
            # Several connections may fail at one time: that counts once.
            destination.failures += 1
            wait = host_down_interval(destination.failures, Times.of(self.settings))
            destination.down_until = self._clock.now() + wait
        outcomes += [Outcome(one, kind, error.status, str(error), host) for one in recipients]
        await self._settled(job, outcomes, None)
        while destination.ready:
            jobs = [destination.ready.popleft() for _ in range(min(_TOGETHER, len(destination.ready)))]
            self._active.update(jobs)
            try:
                await asyncio.gather(*(self._same(one, kind, error.status, str(error), host) for one in jobs))
            finally:
                self._active.difference_update(jobs)

    async def _same(self, job: Job, kind: Kind, status: str, words: str, host: str) -> None:
        _, recipients = self._recipients(job)
        await self._settled(job, [Outcome(one, kind, status, words, host) for one in recipients], None)

    async def _settled(
        self, job: Job, outcomes: Sequence[Outcome], session: Session | None, *, final: bool = True
    ) -> None:
        relay = "none" if session is None else f"{session.hop}:{session.port}"
        # Shielded: what the other server has confirmed is noted even if this task is being ended.
        await _finish(self._desk.settle(job, outcomes, relay, final=final))


def _deferred(recipients: Sequence[Recipient], status: str, words: str) -> list[Outcome]:
    return [Outcome(one, Kind.DEFERRED, status, words) for one in recipients]


async def _finish(work: Awaitable[None]) -> None:
    """Await `work` to its end; a cancellation that comes meanwhile is passed on afterwards."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await task
        raise
