"""One process on a folder at a time."""

import fcntl
import os
from pathlib import Path

from postkeep.domain.errors import AlreadyExists


class EngineRuns(AlreadyExists):
    """Another process works on this data folder."""


class FolderLock:
    """Held by the one process that works on a folder; the kernel gives it back when the process ends."""

    def __init__(self, path: Path) -> None:
        """`path` is DATA/run/engine.lock. Raises EngineRuns with the number of the process that has it."""
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.pread(self._fd, 20, 0).decode("ascii", "replace").strip()
            os.close(self._fd)
            raise EngineRuns(f"another process ({holder}) works on {path.parents[1]} already") from None
        os.truncate(self._fd, 0)
        os.pwrite(self._fd, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        os.close(self._fd)
