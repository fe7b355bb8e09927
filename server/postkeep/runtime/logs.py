"""The eight logs (row LOG-1): one line an entry, buffered, rotated by size and count.

    [24/Nov/2026 17:40:01] text

Whatever is in `text`, it stays one line: control characters, line separators and other invisible characters
are written as escapes, so nobody outside can forge an entry or drive the terminal of who reads it.
"""

import contextlib
import logging
import os
import sys
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TextIO

from postkeep.config.logs import LogSettings
from postkeep.runtime.clock import Clock, Timer

NAMES = ("config", "debug", "error", "mail", "operations", "security", "spam", "warning")
DEBUG_TOPICS = frozenset({"smtp", "smtp-client", "imap", "pop3", "http", "directory", "queue", "storage"})
FLUSH_SECONDS = 1.0
BUFFER_LIMIT = 65_536
LINE_LIMIT = 8_192
"""Characters of one entry; a longer one is cut and says so."""
_AT_ONCE = frozenset({"error", "warning", "security"})
# English whatever the machine's locale is.
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_BLOCK = 65_536
_TAIL_LIMIT = 64 << 20
"""Octets that one search reads at most."""


def one_line(text: str) -> str:
    """`text` with everything that is not visible written as an escape, at most LINE_LIMIT characters."""
    if len(text) > LINE_LIMIT:
        text = f"{text[:LINE_LIMIT]}… ({len(text)} characters)"
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else _escape(char) for char in text)


def _escape(char: str) -> str:
    return {"\n": "\\n", "\r": "\\r", "\t": "\\t"}.get(char) or (
        f"\\x{ord(char):02x}" if ord(char) < 256 else f"\\u{ord(char):04x}"
    )


def timestamp(seconds: float) -> str:
    """Local time as the logs write it: 24/Nov/2026 17:40:01."""
    at = time.localtime(seconds)
    day = f"{at.tm_mday:02d}/{_MONTHS[at.tm_mon - 1]}/{at.tm_year}"
    return f"{day} {at.tm_hour:02d}:{at.tm_min:02d}:{at.tm_sec:02d}"


class Log:
    """One log. `write` never raises: what a full disk refuses is counted and said later.

    May be used from any thread. Entries of error, warning and security are in the file when write() returns,
    those of the others within FLUSH_SECONDS.
    """

    def __init__(self, path: Path, clock: Clock, settings: LogSettings, echo: TextIO | None = None) -> None:
        self.path = path
        self.name = path.stem
        self._clock = clock
        self._limit = settings.size_kb * 1024
        self._count = settings.count
        self._echo = echo
        self._at_once = self.name in _AT_ONCE
        self._lock = threading.Lock()
        self._thread = threading.get_ident()
        self._timer: Timer | None = None
        self._lines: list[str] = []
        self._buffered = 0
        self._second = -1
        self._stamp = ""
        self._fd = -1
        self._size = 0
        self._lost = 0

    def write(self, text: str) -> None:
        """Add an entry."""
        now = self._clock.now()
        with self._lock:
            if int(now) != self._second:
                self._second, self._stamp = int(now), f"[{timestamp(now)}] "
            line = self._stamp + one_line(text) + "\n"
            self._lines.append(line)
            self._buffered += len(line)
            flush_now = self._at_once or self._buffered >= BUFFER_LIMIT or not self._flush_later()
        if self._echo is not None:
            with contextlib.suppress(OSError, ValueError):
                self._echo.write(line)
                self._echo.flush()
        if flush_now:
            self.flush()

    def _flush_later(self) -> bool:
        """Have the loop flush; False when there is none, or this is another thread."""
        if self._timer is not None:
            return True
        if threading.get_ident() != self._thread:
            return False
        try:
            self._timer = self._clock.call_later(FLUSH_SECONDS, self.flush)
        except RuntimeError:  # no running loop
            return False
        return True

    def flush(self) -> None:
        """Write out what is buffered."""
        with self._lock:
            self._timer = None
            if not self._lines:
                return
            lines, self._lines, self._buffered = self._lines, [], 0
            try:
                self._append("".join(lines).encode("utf-8", "backslashreplace"))
            except OSError:
                self._lost += len(lines)
                self._shut()

    def _append(self, data: bytes) -> None:
        if self._fd >= 0 and os.fstat(self._fd).st_nlink == 0:  # somebody removed the file
            self._shut()
        if self._fd < 0:
            self._open()
        if self._limit and self._size and self._size + len(data) > self._limit:
            self._shut()
            self._rotate()
            self._open()
        if self._lost:
            note = f"{self._stamp}{self._lost} entries could not be written and are lost\n"
            data = note.encode() + data
        written = os.write(self._fd, data)
        self._size += written
        if written < len(data):
            raise OSError("the disk is full")
        self._lost = 0

    def _open(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._size = os.fstat(self._fd).st_size

    def _shut(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _rotate(self) -> None:
        """name.log becomes name.log.1 and so on; the oldest goes."""
        for number in range(self._count, 0, -1):
            source = self._rotated(number - 1)
            with contextlib.suppress(FileNotFoundError):
                os.replace(source, self._rotated(number))
        if self._count == 0:
            with contextlib.suppress(FileNotFoundError):
                self.path.unlink()

    def _rotated(self, number: int) -> Path:
        return self.path.with_name(f"{self.path.name}.{number}") if number else self.path

    def close(self) -> None:
        """Flush and close; a later write opens the file again."""
        self.flush()
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            self._shut()

    def configure(self, settings: LogSettings) -> None:
        """New limits, from the next flush on."""
        self._limit, self._count = settings.size_kb * 1024, settings.count

    def tail(self, limit: int, search: str = "", skip: int = 0) -> list[str]:
        """The newest `limit` entries that hold `search` (any case), oldest first, `skip` newer ones left out.

        Looks through the rotated files too, at most _TAIL_LIMIT octets. Reads files: call in a thread.
        """
        self.flush()
        wanted = search.casefold()
        found: list[str] = []
        for line in _backwards([self._rotated(number) for number in range(self._count + 1)]):
            if wanted and wanted not in line.casefold():
                continue
            if skip:
                skip -= 1
                continue
            found.append(line)
            if len(found) >= limit:
                break
        found.reverse()
        return found


def _backwards(paths: Iterable[Path]) -> Iterable[str]:
    """Lines of these files, the last one of the first file first."""
    budget = _TAIL_LIMIT
    for path in paths:
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            position = os.fstat(fd).st_size
            rest = b""
            while position > 0 and budget > 0:
                length = min(_BLOCK, position)
                position -= length
                budget -= length
                lines = (os.pread(fd, length, position) + rest).split(b"\n")
                # The first piece may be the end of a line that starts in the block before.
                rest = lines[0] if position else b""
                for line in reversed(lines[1:] if position else lines):
                    if line:
                        yield line.decode("utf-8", "replace")
        finally:
            os.close(fd)


class Logs:
    """All eight, in `folder`. What goes to error is also said on `stderr`."""

    def __init__(
        self,
        folder: Path,
        clock: Clock,
        settings: LogSettings | None = None,
        stderr: TextIO | None = sys.stderr,
    ) -> None:
        settings = settings or LogSettings()
        self._topics: frozenset[str] = frozenset()
        self._all = {
            name: Log(folder / f"{name}.log", clock, settings, stderr if name == "error" else None)
            for name in NAMES
        }
        self.config = self._all["config"]
        self.debug = self._all["debug"]
        self.error = self._all["error"]
        self.mail = self._all["mail"]
        self.operations = self._all["operations"]
        self.security = self._all["security"]
        self.spam = self._all["spam"]
        self.warning = self._all["warning"]
        self.configure(settings)

    def get(self, name: str) -> Log | None:
        """A log by its name in NAMES."""
        return self._all.get(name)

    def debug_on(self, topic: str) -> bool:
        """Whether the Debug log wants to hear of `topic`: ask before building the text."""
        return topic in self._topics

    def configure(self, settings: LogSettings) -> None:
        self._topics = frozenset(settings.debug_topics)
        for log in self._all.values():
            log.configure(settings)

    def flush(self) -> None:
        for log in self._all.values():
            log.flush()

    def close(self) -> None:
        for log in self._all.values():
            log.close()


class Bridge(logging.Handler):
    """What code below the services says through Python's logging, into Error, Warning and Debug."""

    def __init__(self, logs: Logs) -> None:
        super().__init__(logging.INFO)
        self._logs = logs

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = record.getMessage()
            if record.exc_info is not None and record.exc_info[1] is not None:
                text = f"{text}: {type(record.exc_info[1]).__name__}: {record.exc_info[1]}"
        except Exception:
            self.handleError(record)
            return
        if record.levelno >= logging.ERROR:
            self._logs.error.write(text)
        elif record.levelno >= logging.WARNING:
            self._logs.warning.write(text)
        else:
            self._logs.operations.write(text)
