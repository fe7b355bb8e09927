"""Reading the messages of a mailbox around damaged pages, for those who only read.

A row at a time, where the fast queries of reading.py would fail as a whole. Rows in a damaged page are left
out, all others come; each damaged page costs a failing step and a few pages above it (seams.py).
"""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import apsw

from postkeep.storage.checksums import is_damage
from postkeep.storage.ranges import Ranges
from postkeep.storage.seams import Pages

_COLUMNS = "uid, modseq, created, flags, keywords, size, date, pack, offset, length, msgid, thread, item"
_WHERE = "FROM message WHERE account = ? AND mailbox = ? AND uid BETWEEN ? AND ? ORDER BY uid"
_UP = f"SELECT {_COLUMNS} {_WHERE}"
_DOWN = f"{_UP} DESC"
PLACES = {name: place for place, name in enumerate(_COLUMNS.split(", "))}
"""Where a column stands in a row."""

Row = tuple[int, ...]


class Gap(NamedTuple):
    """Uids of which nothing can be known, both included."""

    first: int
    last: int


def rows(
    connection: apsw.Connection, path: Path, account: int, mailbox: int, ranges: Ranges
) -> Iterator[Row | Gap]:
    """Those of these (first, last) uids, ascending, with gaps in between. Errors but damage come out."""
    root = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'message'").get
    pages = Pages(path)
    try:
        for first, last in ranges:
            yield from _range(connection, pages, int(root), (account, mailbox), first, last)
    finally:
        pages.close()


def _range(
    connection: apsw.Connection, pages: Pages, root: int, mailbox: tuple[int, int], first: int, last: int
) -> Iterator[Row | Gap]:
    place = first
    while place <= last:
        try:
            for row in connection.execute(_UP, (*mailbox, place, last)):
                place = row[0] + 1
                yield row
            return
        except apsw.Error as error:
            if not is_damage(error):
                raise
        if place > last:
            return
        seam = pages.behind(root, (*mailbox, place))
        if seam is None or seam.row[:2] != mailbox or seam.row[2] > last:
            # Perhaps the last page of the range is sound and only that of its end is not.
            following, limit = _downwards(connection, mailbox, place, last), last
        else:
            following, limit = _downwards(connection, mailbox, place, seam.row[2]), seam.row[2]
        end = following[0][0] if following else limit + 1
        if place < end:
            yield Gap(place, end - 1)
        yield from following
        place = limit + 1


def _downwards(connection: apsw.Connection, mailbox: tuple[int, int], first: int, last: int) -> list[Row]:
    """What can be read when going back from `last`, ascending. A row that a page above holds comes only this
    way: SQLite looks for it below first."""
    found: list[Row] = []
    try:
        for row in connection.execute(_DOWN, (*mailbox, first, last)):
            found.append(row)
    except apsw.Error as error:
        if not is_damage(error):
            raise
    found.reverse()
    return found


def uids(connection: apsw.Connection, path: Path, account: int, mailbox: int) -> tuple[list[int], list[Gap]]:
    """(uids that can be read, gaps between them)."""
    found: list[int] = []
    gaps: list[Gap] = []
    for row in rows(connection, path, account, mailbox, [(1, 0xFFFFFFFF)]):
        if isinstance(row, Gap):
            gaps.append(row)
        else:
            found.append(row[0])
    return found, gaps


def batch(
    connection: apsw.Connection,
    path: Path,
    account: int,
    mailbox: int,
    ranges: Ranges,
    since: int,
    limit: int,
) -> list[Row]:
    """At most `limit` rows that were changed after `since`, ascending."""
    modseq = PLACES["modseq"]
    readable = (row for row in rows(connection, path, account, mailbox, ranges) if not isinstance(row, Gap))
    return list(itertools.islice((row for row in readable if row[modseq] > since), limit))
