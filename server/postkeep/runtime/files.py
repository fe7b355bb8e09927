"""The file layer under packs and queue: thin names for system calls, so that a test can cut the power.

Rules for durability that all users keep: data is durable after `fdatasync(fd)`; a new, renamed or removed
name is durable after `sync_dir(parent)`.
"""

import contextlib
import os
from pathlib import Path
from typing import Protocol


class Files(Protocol):
    """Raises OSError as the kernel does (ENOSPC, EIO, …)."""

    def open(self, path: Path, flags: int, mode: int = 0o600) -> int: ...
    def close(self, fd: int) -> None: ...
    def write(self, fd: int, data: bytes | bytearray | memoryview) -> int: ...
    def pwrite(self, fd: int, data: bytes | bytearray | memoryview, offset: int) -> int: ...
    def pread(self, fd: int, length: int, offset: int) -> bytes: ...
    def fdatasync(self, fd: int) -> None: ...
    def truncate(self, fd: int, length: int) -> None: ...
    def size(self, fd: int) -> int: ...
    def rename(self, source: Path, target: Path) -> None: ...
    def link(self, source: Path, target: Path) -> None:
        """A second name for the file; FileExistsError."""

    def unlink(self, path: Path) -> None: ...
    def mkdir(self, path: Path) -> None:
        """Make it and its missing parents, durable; existing is fine."""

    def sync_dir(self, path: Path) -> None: ...
    def list_dir(self, path: Path) -> list[str]: ...
    def exists(self, path: Path) -> bool: ...


class SystemFiles:
    """The real thing."""

    close = staticmethod(os.close)
    write = staticmethod(os.write)
    pwrite = staticmethod(os.pwrite)
    pread = staticmethod(os.pread)
    fdatasync = staticmethod(os.fdatasync)
    truncate = staticmethod(os.ftruncate)
    rename = staticmethod(os.replace)
    link = staticmethod(os.link)
    unlink = staticmethod(os.unlink)
    list_dir = staticmethod(os.listdir)
    exists = staticmethod(os.path.exists)

    def open(self, path: Path, flags: int, mode: int = 0o600) -> int:
        return os.open(path, flags | os.O_CLOEXEC, mode)

    def size(self, fd: int) -> int:
        return os.fstat(fd).st_size

    def mkdir(self, path: Path) -> None:
        missing = [folder for folder in (path, *path.parents) if not folder.exists()]
        for folder in reversed(missing):
            with contextlib.suppress(FileExistsError):
                folder.mkdir(mode=0o700)
            self.sync_dir(folder.parent)

    def sync_dir(self, path: Path) -> None:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def write_all(files: Files, fd: int, data: bytes | bytearray | memoryview) -> None:
    """write(2) until all is written (a short write is followed up)."""
    view = memoryview(data)
    while view:
        view = view[files.write(fd, view) :]


def replace_atomically(files: Files, path: Path, data: bytes, mode: int = 0o600) -> None:
    """`path` holds either its old bytes or all of `data`, durable on return, whatever happens between.

    A symbolic link in the place of the temporary file is not followed: OSError.
    """
    temporary = path.with_name(path.name + ".new")
    fd = files.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, mode)
    try:
        write_all(files, fd, data)
        files.fdatasync(fd)
    finally:
        files.close(fd)
    files.rename(temporary, path)
    files.sync_dir(path.parent)
