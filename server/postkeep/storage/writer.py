"""The one thread that writes: group commit of packs and database.

What arrives while a batch commits shares the next batch: all its bodies in one write to the active pack, one
fdatasync, one SQLite transaction, then one call back to the loop for all of it. Compressing, hashing and
scanning are done before, elsewhere.
"""

import asyncio
import contextlib
import logging
import queue
import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import apsw

from postkeep.domain.change import Appended
from postkeep.domain.errors import LimitReached, MailboxNotFound, PostkeepError, StorageFailed
from postkeep.domain.message import Flag, MessageRow
from postkeep.storage.catalogue import UID_LIMIT, Catalogue
from postkeep.storage.database import translate
from postkeep.storage.jobs import Delivery, Job, Operation
from postkeep.storage.packs import PACK_LIMIT, ActivePack, Packs
from postkeep.storage.records import item_of
from postkeep.storage.transaction import Transaction

_log = logging.getLogger(__name__)

T = TypeVar("T")

_BATCH_JOBS = 512
_BATCH_OCTETS = 16 << 20
_QUEUE_JOBS = 4096
_QUEUE_OCTETS = 64 << 20
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
        pack_limit: int = PACK_LIMIT,
    ) -> None:
        self._connection = connection
        self._catalogue = catalogue
        self._packs = packs
        self._numbers = numbers
        self._active = active
        self._pack_limit = pack_limit
        self._queue: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._loop = asyncio.get_running_loop()
        self._queued = self._octets = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._closed = False
        self._wal_pages = 0
        self._tidy = False
        self._thread = threading.Thread(target=self._run, name="postkeep-writer", daemon=True)
        connection.set_wal_hook(self._count_pages)

    # --- on the loop ------------------------------------------------------------------------------

    def start(self) -> None:
        self._thread.start()

    async def submit(self, job: Job) -> Any:
        """Queue a job; its result once durable. Waits for room when the queue is full."""
        try:
            while self._queued >= _QUEUE_JOBS or (self._octets + job.length > _QUEUE_OCTETS and self._queued):
                room: asyncio.Future[None] = self._loop.create_future()
                self._waiting.append(room)
                await room
            if self._closed:
                raise StorageFailed("the store is closed")
        except BaseException:
            job.settle()
            raise
        self._queued += 1
        self._octets += job.length
        self._queue.put(job)
        return await job.future

    async def change(self, change: Callable[[Transaction], T]) -> T:
        """Run a general operation in the writer's next transaction; durable on return."""
        job = Operation(self._loop.create_future(), lambda transaction, _: change(transaction))
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
        """Finish what is queued, write the lazy counters, end the thread."""
        if self._closed:
            return
        self._closed = True
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join)
        self._wake()

    def _finish(self, results: list[Result], count: int, octets: int) -> None:
        self._queued -= count
        self._octets -= octets
        for job, value, error in results:
            job.settle()
            future = job.future
            if future.done():  # its caller was cancelled meanwhile
                continue
            if error is None:
                future.set_result(value)
            else:
                future.set_exception(error)
        if self._waiting:
            self._wake()

    def _wake(self) -> None:
        while self._waiting:
            room = self._waiting.popleft()
            if not room.done():
                room.set_result(None)

    # --- in the writer thread ---------------------------------------------------------------------

    def _run(self) -> None:
        running = True
        while running:
            batch: list[Job] = []
            octets = 0
            try:
                job = self._queue.get(timeout=_IDLE_SECONDS if self._tidy else None)
                while job is not None:
                    batch.append(job)
                    octets += job.length
                    if len(batch) >= _BATCH_JOBS or octets >= _BATCH_OCTETS:
                        break
                    job = self._queue.get_nowait()
                else:
                    running = False
            except queue.Empty:
                pass
            if batch:
                results: list[Result] = []
                self._commit(batch, results)
                with contextlib.suppress(RuntimeError):  # the loop is closed
                    self._loop.call_soon_threadsafe(self._finish, results, len(batch), octets)
                self._tidy = True
                if self._wal_pages >= _CHECKPOINT_PAGES:
                    self._checkpoint()
            elif running:
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
        except BaseException as error:
            del results[mark:]
            reason = translate(error)
            if not isinstance(reason, PostkeepError):
                _log.error("storage operation failed", exc_info=error)
            trusted = self._active is None or self._active.trusted
            if len(batch) == 1 or not trusted:
                if not trusted:
                    self._abandon()
                results.extend((job, None, reason) for job in batch)
                return
            for job in batch:
                self._commit([job], results)

    def _attempt(self, batch: list[Job], results: list[Result]) -> None:
        jobs = self._place(batch, results)
        transaction = Transaction(self._connection, self._catalogue)
        deliveries = [job for job in jobs if isinstance(job, Delivery)]
        spools = [job.spool for job in deliveries if job.spool is not None]
        written = sum([job.length for job in jobs if job.records])
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
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                with contextlib.suppress(apsw.Error):
                    self._connection.execute("ROLLBACK")
            transaction.roll_back()
            if written and self._active is not None and self._active.trusted:
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
                results.append((job, None, None))
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

    def _roll(self) -> ActivePack:
        """Seal the active pack and open the next. Its row is committed before its file exists, so that no
        pack is ever there that the database does not know."""
        number = next(self._numbers)
        with self._connection:
            self._connection.execute("UPDATE pack SET sealed = 1 WHERE sealed = 0")
            self._connection.execute(
                "INSERT INTO pack (number, length, dead, sealed) VALUES (?, 0, 0, 0)", (number,)
            )
            self._reserve(number)
        if self._active is not None:
            self._active.close()
            self._active = None
        active = ActivePack(self._packs, number, 0)
        self._packs.files.sync_dir(self._packs.folder)
        self._active = active
        return active

    def _reserve(self, number: int) -> None:
        """Pack numbers are never used twice."""
        self._connection.execute(
            "INSERT INTO meta (key, value) VALUES ('pack_next', ?)"
            " ON CONFLICT (key) DO UPDATE SET value = max(value, excluded.value)",
            (number + 1,),
        )

    def _abandon(self) -> None:
        """After a failed sync: what the pack holds past its committed length is anybody's guess."""
        if self._active is not None:
            with contextlib.suppress(OSError):
                self._active.close()
            self._active = None

    def _count_pages(self, _connection: apsw.Connection, _name: str, pages: int) -> int:
        self._wal_pages = pages
        return apsw.SQLITE_OK

    def _checkpoint(self) -> None:
        """Write the lazy counters, then copy the WAL into the database. A failure is no loss: all that was
        acknowledged is durable in the WAL, and the next try comes."""
        try:
            dirty = [state for state in list(self._catalogue.states.values()) if state.dirty and state.alive]
            if dirty:
                transaction = Transaction(self._connection, self._catalogue)
                try:
                    with self._connection:
                        for state in dirty:
                            transaction.flush(state)
                except BaseException:
                    for state in dirty:
                        state.dirty = True
                    raise
            self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
            self._wal_pages = 0
        except apsw.Error as error:
            _log.error("checkpoint failed: %s", error)
