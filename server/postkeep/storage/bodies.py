"""A message on its way in (Incoming, Body) and a stored one (StoredMessage)."""

import asyncio
import hashlib
import logging
from collections.abc import Iterator
from concurrent.futures import Executor
from pathlib import Path

from postkeep.domain.errors import PostkeepError, StorageFailed
from postkeep.formats.mime.scanner import scan
from postkeep.formats.mime.source import BytesSource, PreadSource
from postkeep.formats.mime.structure import (
    Structure,
    StructureVersionError,
    decode_structure,
    encode_structure,
)
from postkeep.runtime.files import Files
from postkeep.storage import records
from postkeep.storage.disk import DiskWatch
from postkeep.storage.packs import Packs, Record
from postkeep.storage.records import BLOCK, Delivery, Trailer
from postkeep.storage.spool import SpoolFile

_log = logging.getLogger(__name__)

MEMORY_LIMIT = 2 << 20
"""Octets of one message that are kept in memory while the global budget lasts."""
CROWDED_LIMIT = 64 << 10
"""The same once the budget is used up."""
BUDGET = 128 << 20
"""Octets of all messages on their way in that are kept in memory."""
_OFFLOAD = 256 << 10
"""Longer bodies are hashed, scanned and compressed in a worker thread."""
_CHUNK = 64 << 10


class Intake:
    """What all incoming messages share: the memory budget, the spool folder, pack numbers, worker threads."""

    def __init__(
        self,
        files: Files,
        folder: Path,
        numbers: Iterator[int],
        workers: Executor,
        disk: DiskWatch,
        budget: int = BUDGET,
    ) -> None:
        self.files = files
        self.folder = folder
        self.workers = workers
        self.disk = disk
        self.budget = budget
        self.used = 0
        self._numbers = numbers

    def spool(self) -> SpoolFile:
        return SpoolFile(self.files, self.folder, next(self._numbers), self.workers)


class Incoming:
    """One message while it comes in. Used by one task; `write` belongs to the loop."""

    __slots__ = ("_data", "_first", "_intake", "_memory", "_spool", "size")

    def __init__(self, intake: Intake) -> None:
        self.size = 0
        """Octets so far, without the prefix."""
        self._intake = intake
        self._first = b""
        self._data: bytearray | None = None
        self._memory = 0
        self._spool: SpoolFile | None = None

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Take more octets; StorageFull, StorageFailed (then call `abort`)."""
        if self._spool is not None:
            try:
                self._spool.write(data)
            except PostkeepError as error:
                self._intake.disk.failed(error)
                raise
            self.size += len(data)
            return
        if self.size == 0:
            self._first = bytes(data)
        else:
            if self._data is None:
                self._data = bytearray(self._first)
                self._first = b""
            self._data += data
        length = len(data)
        self.size += length
        self._memory += length
        intake = self._intake
        intake.used += length
        if self.size > MEMORY_LIMIT or (intake.used > intake.budget and self.size > CROWDED_LIMIT):
            self._spill()

    def _spill(self) -> None:
        try:
            self._spool = spool = self._intake.spool()
            spool.write(self._first if self._data is None else self._data)
        except PostkeepError as error:
            self._intake.disk.failed(error)
            raise
        self._first, self._data = b"", None
        self._release()

    def _release(self) -> None:
        self._intake.used -= self._memory
        self._memory = 0

    async def finish(self, prefix: bytes = b"") -> "Body":
        """All is there: scan, hash and compress it. `prefix` (whole header lines) is put before it.

        The Incoming is used up; the Body must be delivered or discarded."""
        if self._spool is not None:
            spool, self._spool = self._spool, None
            try:
                work = self._intake.workers.submit(_spooled_body, self._intake, spool, prefix)
            except RuntimeError as error:
                spool.discard()
                raise StorageFailed("the store is closed") from error
            try:
                return await asyncio.wrap_future(work)
            except BaseException as error:
                self._intake.disk.failed(error)
                work.add_done_callback(lambda _: spool.discard())  # not while the worker still reads it
                raise
        raw = self._first if self._data is None else bytes(self._data)
        self._first, self._data = b"", None
        memory, self._memory = self._memory, 0
        try:
            if len(raw) <= _OFFLOAD:
                return _memory_body(self._intake, raw, prefix, memory)
            work = self._intake.workers.submit(_memory_body, self._intake, raw, prefix, memory)
            return await asyncio.wrap_future(work)
        except BaseException as error:
            self._intake.used -= memory
            if isinstance(error, RuntimeError) and len(raw) > _OFFLOAD:
                raise StorageFailed("the store is closed") from error
            raise

    def abort(self) -> None:
        """Forget it; may be called at any time, more than once."""
        self._first, self._data = b"", None
        self._release()
        if self._spool is not None:
            self._spool.discard()
            self._spool = None


class Body:
    """A whole message, ready to be stored or sent on: prefix + body. Deliver it once, or discard it."""

    __slots__ = (
        "_blocks",
        "_encoded",
        "_flags",
        "_intake",
        "_memory",
        "_prefix",
        "_raw",
        "_spool",
        "_stored",
        "body_size",
        "digest",
        "size",
        "structure",
        "taken",
    )

    def __init__(
        self,
        intake: Intake,
        prefix: bytes,
        raw: bytes,
        stored: bytes,
        flags: int,
        blocks: tuple[tuple[int, int], ...],
        digest: bytes,
        structure: Structure,
        memory: int,
        spool: SpoolFile | None,
    ) -> None:
        self._intake = intake
        self._prefix = prefix
        self._raw = raw
        self._stored = stored
        self._flags = flags
        self._blocks = blocks
        self._memory = memory
        self._spool = spool
        self.body_size = len(raw) if spool is None else spool.raw
        self.size = len(prefix) + self.body_size
        """Octets as served: prefix and body."""
        self.digest = digest
        """16 octets that name the body (without prefix)."""
        self.structure = structure
        self.taken = False
        """The store has it: see `discard`."""
        self._encoded = encode_structure(structure)

    def chunks(self, skip: int = 0) -> Iterator[bytes]:
        """The message from octet `skip` on, in pieces of bounded size."""
        prefix = self._prefix[skip:]
        if prefix:
            yield prefix
        position = max(0, skip - len(self._prefix))
        while position < self.body_size:
            if self._spool is not None:
                piece = self._spool.read(_CHUNK, position)
            elif position == 0 and len(self._raw) <= _CHUNK:
                piece = self._raw
            else:
                piece = self._raw[position : position + _CHUNK]
            if not piece:
                raise StorageFailed("a message on its way in was already used up")
            yield piece
            position += len(piece)

    def discard(self) -> None:
        """Free what it holds; may be called more than once. Once a delivery was begun the body is the
        store's, which frees it, and this does nothing: also while the writer still works on it."""
        if not self.taken:
            self.free()

    def free(self) -> None:
        """For its owner."""
        self._intake.used -= self._memory
        self._memory = 0
        self._raw = self._stored = b""
        if self._spool is not None:
            self._spool.discard()
            self._spool = None

    def record(
        self, date: int, deliveries: tuple[Delivery, ...]
    ) -> tuple[tuple[bytes, ...], int, SpoolFile | None]:
        """(pieces of the record, its length, the spool file that holds it instead of the pieces)."""
        trailer = Trailer(date, self._prefix, deliveries, self._encoded, self._blocks)
        spool = self._spool
        if spool is None:
            stored = self._stored
            header, tail = records.encode_record(
                stored, self._flags, len(stored), self.body_size, self.digest, trailer
            )
            return (header, stored, tail), len(header) + len(stored) + len(tail), None
        header, tail = records.encode_record(b"", self._flags, spool.stored, spool.raw, self.digest, trailer)
        if spool.raw <= MEMORY_LIMIT:  # it was spooled only because memory was scarce
            stored = spool.stored_bytes()
            return (header, stored, tail), len(header) + len(stored) + len(tail), None
        spool.seal(header, tail)
        return (), spool.length, spool


def _memory_body(intake: Intake, raw: bytes, prefix: bytes, memory: int) -> Body:
    digest = hashlib.sha256(raw).digest()[:16]
    structure = scan(BytesSource(prefix + raw))
    if len(raw) > BLOCK:
        encoded = [records.encode_block(raw[start : start + BLOCK]) for start in range(0, len(raw), BLOCK)]
        stored = b"".join([block for block, _ in encoded])
        blocks = tuple((len(block), crc) for block, crc in encoded)
        return Body(intake, prefix, raw, stored, records.BLOCKS, blocks, digest, structure, memory, None)
    packed = records.compress(raw) if raw else None
    if packed is None:
        return Body(intake, prefix, raw, raw, 0, (), digest, structure, memory, None)
    return Body(intake, prefix, raw, packed, records.ZSTD, (), digest, structure, memory, None)


def _spooled_body(intake: Intake, spool: SpoolFile, prefix: bytes) -> Body:
    digest = spool.end()

    def pread(length: int, offset: int) -> bytes:
        if offset < len(prefix):
            return prefix[offset : offset + length]
        return spool.read(length, offset - len(prefix))

    structure = scan(PreadSource(pread, len(prefix) + spool.raw))
    return Body(intake, prefix, b"", b"", records.BLOCKS, tuple(spool.blocks), digest, structure, 0, spool)


class StoredMessage:
    """A stored message, found whole when it was opened. Octets are those of prefix + body."""

    __slots__ = ("_held", "_offset", "_pack", "_packs", "_record", "_structure", "_workers", "size")

    def __init__(
        self, packs: Packs, workers: Executor, pack: int, offset: int, record: Record, keep: bool
    ) -> None:
        self.size = record.size
        self._packs = packs
        self._workers = workers
        self._pack = pack
        self._offset = offset
        self._structure: Structure | None = None
        self._held: tuple[int, bytes | memoryview] = (-1, b"")
        if not record.header.flags & records.BLOCKS:
            if keep:
                self._held = (0, record.body)
            record = record._replace(body=b"")
        self._record = record

    @property
    def structure(self) -> Structure:
        if self._structure is None:
            self._structure = structure_of(self._packs, self._pack, self._offset, self._record)
        return self._structure

    async def read(self, start: int = 0, length: int | None = None) -> bytes:
        """Octets from `start` on, `length` at most (fewer at the end), checked; CorruptRecord.

        A long message is read from the disk by blocks: ask for pieces of bounded length."""
        end = self.size if length is None else min(self.size, start + length)
        if start >= end:
            return b""
        prefix = len(self._record.trailer.prefix)
        block, held = self._held
        first, last = (start - prefix) // BLOCK, (end - 1 - prefix) // BLOCK
        if end <= prefix or (last == block and (first == block or (first, block) == (-1, 0))):
            base = prefix + block * BLOCK
            if start >= prefix and len(held) == end - start:
                return bytes(held)
            return self._record.trailer.prefix[start:end] + bytes(
                held[max(0, start - base) : max(0, end - base)]
            )
        return await asyncio.get_running_loop().run_in_executor(self._workers, self._read, start, end)

    def _read(self, start: int, end: int) -> bytes:
        prefix = self._record.trailer.prefix
        pieces = [prefix[start:end]]
        place, stop = max(0, start - len(prefix)), end - len(prefix)
        while place < stop:
            index, inside = divmod(place, BLOCK)
            block, held = self._held
            if block != index:
                held = self._load(index)
                self._held = (index, held)
            pieces.append(bytes(held[inside : stop - index * BLOCK]))
            place = (index + 1) * BLOCK
        return pieces[1] if not pieces[0] and len(pieces) == 2 else b"".join(pieces)

    def _load(self, index: int) -> bytes | memoryview:
        if self._record.header.flags & records.BLOCKS:
            return self._packs.read_block(self._pack, self._offset, self._record, index)
        return self._packs.read(self._pack, self._offset, self._record.header.raw).body


def structure_of(packs: Packs, pack: int, offset: int, record: Record) -> Structure:
    """The structure that was computed at delivery (or computed anew if its form is of another version)."""
    try:
        return decode_structure(record.trailer.structure)
    except StructureVersionError as error:
        _log.warning("pack %d offset %d: structure made anew: %s", pack, offset, error)
    prefix = record.trailer.prefix
    if not record.header.flags & records.BLOCKS:
        return scan(BytesSource(prefix + bytes(packs.read(pack, offset, record.size).body)))

    def pread(length: int, place: int) -> bytes:
        if place < len(prefix):
            return prefix[place : place + length]
        index, inside = divmod(place - len(prefix), BLOCK)
        return packs.read_block(pack, offset, record, index)[inside : inside + length]

    return scan(PreadSource(pread, record.size))
