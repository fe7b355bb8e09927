"""Stream-optimized VMDK, written and read ("Virtual Disk Format 5.0", VMware): grains of 64 KiB, each
deflated behind a marker, tables after the grains that they list, the directory and a footer at the end.
The same disk gives the same octets. Sectors have 512 octets, all numbers are little-endian.
"""

import hashlib
import os
import re
import struct
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import BinaryIO

SECTOR = 512
GRAIN_SECTORS = 128
GRAIN = GRAIN_SECTORS * SECTOR
_TABLE_ENTRIES = 512
_OVERHEAD = 128  # sectors before the first grain: the header, the descriptor, room
_DESCRIPTOR_SECTORS = 20
_AT_END = 0xFFFF_FFFF_FFFF_FFFF
_VERSION = 3  # hosts refuse compressed grains in version 1
_FLAGS = 1 | 1 << 16 | 1 << 17  # newline test, compressed grains, markers
_HEADER = struct.Struct("<4sIIQQQQIQQQB4sH433x")
_NEWLINES = b"\n \r\n"
_MARKER = struct.Struct("<QII496x")
_END, _TABLE, _DIRECTORY, _FOOTER = range(4)

Report = Callable[[int, int], None]
"""Called with the octets done and those to do."""


class VmdkError(ValueError):
    """The file is not a VMDK that a host would take."""


@dataclass(frozen=True, slots=True)
class Header:
    """What the header of a sparse extent says. Capacity in octets."""

    version: int
    flags: int
    capacity: int
    grain: int
    directory_at_end: bool
    compressed: bool
    descriptor: str

    @property
    def create_type(self) -> str:
        """streamOptimized, monolithicSparse, …; "" if the descriptor does not say."""
        found = re.search(r'^createType\s*=\s*"([^"]*)"', self.descriptor, re.MULTILINE)
        return found[1] if found else ""


def read_header(path: Path) -> Header:
    """Read the header and the embedded descriptor. Raises VmdkError."""
    with path.open("rb") as file:
        block = file.read(SECTOR)
        if len(block) < SECTOR:
            raise VmdkError(f"{path.name}: too short for a VMDK")
        magic, version, flags, capacity, grain, at, length, *rest = _HEADER.unpack(block)
        directory, newlines, compression = rest[2], rest[5], rest[6]
        if magic != b"KDMV":
            raise VmdkError(f"{path.name}: no sparse VMDK (magic {magic!r})")
        if newlines != _NEWLINES:
            raise VmdkError(f"{path.name}: line ends were converted on the way: the file is spoiled")
        if length > 2048:
            raise VmdkError(f"{path.name}: a descriptor of {length} sectors")
        file.seek(at * SECTOR)
        descriptor = file.read(length * SECTOR).split(b"\0", 1)[0].decode("utf-8", "replace")
    return Header(
        version, flags, capacity * SECTOR, grain * SECTOR, directory == _AT_END, compression == 1, descriptor
    )


def set_content_id(path: Path) -> None:
    """Give a VMDK with an embedded descriptor a CID by its content: qemu-img's is a random number.

    Raises VmdkError when there is no such descriptor.
    """
    with path.open("r+b") as file:
        head = file.read(SECTOR)
        offset, size = (
            struct.unpack_from("<QQ", head, 28) if head[:4] == b"KDMV" and len(head) == SECTOR else (0, 0)
        )
        file.seek(offset * SECTOR)
        found = re.search(rb"^CID=([0-9a-f]{8})$", file.read(min(size, 128) * SECTOR), re.MULTILINE)
        if not offset or found is None:
            raise VmdkError(f"{path.name} has no embedded descriptor with a CID")
        at = offset * SECTOR + found.start(1)
        file.seek(at)
        file.write(b"0" * 8)
        file.seek(0)
        content = hashlib.file_digest(file, "sha256").hexdigest()
        # The CIDs ffffffff and fffffffe are reserved.
        file.seek(at)
        file.write(f"{min(int(content[:8], 16), 0xFFFF_FFFD):08x}".encode())


def write_stream(source: Path | None, target: Path, capacity: int, report: Report | None = None) -> int:
    """Write the raw disk `source` (None: empty) as stream-optimized VMDK; return the octets that hold data.

    `capacity` in octets: a multiple of a grain, at least the size of the source. `report` follows the source.
    """
    if capacity <= 0 or capacity % GRAIN:
        raise ValueError(f"a capacity of {capacity} octets: not whole grains of {GRAIN}")
    temporary = target.with_name(target.name + ".part")
    try:
        with temporary.open("w+b") as file:
            writer = _Writer(file, capacity)
            if source is not None:
                size = source.stat().st_size
                if size > capacity:
                    raise ValueError(f"{source.name} has {size} octets, more than the disk's {capacity}")
                for index, data in _deflated(source, report):
                    writer.grain(index, data)
            writer.finish(target.name)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
    return writer.grains * GRAIN


class _Writer:
    def __init__(self, file: BinaryIO, capacity: int) -> None:
        self._file = file
        self._capacity = capacity
        self._hash = hashlib.sha256(struct.pack("<Q", capacity))
        self._table: dict[int, int] = {}
        self._table_number = 0
        count = -(-capacity // (GRAIN * _TABLE_ENTRIES))
        self._directory = [0] * count
        self.grains = 0
        file.write(bytes(_OVERHEAD * SECTOR))

    def grain(self, index: int, data: bytes) -> None:
        """Append one deflated grain; indices rise."""
        number = index // _TABLE_ENTRIES
        if number != self._table_number:
            self._end_table()
            self._table_number = number
        self._table[index % _TABLE_ENTRIES] = self._file.tell() // SECTOR
        record = struct.pack("<QI", index * GRAIN_SECTORS, len(data)) + data
        self._hash.update(record)
        self._file.write(record + bytes(-len(record) % SECTOR))
        self.grains += 1

    def _end_table(self) -> None:
        if not self._table:
            return
        entries = [self._table.get(n, 0) for n in range(_TABLE_ENTRIES)]
        self._directory[self._table_number] = self._block(
            _TABLE, struct.pack(f"<{_TABLE_ENTRIES}I", *entries)
        )
        self._table.clear()

    def _block(self, kind: int, data: bytes) -> int:
        """Append a marker and what it announces; return the sector of the latter."""
        padded = data + bytes(-len(data) % SECTOR)
        self._file.write(_MARKER.pack(len(padded) // SECTOR, 0, kind))
        sector = self._file.tell() // SECTOR
        self._file.write(padded)
        return sector

    def finish(self, name: str) -> None:
        self._end_table()
        directory = self._block(_DIRECTORY, struct.pack(f"<{len(self._directory)}I", *self._directory))
        self._block(_FOOTER, self._header(directory))
        self._file.write(_MARKER.pack(0, 0, _END))
        self._file.seek(0)
        self._file.write(self._header(_AT_END))
        descriptor = self._descriptor(name).encode()
        if len(descriptor) > _DESCRIPTOR_SECTORS * SECTOR:
            raise ValueError(f"{name}: the name is too long")
        self._file.write(descriptor)

    def _header(self, directory: int) -> bytes:
        return _HEADER.pack(
            b"KDMV",
            _VERSION,
            _FLAGS,
            self._capacity // SECTOR,
            GRAIN_SECTORS,
            1,
            _DESCRIPTOR_SECTORS,
            _TABLE_ENTRIES,
            0,
            directory,
            _OVERHEAD,
            0,
            _NEWLINES,
            1,
        )

    def _descriptor(self, name: str) -> str:
        sectors = self._capacity // SECTOR
        content = self._hash.hexdigest()[:32]
        # The CIDs ffffffff and fffffffe are reserved.
        content = content[:24] + (content[24:] if content[24:31] != "fffffff" else "00000001")
        return (
            "# Disk DescriptorFile\nversion=1\n"
            f"CID={content[24:]}\nparentCID=ffffffff\n"
            'createType="streamOptimized"\n\n# Extent description\n'
            f'RW {sectors} SPARSE "{name}"\n\n# The Disk Data Base\n#DDB\n\n'
            'ddb.adapterType = "lsilogic"\n'
            f'ddb.geometry.cylinders = "{min(sectors // (255 * 63), 65535)}"\n'
            'ddb.geometry.heads = "255"\nddb.geometry.sectors = "63"\n'
            f'ddb.longContentID = "{content}"\n'
            'ddb.virtualHWVersion = "13"\n'
        )


def _deflated(source: Path, report: Report | None) -> Iterator[tuple[int, bytes]]:
    """The grains of a raw disk that are not all zero, deflated, in order; a bounded number waits."""
    workers = os.cpu_count() or 1
    grains = _grains(source, report)
    with ThreadPoolExecutor(workers) as pool:
        waiting: list[tuple[int, Future[bytes]]] = []
        for index, data in grains:
            waiting.append((index, pool.submit(zlib.compress, data, 6)))
            if len(waiting) >= 64 * workers:
                for number, future in islice(waiting, 32 * workers):
                    yield number, future.result()
                del waiting[: 32 * workers]
        for number, future in waiting:
            yield number, future.result()


def _grains(source: Path, report: Report | None) -> Iterator[tuple[int, bytes]]:
    size = source.stat().st_size
    empty = bytes(GRAIN)
    with source.open("rb") as file:
        index = _next_data(file, 0, size)
        while index * GRAIN < size:
            file.seek(index * GRAIN)
            data = file.read(GRAIN)
            data += bytes(GRAIN - len(data))
            if data != empty:
                yield index, data
                index += 1
            else:
                index = _next_data(file, index + 1, size)
            if report is not None and index % 256 == 0:
                report(index * GRAIN, size)
    if report is not None:
        report(size, size)


def _next_data(file: BinaryIO, index: int, size: int) -> int:
    """The first grain from `index` on that is no hole in the file."""
    if index * GRAIN >= size:
        return index
    try:
        return max(index, os.lseek(file.fileno(), index * GRAIN, os.SEEK_DATA) // GRAIN)
    except OSError:  # ENXIO: only a hole is left
        return -(-size // GRAIN)
