"""Files as root writes and reads them: whole or not at all, and never through somebody else's link."""

import contextlib
import os
import stat
from pathlib import Path


def write_atomically(path: Path, data: bytes, mode: int = 0o644) -> None:
    """`path` holds its old octets or all of `data`, durable on return. Makes missing folders (0755)."""
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.new")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    try:
        os.fchmod(fd, mode)  # whatever the umask, or a left-over file, says
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]
        os.fsync(fd)
    finally:
        os.close(fd)
    os.replace(temporary, path)
    sync_folder(path.parent)


def remove(path: Path) -> None:
    """Durable; nothing there is fine."""
    try:
        path.unlink()
    except FileNotFoundError:
        return
    sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def open_beneath(folder: Path, name: str) -> int:
    """A descriptor of the regular file folder/name (`name` may have several parts).

    No part of `name` may be a symbolic link: `folder` belongs to root, what is below it to a user whom a
    mail could have taken over, and we read with root's rights. A FIFO does not block. Raises OSError.
    """
    at, last = _walk(folder, name)
    try:
        fd = os.open(last, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=at)
    finally:
        os.close(at)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(f"{name!r} is not a regular file")
    return fd


def remove_beneath(folder: Path, name: str) -> None:
    """folder/name goes, by the rules of `open_beneath`: nothing outside of `folder` is ever removed. Durable;
    nothing there is fine. Raises OSError."""
    try:
        at, last = _walk(folder, name)
    except FileNotFoundError:
        return
    try:
        os.unlink(last, dir_fd=at)
        os.fsync(at)
    except FileNotFoundError:
        return
    finally:
        os.close(at)


def _walk(folder: Path, name: str) -> tuple[int, str]:
    """A descriptor of the folder that the last part of `name` lies in, and that part."""
    parts = Path(name).parts
    if not parts or any(part in ("..", "/") for part in parts):
        raise OSError(f"{name!r} is not below {folder}")
    at = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part in parts[:-1]:
            inner = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=at)
            os.close(at)
            at = inner
    except OSError:
        os.close(at)
        raise
    return at, parts[-1]


def read_beneath(folder: Path, name: str, limit: int, *, tail: bool = False) -> bytes:
    """At most `limit` octets of folder/name, from its start or its end. Raises OSError."""
    fd = open_beneath(folder, name)
    try:
        size = os.fstat(fd).st_size
        return os.pread(fd, limit, max(0, size - limit) if tail else 0)
    finally:
        os.close(fd)


def read_small(path: Path, limit: int = 1 << 20) -> str | None:
    """A file of the system as text; None when it is not there."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError), path.open("rb") as file:
        return file.read(limit).decode("utf-8", "replace")
    return None
