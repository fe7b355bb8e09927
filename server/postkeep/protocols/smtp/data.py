"""The time between 354 and the end of DATA on one connection."""

import asyncio
from collections.abc import Callable

from postkeep.config.smtp import BareNewlines, SmtpSettings
from postkeep.protocols.smtp.scanner import DataScanner

SWALLOW = 1024 * 1024
"""Octets that are read beyond twice the size limit before a peer that will not stop is cut off."""


class DataPhase:
    """Feeds the scanner; `ended` is done when the message is, `rest` is what was sent after it."""

    __slots__ = ("_bound", "_checked", "_seen", "ended", "rest", "scanner")

    def __init__(
        self,
        write: Callable[[bytes], None],
        settings: SmtpSettings,
        limit: int,
        loop: asyncio.AbstractEventLoop,
        now: float,
    ) -> None:
        self.scanner = DataScanner(
            write,
            size_limit=limit,
            line_limit=settings.maximum_line_length,
            repair=settings.bare_newlines is BareNewlines.REPAIR,
        )
        self.ended: asyncio.Future[None] = loop.create_future()
        self.rest = b""
        self._bound = 2 * limit + SWALLOW if limit else 0
        self._checked = now
        self._seen = 0

    def feed(self, data: bytes) -> bool:
        """True when the end was in `data`."""
        rest = self.scanner.feed(data)
        if rest is None:
            return False
        self.rest = rest
        if not self.ended.done():
            self.ended.set_result(None)
        return True

    @property
    def endless(self) -> bool:
        """Does it go on far beyond what was refused already?"""
        return 0 < self._bound < self.scanner.size

    def lose(self) -> None:
        """The connection is gone: who waits for the end gets ConnectionResetError."""
        if not self.ended.done():
            self.ended.set_exception(ConnectionResetError("the connection ended in DATA"))
            self.ended.exception()  # nobody may wait any more

    def keeps_pace(self, now: float, rate: int) -> bool:
        """Did at least `rate` octets a second come since the last time that this was asked?"""
        seen, since = self.scanner.size - self._seen, now - self._checked
        self._seen, self._checked = self.scanner.size, now
        return seen > 0 and seen >= rate * since
