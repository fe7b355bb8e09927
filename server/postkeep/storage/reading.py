"""Reading beside the writer: a few threads, each with a read-only connection of its own."""

import asyncio
import threading
from array import array
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar

import apsw
import orjson

from postkeep.domain.errors import CorruptRecord, StorageFailed
from postkeep.domain.message import FlagsRow, MessageRow
from postkeep.storage import around
from postkeep.storage.bodies import StoredMessage
from postkeep.storage.checksums import is_damage
from postkeep.storage.database import atomic, json_columns, json_value, open_reader, translate
from postkeep.storage.packs import Packs
from postkeep.storage.ranges import Ranges, merge

T = TypeVar("T")
R = TypeVar("R", bound=tuple[Any, ...])

BATCH = 1000
"""Rows of one batch."""
_RANGES = 500
_TINY = 32
"""Rows up to which a query is run on the loop: a hop to a thread and back costs 70 µs, 32 rows 60 µs."""
_HELD = 8 << 20
"""Octets of bodies that one `messages` call keeps in memory; what is beyond is read again when asked for."""


def _select(columns: tuple[str, ...], source: str) -> str:
    """A JSON array for each column: with orjson it takes half the time of rows as tuples, and SQLite
    works without the interpreter's lock."""
    arrays = ", ".join([f"json_group_array({column})" for column in columns])
    return f"SELECT {arrays} FROM (SELECT {', '.join(columns)} FROM {source} LIMIT ?)"  # noqa: S608


_RANGE = "message WHERE account = ? AND mailbox = ? AND uid BETWEEN ? AND ? AND modseq > ? ORDER BY uid"
_LIST = (
    "json_each(?) r CROSS JOIN message m ON m.account = ? AND m.mailbox = ?"
    " AND m.uid BETWEEN r.value ->> 0 AND r.value ->> 1 WHERE modseq > ?"
)


class Shape(Generic[R]):
    """The columns of a query and how a row (a NamedTuple that begins with the uid) is made of them."""

    def __init__(self, row: type[R]) -> None:
        fields: tuple[str, ...] = row._fields  # type: ignore[attr-defined]
        self.range = _select(fields, _RANGE)
        self.list = _select(fields, _LIST)
        self.make: Callable[[Any], R] = partial(tuple.__new__, row)
        self._places = [around.PLACES[field] for field in fields]

    def take(self, row: around.Row) -> R:
        """Of a row with all columns."""
        return self.make([row[place] for place in self._places])


WHOLE = Shape(MessageRow)
FLAGS = Shape(FlagsRow)


class Readers:
    """The reading threads. Errors of the database come out as StorageFailed."""

    def __init__(self, path: Path, packs: Packs, vfs: str | None, threads: int = 3) -> None:
        self.workers = ThreadPoolExecutor(threads, thread_name_prefix="postkeep-reader")
        self._path = path
        self._packs = packs
        self._vfs = vfs
        self._local = threading.local()
        self._connections: list[apsw.Connection] = []
        self.hidden: Callable[[int], None] = lambda mailbox: None
        """Told the id of a mailbox of which some rows cannot be read (any thread)."""

    def close(self) -> None:
        """Waits for what is being read."""
        self.workers.shutdown()
        for connection in self._connections:
            connection.close()
        self._connections.clear()

    async def run(self, function: Callable[..., T], *args: Any) -> T:
        """In a reading thread; `function` gets its connection first."""
        return await self._hop(self._call, function, args)

    async def _hop(self, function: Callable[..., T], *args: Any) -> T:
        try:
            waiting = asyncio.get_running_loop().run_in_executor(self.workers, function, *args)
        except RuntimeError as error:
            raise StorageFailed("the store is closed") from error
        return await waiting

    def _call(self, function: Callable[..., T], args: tuple[Any, ...]) -> T:
        try:
            return function(self._connection(), *args)
        except Exception as error:
            reason = translate(error)
            if reason is error:
                raise
            raise reason from error

    def _connection(self) -> apsw.Connection:
        connection: apsw.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = open_reader(self._path, self._vfs)
            self._connections.append(connection)
        return connection

    # --- rows -------------------------------------------------------------------------------------

    async def uids(self, account: int, mailbox: int) -> "array[int]":
        return await self.run(self._uids, account, mailbox)

    def _uids(self, connection: apsw.Connection, account: int, mailbox: int) -> "array[int]":
        try:
            return _uids(connection, account, mailbox)
        except apsw.Error as error:
            if not is_damage(error):
                raise
        self.hidden(mailbox)
        return array("I", around.uids(connection, self._path, account, mailbox)[0])

    async def rows(
        self, shape: Shape[R], account: int, mailbox: int, ranges: Ranges, since: int
    ) -> AsyncIterator[list[R]]:
        """Batches ascending by uid; no snapshot spans them."""
        left = merge(ranges)
        if sum([last - first + 1 for first, last in left]) <= _TINY:
            batch = self._call(self._rows, (shape, account, mailbox, left, since)) if left else []
            if batch:
                yield batch
            return
        left.reverse()
        while left:
            if len(left) == 1:
                first, last = left.pop()
                batch = await self.run(self._rows, shape, account, mailbox, [(first, last)], since)
                if len(batch) == BATCH and (done := batch[-1][0]) < last:
                    left.append((done + 1, last))
            else:
                part = left[-_RANGES:][::-1]
                batch = await self.run(self._rows, shape, account, mailbox, part, since)
                done = batch[-1][0] if len(batch) == BATCH else part[-1][1]
                while left and left[-1][1] <= done:
                    left.pop()
                if left and left[-1][0] <= done:
                    left[-1] = (done + 1, left[-1][1])
            if batch:
                yield batch

    def _rows(
        self,
        connection: apsw.Connection,
        shape: Shape[R],
        account: int,
        mailbox: int,
        ranges: Ranges,
        since: int,
    ) -> list[R]:
        """At most BATCH; around damaged pages."""
        try:
            return _rows_of_ranges(connection, shape, account, mailbox, ranges, since)
        except apsw.Error as error:
            if not is_damage(error):
                raise
        self.hidden(mailbox)
        rows = around.batch(connection, self._path, account, mailbox, ranges, since, BATCH)
        return list(map(shape.take, rows))

    async def expunged_since(self, account: int, mailbox: int, modseq: int) -> "array[int]":
        return await self.run(self._expunged, account, mailbox, modseq)

    def _expunged(self, connection: apsw.Connection, account: int, mailbox: int, modseq: int) -> "array[int]":
        try:
            return _expunged(connection, account, mailbox, modseq)
        except apsw.Error as error:
            if not is_damage(error):
                raise
        # What was expunged cannot be read: all that is not there, which RFC 7162 §3.2.7 allows.
        row = connection.execute("SELECT uidnext FROM mailbox WHERE id = ?", (mailbox,)).fetchone()
        return _absent(self._uids(connection, account, mailbox), row)

    # --- records ----------------------------------------------------------------------------------

    async def messages(self, rows: Sequence[MessageRow]) -> list[StoredMessage | CorruptRecord]:
        return await self._hop(self._messages, rows)

    def _messages(self, rows: Sequence[MessageRow]) -> list[StoredMessage | CorruptRecord]:
        found: list[StoredMessage | CorruptRecord] = []
        held = 0
        for row in rows:
            try:
                record = self._packs.read(row.pack, row.offset, row.size)
            except CorruptRecord as error:
                found.append(error)
                continue
            held += len(record.body)
            keep = held <= _HELD
            found.append(StoredMessage(self._packs, self.workers, row.pack, row.offset, record, keep))
        return found


def _uids(connection: apsw.Connection, account: int, mailbox: int) -> "array[int]":
    found = json_value(
        connection,
        "SELECT json_group_array(uid) FROM"
        " (SELECT uid FROM message WHERE account = ? AND mailbox = ? ORDER BY uid)",
        (account, mailbox),
    )
    return array("I", found)


def _rows(
    connection: apsw.Connection,
    shape: Shape[R],
    account: int,
    mailbox: int,
    first: int,
    last: int,
    since: int,
) -> list[R]:
    bindings = (account, mailbox, first, last, since, BATCH)
    return list(map(shape.make, json_columns(connection, shape.range, bindings)))


def _rows_of_ranges(
    connection: apsw.Connection, shape: Shape[R], account: int, mailbox: int, ranges: Ranges, since: int
) -> list[R]:
    if len(ranges) == 1:
        return _rows(connection, shape, account, mailbox, *ranges[0], since)
    bindings = (orjson.dumps(ranges).decode(), account, mailbox, since, BATCH)
    return list(map(shape.make, json_columns(connection, shape.list, bindings)))


def _expunged(connection: apsw.Connection, account: int, mailbox: int, modseq: int) -> "array[int]":
    with atomic(connection):
        row = connection.execute("SELECT forgotten, uidnext FROM mailbox WHERE id = ?", (mailbox,)).fetchone()
        if row is not None and modseq < row[0]:
            return _absent(_uids(connection, account, mailbox), row[1:])
        found = json_value(
            connection,
            "SELECT json_group_array(uid) FROM (SELECT uid FROM tombstone"
            " WHERE account = ? AND mailbox = ? AND modseq > ? ORDER BY uid)",
            (account, mailbox, modseq),
        )
    return array("I", found)


def _absent(there: "array[int]", uidnext: tuple[int] | None) -> "array[int]":
    """The uids up to the last one given that are not `there`."""
    end = max(uidnext[0] if uidnext else 1, there[-1] + 1 if there else 1)
    return array("I", sorted(set(range(1, end)).difference(there)))
