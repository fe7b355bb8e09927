"""Reading beside the writer: a few threads, each with a read-only connection of its own."""

import asyncio
import threading
from array import array
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import apsw
import orjson

from postkeep.domain.errors import CorruptRecord
from postkeep.domain.message import MessageRow
from postkeep.storage.bodies import StoredMessage
from postkeep.storage.database import json_value, open_reader, translate
from postkeep.storage.packs import Packs

T = TypeVar("T")

BATCH = 1000
"""Rows of one batch."""
_RANGES = 500
_HELD = 8 << 20
"""Octets of bodies that one `messages` call keeps in memory; what is beyond is read again when asked for."""
_FIELDS = ",".join(MessageRow._fields)
_SELECT = f"SELECT json_group_array(json_array({_FIELDS})) FROM (SELECT {_FIELDS} FROM "  # noqa: S608 -- ours
_ROWS = (
    _SELECT + "message WHERE account = ? AND mailbox = ? AND uid BETWEEN ? AND ? AND modseq > ?"
    " ORDER BY uid LIMIT ?)"
)
_ROWS_OF_RANGES = (
    _SELECT + "json_each(?) r CROSS JOIN message m ON m.account = ? AND m.mailbox = ?"
    " AND m.uid BETWEEN r.value ->> 0 AND r.value ->> 1 WHERE modseq > ? LIMIT ?)"
)
_make_row = partial(tuple.__new__, MessageRow)

Ranges = Sequence[tuple[int, int]]


class Readers:
    """The reading threads. Errors of the database come out as StorageFailed."""

    def __init__(self, path: Path, packs: Packs, vfs: str | None, threads: int = 3) -> None:
        self.workers = ThreadPoolExecutor(threads, thread_name_prefix="postkeep-reader")
        self._path = path
        self._packs = packs
        self._vfs = vfs
        self._local = threading.local()
        self._connections: list[apsw.Connection] = []

    def close(self) -> None:
        """Waits for what is being read."""
        self.workers.shutdown()
        for connection in self._connections:
            connection.close()
        self._connections.clear()

    async def run(self, function: Callable[..., T], *args: Any) -> T:
        """In a reading thread; `function` gets its connection first."""
        return await asyncio.get_running_loop().run_in_executor(self.workers, self._call, function, args)

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
        return await self.run(_uids, account, mailbox)

    async def rows(
        self, account: int, mailbox: int, ranges: Ranges, since: int
    ) -> AsyncIterator[list[MessageRow]]:
        """Batches ascending by uid; no snapshot spans them."""
        left = merge(ranges)
        left.reverse()
        while left:
            if len(left) == 1:
                first, last = left.pop()
                batch = await self.run(_rows, account, mailbox, first, last, since)
                if len(batch) == BATCH and batch[-1].uid < last:
                    left.append((batch[-1].uid + 1, last))
            else:
                part = left[-_RANGES:][::-1]
                batch = await self.run(_rows_of_ranges, account, mailbox, part, since)
                done = batch[-1].uid if len(batch) == BATCH else part[-1][1]
                while left and left[-1][1] <= done:
                    left.pop()
                if left and left[-1][0] <= done:
                    left[-1] = (done + 1, left[-1][1])
            if batch:
                yield batch

    async def expunged_since(self, account: int, mailbox: int, modseq: int) -> "array[int]":
        return await self.run(_expunged, account, mailbox, modseq)

    # --- records ----------------------------------------------------------------------------------

    async def messages(self, rows: Sequence[MessageRow]) -> list[StoredMessage | CorruptRecord]:
        return await asyncio.get_running_loop().run_in_executor(self.workers, self._messages, rows)

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
            found.append(
                StoredMessage(self._packs, self.workers, row.pack, row.offset, record, held <= _HELD)
            )
        return found


def merge(ranges: Ranges) -> list[tuple[int, int]]:
    """Ascending, without overlaps: neighbours joined, empty ones dropped."""
    merged: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if last < first:
            continue
        if merged and first <= merged[-1][1] + 1:
            if last > merged[-1][1]:
                merged[-1] = (merged[-1][0], last)
        else:
            merged.append((first, last))
    return merged


def _uids(connection: apsw.Connection, account: int, mailbox: int) -> "array[int]":
    found = json_value(
        connection,
        "SELECT json_group_array(uid) FROM"
        " (SELECT uid FROM message WHERE account = ? AND mailbox = ? ORDER BY uid)",
        (account, mailbox),
    )
    return array("I", found)


def _rows(
    connection: apsw.Connection, account: int, mailbox: int, first: int, last: int, since: int
) -> list[MessageRow]:
    found = json_value(connection, _ROWS, (account, mailbox, first, last, since, BATCH))
    return list(map(_make_row, found))


def _rows_of_ranges(
    connection: apsw.Connection, account: int, mailbox: int, ranges: Ranges, since: int
) -> list[MessageRow]:
    text = orjson.dumps(ranges).decode()
    found = json_value(connection, _ROWS_OF_RANGES, (text, account, mailbox, since, BATCH))
    return list(map(_make_row, found))


def _expunged(connection: apsw.Connection, account: int, mailbox: int, modseq: int) -> "array[int]":
    found = json_value(
        connection,
        "SELECT json_group_array(uid) FROM (SELECT uid FROM tombstone"
        " WHERE account = ? AND mailbox = ? AND modseq > ? ORDER BY uid)",
        (account, mailbox, modseq),
    )
    return array("I", found)
