"""A disk that forgets what was not synced: files, directories and SQLite on one journal of operations.

`SimulatedDisk(folder)` works on real files below `folder` and notes every operation in order, with a number.
`disk.files` is a `runtime.files.Files`, `disk.vfs` the name of an apsw VFS over the same disk. After the
run `disk.cut(rng, target, at=N)` writes into `target` what a machine could find after the power went at
operation N: each unsynced write is kept, lost or torn on its own (so in any order), each unsynced change of
a name kept or lost, a file that an unsynced write would lengthen may be longer and read zeros.

What it promises is what POSIX promises and no more: data after fdatasync of the file, names after a sync
of the directory (a rename, atomic: of the target's directory); sectors of 512 octets are not torn.
"""

import errno
import itertools
import os
import random
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import apsw
from postkeep.storage import checksums

SECTOR = 512


class Write(NamedTuple):
    inode: int
    offset: int
    data: bytes


class Truncate(NamedTuple):
    inode: int
    length: int


class Sync(NamedTuple):
    inode: int


class Create(NamedTuple):
    path: Path
    inode: int


class Rename(NamedTuple):
    source: Path
    target: Path
    inode: int


class Unlink(NamedTuple):
    path: Path


class SyncDir(NamedTuple):
    path: Path


Operation = Write | Truncate | Sync | Create | Rename | Unlink | SyncDir
NameChange = Create | Rename | Unlink


class SimulatedDisk:
    """`skips(kind, path)` says which syncs the disk shall leave out, kind being "file" or "dir": the bug that
    a test must be able to see. `refuse(kind, path)` may return an errno (ENOSPC, EIO) that a write, a
    truncation, a sync or a new name ("write", "truncate", "sync", "create") then fails with."""

    _numbers = itertools.count()

    def __init__(self, folder: Path, skips: Callable[[str, Path], bool] | None = None) -> None:
        self.folder = folder
        self.skips = skips or (lambda kind, path: False)
        self.refuse: Callable[[str, Path], int] | None = None
        self.journal: list[Operation] = []
        self.lock = threading.RLock()
        self._inodes = itertools.count(1)
        self.inodes: dict[Path, int] = {}
        self._platter = Platter()
        for path in sorted(folder.rglob("*")):
            if path.is_file() and not path.name.endswith("-shm"):
                inode = self.inode(path)
                self._platter.names[path] = inode
                self._platter.data[inode] = bytearray(path.read_bytes())
        self.files = SimulatedFiles(self)
        self.vfs = f"power-{os.getpid()}-{next(self._numbers)}"
        self._vfs = SimulatedVfs(self, self.vfs)

    @property
    def count(self) -> int:
        """Number of operations so far: the N of `cut(at=N)`."""
        return len(self.journal)

    def close(self) -> None:
        """Forget the VFS; databases on it must be closed."""
        self._vfs.unregister()

    def inode(self, path: Path) -> int:
        if path not in self.inodes:
            self.inodes[path] = next(self._inodes)
        return self.inodes[path]

    def note(self, operation: Operation) -> None:
        self.journal.append(operation)

    def check(self, kind: str, path: Path) -> None:
        if self.refuse is not None and (number := self.refuse(kind, path)):
            raise OSError(number, os.strerror(number), str(path))

    def note_sync(self, inode: int, path: Path) -> None:
        self.check("sync", path)
        if not self.skips("file", path):
            self.note(Sync(inode))

    def note_sync_dir(self, path: Path) -> None:
        if not self.skips("dir", path):
            self.note(SyncDir(path))

    def removed(self, path: Path) -> None:
        self.inodes.pop(path, None)
        self.note(Unlink(path))

    def cut(self, rng: random.Random, target: Path, at: int | None = None) -> None:
        """Write into the folder `target` (made) one state that power loss after `at` operations may leave.

        Cuts of one disk must be made in ascending order of `at` (the journal is replayed once)."""
        self._platter.replay(self.journal, self.count if at is None else at)
        target.mkdir(parents=True, exist_ok=True)
        for folder in self.folder.rglob("*"):
            if folder.is_dir():
                (target / folder.relative_to(self.folder)).mkdir(parents=True, exist_ok=True)
        for path, data in self._platter.survivors(rng):
            (target / path.relative_to(self.folder)).write_bytes(data)


class Platter:
    """What is durable, and what is under way, at one point of the journal."""

    def __init__(self) -> None:
        self.names: dict[Path, int] = {}
        self.data: dict[int, bytearray] = {}
        self.pending: dict[int, list[Write | Truncate]] = {}
        self.changes: list[NameChange] = []
        self.position = 0

    def replay(self, journal: list[Operation], to: int) -> None:
        if to < self.position:
            raise ValueError("cuts are made in ascending order")
        for operation in journal[self.position : to]:
            self._do(operation)
        self.position = to

    def _do(self, operation: Operation) -> None:
        match operation:
            case Write() | Truncate():
                self.pending.setdefault(operation.inode, []).append(operation)
            case Sync(inode):
                data = self.data.setdefault(inode, bytearray())
                for change in self.pending.pop(inode, ()):
                    apply(data, change)
            case SyncDir(path):
                self._sync_dir(path)
            case _:
                self.changes.append(operation)

    def _sync_dir(self, path: Path) -> None:
        rest: list[NameChange] = []
        for change in self.changes:
            where = change.target if isinstance(change, Rename) else change.path
            if where.parent != path:
                rest.append(change)
                continue
            rename(self.names, change)
            if isinstance(change, Rename):  # atomic: what came before under the old name is settled with it
                rest = [other for other in rest if isinstance(other, Rename) or other.path != change.source]
        self.changes = rest

    def survivors(self, rng: random.Random) -> Iterator[tuple[Path, bytes]]:
        """One possible state: the share of luck is drawn first, so that all-lost and all-kept occur too."""
        luck = rng.choice((0.0, 0.1, 0.5, 0.9, 1.0))
        names = dict(self.names)
        for change in self.changes:
            if rng.random() < luck:
                rename(names, change)
        for path, inode in sorted(names.items()):
            data = bytearray(self.data.get(inode, b""))
            for pending in self.pending.get(inode, ()):
                tear(data, pending, rng, luck)
            yield path, bytes(data)


def rename(names: dict[Path, int], change: NameChange) -> None:
    match change:
        case Create(path, inode):
            names[path] = inode
        case Rename(source, target, inode):
            if names.get(source) == inode:
                del names[source]
            names[target] = inode
        case Unlink(path):
            names.pop(path, None)


def apply(data: bytearray, change: Write | Truncate) -> None:
    if isinstance(change, Truncate):
        resize(data, change.length)
        return
    if len(data) < change.offset:
        resize(data, change.offset)
    data[change.offset : change.offset + len(change.data)] = change.data


def resize(data: bytearray, length: int) -> None:
    if length <= len(data):
        del data[length:]
    else:
        data.extend(bytes(length - len(data)))


def tear(data: bytearray, change: Write | Truncate, rng: random.Random, luck: float) -> None:
    """Apply an unsynced change wholly, partly or not at all."""
    if rng.random() < luck:
        apply(data, change)
        return
    if isinstance(change, Truncate):
        return
    end = change.offset + len(change.data)
    if end > len(data) and rng.random() < 0.5:
        resize(data, end)  # the new size reached the disk before the bytes did
    style = rng.random()
    if luck and style < 0.6:
        sectors = list(split(change))
        if style < 0.3:
            sectors = sectors[: rng.randrange(len(sectors) + 1)]
        else:
            sectors = [sector for sector in sectors if rng.random() < 0.5]
        for sector in sectors:
            apply(data, sector)


def split(change: Write) -> Iterator[Write]:
    """The write, cut at sector boundaries of the file."""
    position, end = change.offset, change.offset + len(change.data)
    while position < end:
        stop = min(end, (position // SECTOR + 1) * SECTOR)
        yield Write(change.inode, position, change.data[position - change.offset : stop - change.offset])
        position = stop


class SimulatedFiles:
    """runtime.files.Files over a SimulatedDisk."""

    def __init__(self, disk: SimulatedDisk) -> None:
        self._disk = disk
        self._open: dict[int, tuple[int, Path, bool]] = {}

    def open(self, path: Path, flags: int, mode: int = 0o600) -> int:
        path = Path(path)
        with self._disk.lock:
            new = not path.exists()
            if new and flags & os.O_CREAT:
                self._disk.check("create", path)
            fd = os.open(path, flags | os.O_CLOEXEC, mode)
            inode = self._disk.inode(path)
            self._open[fd] = (inode, path, bool(flags & os.O_APPEND))
            if new:
                self._disk.note(Create(path, inode))
            elif flags & os.O_TRUNC:
                self._disk.note(Truncate(inode, 0))
            return fd

    def close(self, fd: int) -> None:
        with self._disk.lock:
            self._open.pop(fd)
            os.close(fd)

    def write(self, fd: int, data: bytes | bytearray | memoryview) -> int:
        with self._disk.lock:
            append = self._open[fd][2]
            offset = os.fstat(fd).st_size if append else os.lseek(fd, 0, os.SEEK_CUR)
            return self._written(fd, data, offset, lambda: os.write(fd, data))

    def pwrite(self, fd: int, data: bytes | bytearray | memoryview, offset: int) -> int:
        with self._disk.lock:
            return self._written(fd, data, offset, lambda: os.pwrite(fd, data, offset))

    def _written(
        self, fd: int, data: bytes | bytearray | memoryview, offset: int, write: Callable[[], int]
    ) -> int:
        inode, path, _ = self._open[fd]
        self._disk.check("write", path)
        length = write()
        self._disk.note(Write(inode, offset, bytes(memoryview(data)[:length])))
        return length

    def pread(self, fd: int, length: int, offset: int) -> bytes:
        return os.pread(fd, length, offset)

    def fdatasync(self, fd: int) -> None:
        with self._disk.lock:
            inode, path, _ = self._open[fd]
            self._disk.note_sync(inode, path)

    def truncate(self, fd: int, length: int) -> None:
        with self._disk.lock:
            inode, path, _ = self._open[fd]
            self._disk.check("truncate", path)
            os.ftruncate(fd, length)
            self._disk.note(Truncate(inode, length))

    def size(self, fd: int) -> int:
        return os.fstat(fd).st_size

    def rename(self, source: Path, target: Path) -> None:
        source, target = Path(source), Path(target)
        with self._disk.lock:
            self._disk.check("create", target)
            inode = self._disk.inode(source)
            os.replace(source, target)
            self._disk.inodes.pop(source)
            self._disk.inodes[target] = inode
            self._disk.note(Rename(source, target, inode))

    def unlink(self, path: Path) -> None:
        with self._disk.lock:
            os.unlink(path)
            self._disk.removed(Path(path))

    def mkdir(self, path: Path) -> None:
        Path(path).mkdir(mode=0o700, parents=True, exist_ok=True)  # durable by contract

    def sync_dir(self, path: Path) -> None:
        with self._disk.lock:
            self._disk.note_sync_dir(Path(path))

    def list_dir(self, path: Path) -> list[str]:
        return os.listdir(path)

    def exists(self, path: Path) -> bool:
        return os.path.exists(path)


class SimulatedVfs(apsw.VFS):  # type: ignore[misc]
    """The VFS that the product uses (SQLite's page checksums over its unix VFS, whose are locks and WAL shared
    memory) with the disk's journal in front. The layers below add, drop and reorder no operation, they only
    fill in checksums: what is noted is read back, so it is what lies in the file."""

    def __init__(self, disk: SimulatedDisk, name: str) -> None:
        self._disk = disk
        super().__init__(name, checksums.vfs())

    def xOpen(self, name: Any, flags: list[int]) -> apsw.VFSFile:
        if name is None or flags[0] & apsw.SQLITE_OPEN_DELETEONCLOSE:
            return apsw.VFSFile(checksums.vfs(), name, flags)  # temporary: gone after power loss anyway
        path = Path(name.filename() if isinstance(name, apsw.URIFilename) else name)
        with self._disk.lock:
            new = not path.exists()
            file = SimulatedFile(self._disk, path, name, flags, new)
            if new and path.exists():
                self._disk.note(Create(path, self._disk.inode(path)))
            return file

    def xDelete(self, name: str, sync_dir: bool) -> None:
        with self._disk.lock:
            super().xDelete(name, False)
            self._disk.removed(Path(name))
            if sync_dir:
                self._disk.note_sync_dir(Path(name).parent)


_JOURNALS = apsw.SQLITE_OPEN_MAIN_JOURNAL | apsw.SQLITE_OPEN_SUPER_JOURNAL | apsw.SQLITE_OPEN_WAL


class SimulatedFile(apsw.VFSFile):  # type: ignore[misc]
    def __init__(self, disk: SimulatedDisk, path: Path, name: Any, flags: list[int], new: bool) -> None:
        self._disk = disk
        self._path = path
        # As the unix VFS does: the first sync of a journal that it made syncs the directory too.
        self._directory_due = new and bool(flags[0] & _JOURNALS)
        self._checked = bool(flags[0] & apsw.SQLITE_OPEN_MAIN_DB)
        super().__init__(checksums.vfs(), name, flags)
        self._inode = disk.inode(path)

    def xWrite(self, data: bytes, offset: int) -> None:
        with self._disk.lock:
            self._check("write")
            super().xWrite(data, offset)
            written = super().xRead(len(data), offset) if self._checked else bytes(data)
            self._disk.note(Write(self._inode, offset, written))

    def xTruncate(self, length: int) -> None:
        with self._disk.lock:
            self._check("truncate")
            super().xTruncate(length)
            self._disk.note(Truncate(self._inode, length))

    def xSync(self, flags: int) -> None:
        with self._disk.lock:
            self._check("sync")
            self._disk.note_sync(self._inode, self._path)
            if self._directory_due:
                self._disk.note_sync_dir(self._path.parent)
                self._directory_due = False

    def _check(self, kind: str) -> None:
        try:
            self._disk.check(kind, self._path)
        except OSError as error:
            full = error.errno == errno.ENOSPC and kind == "write"  # as the unix VFS tells it
            raise (apsw.FullError if full else apsw.IOError)(str(error)) from error


def cut_points(rng: random.Random, first: int, last: int, count: int) -> list[int]:
    """`count` ascending operation numbers in [first, last], the last one among them."""
    population: Iterable[int] = range(first, last)
    chosen = rng.sample(list(population), min(count - 1, max(0, last - first)))
    return sorted([*chosen, last])
