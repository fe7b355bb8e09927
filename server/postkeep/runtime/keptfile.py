"""A configuration file that survives hand edits, crashes and mistakes (row SET-2).

Beside FILE lies FILE.good, a copy of what was last read or written whole. When FILE cannot be used, the good
copy is, and the next save keeps the unusable one as FILE.broken. A FILE that somebody edited while the
engine ran is kept as FILE.edited before it is written over.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from postkeep.domain.errors import ConfigError
from postkeep.runtime.files import Files, replace_atomically

T = TypeVar("T")
_SIZE_LIMIT = 512 << 20
_CHUNK = 1 << 20


class KeptFile:
    """One such file. Blocking: call off the loop, one call at a time."""

    def __init__(self, path: Path, files: Files, report: Callable[[str], None]) -> None:
        """`report` gets one line for the Error log when a good copy had to step in."""
        self.path = path
        self.good = path.with_name(path.name + ".good")
        self._files = files
        self._report = report
        self._broken = False
        self._seen: tuple[int, int, int] | None = None

    @property
    def exists(self) -> bool:
        """Whether the file or its good copy is there."""
        return self._files.exists(self.path) or self._files.exists(self.good)

    def read(self, parse: Callable[[bytes], T]) -> T:
        """What `parse` makes of the file, or of the good copy when the file is missing or refused.

        Raises ConfigError with the reason for the file itself when neither can be used.
        """
        try:
            data = self._read(self.path)
            value = parse(data)
        except (OSError, ConfigError) as error:
            reason = self._reason(error)
            return self._read_good(parse, reason)
        self._seen = self._stamp()
        try:
            known = self._read(self.good)
        except OSError:
            known = b""
        if known != data:
            replace_atomically(self._files, self.good, data)
        return value

    def _read_good(self, parse: Callable[[bytes], T], reason: str) -> T:
        try:
            value = parse(self._read(self.good))
        except (OSError, ConfigError) as error:
            raise ConfigError(reason) from error
        self._broken = True
        self._report(f"{reason}. The last good copy, {self.good.name}, is used")
        return value

    def _reason(self, error: OSError | ConfigError) -> str:
        if isinstance(error, ConfigError):
            return str(error)
        return f"{self.path.name} cannot be read: {error.strerror}"

    def write(self, data: bytes) -> None:
        """Durable on return. Raises OSError; then the old file is still there whole."""
        if self._files.exists(self.path):
            if self._broken:
                self._set_aside("broken")
            elif self._stamp() != self._seen:
                self._set_aside("edited")
        self._broken = False
        replace_atomically(self._files, self.path, data)
        self._seen = self._stamp()
        replace_atomically(self._files, self.good, data)

    def _set_aside(self, kind: str) -> None:
        aside = self.path.with_name(f"{self.path.name}.{kind}")
        replace_atomically(self._files, aside, self._read(self.path))
        if kind == "edited":
            self._report(
                f"{self.path.name} was edited while the engine runs; the edited file is now {aside.name}"
            )

    def _stamp(self) -> tuple[int, int, int] | None:
        try:
            stat = os.stat(self.path)
        except OSError:
            return None
        return stat.st_ino, stat.st_mtime_ns, stat.st_size

    def _read(self, path: Path) -> bytes:
        fd = self._files.open(path, os.O_RDONLY)
        try:
            size = self._files.size(fd)
            if size > _SIZE_LIMIT:
                raise ConfigError(f"{path.name} is larger than {_SIZE_LIMIT >> 20} MB")
            pieces = []
            offset = 0
            while piece := self._files.pread(fd, _CHUNK, offset):
                pieces.append(piece)
                offset += len(piece)
            return b"".join(pieces)
        finally:
            self._files.close(fd)
