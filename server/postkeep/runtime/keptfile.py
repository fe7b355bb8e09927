"""A configuration file that survives hand edits, crashes and mistakes (row SET-2).

Beside FILE lies FILE.good, a copy of what was last read or written whole. When FILE cannot be used, the good
copy is, and the next save keeps the unusable one as FILE.broken. A FILE that somebody edited while the
engine ran is kept as FILE.edited before it is written over.
"""

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from postkeep.domain.errors import ConfigError
from postkeep.runtime.files import Files, write_all

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
        self._reason_text = ""
        self._seen: tuple[int, int, int] | None = None

    @property
    def exists(self) -> bool:
        """Whether the file or its good copy is there."""
        return self._files.exists(self.path) or self._files.exists(self.good)

    @property
    def refused(self) -> str:
        """Why the file that lies there is not used; "" when it is, or when it is not there any more."""
        return self._reason_text if self._broken and self._files.exists(self.path) else ""

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
        except (OSError, ConfigError):
            known = b""
        if known != data:
            self._files.rename(self._stage_one(self.good, data), self.good)
            self._files.sync_dir(self.path.parent)
        return value

    def _read_good(self, parse: Callable[[bytes], T], reason: str) -> T:
        try:
            value = parse(self._read(self.good))
        except (OSError, ConfigError) as error:
            raise ConfigError(reason) from error
        self._broken, self._reason_text = True, reason
        self._report(f"{reason}. The last good copy, {self.good.name}, is used")
        return value

    def _reason(self, error: OSError | ConfigError) -> str:
        if isinstance(error, ConfigError):
            return str(error)
        return f"{self.path.name} cannot be read: {error.strerror}"

    def write(self, data: bytes) -> None:
        """Durable on return. Raises OSError; then the old file is still there whole."""
        self.stage(data)
        self.commit()

    def stage(self, data: bytes) -> None:
        """Write FILE and FILE.good under other names: what can fail for want of room fails here, before
        anything that counts has changed. Raises OSError; `commit` or `abandon` follows."""
        for path in (self.good, self.path):
            self._stage_one(path, data)

    def commit(self) -> None:
        """Put what was staged in place. Raises OSError while the old file still holds; once the new one
        does, a failure is reported only: the file is what counts, not its copy."""
        aside = self._set_aside()
        try:
            self._files.rename(_staged(self.path), self.path)
        except OSError:
            if aside is not None:
                with contextlib.suppress(OSError):
                    self._files.rename(aside, self.path)
            raise
        self._broken = False
        self._seen = self._stamp()
        try:
            self._files.rename(_staged(self.good), self.good)
            self._files.sync_dir(self.path.parent)
        except OSError as error:
            self._report(f"{self.path.name} was saved, but not all of it is sure to last: {error}")

    def abandon(self) -> None:
        """Remove what was staged, as far as that goes."""
        for path in (self.good, self.path):
            with contextlib.suppress(OSError):
                self._files.unlink(_staged(path))

    def _stage_one(self, path: Path, data: bytes) -> Path:
        temporary = _staged(path)
        fd = self._files.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            write_all(self._files, fd, data)
            self._files.fdatasync(fd)
        finally:
            self._files.close(fd)
        return temporary

    def _set_aside(self) -> Path | None:
        """Keep a file that is not ours under another name; whatever is in it, it is not read."""
        if not self._files.exists(self.path) or not (self._broken or self._stamp() != self._seen):
            return None
        kind = "broken" if self._broken else "edited"
        aside = self.path.with_name(f"{self.path.name}.{kind}")
        self._files.rename(self.path, aside)
        if kind == "edited":
            self._report(
                f"{self.path.name} was edited while the engine runs; the edited file is now {aside.name}"
            )
        return aside

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


def _staged(path: Path) -> Path:
    return path.with_name(path.name + ".new")
