"""The one thread that writes: group commit of packs and database.

What arrives while a batch commits shares the next batch: all its bodies in one write to the active pack, one
fdatasync, one SQLite transaction, then one call back to the loop for all of it. Compressing, hashing and
scanning are done before, elsewhere.
"""

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import apsw

from postkeep.domain.change import Appended
from postkeep.domain.errors import LimitReached, MailboxNotFound, PostkeepError, StorageFailed
from postkeep.domain.message import Flag, MessageRow
from postkeep.storage import checksums
from postkeep.storage.catalogue import UID_LIMIT, Catalogue, MailboxState
from postkeep.storage.database import atomic, translate
from postkeep.storage.disk import DiskWatch
from postkeep.storage.jobqueue import JobQueue
from postkeep.storage.jobs import Delivery, Job, Operation
from postkeep.storage.packs import PACK_LIMIT, ActivePack, Packs
from postkeep.storage.records import item_of
from postkeep.storage.spool import SpoolFile
from postkeep.storage.transaction import Transaction

_log = logging.getLogger(__name__)

T = TypeVar("T")

_CHECKPOINT_PAGES = 4096
"""Pages in the WAL at which the writer copies them into the database."""
_IDLE_SECONDS = 2.0
_INSERT = "INSERT INTO message VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)"
_SEEN, _DELETED = int(Flag.SEEN), int(Flag.DELETED)

Result = tuple[Job, Any, BaseException | None]


class Writer:
    """Owns the read-write connection and the active pack once `start` was called."""

    def __init__(
        self,
        connection: apsw.Connection,
        catalogue: Catalogue,
        packs: Packs,
        numbers: Iterator[int],
        active: ActivePack | None,
        disk: DiskWatch,
        pack_limit: int = PACK_LIMIT,
    ) -> None:
        self._connection = connection
        self._catalogue = catalogue
        self._packs = packs
        self._numbers = numbers
        self._active = active
        self._disk = disk
        self._pack_limit = pack_limit
        self.queue = JobQueue()
        self._loop = asyncio.get_running_loop()
        self._closed = False
        self._undecided: list[Callable[[], None]] = []
        """What to do when it is known that a COMMIT which failed has left nothing."""
        self._empty: int | None = None
        """A pack whose row is committed but not yet its file."""
        self._unwritten: set[MailboxState] = set()
        """Their rows cannot be written: they lie in a damaged page."""
        self._wal_pages = 0
        self._checkpoint_at = _CHECKPOINT_PAGES
        self._tidy = False
        self._thread = threading.Thread(target=self._run, name="postkeep-writer", daemon=True)
        connection.set_wal_hook(self._count_pages)

    # --- on the loop ------------------------------------------------------------------------------

    def start(self) -> None:
        self._thread.start()

    def submit(self, job: Job) -> asyncio.Future[Any]:
        """Hand over a job, in the order of the calls; its result once durable. A caller that is cancelled
        takes the job back as long as the writer has not begun it."""
        if self._closed:
            job.settle()
            raise StorageFailed("the store is closed")
        self.queue.put(job)
        return job.future

    async def change(self, change: Callable[[Transaction], T], then: Callable[[T], None] | None = None) -> T:
        """Run a general operation in the writer's next transaction; durable on return. `then`: see Job."""
        future = self._loop.create_future()
        job = Operation(future, lambda transaction, _: change(transaction), then=then)
        result: T = await self.submit(job)
        return result

    async def append(
        self, records: tuple[bytes, ...], change: Callable[[Transaction, tuple[int, int]], T]
    ) -> T:
        """Write whole records to the active pack, then run `change` with the (pack, offset) of the first."""
        job = Operation(self._loop.create_future(), change, records)
        result: T = await self.submit(job)
        return result

    async def close(self) -> None:
        """Finish what is under way, write the lazy counters, end the thread."""
        if self._closed:
            return
        self._closed = True
        late = StorageFailed("the store is closed")
        self._settle([(job, None, late) for job in self.queue.close()])
        await asyncio.to_thread(self._thread.join)

    def _finish(self, results: list[Result], count: int, octets: int) -> None:
        self._settle(results)
        self.queue.done(count, octets)

    def _settle(self, results: list[Result]) -> None:
        for job, value, error in results:
            job.settle()
            future, then = job.future, job.then
            if error is None:
                if then is not None:
                    try:
                        then(value)
                    except Exception:
                        _log.exception("what follows a commit failed")
                if not future.done():  # else its caller was cancelled meanwhile
                    future.set_result(value)
            elif not future.done():
                future.set_exception(error)

    # --- in the writer thread ---------------------------------------------------------------------

    def _run(self) -> None:
        last = False
        while not last:
            batch, octets, last = self.queue.take(_IDLE_SECONDS if self._tidy else None)
            if batch:
                results: list[Result] = []
                self._commit(batch, results)
                with contextlib.suppress(RuntimeError):  # the loop is closed
                    self._loop.call_soon_threadsafe(self._finish, results, len(batch), octets)
                self._tidy = True
                if self._wal_pages >= self._checkpoint_at:
                    self._checkpoint()
            elif not last:
                self._checkpoint()
                self._tidy = False
        self._checkpoint()
        if self._active is not None:
            self._active.close()

    def _commit(self, batch: list[Job], results: list[Result]) -> None:
        """Commit a batch, or else each of its jobs alone, so that only the guilty one fails."""
        mark = len(results)
        try:
            self._attempt(batch, results)
            if self._disk.trouble and any(job.length for job in batch):  # a body was written, not rows alone
                self._disk.works()
        except BaseException as error:
            del results[mark:]
            reason = translate(error)
            self._disk.failed(reason)
            if not isinstance(reason, PostkeepError):
                _log.error("storage operation failed", exc_info=error)
            abandoned = self._active is not None and not self._active.trusted
            if self._active is not None and not self._active.trusted:
                self._active.abandon()
                self._active = None
            if len(batch) == 1 or abandoned or self._undecided:
                results.extend((job, None, reason) for job in batch)
                return
            for job in batch:
                self._commit([job], results)

    def _attempt(self, batch: list[Job], results: list[Result]) -> None:
        if self._undecided:
            self._decide()
        jobs = self._place(batch, results)
        transaction = Transaction(self._connection, self._catalogue)
        deliveries = [job for job in jobs if isinstance(job, Delivery)]
        spools = [job.spool for job in deliveries if job.spool is not None]
        written = sum([job.length for job in jobs if job.records])
        committing = False
        try:
            if written:
                self._write(jobs)
            for spool in spools:
                spool.arrive(self._packs)
            self._connection.execute("BEGIN IMMEDIATE")
            if deliveries:
                self._insert(deliveries, transaction)
            if len(deliveries) < len(jobs):
                results += [self._operate(job, transaction) for job in jobs if isinstance(job, Operation)]
            if written:
                assert self._active is not None
                self._connection.execute(
                    "UPDATE pack SET length = ? WHERE number = ?",
                    (self._active.position + written, self._active.number),
                )
            committing = True
            self._connection.execute("COMMIT")
        except BaseException as error:
            if self._connection.in_transaction:
                with contextlib.suppress(apsw.Error):
                    self._connection.execute("ROLLBACK")
            transaction.roll_back()
            # Full is certain: the transaction's last frame never got into the WAL.
            if committing and not isinstance(error, apsw.FullError):
                self._doubt(spools, self._active if written else None)
            elif written and self._active is not None and self._active.trusted:
                with contextlib.suppress(OSError):  # cut again at start, and overwritten before
                    self._active.cut()
            raise
        # From here on it is durable: nothing may fail, or it would be done again.
        if written:
            assert self._active is not None
            self._active.advance(written)
        for spool in spools:
            spool.settle(self._packs)
        transaction.publish()
        results += [(job, job.result, None) for job in deliveries]

    def _place(self, batch: list[Job], results: list[Result]) -> list[Job]:
        """Give each record its place; jobs whose mailbox is gone fail here, before anything is written."""
        jobs: list[Job] = []
        total = 0
        for job in batch:
            if job.future.cancelled():
                results.append((job, None, asyncio.CancelledError()))
                continue
            if isinstance(job, Delivery):
                gone = next((state for state, _, _ in job.targets if not state.alive), None)
                if gone is not None:
                    results.append((job, None, MailboxNotFound("the mailbox is gone")))
                    continue
                if any(state.uidnext >= UID_LIMIT for state, _, _ in job.targets):
                    results.append((job, None, LimitReached("the mailbox has no UIDs left")))
                    continue
                if job.spool is not None:
                    job.place = (job.spool.number, 0)
                    jobs.append(job)
                    continue
            jobs.append(job)
            total += job.length
        if total:
            active = self._active
            if active is None or active.position + total > self._pack_limit:
                active = self._roll()
            number, position = active.number, active.position
            for job in jobs:
                if job.records:
                    job.place = (number, position)
                    position += job.length
        return jobs

    def _write(self, jobs: list[Job]) -> None:
        assert self._active is not None
        self._active.append(b"".join([part for job in jobs for part in job.records]))

    def _insert(self, deliveries: list[Delivery], transaction: Transaction) -> None:
        """The fast path: rows for all targets of all deliveries at once, counters in memory only."""
        rows: list[tuple[int, ...]] = []
        shared: list[tuple[int, int, int]] = []
        touched = transaction.touched
        for job in deliveries:
            pack, offset = job.place
            length, size, date, msgid, thread = job.length, job.size, job.date, job.msgid, job.thread
            item = item_of(pack, offset)
            result: list[Appended] = []
            for state, flags, keywords in job.targets:
                account = state.account
                touched[state] = None
                state.dirty = True
                uid = state.uidnext
                state.uidnext = uid + 1
                account.modseq = state.modseq = modseq = account.modseq + 1
                state.messages += 1
                state.size += size
                account.octets += size
                account.messages += 1
                if not flags & _SEEN:
                    state.unseen += 1
                if flags & _DELETED:
                    state.deleted += 1
                row = (uid, modseq, modseq, flags, keywords, size, date, pack, offset, msgid, thread, item)
                rows.append((account.id, state.id, *row[:9], length, msgid, thread, item))
                result.append(Appended(account.id, state.id, (MessageRow._make(row),)))
            job.result = tuple(result)
            if len(result) > 1:
                shared.append((pack, offset, len(result)))
            if job.spool is not None:
                self._connection.execute(
                    "INSERT INTO pack (number, length, dead, sealed) VALUES (?, ?, 0, 1)", (pack, length)
                )
                self._reserve(pack)
        self._connection.executemany(_INSERT, rows)
        if shared:
            self._connection.executemany("INSERT INTO shared (pack, offset, refs) VALUES (?, ?, ?)", shared)

    def _operate(self, job: Operation, transaction: Transaction) -> Result:
        mark = transaction.mark()
        self._connection.execute("SAVEPOINT operation")
        try:
            value = job.change(transaction, job.place)
        except BaseException as error:
            if not self._connection.in_transaction:  # SQLite gave up the whole transaction (full, I/O)
                raise
            self._connection.execute("ROLLBACK TO operation")
            self._connection.execute("RELEASE operation")
            transaction.undo(mark)
            reason = translate(error)
            if not isinstance(reason, PostkeepError):
                _log.error("storage operation failed", exc_info=error)
            return job, None, reason
        self._connection.execute("RELEASE operation")
        return job, value, None

    # --- packs and checkpoints --------------------------------------------------------------------

    def _doubt(self, spools: list[SpoolFile], active: ActivePack | None) -> None:
        """COMMIT failed and nobody can say how: its frames may be in the WAL, whole, and a start would find
        them. Until `_decide` nothing of what they refer to may go."""
        for spool in spools:
            spool.keep()
            self._undecided.append(spool.remove)
        if active is not None:
            self._undecided.append(active.cut)

    def _decide(self) -> None:
        """A small transaction in the place of the one in doubt: SQLite, for which that one is rolled back,
        overwrites its frames. Once this one is durable that one is gone for good, and its octets may go."""
        with atomic(self._connection):
            self._connection.execute(
                "INSERT INTO meta (key, value) VALUES ('failed_commits', 1)"
                " ON CONFLICT (key) DO UPDATE SET value = value + 1"
            )
        for clean in self._undecided:
            with contextlib.suppress(OSError):
                clean()
        self._undecided.clear()

    def _roll(self) -> ActivePack:
        """Seal the active pack and open the next. Its row is committed before its file exists, so that no
        pack is ever there that the database does not know. What fails is done again with the same number."""
        number = self._empty
        if number is None:
            number = next(self._numbers)
            with atomic(self._connection):
                self._connection.execute("UPDATE pack SET sealed = 1 WHERE sealed = 0")
                self._connection.execute(
                    "INSERT INTO pack (number, length, dead, sealed) VALUES (?, 0, 0, 0)", (number,)
                )
                self._reserve(number)
            self._empty = number
        if self._active is not None:
            self._active.close()
            self._active = None
        active = ActivePack(self._packs, number, 0)
        try:
            self._packs.files.sync_dir(self._packs.folder)
        except BaseException:
            active.close()
            raise
        self._active, self._empty = active, None
        return active

    def _reserve(self, number: int) -> None:
        """Pack numbers are never used twice."""
        self._connection.execute(
            "INSERT INTO meta (key, value) VALUES ('pack_next', ?)"
            " ON CONFLICT (key) DO UPDATE SET value = max(value, excluded.value)",
            (number + 1,),
        )

    def _count_pages(self, _connection: apsw.Connection, _name: str, pages: int) -> int:
        self._wal_pages = pages
        return apsw.SQLITE_OK

    def _checkpoint(self) -> None:
        """Write the lazy counters, then copy the WAL into the database. A failure is no loss: all that was
        acknowledged is durable in the WAL, and the next try comes."""
        try:
            dirty = [
                state
                for state in list(self._catalogue.states.values())
                if state.dirty and state.alive and state not in self._unwritten
            ]
            if dirty:
                self._flush(dirty)
            pages, copied = self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
            # A long reading holds some back: not again after every commit.
            self._checkpoint_at = _CHECKPOINT_PAGES + (pages if copied < pages else 0)
            self._wal_pages = 0
        except apsw.Error as error:
            _log.error("checkpoint failed: %s", error)

    def _flush(self, dirty: list[MailboxState]) -> None:
        """Counters whose row lies in a damaged page are left out; a start counts the messages again."""
        transaction = Transaction(self._connection, self._catalogue)
        try:
            with atomic(self._connection):
                for state in dirty:
                    transaction.flush(state)
        except BaseException as error:
            for state in dirty:
                state.dirty = True
            if not checksums.is_damage(error):
                raise
            if len(dirty) == 1:
                self._unwritten.update(dirty)
                return
            for state in dirty:
                self._flush([state])
