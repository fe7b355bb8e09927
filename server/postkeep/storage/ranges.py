"""Sets of UIDs as ranges (first, last)."""

from collections.abc import Sequence

Ranges = Sequence[tuple[int, int]]


def merge(ranges: Ranges) -> list[tuple[int, int]]:
    """Ascending, without overlaps: neighbours joined, empty ones dropped.

    >>> merge([(5, 9), (1, 2), (3, 3), (8, 7)])
    [(1, 3), (5, 9)]
    """
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


def ranges_of(uids: Sequence[int]) -> list[tuple[int, int]]:
    """The ranges that hold exactly these uids, each once."""
    ascending = sorted(set(uids))
    if not ascending:
        return []
    if ascending[-1] - ascending[0] + 1 == len(ascending):
        return [(ascending[0], ascending[-1])]
    ranges = []
    first = last = ascending[0]
    for uid in ascending:
        if uid > last + 1:
            ranges.append((first, last))
            first = uid
        last = uid
    ranges.append((first, last))
    return ranges
