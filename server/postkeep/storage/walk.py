"""Walks over all messages, for what has no index (every delivery would pay for one): step by step, each in a
snapshot of its own, so that the WAL can be copied in between. What changes meanwhile may or may not show."""

import asyncio
from array import array
from collections.abc import Callable, Sequence
from typing import TypeVar

import apsw
import orjson

from postkeep.storage.database import json_value
from postkeep.storage.reading import Readers

T = TypeVar("T")

STEP = 20_000
"""Messages of one step."""
ROWS = 400_000
"""Rows that `live_rows` holds in memory, 32 octets each."""

Key = tuple[int, int, int]
"""account, mailbox, uid"""
_START: Key = (-1, -1, -1)
_END: Key = ((1 << 63) - 1,) * 3
_BETWEEN = "(account, mailbox, uid) > (?, ?, ?) AND (account, mailbox, uid) <= (?, ?, ?)"


async def live_rows(readers: Readers, packs: Sequence[int]) -> "dict[int, array[int]]":
    """{pack: offset, account, mailbox, uid of the rows that refer to it, flat, ascending by offset}.

    Bounded: when there are too many, the last of `packs` are left out; of a single one not all rows come."""
    found: dict[int, array[int]] = {pack: array("q") for pack in packs}
    count = 0

    def take(connection: apsw.Connection, first: Key, last: Key) -> int:
        rows = connection.execute(
            f"SELECT pack, offset, account, mailbox, uid FROM message WHERE {_BETWEEN}"  # noqa: S608
            " AND pack IN (SELECT value FROM json_each(?))",
            (*first, *last, orjson.dumps(list(found)).decode()),
        )
        taken = 0
        for pack, *row in rows:
            found[pack].extend(row)
            taken += 1
        return taken

    async for taken in _Walk(readers, take):
        count += taken
        while count > ROWS and len(found) > 1:
            count -= len(found.popitem()[1]) // 4
        if count > ROWS:
            break
    return {pack: _sorted(rows) for pack, rows in found.items()}


async def orphans(readers: Readers, after: int, limit: int) -> tuple[list[int], int]:
    """Structures, of `limit` of them from item `after` on, whose message is gone; the last item looked at (0:
    there are no more)."""
    items = await readers.run(_structure_items, after, limit)
    missing = set(items)

    def take(connection: apsw.Connection, first: Key, last: Key) -> int:
        sql = f"SELECT json_group_array(item) FROM message WHERE {_BETWEEN}"  # noqa: S608
        missing.difference_update(json_value(connection, sql, (*first, *last)))
        return len(missing)

    if missing:
        async for left in _Walk(readers, take):
            if not left:
                break
    return sorted(missing), items[-1] if len(items) == limit else 0


class _Walk:
    """The results of `take(connection, after, last)` for one step after the other, in a reading thread."""

    def __init__(self, readers: Readers, take: Callable[[apsw.Connection, Key, Key], int]) -> None:
        self._readers = readers
        self._take = take
        self._after: Key | None = _START

    def __aiter__(self) -> "_Walk":
        return self

    async def __anext__(self) -> int:
        if self._after is None:
            raise StopAsyncIteration
        await asyncio.sleep(0)
        self._after, result = await self._readers.run(self._step, self._after)
        return result

    def _step(self, connection: apsw.Connection, after: Key) -> tuple[Key | None, int]:
        last = connection.execute(
            "SELECT account, mailbox, uid FROM message WHERE (account, mailbox, uid) > (?, ?, ?)"
            " ORDER BY account, mailbox, uid LIMIT 1 OFFSET ?",
            (*after, STEP - 1),
        ).fetchone()
        return last, self._take(connection, after, last or _END)


def _structure_items(connection: apsw.Connection, after: int, limit: int) -> list[int]:
    found: list[int] = json_value(
        connection,
        "SELECT json_group_array(item) FROM"
        " (SELECT item FROM structure WHERE item > ? ORDER BY item LIMIT ?)",
        (after, limit),
    )
    return found


def _sorted(rows: "array[int]") -> "array[int]":
    starts = sorted(range(0, len(rows), 4), key=rows.__getitem__)
    return array("q", [value for start in starts for value in rows[start : start + 4]])
