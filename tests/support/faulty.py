"""A file layer that fails on demand."""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from postkeep.runtime.files import SystemFiles


class FaultyFiles(SystemFiles):
    """`fail(name, error)` makes the next calls of that name raise; `times` of them, or until `heal`."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self._faults: dict[str, tuple[int, int]] = {}
        self.before: Callable[[str], None] | None = None

    def fail(self, name: str, error: int = errno.ENOSPC, times: int = 1_000_000) -> None:
        self._faults[name] = (error, times)

    def heal(self) -> None:
        self._faults.clear()

    def _check(self, name: str) -> None:
        self.calls.append(name)
        if self.before is not None:
            self.before(name)
        error, times = self._faults.get(name, (0, 0))
        if times:
            self._faults[name] = (error, times - 1)
            raise OSError(error, os.strerror(error))

    def open(self, path: Path, flags: int, mode: int = 0o600) -> int:
        self._check("open")
        return super().open(path, flags, mode)

    def write(self, fd: int, data: Any) -> int:  # type: ignore[override]
        self._check("write")
        return os.write(fd, data)

    def pwrite(self, fd: int, data: Any, offset: int) -> int:  # type: ignore[override]
        if "pwrite" in self._faults and self._faults["pwrite"][1] and len(data) > 1:
            os.pwrite(fd, bytes(data)[: len(data) // 2], offset)  # a full disk takes a part
        self._check("pwrite")
        return os.pwrite(fd, data, offset)

    def pread(self, fd: int, length: int, offset: int) -> bytes:  # type: ignore[override]
        self._check("pread")
        return os.pread(fd, length, offset)

    def fdatasync(self, fd: int) -> None:  # type: ignore[override]
        self._check("fdatasync")
        os.fdatasync(fd)

    def rename(self, source: Path, target: Path) -> None:  # type: ignore[override]
        self._check("rename")
        os.replace(source, target)

    def sync_dir(self, path: Path) -> None:
        self._check("sync_dir")
        super().sync_dir(path)
