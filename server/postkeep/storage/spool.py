"""A message too big for memory on its way in: one file that is written once and becomes a pack of its own.

The record's blocks are streamed behind the room for its header; trailer and header come when the message is
accepted. The file is then renamed to mail/NNNNNNNN.arriving (durable before the commit) and, committed, to
NNNNNNNN.pack. What a crash leaves in spool/ or as .arriving without a commit is removed at start.

While the message comes in, full blocks are compressed and written by a worker thread, one after the other
under the file's lock; whoever needs them done (the next block but AHEAD, the end) does itself what is
too much, under the same lock, so nobody waits for a worker that is not at work. From `end` on the file
belongs to one thread at a time: the worker that scans it, then (see Delivery) the writer.
"""

import contextlib
import errno
import hashlib
import logging
import os
import threading
from collections import deque
from concurrent.futures import Executor
from pathlib import Path

from postkeep.domain.errors import StorageFailed
from postkeep.runtime.files import Files
from postkeep.storage import records
from postkeep.storage.database import translate
from postkeep.storage.packs import ARRIVING, SUFFIX, Packs
from postkeep.storage.records import BLOCK, HEADER_SIZE

_log = logging.getLogger(__name__)

AHEAD = 1
"""Blocks of one message that wait in memory for a worker, beside the one that it works on."""


class SpoolFile:
    """One record with BLOCKS being written. OSErrors come out as StorageFull or StorageFailed."""

    def __init__(self, files: Files, folder: Path, number: int, workers: Executor) -> None:
        self.number = number
        self.raw = 0
        """Octets of the body so far."""
        self.stored = 0
        self.blocks: list[tuple[int, int]] = []
        self.length = 0
        """Octets of the finished record."""
        self._files = files
        self._workers = workers
        self._waiting: deque[bytearray] = deque()
        self._lock = threading.Lock()
        """Held by the one thread that works on the file while the message comes in."""
        self._failure: BaseException | None = None
        self._gone = False
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
        """On the loop. What went wrong with an earlier block may be raised here."""
        if self._failure is not None:
            raise self._failure
        view = memoryview(data)
        while view:
            part = view[: BLOCK - len(self._tail)]
            self._tail += part
            self.raw += len(part)
            view = view[len(part) :]
            if len(self._tail) == BLOCK:
                self._hand_over()

    def end(self) -> bytes:
        """The last block is written; SHA-256 (16 octets) of the body. In a worker thread."""
        if self._tail:
            self._waiting.append(self._tail)
            self._tail = bytearray()
        self._write_waiting()
        if self._failure is not None:
            raise self._failure
        return self._hash.digest()[:16]

    def _hand_over(self) -> None:
        self._waiting.append(self._tail)
        self._tail = bytearray()
        if len(self._waiting) <= AHEAD:
            try:
                self._workers.submit(self._write_waiting)
            except RuntimeError as error:
                raise StorageFailed("the store is closed") from error
            return
        self._write_waiting(AHEAD)  # the workers do not keep up: so the loop has to do it
        if self._failure is not None:
            raise self._failure

    def _write_waiting(self, leave: int = 0) -> None:
        """Any thread: the blocks that wait, in order, but `leave`. The lock is let go after each, so that the
        loop waits for one block of a slow disk at most."""
        while True:
            with self._lock:
                if self._gone:
                    self._discard()
                    return
                if len(self._waiting) <= leave or self._failure is not None:
                    return
                try:
                    self._write_block(self._waiting.popleft())
                except Exception as error:
                    self._failure = translate(error)  # for `write` or `end`: nothing may follow a lost block

    def _write_block(self, block: bytearray) -> None:
        self._hash.update(block)
        stored, crc = records.encode_block(block)
        self._pwrite(stored, HEADER_SIZE + self.stored)
        self._places.append(self.stored)
        self.blocks.append((len(stored), crc))
        self.stored += len(stored)

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
        """Remove the file unless it became a pack, or may have (`keep`). While a worker still writes to it,
        that is done behind it and not waited for."""
        if self._fd < 0 or self._gone:
            return
        self._gone = True
        if self._lock.acquire(blocking=False):
            try:
                self._discard()
            finally:
                self._lock.release()
            return
        try:
            self._workers.submit(self._write_waiting)
        except RuntimeError:  # the store is being closed: wait after all
            self._write_waiting()

    def _discard(self) -> None:
        self._waiting.clear()
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
