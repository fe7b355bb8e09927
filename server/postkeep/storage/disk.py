"""Says in the Error log that the disk takes nothing more, and that it does again: not once a message."""

import logging
import threading
from collections.abc import Callable
from pathlib import Path

from postkeep.domain.errors import DatabaseDamaged, StorageFailed, StorageFull

_log = logging.getLogger(__name__)

SILENCE = 60.0
"""Seconds between two such lines."""


class DiskWatch:
    """Told of every failure, and of every success after one. Any thread may."""

    def __init__(self, folder: Path, monotonic: Callable[[], float]) -> None:
        self._folder = folder
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._said: float | None = None
        self.trouble = False
        """A failure was told and no success since."""

    def failed(self, error: BaseException) -> None:
        """Errors other than StorageFull and StorageFailed are none of the disk; of a damaged database
        checksums.py tells."""
        if isinstance(error, DatabaseDamaged):
            return
        if isinstance(error, StorageFull):
            text = f"the disk is full: messages are refused with 452 until there is room in {self._folder}"
        elif isinstance(error, StorageFailed):
            text = f"{error}: messages are refused until {self._folder} can be written again"
        else:
            return
        with self._lock:
            now = self._monotonic()
            if self._said is not None and now - self._said < SILENCE:
                return
            self._said, self.trouble = now, True
        _log.error("%s", text)

    def works(self) -> None:
        """Something was written and is durable."""
        if not self.trouble:
            return
        with self._lock:
            ended, self.trouble = self.trouble, False
        if ended:
            _log.error("the disk takes messages again: %s", self._folder)
