"""The packs: append-only files store/mail/NNNNNNNN.pack full of records.

One pack is active: the writer appends to it. At PACK_LIMIT it is sealed and never changes again. A message
too big for memory is a pack of its own (see spool.py). Reading is open to all threads; writing belongs to
the writer thread.
"""

import contextlib
import os
import threading
from collections import OrderedDict
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

from postkeep.domain.errors import CorruptRecord
from postkeep.runtime.files import Files
from postkeep.storage import records
from postkeep.storage.records import HEADER_SIZE, Header, Trailer

PACK_LIMIT = 256 << 20
"""A pack is sealed when the next batch would end behind this offset."""
SUFFIX = ".pack"
ARRIVING = ".arriving"
"""A pack of its own, durable, whose transaction may not be: kept at start only if it was committed."""
_SPECULATIVE = 4096
_WHOLE = 4 << 20
_OPEN_PACKS = 64


class Record(NamedTuple):
    """A record read and checked: all of it, or with BLOCKS all but its body."""

    header: Header
    trailer: Trailer
    body: bytes | memoryview
    """Raw octets; empty with BLOCKS (read those with `Packs.read_block`)."""

    @property
    def size(self) -> int:
        """Octets of the message as served."""
        return len(self.trailer.prefix) + self.header.raw


class _OpenPack:
    __slots__ = ("fd", "users")

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.users = 0


class Packs:
    """Every pack of a store, by number."""

    def __init__(self, files: Files, folder: Path, open_packs: int = _OPEN_PACKS) -> None:
        self.files = files
        self.folder = folder
        self._open: OrderedDict[int, _OpenPack] = OrderedDict()
        self._bound = open_packs
        self._lock = threading.Lock()

    def path(self, pack: int, suffix: str = SUFFIX) -> Path:
        return self.folder / f"{pack:08d}{suffix}"

    def numbers(self, suffix: str = SUFFIX) -> list[int]:
        """Numbers of the files there are, ascending."""
        names = (name[: -len(suffix)] for name in self.files.list_dir(self.folder) if name.endswith(suffix))
        return sorted(int(name) for name in names if name.isdecimal())

    # --- reading, any thread ----------------------------------------------------------------------

    def pread(self, pack: int, length: int, offset: int) -> bytes:
        """Up to `length` octets (fewer at the end of the file); OSError."""
        entry = self._acquire(pack)
        try:
            return self.files.pread(entry.fd, length, offset)
        finally:
            self._release(entry)

    def size(self, pack: int) -> int:
        entry = self._acquire(pack)
        try:
            return self.files.size(entry.fd)
        finally:
            self._release(entry)

    def read(self, pack: int, offset: int, size: int = 0, *, body: bool = True) -> Record:
        """The record there, checked. `size` (of the message) saves a second read; without `body` only header
        and trailer are read, and checked by their own checksum.

        CorruptRecord when it is damaged, cut short, missing or cannot be read from the disk."""
        try:
            return self._read(pack, offset, size, body)
        except OSError as error:
            raise CorruptRecord(f"pack {pack} offset {offset}: {error.strerror or error}") from error
        except CorruptRecord as error:
            raise CorruptRecord(f"pack {pack} offset {offset}: {error}") from error

    def _read(self, pack: int, offset: int, size: int, whole: bool) -> Record:
        entry = self._acquire(pack)
        try:
            pread, fd = self.files.pread, entry.fd
            guess = min(size, records.BLOCK) + HEADER_SIZE + _SPECULATIVE if whole else HEADER_SIZE
            data = memoryview(pread(fd, guess, offset))
            header = records.parse_header(data)
            end = HEADER_SIZE + header.stored
            if header.flags & records.BLOCKS or not whole:
                body = memoryview(b"")
                whole = False
                tail = memoryview(pread(fd, header.trailer, offset + end))
            else:
                if header.stored > _WHOLE:
                    raise CorruptRecord("record has an impossible length")
                if header.length > len(data) == guess:
                    data = memoryview(pread(fd, header.length, offset))
                body, tail = data[HEADER_SIZE:end], data[end : header.length]
        finally:
            self._release(entry)
        trailer = records.parse_trailer(data, header, tail)
        if header.flags & records.BLOCKS and sum([length for length, _ in trailer.blocks]) != header.stored:
            raise CorruptRecord("blocks do not fill the record")
        return Record(header, trailer, records.raw_body(header, body) if whole else b"")

    def read_block(self, pack: int, offset: int, record: Record, index: int) -> bytes:
        """Raw octets of block `index` of a BLOCKS record at `offset`, checked; CorruptRecord."""
        place = offset + HEADER_SIZE + sum(length for length, _ in record.trailer.blocks[:index])
        length, crc = record.trailer.blocks[index]
        raw = min(records.BLOCK, record.header.raw - index * records.BLOCK)
        try:
            stored = self.pread(pack, length, place)
        except OSError as error:
            raise CorruptRecord(f"pack {pack} offset {place}: {error.strerror or error}") from error
        if len(stored) != length:
            raise CorruptRecord(f"pack {pack} offset {place}: block is cut short")
        return records.decode_block(stored, crc, raw)

    def walk(self, pack: int, start: int, end: int) -> Iterator[tuple[int, Record | CorruptRecord]]:
        """Each record between two offsets with its place; stops after one whose length cannot be trusted."""
        while start < end:
            try:
                header = records.parse_header(self.pread(pack, HEADER_SIZE, start))
            except (CorruptRecord, OSError) as error:
                yield start, CorruptRecord(f"pack {pack} offset {start}: {error}")
                return
            if start + header.length > end:
                yield start, CorruptRecord(f"pack {pack} offset {start}: record is cut short")
                return
            try:
                yield start, self.read(pack, start, header.raw)
            except CorruptRecord as error:
                yield start, error
            start += header.length

    def _acquire(self, pack: int) -> _OpenPack:
        with self._lock:
            entry = self._open.get(pack)
            if entry is None:
                entry = _OpenPack(self._open_file(pack))
                self._open[pack] = entry
            else:
                self._open.move_to_end(pack)
            entry.users += 1
            if len(self._open) > self._bound:
                self._shrink()
            return entry

    def _open_file(self, pack: int) -> int:
        try:
            return self.files.open(self.path(pack), os.O_RDONLY)
        except FileNotFoundError:
            return self.files.open(self.path(pack, ARRIVING), os.O_RDONLY)

    def _release(self, entry: _OpenPack) -> None:
        with self._lock:
            entry.users -= 1
            if entry.users < 0:  # it was forgotten while in use: the last user closes it
                self.files.close(entry.fd)

    def _shrink(self) -> None:
        """Close those used longest ago; those in use stay (as many as there are reading threads)."""
        for pack, entry in list(self._open.items()):
            if len(self._open) <= self._bound:
                break
            if entry.users == 0:
                self.files.close(entry.fd)
                del self._open[pack]

    def forget(self, pack: int) -> None:
        """Close the pack for reading (its file is about to be removed)."""
        with self._lock:
            entry = self._open.pop(pack, None)
            if entry is not None:
                if entry.users == 0:
                    self.files.close(entry.fd)
                else:
                    entry.users -= 1  # see _release: reaches -1 when the last reader is done

    def close(self) -> None:
        for pack in list(self._open):
            self.forget(pack)


class ActivePack:
    """The pack that is appended to. Only the writer thread uses it."""

    def __init__(self, packs: Packs, number: int, position: int) -> None:
        self.number = number
        self.position = position
        """Committed length in octets."""
        self._files = packs.files
        self._fd = packs.files.open(packs.path(number), os.O_RDWR | os.O_CREAT)

    def append(self, data: bytes) -> None:
        """Write behind the committed length and make it durable. OSError: call `cut`, or `abandon` the pack
        when it was the sync that failed (`trusted` is then false)."""
        view, place = memoryview(data), self.position
        while view:
            written = self._files.pwrite(self._fd, view, place)
            view = view[written:]
            place += written
        self.trusted = False
        self._files.fdatasync(self._fd)
        self.trusted = True

    trusted = True
    """After a failed fdatasync the kernel may have dropped what was written: never append here again."""

    def advance(self, length: int) -> None:
        """`length` octets more are committed."""
        self.position += length

    def cut(self) -> None:
        """Forget what lies past the committed length."""
        self._files.truncate(self._fd, self.position)

    def abandon(self) -> None:
        """Cut it once more and close it: what lies past the committed length is anybody's guess, and nobody
        was told that it was taken. The start does the same after a crash, the pack is not sealed yet."""
        for step in (self.cut, partial(self._files.fdatasync, self._fd), self.close):
            with contextlib.suppress(OSError):
                step()

    def close(self) -> None:
        self._files.close(self._fd)
