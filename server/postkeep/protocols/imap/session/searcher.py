"""Finds messages: what a row can tell is decided for whole batches, only the rest is opened."""

import datetime
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from postkeep.domain.errors import CorruptRecord
from postkeep.domain.message import FlagsRow, MessageRow
from postkeep.protocols.imap import search_syntax as keys
from postkeep.protocols.imap.sequence import Ranges, SequenceSet, resolve, uid_ranges
from postkeep.protocols.imap.session.content import Content
from postkeep.protocols.imap.session.fetcher import MESSAGE_BATCH, MESSAGE_BATCH_OCTETS
from postkeep.protocols.imap.session.session import Session
from postkeep.protocols.imap.session.view import View

DECISIONS = 50_000
"""Keys times rows that are looked at before others get their turn."""

_EPOCH = datetime.date(1970, 1, 1).toordinal()

Row = TypeVar("Row", MessageRow, FlagsRow)
Test = Callable[[int, Any], bool | None]
"""True, False, or None when the message itself must be looked at."""


@dataclass(slots=True)
class Found:
    """Parallel lists, ascending."""

    numbers: list[int]
    uids: list[int]
    modseqs: list[int]

    def add(self, number: int, row: MessageRow | FlagsRow) -> None:
        self.numbers.append(number)
        self.uids.append(row.uid)
        self.modseqs.append(row.modseq)

    def extend(self, other: "Found") -> None:
        self.numbers += other.numbers
        self.uids += other.uids
        self.modseqs += other.modseqs

    def sort(self) -> None:
        """Ascending again after additions out of order."""
        triples = sorted(zip(self.numbers, self.uids, self.modseqs, strict=True))
        self.numbers = [number for number, _, _ in triples]
        self.uids = [uid for _, uid, _ in triples]
        self.modseqs = [modseq for _, _, modseq in triples]


class Searcher:
    """One SEARCH over a selected mailbox. Damaged messages do not match what must be read in them."""

    def __init__(self, session: Session, view: View, key: keys.Key) -> None:
        self._session = session
        self._service = session.mailboxes
        self._view = view
        self._key = key
        keywords = session.mailboxes.keywords(view.account)
        self._bits = {keyword.lower(): 1 << bit for bit, keyword in enumerate(keywords)}
        self._tests: dict[int, Test] = {}  # by id(key), for keys looked at again in opened messages
        self._test = self._compile(key)
        self._step = max(1, DECISIONS // len(self._tests))
        self._texts = frozenset(_texts(key))

    async def run(self) -> Found:
        """Everything of the mailbox that matches."""
        view = self._view
        found = Found([], [], [])
        ranges = self._scope()
        if not ranges:
            return found
        where = view.account, view.mailbox.id, ranges
        if _by_flags(self._key):
            async for narrow in self._service.flags(*where):
                await self._decide(narrow, found)
            return found
        async for rows in self._service.rows(*where):
            part = Found([], [], [])
            undecided = await self._decide(rows, part)
            if undecided:
                for number, row in await self._opened(undecided):
                    part.add(number, row)
                part.sort()
            found.extend(part)
        return found

    def _scope(self) -> Ranges:
        """Where matches can be: the whole mailbox, or what the program's own numbers leave of it."""
        view = self._view
        if not view.count:
            return []
        for key in self._key.keys if isinstance(self._key, keys.And) else (self._key,):
            if isinstance(key, keys.Numbers):
                last = view.uids[-1] if key.uid else view.count
                ranges = resolve(key.numbers, last)
                known = [(low, min(high, last)) for low, high in ranges if low <= last]
                return known if key.uid else uid_ranges(view.uids, known)
        return [(view.uids[0], view.uids[-1])]

    async def _decide(self, rows: list[Row], found: Found) -> list[tuple[int, Row]]:
        """Add what certainly matches; those that must be opened are given back."""
        undecided = []
        for start in range(0, len(rows), self._step):
            undecided += self._decide_now(rows[start : start + self._step], found)
            await self._session.breathe()
        return undecided

    def _decide_now(self, rows: list[Row], found: Found) -> list[tuple[int, Row]]:
        test, view = self._test, self._view
        undecided = []
        uids = view.uids
        number = view.number(rows[0].uid) or 0
        for row in rows:
            if not 0 < number <= len(uids) or uids[number - 1] != row.uid:
                known = view.number(row.uid)
                if known is None:
                    continue  # the client has not been told of it
                number = known
            verdict = test(number, row)
            if verdict:
                found.add(number, row)
            elif verdict is None:
                undecided.append((number, row))
            number += 1
        return undecided

    # --- by row ---------------------------------------------------------------------------------------

    def _compile(self, key: keys.Key) -> Test:
        test = self._tests.get(id(key))
        if test is None:
            test = self._tests[id(key)] = self._compiled(key)
        return test

    def _compiled(self, key: keys.Key) -> Test:
        match key:
            case keys.Everything():
                return lambda number, row: True
            case keys.And(children):
                return _conjunction([self._compile(child) for child in children])
            case keys.Or(left, right):
                return _disjunction(self._compile(left), self._compile(right))
            case keys.Not(inner):
                return _negation(self._compile(inner))
            case keys.HasFlag(flag):
                bit = int(flag)
                return lambda number, row: row.flags & bit != 0
            case keys.HasKeyword(keyword):
                bit = self._bits.get(keyword, 0)
                return lambda number, row: row.keywords & bit != 0
            case keys.Recent():
                recent = self._view.is_recent
                return lambda number, row: recent(row.uid)
            case keys.Size(larger, smaller):
                if larger is not None:
                    return lambda number, row: row.size > larger
                return lambda number, row: smaller is not None and row.size < smaller
            case keys.ModSeq(least):
                return lambda number, row: row.modseq >= least
            case keys.Numbers(numbers, uid):
                return self._compile_numbers(numbers, uid=uid)
            case keys.Dated(since, before, False):
                return _compile_dates(since, before)
        return lambda number, row: None

    def _compile_numbers(self, written: SequenceSet, *, uid: bool) -> Test:
        view = self._view
        last = view.uids[-1] if view.uids else 0
        ranges = resolve(written, last if uid else view.count)
        if len(ranges) == 1:
            low, high = ranges[0]
            if uid:
                return lambda number, row: low <= row.uid <= high
            return lambda number, row: low <= number <= high
        if uid:
            return lambda number, row: _within(ranges, row.uid)
        return lambda number, row: _within(ranges, number)

    # --- by content -----------------------------------------------------------------------------------

    async def _opened(self, candidates: list[tuple[int, MessageRow]]) -> list[tuple[int, MessageRow]]:
        matched: list[tuple[int, MessageRow]] = []
        position = 0
        while position < len(candidates):
            octets = 0
            batch: list[tuple[int, MessageRow]] = []
            while position < len(candidates) and len(batch) < MESSAGE_BATCH:
                size = candidates[position][1].size
                if batch and octets + size > MESSAGE_BATCH_OCTETS:
                    break
                octets += size
                batch.append(candidates[position])
                position += 1
            messages = await self._service.messages([row for _, row in batch])
            for (number, row), message in zip(batch, messages, strict=True):
                if isinstance(message, CorruptRecord):
                    continue
                try:
                    if await self._matches(self._key, Content(message, self._texts), number, row):
                        matched.append((number, row))
                except CorruptRecord:
                    continue
                await self._session.breathe()
        return matched

    async def _matches(self, key: keys.Key, content: Content, number: int, row: MessageRow) -> bool:
        match key:
            case keys.And(children):
                for child in children:
                    if not await self._matches(child, content, number, row):
                        return False
                return True
            case keys.Or(left, right):
                return await self._matches(left, content, number, row) or await self._matches(
                    right, content, number, row
                )
            case keys.Not(inner):
                return not await self._matches(inner, content, number, row)
            case keys.Header(name, needle):
                await self._session.breathe()
                return await content.has_field(name, needle)
            case keys.Text():
                await self._session.breathe()
                return await content.has_text(key)
            case keys.Dated(since, before, True):
                day = content.sent
                return (
                    day is not None and (since is None or day >= since) and (before is None or day < before)
                )
        return bool(self._compile(key)(number, row))


def _texts(key: keys.Key) -> Iterator[keys.Text]:
    """All BODY and TEXT keys of a program."""
    match key:
        case keys.And(children):
            for child in children:
                yield from _texts(child)
        case keys.Or(left, right):
            yield from _texts(left)
            yield from _texts(right)
        case keys.Not(inner):
            yield from _texts(inner)
        case keys.Text():
            yield key


def _by_flags(key: keys.Key) -> bool:
    """Whether UID, flags and MODSEQ are enough to decide it."""
    match key:
        case keys.And(children):
            return all(map(_by_flags, children))
        case keys.Or(left, right):
            return _by_flags(left) and _by_flags(right)
        case keys.Not(inner):
            return _by_flags(inner)
        case keys.Size() | keys.Dated() | keys.Header() | keys.Text():
            return False
    return True


def _conjunction(tests: list[Test]) -> Test:
    def test(number: int, row: Any) -> bool | None:
        result: bool | None = True
        for inner in tests:
            verdict = inner(number, row)
            if verdict is False:
                return False
            if verdict is None:
                result = None
        return result

    return test


def _disjunction(left: Test, right: Test) -> Test:
    def test(number: int, row: Any) -> bool | None:
        first = left(number, row)
        if first:
            return True
        second = right(number, row)
        if second:
            return True
        return None if first is None or second is None else False

    return test


def _negation(inner: Test) -> Test:
    def test(number: int, row: Any) -> bool | None:
        verdict = inner(number, row)
        return None if verdict is None else not verdict

    return test


def _compile_dates(since: datetime.date | None, before: datetime.date | None) -> Test:
    """INTERNALDATE in UTC, as we show it."""
    low = (since.toordinal() - _EPOCH) * 86_400 if since is not None else None
    high = (before.toordinal() - _EPOCH) * 86_400 if before is not None else None

    def test(number: int, row: Any) -> bool:
        return (low is None or row.date >= low) and (high is None or row.date < high)

    return test


def _within(ranges: Ranges, value: int) -> bool:
    low, high = 0, len(ranges)
    while low < high:
        middle = (low + high) // 2
        if ranges[middle][1] < value:
            low = middle + 1
        else:
            high = middle
    return low < len(ranges) and ranges[low][0] <= value
