"""The write-ahead log as it lies on the disk: is it damaged in the middle.

SQLite takes the first frame that does not fit for the end of the WAL. After a crash that is right: the last
transaction was not durable yet. But a bit that flipped further in front would silently take back what was
acknowledged, so the frames behind the end are looked at. Each frame's checksum builds on the one before, and
each commit is durable before the next transaction begins: a frame that fits behind a commit proves that the
commit was durable. (File format: sqlite.org/fileformat2.html#walformat.)
"""

import struct
from collections.abc import Callable, Iterator
from typing import NamedTuple

_HEADER = struct.Struct(">8I")
_FRAME = struct.Struct(">6I")
_MAGIC = 0x377F0682
_PAGE_SIZES = {1 << shift for shift in range(9, 17)}

Pread = Callable[[int, int], bytes]
"""(length, offset) → octets."""
Sum = tuple[int, int]


class _Wal(NamedTuple):
    pread: Pread
    page: int
    frames: int
    words: struct.Struct
    salt: Sum
    start: Sum
    """The header's checksum, on which the first frame's builds; (0, 0) when the header is damaged."""
    sound: bool


class _Frame(NamedTuple):
    commits: bool
    salt: Sum
    sum: Sum


def damaged(pread: Pread, size: int, valid: int | None = None) -> int | None:
    """The number of the first frame (from 1) that is damaged although a later one proves that it was durable;
    0 for the header, None when there is none. `valid` frames SQLite itself takes for good; without that all
    are looked at, a second for 16 MiB."""
    wal = _open(pread, size)
    if wal is None:
        return None
    good = 0
    if wal.sound:
        good = _valid(wal) if valid is None else valid
    frames = {number: frame for number, frame in _frames(wal, good) if frame.salt == wal.salt}
    for number, frame in frames.items():
        if frame.commits and number + 1 in frames and _fits(wal, frame.sum, number + 1):
            return good + 1 if wal.sound else 0
    return None


def _open(pread: Pread, size: int) -> _Wal | None:
    """None: there is nothing in it."""
    data = pread(_HEADER.size, 0)
    if len(data) < _HEADER.size or not any(data):
        return None
    magic, _, page, _, *rest = _HEADER.unpack(data)
    salt, stored = (rest[0], rest[1]), (rest[2], rest[3])
    words = _words("<" if magic & 1 == 0 else ">", 24)
    sound = magic & ~1 == _MAGIC and page in _PAGE_SIZES and _sum(words, data[:24], (0, 0)) == stored
    if not sound:  # then what a frame says of itself must do, and the size and order that we write
        page = 4096
        first = pread(_FRAME.size, _HEADER.size)
        if len(first) < _FRAME.size:
            return None
        salt = _FRAME.unpack(first)[2:4]
    order = "<" if not sound or magic & 1 == 0 else ">"
    frames = (size - _HEADER.size) // (_FRAME.size + page)
    return _Wal(pread, page, frames, _words(order, 8 + page), salt, stored, sound)


def _words(order: str, octets: int) -> struct.Struct:
    return struct.Struct(f"{order}{octets // 4}I")


def _frames(wal: _Wal, after: int) -> Iterator[tuple[int, _Frame]]:
    for number in range(after + 1, wal.frames + 1):
        data = wal.pread(_FRAME.size, _place(wal, number))
        if len(data) < _FRAME.size:
            return
        _, commits, *rest = _FRAME.unpack(data)
        yield number, _Frame(commits != 0, (rest[0], rest[1]), (rest[2], rest[3]))


def _valid(wal: _Wal) -> int:
    """Frames that build on one another from the first on."""
    before = wal.start
    for number, frame in _frames(wal, 0):
        if frame.salt != wal.salt or not _fits(wal, before, number):
            return number - 1
        before = frame.sum
    return wal.frames


def _fits(wal: _Wal, before: Sum, number: int) -> bool:
    data = wal.pread(_FRAME.size + wal.page, _place(wal, number))
    if len(data) < _FRAME.size + wal.page:
        return False
    stored = _FRAME.unpack_from(data)[4:6]
    return _sum(wal.words, data[:8] + data[_FRAME.size :], before) == stored


def _place(wal: _Wal, number: int) -> int:
    return _HEADER.size + (number - 1) * (_FRAME.size + wal.page)


def _sum(words: struct.Struct, data: bytes, start: Sum) -> Sum:
    first, second = start
    numbers = iter(words.unpack(data))
    for one, other in zip(numbers, numbers, strict=True):
        first = (first + one + second) & 0xFFFFFFFF
        second = (second + other + first) & 0xFFFFFFFF
    return first, second


def fits(page: bytes, reserved: int) -> bool:
    """A page of the database ends with its checksum, which the checksum VFS computes in the same way."""
    end = len(page) - reserved
    stored = int.from_bytes(page[end : end + 4], "little"), int.from_bytes(page[end + 4 :], "little")
    return _sum(_words("<", end), page[:end], (0, 0)) == stored
