"""Where a b-tree goes on behind a damaged page: the key that follows in the pages above it.

SQLite cannot pass a page that it cannot read: a scan that comes upon one ends there. The interior pages above
know the first key behind it, so they are read here, straight from the file and compared with their own
checksums, a few for each damaged page. What is found is a hint only while an engine writes (the newest pages
may be in the WAL); on a database whose WAL is empty it is exact. (sqlite.org/fileformat2.html#b_tree_pages)
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from postkeep.storage import wal
from postkeep.storage.checksums import PAGE_SIZE, RESERVED

_INDEX, _TABLE = 2, 5
"""Interior pages of a table without rowids, and of one with them."""
_HEAD = 12
_DEPTH = 20
_WIDTHS = (0, 1, 2, 3, 4, 6, 8)
_NONE, _ZERO, _ONE = 0, 8, 9

Key = tuple[int, ...]


class Seam(NamedTuple):
    """`row`: the whole row behind the damage, all integers (without rowid), or (rowid,) alone."""

    row: Key


class Pages:
    """The pages of a database file, one at a time; None for one that cannot be read or is damaged."""

    def __init__(self, path: Path) -> None:
        """OSError."""
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def close(self) -> None:
        os.close(self._fd)

    def page(self, number: int) -> bytes | None:
        try:
            data = os.pread(self._fd, PAGE_SIZE, (number - 1) * PAGE_SIZE)
        except OSError:
            return None
        if len(data) < PAGE_SIZE or not wal.fits(data, RESERVED):
            return None
        return data

    def behind(self, root: int, key: Key) -> Seam | None:
        """The first row after the damaged page that `key` leads to, in the tree of page `root`; None when it
        is the last page, or when no page above it can be read."""
        following: Seam | None = None
        page = root
        for _ in range(_DEPTH):
            data = self.page(page)
            if data is None:
                return following
            try:
                kind = data[_start(page)]
                if kind not in (_INDEX, _TABLE):
                    return following
                page, found = _choose(data, _start(page), kind, key)
            except (IndexError, ValueError):
                return following
            following = found or following
        return following


def _start(page: int) -> int:
    return 100 if page == 1 else 0


def _choose(data: bytes, start: int, kind: int, key: Key) -> tuple[int, Seam | None]:
    """(the child that `key` leads to, the row to the right of it)."""
    for child, row in _cells(data, start, kind):
        if row[: len(key)] >= key:
            return child, Seam(row)
    return int.from_bytes(data[start + 8 : start + 12], "big"), None


def _cells(data: bytes, start: int, kind: int) -> Iterator[tuple[int, Key]]:
    count = int.from_bytes(data[start + 3 : start + 5], "big")
    for number in range(count):
        pointer = start + _HEAD + 2 * number
        place = int.from_bytes(data[pointer : pointer + 2], "big")
        child = int.from_bytes(data[place : place + 4], "big")
        value, place = _varint(data, place + 4)
        yield child, (value,) if kind == _TABLE else integers(data[place : place + value])


def integers(record: bytes) -> Key:
    """The columns of a record that holds integers alone. ValueError."""
    end, place = _varint(record, 0)
    body = end
    found = []
    while place < end:
        kind, place = _varint(record, place)
        if kind in (_ZERO, _ONE):
            found.append(kind - _ZERO)
            continue
        if not _NONE < kind < len(_WIDTHS):
            raise ValueError("not an integer")
        width = _WIDTHS[kind]
        found.append(int.from_bytes(record[body : body + width], "big", signed=True))
        body += width
    if body > len(record):
        raise ValueError("the record goes on elsewhere")
    return tuple(found)


def _varint(data: bytes, place: int) -> tuple[int, int]:
    value = 0
    for number in range(9):
        octet = data[place + number]
        if number == 8:
            return value << 8 | octet, place + 9
        value = value << 7 | octet & 0x7F
        if octet < 0x80:
            return value, place + number + 1
    raise ValueError("no varint")
