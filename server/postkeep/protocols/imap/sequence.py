"""Sequence sets and maps between sequence numbers and UIDs (RFC 3501 §9 sequence-set)."""

import re
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence

SequenceSet = tuple[tuple[int, int], ...]
"""Pairs as written; STAR stands for `*`."""
Ranges = list[tuple[int, int]]
"""Inclusive, ascending, neither overlapping nor adjacent."""

STAR = 0
MAXIMUM = 0xFFFF_FFFF
_SET = re.compile(
    r"(?:[1-9][0-9]{0,9}|\*)(?::(?:[1-9][0-9]{0,9}|\*))?(?:,(?:[1-9][0-9]{0,9}|\*)(?::(?:[1-9][0-9]{0,9}|\*))?)*\Z"
)


def parse_set(text: str) -> SequenceSet:
    """Raises ValueError.

    >>> parse_set("1,3:5,7:*")
    ((1, 1), (3, 5), (7, 0))
    """
    if not _SET.match(text):
        raise ValueError("invalid sequence set")
    pairs = []
    for element in text.split(","):
        first, _, last = element.partition(":")
        low = STAR if first == "*" else int(first)
        high = low if not last else STAR if last == "*" else int(last)
        if low > MAXIMUM or high > MAXIMUM:
            raise ValueError("number over 4294967295")
        pairs.append((low, high))
    return tuple(pairs)


def resolve(written: SequenceSet, largest: int) -> Ranges:
    """Ranges with `*` = `largest`; both orders of a pair mean the same. Elements of an empty `*` vanish.

    >>> resolve(((5, 3), (4, 0)), 9)
    [(3, 9)]
    """
    pairs = []
    for low, high in written:
        low, high = low or largest, high or largest
        if low > high:
            low, high = high, low
        if low:
            pairs.append((low, high))
    return merge(pairs)


def merge(pairs: Iterable[tuple[int, int]]) -> Ranges:
    """Any inclusive pairs as Ranges."""
    merged: Ranges = []
    for low, high in sorted(pairs):
        if merged and low <= merged[-1][1] + 1:
            if high > merged[-1][1]:
                merged[-1] = (merged[-1][0], high)
        else:
            merged.append((low, high))
    return merged


def ranges_of(uids: Iterable[int]) -> Ranges:
    """Ascending numbers as Ranges."""
    ranges: Ranges = []
    start = previous = -1
    for uid in uids:
        if uid == previous + 1 and start >= 0:
            previous = uid
            continue
        if start >= 0:
            ranges.append((start, previous))
        start = previous = uid
    if start >= 0:
        ranges.append((start, previous))
    return ranges


def format_set(numbers: Iterable[int]) -> bytes:
    """Ascending numbers in set syntax.

    >>> format_set([1, 2, 3, 7])
    b'1:3,7'
    """
    return b",".join(
        b"%d" % low if low == high else b"%d:%d" % (low, high) for low, high in ranges_of(numbers)
    )


def present(uids: "array[int]", ranges: Ranges) -> list[int]:
    """The members of ascending `uids` that lie in `ranges`."""
    found: list[int] = []
    for low, high in ranges:
        found.extend(uids[bisect_left(uids, low) : bisect_right(uids, high)])
    return found


def uid_ranges(uids: "array[int]", numbers: Ranges) -> Ranges:
    """Ranges of sequence numbers (within 1…len) as ranges of UIDs that hold no others of `uids`."""
    return [(uids[low - 1], uids[high - 1]) for low, high in numbers]


def numbers_of(uids: "array[int]", wanted: Sequence[int]) -> Sequence[int]:
    """Sequence numbers of ascending `wanted`, all in `uids`. A run without gaps costs two look-ups."""
    if not wanted:
        return ()
    first = bisect_left(uids, wanted[0])
    last = bisect_left(uids, wanted[-1], first)
    if last - first + 1 == len(wanted):
        return range(first + 1, last + 2)
    numbers = []
    for uid in wanted:
        first = bisect_left(uids, uid, first)
        numbers.append(first + 1)
    return numbers
