"""The store as everybody else sees it."""

import asyncio
import contextlib
import logging
from array import array
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

import apsw

from postkeep.domain.change import Appended, Expunged, MailboxesChanged
from postkeep.domain.errors import CorruptRecord, DatabaseDamaged, MailboxNotFound, PostkeepError
from postkeep.domain.mailbox import DEFAULT_MAILBOXES, Counters, Mailbox, Role
from postkeep.domain.message import FlagMode, FlagsRow, MessageRow
from postkeep.formats.mime.structure import Structure
from postkeep.runtime.clock import Clock
from postkeep.runtime.files import Files, SystemFiles
from postkeep.storage import checksums, database, mailboxes, messages, opening
from postkeep.storage.bodies import Body, Incoming, Intake, StoredMessage
from postkeep.storage.catalogue import Catalogue, MailboxState
from postkeep.storage.convert import add_checksums
from postkeep.storage.disk import DiskWatch
from postkeep.storage.jobs import Target, deliver
from postkeep.storage.messages import CopyResult, StoreResult
from postkeep.storage.migrations import migrate
from postkeep.storage.packs import Packs
from postkeep.storage.reading import FLAGS, WHOLE, Readers
from postkeep.storage.structures import StructureKeeper
from postkeep.storage.transaction import Transaction
from postkeep.storage.writer import Writer

__all__ = ["CopyResult", "MailStore", "StoreResult", "Target"]

_log = logging.getLogger(__name__)

T = TypeVar("T")

_SYSTEM_FILES = SystemFiles()
Then = Callable[[T], None] | None


class MailStore:
    """DATA/store: mail/ (packs), spool/ (big messages on their way in), postkeep.db, lock.

    Reads of accounts, mailboxes and counters are plain calls (they live in memory and show what is
    committed). Everything that writes returns when it is durable, and gives the `Change`s to be published.
    A caller that is cancelled while it waits may or may not have stopped what it asked for: `then` is called
    with the result, on the loop and before the caller goes on, whenever it became durable. Errors: NotFound,
    MailboxNotFound, StorageFull, StorageFailed, LimitReached.
    """

    def __init__(
        self,
        clock: Clock,
        lock: database.Lock,
        connection: apsw.Connection,
        catalogue: Catalogue,
        packs: Packs,
        writer: Writer,
        readers: Readers,
        intake: Intake,
    ) -> None:
        self.catalogue = catalogue
        self.packs = packs
        self.writer = writer
        self.readers = readers
        self._clock = clock
        self._lock = lock
        self._connection = connection
        self._intake = intake
        self.disk = intake.disk
        """To be told of failures to keep messages elsewhere on this disk."""
        self._structures = StructureKeeper(readers, writer, packs)
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._closing = False

    @classmethod
    async def open(
        cls, folder: Path, clock: Clock, *, files: Files = _SYSTEM_FILES, vfs: str | None = None
    ) -> "MailStore":
        """Open (or make) the store: lock it, bring the schema up to date, cut what a crash left, recover the
        counters. StorageFailed says why it cannot be used."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = database.Lock(folder)
        try:
            return await cls._open(folder, clock, files, vfs, lock)
        except BaseException as error:
            lock.release()
            reason = database.translate(error)
            if isinstance(reason, DatabaseDamaged):
                reason = DatabaseDamaged(f"the database {folder / database.NAME} is damaged ({error})")
            if reason is error:
                raise
            raise reason from error

    @classmethod
    async def _open(
        cls, folder: Path, clock: Clock, files: Files, vfs: str | None, lock: database.Lock
    ) -> "MailStore":
        mail, spool = folder / "mail", folder / "spool"
        for path in (folder, mail, spool):
            files.mkdir(path)
        path = folder / database.NAME
        await asyncio.to_thread(add_checksums, files, path, vfs, clock.monotonic)
        connection = database.open_writer(path, vfs)
        try:
            opening.check_database(files, path, connection)
            migrate(connection)
            checksums.mark(connection)
            connection.execute(messages.TEMPORARY)
            opening.empty_spool(files, spool)
            packs = Packs(files, mail)
            opening.settle_packs(files, packs, connection)
            catalogue = Catalogue()
            catalogue.load(connection)
            active = opening.open_active(files, packs, connection)
        except BaseException:
            connection.close()
            raise
        numbers = opening.pack_numbers(packs, connection)
        disk = DiskWatch(folder, clock.monotonic)
        writer = Writer(connection, catalogue, packs, numbers, active, disk)
        readers = Readers(path, packs, vfs)
        readers.hidden = catalogue.hide
        intake = Intake(files, spool, numbers, readers.workers, disk)
        writer.start()
        store = cls(clock, lock, connection, catalogue, packs, writer, readers, intake)
        store._spawn("reap", store._reap)
        return store

    async def close(self) -> None:
        """Finish what is queued, write the counters, close the files. May be called twice."""
        if self._closing:
            return
        self._closing = True
        for task in list(self._tasks.values()):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        await self.writer.close()
        await asyncio.to_thread(self.readers.close)
        self.packs.close()
        database.close_writer(self._connection)
        self._lock.release()

    # --- accounts ---------------------------------------------------------------------------------

    def account_id(self, key: str) -> int | None:
        """The storage id of the account name@domain (lower-case)."""
        state = self.catalogue.by_key.get(key)
        return None if state is None else state.id

    async def create_account(
        self, key: str, mailboxes: Sequence[tuple[str, Role]] = DEFAULT_MAILBOXES
    ) -> int:
        """Its id; an account that exists is left as it is."""
        known = self.account_id(key)
        if known is not None:
            return known
        return (await self._create([key], mailboxes))[0]

    async def create_accounts(self, keys: Sequence[str]) -> None:
        """All of them in one commit, with the default mailboxes."""
        missing = [key for key in dict.fromkeys(keys) if key not in self.catalogue.by_key]
        if missing:
            await self._create(missing, DEFAULT_MAILBOXES)

    async def _create(self, keys: Sequence[str], names: Sequence[tuple[str, Role]]) -> list[int]:
        now = int(self._clock.now())
        return await self.writer.change(lambda tx: mailboxes.create_accounts(tx, keys, names, now))

    async def rename_account(self, key: str, new_key: str) -> None:
        """NotFound, AlreadyExists."""
        await self.writer.change(lambda tx: mailboxes.rename_account(tx, key, new_key))

    async def delete_account(self, key: str) -> None:
        """Gone at once; its messages are removed in the background. NotFound."""
        await self.writer.change(lambda tx: mailboxes.delete_account(tx, key))
        self._spawn("reap", self._reap)

    # --- mailboxes --------------------------------------------------------------------------------

    def mailboxes(self, account: int) -> tuple[Mailbox, ...]:
        """Sorted by name, INBOX first."""
        return self.catalogue.listing(account)

    def mailbox(self, account: int, name: str) -> Mailbox:
        """MailboxNotFound; INBOX in any case."""
        return self.catalogue.mailbox(account, name)

    def counters(self, account: int, mailbox: int) -> Counters:
        return self.catalogue.state(account, mailbox).counters

    def is_damaged(self, account: int, mailbox: int) -> bool:
        """Some of its messages are known to lie in damaged pages of the database: it can only be read (mail
        is delivered as long as its end is sound), and `counters` counts what cannot be read too."""
        return self.catalogue.state(account, mailbox).hidden

    def usage(self, account: int) -> tuple[int, int]:
        """Octets and messages of all its mailboxes."""
        return self.catalogue.account(account).usage

    def keywords(self, account: int) -> tuple[str, ...]:
        """Bit n is element n; at most 62."""
        return self.catalogue.account(account).keywords

    async def create_mailbox(
        self,
        account: int,
        name: str,
        role: Role = Role.NONE,
        then: Then[tuple[Mailbox, MailboxesChanged]] = None,
    ) -> tuple[Mailbox, MailboxesChanged]:
        """Makes missing parents too. MailboxExists, InvalidName."""
        state, now = self.catalogue.account(account), int(self._clock.now())
        return await self.writer.change(lambda tx: mailboxes.create_mailbox(tx, state, name, role, now), then)

    async def rename_mailbox(
        self, account: int, name: str, new_name: str, then: Then[MailboxesChanged] = None
    ) -> MailboxesChanged:
        """Children go along. Renaming INBOX moves its messages and begins INBOX anew: its old id is among
        `removed` (RFC 3501 §6.3.5). MailboxNotFound, MailboxExists, InvalidName."""
        state, now = self.catalogue.account(account), int(self._clock.now())
        return await self.writer.change(
            lambda tx: mailboxes.rename_mailbox(tx, state, name, new_name, now), then
        )

    async def delete_mailbox(
        self, account: int, name: str, then: Then[MailboxesChanged] = None
    ) -> MailboxesChanged:
        """Gone at once; its messages are removed in the background. Children stay.

        MailboxNotFound, Denied (INBOX)."""
        state = self.catalogue.account(account)
        changed = await self.writer.change(lambda tx: mailboxes.delete_mailbox(tx, state, name), then)
        self._spawn("reap", self._reap)
        return changed

    async def subscribe(
        self, account: int, name: str, on: bool, then: Then[MailboxesChanged] = None
    ) -> MailboxesChanged:
        state = self.catalogue.account(account)
        return await self.writer.change(lambda tx: mailboxes.subscribe(tx, state, name, on), then)

    # --- receiving --------------------------------------------------------------------------------

    def incoming(self) -> Incoming:
        return Incoming(self._intake)

    async def deliver(
        self, body: Body, targets: Sequence[Target], date: int, then: Then[tuple[Appended, ...]] = None
    ) -> tuple[Appended, ...]:
        """Store `body` once for all `targets`; one Appended for each, in their order. Durable on return.

        `date` is INTERNALDATE. The body is used up, also when this fails. MailboxNotFound when a target is
        gone (then none gets it), LimitReached (keywords)."""
        try:
            places = [(self.catalogue.sound(target.account, target.mailbox), target) for target in targets]
            bits = [await self._keyword_bits(target) if target.keywords else 0 for target in targets]
            job = deliver(asyncio.get_running_loop().create_future(), body, places, bits, date, then)
        except BaseException:
            body.discard()
            raise
        return await self.writer.submit(job)  # type: ignore[no-any-return]

    async def _keyword_bits(self, target: Target) -> int:
        state = self.catalogue.account(target.account)
        index = state.keyword_bits
        if not all(word.lower() in index for word in target.keywords):
            await self.writer.change(lambda tx: tx.keyword_bits(state, target.keywords))
            index = state.keyword_bits
        bits = 0
        for word in target.keywords:
            bits |= 1 << index[word.lower()]
        return bits

    # --- changing ---------------------------------------------------------------------------------

    async def store_flags(
        self,
        account: int,
        mailbox: int,
        uids: Sequence[int],
        mode: FlagMode,
        flags: int,
        keywords: Sequence[str],
        unchanged_since: int | None = None,
        then: Then[StoreResult] = None,
    ) -> StoreResult:
        """RFC 3501 §6.4.6, RFC 7162 §3.1.3. Uids that do not exist are passed over.

        LimitReached (keywords)."""
        state = self.catalogue.writable(account, mailbox)
        words = tuple(keywords)
        bits = int(flags)
        return await self._change(
            state, lambda tx: messages.store_flags(tx, state, uids, mode, bits, words, unchanged_since), then
        )

    async def copy(
        self,
        account: int,
        mailbox: int,
        uids: Sequence[int],
        target: int,
        target_account: int | None = None,
        then: Then[CopyResult] = None,
    ) -> CopyResult:
        return await self._copy(account, mailbox, uids, target, target_account, False, then)

    async def move(
        self,
        account: int,
        mailbox: int,
        uids: Sequence[int],
        target: int,
        target_account: int | None = None,
        then: Then[CopyResult] = None,
    ) -> CopyResult:
        """RFC 6851: in one transaction."""
        return await self._copy(account, mailbox, uids, target, target_account, True, then)

    async def _copy(
        self,
        account: int,
        mailbox: int,
        uids: Sequence[int],
        target: int,
        target_account: int | None,
        remove: bool,
        then: Then[CopyResult],
    ) -> CopyResult:
        source = (self.catalogue.writable if remove else self.catalogue.state)(account, mailbox)
        into = self.catalogue.sound(account if target_account is None else target_account, target)
        return await self._change(
            source, lambda tx: messages.copy(tx, source, uids, into, remove), then, into
        )

    async def expunge(
        self, account: int, mailbox: int, uids: Sequence[int] | None, then: Then[Expunged] = None
    ) -> Expunged:
        """None: those flagged \\Deleted. Otherwise exactly those of `uids` that exist."""
        state = self.catalogue.writable(account, mailbox)
        return await self._change(state, lambda tx: messages.expunge(tx, state, uids), then)

    # --- reading ----------------------------------------------------------------------------------

    async def uids(self, account: int, mailbox: int) -> "array[int]":
        """Ascending."""
        self.catalogue.state(account, mailbox)
        return await self.readers.uids(account, mailbox)

    async def rows(
        self, account: int, mailbox: int, ranges: Sequence[tuple[int, int]], *, changed_since: int = 0
    ) -> AsyncIterator[list[MessageRow]]:
        """Batches of at most 1,000, ascending by uid; `ranges` are (first, last) uids. What changes meanwhile
        may or may not show. `changed_since`: only rows with a higher modseq."""
        state = self.catalogue.state(account, mailbox)
        if changed_since and state.counters.modseq <= changed_since:
            return
        async for batch in self.readers.rows(WHOLE, account, mailbox, ranges, changed_since):
            yield batch

    async def flags(
        self, account: int, mailbox: int, ranges: Sequence[tuple[int, int]], *, changed_since: int = 0
    ) -> AsyncIterator[list[FlagsRow]]:
        """As `rows`, for those who want no more than UID, FLAGS and MODSEQ: a third of the work."""
        state = self.catalogue.state(account, mailbox)
        if changed_since and state.counters.modseq <= changed_since:
            return
        async for batch in self.readers.rows(FLAGS, account, mailbox, ranges, changed_since):
            yield batch

    async def expunged_since(self, account: int, mailbox: int, modseq: int) -> "array[int]":
        """Uids gone after `modseq`, ascending; all that are not there when that is too long ago to know."""
        if self.catalogue.state(account, mailbox).counters.modseq <= modseq:
            return array("I")
        return await self.readers.expunged_since(account, mailbox, modseq)

    async def structures(self, rows: Sequence[MessageRow]) -> list[Structure | None]:
        """In the order of `rows`; None: the record is damaged (and logged)."""
        found, new = await self._structures.read(rows)
        if new:
            self._spawn("structures", self._structures.keep)
        return found

    async def messages(self, rows: Sequence[MessageRow]) -> list[StoredMessage | CorruptRecord]:
        """In the order of `rows`, all checked; a damaged one does not hinder the others."""
        return await self.readers.messages(rows)

    # --- in the background ------------------------------------------------------------------------

    async def _change(
        self,
        state: MailboxState,
        change: Callable[[Transaction], T],
        then: Then[T],
        other: MailboxState | None = None,
    ) -> T:
        def checked(transaction: Transaction) -> T:
            if not transaction.get(state, "alive") or not (other is None or transaction.get(other, "alive")):
                raise MailboxNotFound("the mailbox is gone")
            return change(transaction)

        return await self.writer.change(checked, then)

    def _spawn(self, name: str, work: Callable[[], Coroutine[None, None, None]]) -> None:
        """Run background work unless it runs already."""
        if self._closing or name in self._tasks:
            return
        task = asyncio.get_running_loop().create_task(work(), name=f"postkeep-{name}")
        self._tasks[name] = task
        task.add_done_callback(lambda _: self._tasks.pop(name, None))

    async def _reap(self) -> None:
        """Remove the messages of deleted mailboxes and accounts, in steps that let others through."""
        damaged: list[int] = []
        try:
            while doomed := await self.readers.run(mailboxes.doomed, damaged):
                try:
                    while await self.writer.change(partial(mailboxes.reap, doomed=doomed)):
                        pass
                except DatabaseDamaged:
                    damaged.append(doomed[1])
            if not damaged:
                await self.writer.change(mailboxes.forget_accounts)
        except PostkeepError as error:
            _log.error("removing deleted mailboxes stopped until the next start: %s", error)
