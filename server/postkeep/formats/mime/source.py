"""Where the bytes of a message come from: memory, or a file that is never read whole."""

from collections.abc import Callable
from typing import Protocol

WINDOW = 256 * 1024
"""Octets that a PreadSource holds at a time."""


class Source(Protocol):
    """Random access to a message. Offsets are octets; `start` ≤ `end` ≤ `size`."""

    size: int

    def read(self, start: int, end: int) -> bytes: ...

    def find(self, pattern: bytes, start: int, end: int) -> int:
        """Where `pattern` first begins so that it lies wholly in [start, end); -1 when it is absent."""

    def count(self, pattern: bytes, start: int, end: int) -> int:
        """Occurrences of `pattern` (not overlapping) that lie wholly in [start, end)."""


class BytesSource:
    """A message in memory."""

    __slots__ = ("_data", "count", "find", "size")

    def __init__(self, data: bytes | bytearray) -> None:
        self._data = data
        self.size = len(data)
        self.find: Callable[[bytes, int, int], int] = data.find
        self.count: Callable[[bytes, int, int], int] = data.count

    def read(self, start: int, end: int) -> bytes:
        return bytes(self._data[start:end])


class PreadSource:
    """A message in a file; memory is bounded by WINDOW.

    `pread(length, offset)` is os.pread without its file descriptor; it may return less than asked.
    Raises OSError when the file ends before `size`.
    """

    def __init__(self, pread: Callable[[int, int], bytes], size: int) -> None:
        self._pread = pread
        self.size = size
        self._start = 0
        self._buffer = b""

    def read(self, start: int, end: int) -> bytes:
        if start >= end:
            return b""
        if self._start <= start and end <= self._start + len(self._buffer):
            return self._buffer[start - self._start : end - self._start]
        if end - start > WINDOW:
            return self._load(start, end)
        self._fill(start)
        return self._buffer[: end - start]

    def find(self, pattern: bytes, start: int, end: int) -> int:
        length = len(pattern)
        while end - start >= length:
            held = self._start + len(self._buffer)
            if not (self._start <= start and (start + length <= held)):
                self._fill(start, at_least=length)
                held = self._start + len(self._buffer)
            found = self._buffer.find(pattern, start - self._start, min(end, held) - self._start)
            if found >= 0:
                return self._start + found
            start = min(end, held) - length + 1
        return -1

    def count(self, pattern: bytes, start: int, end: int) -> int:
        total = 0
        if len(pattern) == 1:
            while start < end:
                if not self._start <= start < self._start + len(self._buffer):
                    self._fill(start)
                stop = min(end, self._start + len(self._buffer))
                total += self._buffer.count(pattern, start - self._start, stop - self._start)
                start = stop
            return total
        while (found := self.find(pattern, start, end)) >= 0:
            total += 1
            start = found + len(pattern)
        return total

    def _fill(self, start: int, at_least: int = 0) -> None:
        self._buffer = self._load(start, min(self.size, start + max(WINDOW, at_least)))
        self._start = start

    def _load(self, start: int, end: int) -> bytes:
        pieces = []
        while start < end:
            piece = self._pread(end - start, start)
            if not piece:
                raise OSError(f"the file ends at octet {start}, before octet {end}")
            pieces.append(piece)
            start += len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)
