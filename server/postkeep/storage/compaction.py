"""Giving disk space back, in the background and slowly.

A sealed pack of which most octets are dead: its live records are copied to the active pack through the writer
(durable before the rows point there, all in one transaction) until nothing in it is referred to any more. A
pack without any live record is removed after a grace time, in which sessions that still hold old rows finish
reading: first the file, durably, then its row, so that at no moment a file is there that the database does
not know. A crash at any point leaves either the old place or the new one in use, and dead octets counted.

A moved record keeps the message's item id and names the mailboxes where the message is now, so that a
rebuild finds it there.
"""

import asyncio
import contextlib
import logging
from array import array
from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

import apsw

from postkeep.domain.errors import CorruptRecord, PostkeepError
from postkeep.runtime.clock import Clock
from postkeep.storage import records
from postkeep.storage.catalogue import Catalogue
from postkeep.storage.packs import Packs
from postkeep.storage.records import HEADER_SIZE, Delivery
from postkeep.storage.store import MailStore
from postkeep.storage.structures import drop_structures
from postkeep.storage.survey import check_digest
from postkeep.storage.transaction import Transaction
from postkeep.storage.walk import live_rows, orphans

_log = logging.getLogger(__name__)

DEAD_RATIO = 0.6
"""Share of dead octets from which on a pack is rewritten."""
RATE = 8 << 20
"""Octets a second that are rewritten."""
INTERVAL = 600.0
"""Seconds between two looks."""
GRACE = 900.0
"""Seconds that a wholly dead pack stays for those who read in it."""
_PACKS = 32
"""Packs that one walk over all messages serves."""
_DAY = 86_400.0
_STRUCTURES = 200_000
"""Structures that are looked at in a day."""
_BATCH_STRUCTURES = 1000
_BATCH_OCTETS = 1 << 20
_BATCH_RECORDS = 200


class Compacted(NamedTuple):
    """What one look did: records moved, their octets, pack files removed, records left for being damaged."""

    moved: int
    octets: int
    removed: int
    damaged: int


class _Copy(NamedTuple):
    """A record on its way: `rows` are (account, mailbox, uid); `pieces` its bytes at the new place."""

    offset: int
    old_length: int
    length: int
    rows: tuple[tuple[int, int, int], ...]
    pieces: tuple[bytes, ...]


class Compactor:
    """`start` makes it a background task of the running loop; `run_once` is one whole look."""

    def __init__(
        self,
        store: MailStore,
        clock: Clock,
        *,
        dead_ratio: float = DEAD_RATIO,
        rate: int = RATE,
        interval: float = INTERVAL,
        grace: float = GRACE,
    ) -> None:
        self._store = store
        self._clock = clock
        self._dead_ratio = dead_ratio
        self._rate = rate
        self._interval = interval
        self._grace = grace
        self._dead_since: dict[int, float] = {}
        self._damaged: set[int] = set()
        """Packs with damaged records: they stay, and are not tried again."""
        self._trim_at = clock.monotonic()
        self._trimmed = 0
        """The last structure that was looked at."""
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _run(self) -> None:
        while True:
            await self._clock.sleep(self._interval)
            try:
                done = await self.run_once()
                await self._trim_structures()
            except (PostkeepError, OSError) as error:
                _log.warning("compaction put off: %s", error)
                continue
            except Exception:  # a bug must not be the end of it
                _log.exception("compaction failed")
                continue
            if done.moved or done.removed:
                _log.info("compaction: %d records (%d octets) moved, %d packs removed", *done[:3])

    async def run_once(self) -> Compacted:
        """Remove what is dead, rewrite what is mostly dead. StorageFull, StorageFailed."""
        removed = await self._remove_dead()
        moved = octets = damaged = 0
        tried: set[int] = set()
        while True:
            due = await self._store.readers.run(_mostly_dead, self._dead_ratio)
            due = [pack for pack in due if pack not in self._damaged and pack not in tried][:_PACKS]
            if not due:
                break
            for pack, live in (await live_rows(self._store.readers, due)).items():
                result = await self._empty(pack, live)
                moved, octets, damaged = (
                    moved + result.moved,
                    octets + result.octets,
                    damaged + result.damaged,
                )
                if not result.moved:
                    tried.add(pack)
        removed += await self._remove_dead()
        return Compacted(moved, octets, removed, damaged)

    async def _trim_structures(self) -> None:
        """Once a day: some of the structures whose message was expunged before they were written."""
        now = self._clock.monotonic()
        if now < self._trim_at:
            return
        gone, self._trimmed = await orphans(self._store.readers, self._trimmed, _STRUCTURES)
        self._trim_at = now + _DAY
        for start in range(0, len(gone), _BATCH_STRUCTURES):
            batch = gone[start : start + _BATCH_STRUCTURES]
            await self._store.writer.change(partial(drop_structures, items=batch))

    # --- removing ---------------------------------------------------------------------------------

    async def _remove_dead(self) -> int:
        now = self._clock.monotonic()
        dead = await self._store.readers.run(_wholly_dead)
        self._dead_since = {pack: self._dead_since.get(pack, now) for pack in dead}
        due = [pack for pack, since in self._dead_since.items() if now - since >= self._grace]
        if due:
            await asyncio.to_thread(_remove_files, self._store.packs, due)
            await self._store.writer.change(lambda tx: _forget_packs(tx, due))
        return len(due)

    # --- moving -----------------------------------------------------------------------------------

    async def _empty(self, pack: int, live: "array[int]") -> Compacted:
        """Move these records of a pack; when rows were copied meanwhile it is found again. One whose records
        left are all damaged stays."""
        moved = octets = damaged = 0
        for group in _groups(live):
            while group:
                copies, used, bad = await self._store.readers.run(
                    _read_copies, self._store.packs, self._store.catalogue, pack, group
                )
                group = group[used:]
                damaged += bad
                if copies:
                    moved += await self._move(pack, copies)
                    size = sum(copy.length for copy in copies)
                    octets += size
                    await self._clock.sleep(size / self._rate)
        if damaged and not moved:
            self._damaged.add(pack)
            _log.error("pack %d stays for its %d damaged records", pack, damaged)
            return Compacted(0, octets, 0, damaged)
        return Compacted(moved, octets, 0, 0)

    async def _move(self, pack: int, copies: list[_Copy]) -> int:
        pieces = tuple(piece for copy in copies for piece in copy.pieces)
        return await self._store.writer.append(pieces, lambda tx, place: _point_to(tx, pack, copies, place))


def _mostly_dead(connection: apsw.Connection, ratio: float) -> list[int]:
    rows = connection.execute(
        "SELECT number FROM pack WHERE sealed AND dead < length AND dead >= length * ? ORDER BY dead DESC",
        (ratio,),
    )
    return [int(number) for (number,) in rows]


def _wholly_dead(connection: apsw.Connection) -> list[int]:
    """A pack of length 0 holds nothing that a rebuild could read, yet perhaps what a person can: it stays."""
    rows = connection.execute("SELECT number FROM pack WHERE sealed AND dead = length AND length > 0")
    return [int(number) for (number,) in rows]


def _groups(live: "array[int]") -> Iterator[list[tuple[int, tuple[tuple[int, int, int], ...]]]]:
    """[(offset, its rows), …] for at most _BATCH_RECORDS records at a time."""
    group: list[tuple[int, tuple[tuple[int, int, int], ...]]] = []
    for start in range(0, len(live), 4):
        offset, *row = live[start : start + 4]
        place = (row[0], row[1], row[2])
        if group and group[-1][0] == offset:
            group[-1] = (offset, (*group[-1][1], place))
            continue
        if len(group) == _BATCH_RECORDS:
            yield group
            group = []
        group.append((offset, (place,)))
    if group:
        yield group


def _read_copies(
    connection: apsw.Connection,
    packs: Packs,
    catalogue: Catalogue,
    pack: int,
    group: list[tuple[int, tuple[tuple[int, int, int], ...]]],
) -> tuple[list[_Copy], int, int]:
    """About _BATCH_OCTETS of the group's records as they will be written; how many of the group were looked
    at, and how many of those are damaged."""
    copies: list[_Copy] = []
    used = damaged = octets = 0
    for offset, rows in group:
        used += 1
        try:
            copy = _read_copy(connection, packs, catalogue, pack, offset, rows)
        except (CorruptRecord, OSError) as error:
            _log.error("compaction cannot move a message: %s", error)
            damaged += 1
            continue
        copies.append(copy)
        octets += copy.length
        if octets >= _BATCH_OCTETS:
            break
    return copies, used, damaged


def _read_copy(
    connection: apsw.Connection,
    packs: Packs,
    catalogue: Catalogue,
    pack: int,
    offset: int,
    rows: tuple[tuple[int, int, int], ...],
) -> _Copy:
    record = packs.read(pack, offset)
    check_digest(packs, pack, offset, record)
    header, trailer = record.header, record.trailer
    body = packs.pread(pack, header.stored, offset + HEADER_SIZE)
    deliveries = tuple(filter(None, [_delivery(connection, catalogue, *row) for row in rows]))
    changed = records.Trailer(
        trailer.date,
        trailer.prefix,
        deliveries or trailer.deliveries,
        trailer.structure,
        trailer.blocks,
        trailer.item or records.item_of(pack, offset),
    )
    flags = header.flags & ~records.TRAILER_ZSTD
    head, tail = records.encode_record(
        body, flags, header.stored, header.raw, header.digest, changed, header.kind
    )
    return _Copy(offset, header.length, len(head) + len(body) + len(tail), rows, (head, body, tail))


def _delivery(
    connection: apsw.Connection, catalogue: Catalogue, account: int, mailbox: int, uid: int
) -> Delivery | None:
    """Where and how the message is now; None when it is gone."""
    row = connection.execute(
        "SELECT flags, keywords FROM message WHERE account = ? AND mailbox = ? AND uid = ?",
        (account, mailbox, uid),
    ).fetchone()
    owner, state = catalogue.accounts.get(account), catalogue.states.get(mailbox)
    if row is None or owner is None or state is None:
        return None
    flags, bits = int(row[0]), int(row[1])
    words = tuple(word for bit, word in enumerate(owner.keywords) if bits >> bit & 1)
    return Delivery(owner.key, state.name, flags, words)


def _point_to(tx: Transaction, pack: int, copies: list[_Copy], place: tuple[int, int]) -> int:
    """Rows that still refer to the old records refer to the new ones, and all is counted anew; the number
    of records that were still wanted."""
    new_pack, new_offset = place
    moved = new_dead = old_dead = 0
    for copy in copies:
        rows = 0
        for account, mailbox, uid in copy.rows:
            tx.execute(
                "UPDATE message SET pack = ?, offset = ?, length = ?"
                " WHERE account = ? AND mailbox = ? AND uid = ? AND pack = ? AND offset = ?",
                (new_pack, new_offset, copy.length, account, mailbox, uid, pack, copy.offset),
            )
            rows += tx.connection.changes()
        if rows:
            moved += 1
            old_dead += _unshare(tx, pack, copy, rows)
        else:
            new_dead += copy.length  # expunged meanwhile: dead on arrival
        if rows > 1:
            tx.execute(
                "INSERT INTO shared (pack, offset, refs) VALUES (?, ?, ?)", (new_pack, new_offset, rows)
            )
        new_offset += copy.length
    for number, octets in ((pack, old_dead), (new_pack, new_dead)):
        if octets:
            tx.execute("UPDATE pack SET dead = dead + ? WHERE number = ?", (octets, number))
    return moved


def _unshare(tx: Transaction, pack: int, copy: _Copy, rows: int) -> int:
    """`rows` references fewer to the old record; its octets if none are left."""
    where = (pack, copy.offset)
    refs = tx.execute("SELECT refs FROM shared WHERE pack = ? AND offset = ?", where).get
    left = (1 if refs is None else int(refs)) - rows
    if left > 1:
        tx.execute("UPDATE shared SET refs = ? WHERE pack = ? AND offset = ?", (left, *where))
    elif refs is not None:
        tx.execute("DELETE FROM shared WHERE pack = ? AND offset = ?", where)
    return 0 if left > 0 else copy.old_length


def _remove_files(packs: Packs, numbers: list[int]) -> None:
    for number in numbers:
        packs.forget(number)
        with contextlib.suppress(FileNotFoundError):  # removed before a crash that kept its row
            packs.files.unlink(packs.path(number))
    packs.files.sync_dir(packs.folder)


def _forget_packs(tx: Transaction, numbers: list[int]) -> None:
    for number in numbers:
        tx.execute("DELETE FROM pack WHERE number = ? AND sealed AND dead = length", (number,))
