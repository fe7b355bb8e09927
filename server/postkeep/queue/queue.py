"""The queue of outgoing mail (rows SMT-3, SMT-4): durable entries, their schedule, their delivery.

`prepare` makes an entry durable, `activate` hands it to the schedule. From then on it is tried until each
recipient is delivered, refused or too late, whatever stops or crashes between; the files are the truth.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from random import Random

from postkeep.config.queue import QueueSettings
from postkeep.domain.address import Address
from postkeep.domain.errors import NotFound, PostkeepError
from postkeep.queue.dispatch import Dispatcher, Job
from postkeep.queue.entry import (
    Entry,
    Prepared,
    QueuedRecipient,
    QueueEntry,
    Recipient,
    State,
    make_entry,
    view,
)
from postkeep.queue.files import Message, QueueFiles
from postkeep.queue.inhouse import deliver_in_house
from postkeep.queue.ledger import Ledger
from postkeep.queue.notices import Notices
from postkeep.queue.reports import DeliverLocal, Reporter
from postkeep.queue.routes import LOCAL, RELAY
from postkeep.queue.schedule import Agenda, Times
from postkeep.queue.session import Caller
from postkeep.queue.transaction import Outcome
from postkeep.runtime.clock import Clock, Timer
from postkeep.runtime.dialer import Dialer
from postkeep.runtime.files import Files, SystemFiles
from postkeep.runtime.logs import Logs
from postkeep.runtime.resolver import Resolver

__all__ = ["Prepared", "Queue", "QueueEntry", "QueuedRecipient"]

STOP_LIMIT = 10.0
"""Seconds that deliveries under way get when the server stops."""
NOTICE = "*notice*"
"""Destination of recipients that failed and whose sender could not be told yet."""
_SLEEP_LIMIT = 3600.0


class Queue:
    """One for the server. Ports: `deliver_local` takes notifications for our own users, `is_local` knows
    our domains."""

    def __init__(
        self,
        folder: Path,
        settings: QueueSettings,
        hostname: str,
        *,
        resolver: Resolver,
        dialer: Dialer,
        is_local: Callable[[str], bool],
        deliver_local: DeliverLocal,
        logs: Logs,
        clock: Clock,
        files: Files | None = None,
        random: Random | None = None,
    ) -> None:
        """`folder` is DATA/store/queue; `hostname` the Internet host name, said in EHLO."""
        self._settings = settings
        self._is_local = is_local
        self._deliver_local = deliver_local
        self._logs = logs
        self._clock = clock
        self._random = random or Random()  # noqa: S311 - spreads retries, protects nothing
        self._files = QueueFiles(folder, files or SystemFiles())
        self._agenda: Agenda[Job] = Agenda()
        self._under_way: set[Job] = set()  # handed out, not settled yet
        self._house: deque[Job] = deque()  # jobs that need no connection
        self._house_task: asyncio.Task[None] | None = None
        self._timer: Timer | None = None
        self._timer_due = 0.0
        self._running = False
        caller = Caller(dialer, clock, hostname, self._trace)
        own_names = frozenset({hostname.lower(), "localhost"})
        self._dispatcher = Dispatcher(
            settings, self, resolver, caller, clock, own_names, self._random.shuffle
        )
        reporter = Reporter(hostname, clock, is_local=is_local, deliver_local=deliver_local, post=self.post)
        notices = Notices(reporter, self._read_head, logs)
        self._ledger = Ledger(self._files, notices, Times.of(settings), logs, clock, self._random.random)
        self._entries = self._ledger.entries

    # --- taking messages ------------------------------------------------------------------------------

    async def prepare(
        self,
        sender: Address | None,
        recipients: Sequence[QueuedRecipient],
        chunks: Iterable[bytes],
        *,
        size: int,
        smtputf8: bool,
        eight_bit: bool,
        envid: str = "",
        ret: str = "",
    ) -> Prepared:
        """Write <id>.eml and <id>.env; durable on return. StorageFull or StorageFailed: nothing is left.

        `chunks` (read in a thread) must give `size` octets. Whether the message really is 8-bit, and really
        needs SMTPUTF8, is seen while writing it: what was only declared needs no able server.
        """
        if not recipients:
            raise ValueError("a queue entry needs a recipient")
        once = {str(one.address): one for one in reversed(recipients)}
        ordered = tuple(reversed(once.values()))
        now = self._clock.now()

        def make(name: str) -> Entry:
            return make_entry(name, sender, ordered, now, smtputf8=smtputf8, envid=envid, ret=ret)

        return Prepared(await self._files.add(make, now, chunks, size))

    def activate(self, prepared: Prepared) -> None:
        """Deliver it. Call once, when everything else that belongs to the message is durable."""
        entry = prepared.entry
        self._entries[entry.id] = entry
        self._plan(entry)

    async def discard(self, prepared: Prepared) -> None:
        """It was refused after all; durable on return. A disk that refuses even this is logged."""
        try:
            await self._files.remove(prepared.id)
        except PostkeepError as error:
            self._logs.error.write(
                f"Queue: id={prepared.id}: the message was refused, but its files could not go: {error}; "
                "the next start delivers it, unless they are removed by hand"
            )

    async def post(
        self,
        sender: Address | None,
        recipients: Sequence[QueuedRecipient],
        content: bytes,
        smtputf8: bool = False,
    ) -> str:
        """Take a message that this server made itself; durable and scheduled on return. Its Queue ID."""
        prepared = await self.prepare(
            sender,
            recipients,
            (content,),
            size=len(content),
            smtputf8=smtputf8,
            eight_bit=not content.isascii(),
        )
        self.activate(prepared)
        return prepared.id

    # --- administration -------------------------------------------------------------------------------

    @property
    def settings(self) -> QueueSettings:
        return self._settings

    @settings.setter
    def settings(self, settings: QueueSettings) -> None:
        """New settings hold from the next connection on."""
        self._settings = self._dispatcher.settings = settings
        self._ledger.times = Times.of(settings)

    @property
    def connections(self) -> int:
        """Outgoing connections open or being opened."""
        return self._dispatcher.connections

    def __len__(self) -> int:
        return len(self._entries)

    def entries(self) -> list[QueueEntry]:
        """All, oldest first."""
        active = self._dispatcher.active_entries
        return [view(entry, in_process=name in active) for name, entry in sorted(self._entries.items())]

    async def retry(self, name: str) -> None:
        """Try this message now; NotFound."""
        self._retry(self._known(name))

    async def retry_all(self) -> None:
        """Try everything now."""
        self._dispatcher.forgive()
        for entry in list(self._entries.values()):
            self._retry(entry)

    async def remove(self, name: str) -> None:
        """Throw the message away, nobody is told; NotFound. A transfer that is under way still ends.

        StorageFailed: it is still there.
        """
        entry = self._known(name)
        del self._entries[name]
        for job in self._jobs(entry):
            self._agenda.drop(job)
        try:
            await self._files.remove(name)
        except PostkeepError:
            self._entries[name] = entry
            self._plan(entry)
            raise
        to = ", ".join(f"<{one.address}>" for one in entry.recipients if one.state is not State.DONE)
        self._logs.mail.write(f"Removed: id={name}, from=<{entry.sender}>, to={to}")

    # --- life -----------------------------------------------------------------------------------------

    async def start(self, *, deliver: bool = True) -> None:
        """Resume what lies in the folder; `deliver` off: only to look at it and remove from it.

        StorageFailed when it cannot be read.
        """
        found = await self._files.load()
        for line in found.damaged:
            self._logs.error.write(f"Queue: {line}; the file is left where it is and not delivered")
        if found.orphans:
            self._logs.warning.write(
                f"Queue: removed {len(found.orphans)} envelopes without their message (.eml): never accepted "
                f"before a power cut, or the message's file was deleted by somebody: {_some(found.orphans)}"
            )
        if found.leftovers:
            self._logs.operations.write(
                f"Queue: removed {len(found.leftovers)} files of messages that were never accepted, or were "
                f"finished: {_some(found.leftovers)}"
            )
        self._running = deliver
        for entry in found.entries:
            self._entries[entry.id] = entry
            if not deliver:
                continue
            if entry.finished:
                await self._ledger.save(entry)
            else:
                self._plan(entry)
        if found.entries and deliver:
            self._logs.operations.write(f"Queue: {len(self._entries)} messages wait for delivery")

    async def stop(self, limit: float = STOP_LIMIT) -> None:
        """End within about `limit` seconds; what is not delivered then stays in the folder."""
        self._running = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._house.clear()
        await self._dispatcher.stop(limit)
        if self._house_task is not None:
            await asyncio.wait([self._house_task])
        await self._files.close()

    # --- schedule -------------------------------------------------------------------------------------

    def destination(self, domain: str) -> str:
        if self._is_local(domain):
            return LOCAL
        return RELAY if self._settings.relay_host else domain

    def _jobs(self, entry: Entry) -> dict[Job, float]:
        """The entry's jobs and when each is due."""
        jobs: dict[Job, float] = {}
        for one in entry.recipients:
            if one.state is State.DONE:
                continue
            place = NOTICE if one.state is State.FAILED else self.destination(one.domain)
            job = Job(entry.id, place)
            jobs[job] = min(jobs.get(job, one.next), one.next)
        return jobs

    def _plan(self, entry: Entry) -> None:
        """See to it that all the entry's jobs are on the agenda or under way."""
        now = self._clock.now()
        for job, due in self._jobs(entry).items():
            if job in self._under_way:
                continue
            if due <= now and self._running:
                self._agenda.drop(job)
                self._hand_out(job)
            else:
                self._agenda.set(job, due)
        self._set_timer()

    def _set_timer(self) -> None:
        due = self._agenda.next_due()
        if due is None or not self._running:
            return
        if self._timer is not None:
            if self._timer_due <= due:
                return
            self._timer.cancel()
        wait = min(max(due - self._clock.now(), 0.0), _SLEEP_LIMIT)
        self._timer_due = due
        self._timer = self._clock.call_later(wait, self._run_due)

    def _run_due(self) -> None:
        self._timer = None
        for job in self._agenda.take(self._clock.now()):
            if job.entry_id in self._entries:
                self._hand_out(job)
        self._set_timer()

    def _hand_out(self, job: Job) -> None:
        self._under_way.add(job)
        if job.destination not in (LOCAL, NOTICE):
            self._dispatcher.submit(job)
            return
        self._house.append(job)
        if self._house_task is None or self._house_task.done():
            self._house_task = asyncio.create_task(self._work_in_house())

    def _retry(self, entry: Entry) -> None:
        now = self._clock.now()
        for one in entry.recipients:
            one.next = min(one.next, now)
        for job in self._jobs(entry):
            if job.destination not in (LOCAL, NOTICE):
                self._dispatcher.forgive(job.destination)
        self._plan(entry)

    def _known(self, name: str) -> Entry:
        entry = self._entries.get(name)
        if entry is None:
            raise NotFound(f"there is no message {name[:40]!r} in the queue")
        return entry

    # --- what the dispatcher asks (dispatch.Desk) -----------------------------------------------------

    def entry(self, name: str) -> Entry | None:
        return self._entries.get(name)

    def reading(self, name: str) -> AbstractAsyncContextManager[Message]:
        return self._files.reading(name)

    def problem(self, text: str) -> None:
        self._logs.error.write(text)

    def postpone(self, job: Job, until: float) -> None:
        self._under_way.discard(job)
        entry = self._entries.get(job.entry_id)
        if entry is None:
            return
        for one in entry.pending():
            if self.destination(one.domain) == job.destination:
                one.next = max(one.next, until)
        self._agenda.set(job, until)
        self._set_timer()

    async def settle(self, job: Job, outcomes: Sequence[Outcome], relay: str, *, final: bool) -> None:
        entry = self._entries.get(job.entry_id)
        try:
            for outcome in outcomes:
                self._ledger.log(job.entry_id, entry, outcome, relay)
            if entry is not None:
                await self._ledger.note(entry, outcomes)
        except Exception as error:
            self._logs.error.write(f"Queue: id={job.entry_id}: its state could not be kept: {error!r}")
            if entry is not None:
                self._ledger.put_off(entry)
        finally:
            if final:
                self._under_way.discard(job)
                if entry is not None and job.entry_id in self._entries and self._running:
                    self._plan(entry)

    # --- jobs that need no connection -----------------------------------------------------------------

    async def _work_in_house(self) -> None:
        while self._house:
            job = self._house.popleft()
            entry = self._entries.get(job.entry_id)
            outcomes: list[Outcome] = []
            if entry is not None and job.destination == LOCAL:
                outcomes = await deliver_in_house(
                    entry, self._local_ones(entry), self._files.reading(entry.id), self._deliver_local
                )
            await self.settle(job, outcomes, "local", final=True)

    def _local_ones(self, entry: Entry) -> list[Recipient]:
        return [one for one in entry.pending() if self.destination(one.domain) == LOCAL]

    async def _read_head(self, name: str, limit: int) -> bytes:
        try:
            return await self._files.head(name, limit)
        except PostkeepError:
            return b""  # the sender is told even if his message cannot be shown

    def _trace(self) -> Callable[[str], None] | None:
        if not self._logs.debug_on("smtp-client"):
            return None
        return lambda line: self._logs.debug.write(f"SMTP client: {line}")


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:10]) + (", …" if len(names) > 10 else "")
