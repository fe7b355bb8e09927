"""A message too big for memory on its way in: one file that is written once and becomes a pack of its own.

The record's blocks are streamed behind the room for its header; trailer and header come when the message is
accepted. The file is then renamed to mail/NNNNNNNN.arriving (durable before the commit) and, committed, to
NNNNNNNN.pack. What a crash leaves in spool/ or as .arriving without a commit is removed at start. A file
belongs to one thread at a time: the task that takes the message, then (see Delivery) the writer.
"""

import contextlib
import errno
import hashlib
import logging
import os
from pathlib import Path

from postkeep.domain.errors import StorageFailed
from postkeep.runtime.files import Files
from postkeep.storage import records
from postkeep.storage.database import translate
from postkeep.storage.packs import ARRIVING, SUFFIX, Packs
from postkeep.storage.records import BLOCK, HEADER_SIZE

_log = logging.getLogger(__name__)


class SpoolFile:
    """One record with BLOCKS being written. OSErrors come out as StorageFull or StorageFailed."""

    def __init__(self, files: Files, folder: Path, number: int) -> None:
        self.number = number
        self.raw = 0
        """Octets of the body so far."""
        self.stored = 0
        self.blocks: list[tuple[int, int]] = []
        self.length = 0
        """Octets of the finished record."""
        self._files = files
        self._path = folder / f"{number:08d}{SUFFIX}"
        self._tail = bytearray()
        self._hash = hashlib.sha256()
        self._places: list[int] = []
        self._held: tuple[int, bytes] = (-1, b"")
        self._durable = self._untrusted = self._kept = False
        try:
            self._fd = files.open(self._path, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        except OSError as error:
            raise translate(error) from error

    def write(self, data: bytes | bytearray | memoryview) -> None:
        view = memoryview(data)
        while view:
            part = view[: BLOCK - len(self._tail)]
            self._tail += part
            self.raw += len(part)
            view = view[len(part) :]
            if len(self._tail) == BLOCK:
                self._write_block()

    def end(self) -> bytes:
        """The last block is written; SHA-256 (16 octets) of the body."""
        if self._tail:
            self._write_block()
        return self._hash.digest()[:16]

    def _write_block(self) -> None:
        self._hash.update(self._tail)
        stored, crc = records.encode_block(self._tail)
        self._pwrite(stored, HEADER_SIZE + self.stored)
        self._places.append(self.stored)
        self.blocks.append((len(stored), crc))
        self.stored += len(stored)
        self._tail = bytearray()

    def _pwrite(self, data: bytes, offset: int) -> None:
        view = memoryview(data)
        try:
            while view:
                written = self._files.pwrite(self._fd, view, offset)
                view = view[written:]
                offset += written
        except OSError as error:
            raise translate(error) from error

    def read(self, length: int, offset: int) -> bytes:
        """Up to `length` raw octets of the ended body, none past its end; never across a block's end."""
        if offset >= self.raw:
            return b""
        index, inside = divmod(offset, BLOCK)
        if self._held[0] != index:
            size, crc = self.blocks[index]
            try:
                stored = self._files.pread(self._fd, size, HEADER_SIZE + self._places[index])
            except OSError as error:
                raise translate(error) from error
            self._held = index, records.decode_block(stored, crc, min(BLOCK, self.raw - index * BLOCK))
        return self._held[1][inside : inside + length]

    def stored_bytes(self) -> bytes:
        """All blocks as stored, for a body small enough to go into the active pack after all."""
        try:
            data = self._files.pread(self._fd, self.stored, HEADER_SIZE)
        except OSError as error:
            raise translate(error) from error
        if len(data) != self.stored:
            raise StorageFailed("a spool file is cut short")
        return data

    def seal(self, header: bytes, tail: bytes) -> None:
        """Trailer behind, header in front: the file is a whole record."""
        self._pwrite(tail, HEADER_SIZE + self.stored)
        self._pwrite(header, 0)
        self.length = HEADER_SIZE + self.stored + len(tail)

    def arrive(self, packs: Packs) -> None:
        """Make it durable under its number among the packs, not yet one of them. Writer thread; OSError."""
        if self._untrusted:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        if not self._durable:
            self._untrusted = True  # after a failed sync another one that succeeds means nothing
            self._files.fdatasync(self._fd)
            self._untrusted = False
            target = packs.path(self.number, ARRIVING)
            self._files.rename(self._path, target)
            self._path = target
            self._files.sync_dir(packs.folder)
            self._durable = True

    def settle(self, packs: Packs) -> None:
        """Its transaction is committed: it is a pack. Readers find it by its old name too, and a rename that
        fails, or that a crash undoes, is made up for at start."""
        self._close()
        try:
            self._files.rename(self._path, packs.path(self.number))
        except OSError as error:
            _log.error("%s keeps its name for now: %s", self._path, error)

    def discard(self) -> None:
        """Remove the file unless it became a pack, or may have (`keep`)."""
        if self._fd >= 0:
            self._close()
            if not self._kept:
                self.remove()

    def keep(self) -> None:
        """Nobody knows yet whether its transaction is committed: the file stays until that is known."""
        self._kept = True

    def remove(self) -> None:
        """It is known now: there is no such transaction."""
        with contextlib.suppress(OSError):
            self._files.unlink(self._path)

    def _close(self) -> None:
        with contextlib.suppress(OSError):
            self._files.close(self._fd)
        self._fd = -1
