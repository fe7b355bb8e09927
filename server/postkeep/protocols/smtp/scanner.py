"""DATA: from octets on the wire to the octets of the message (RFC 5321 §4.1.1.4, §4.5.2). No I/O.

Works on whole chunks with the C searches of `bytes`, never line by line. The one end of a message is
CR LF "." CR LF; whatever else looks like one (SMTP smuggling) is content, and refused or repaired as such.
"""

import re
from collections.abc import Callable

from postkeep.domain.errors import StorageFull
from postkeep.domain.verdict import Verdict, defer, reject

END = b"\r\n.\r\n"
_STUFFED = b"\r\n."
_NEWLINE = re.compile(rb"\r\n|\r|\n")
# Twice as fast as bytes.find and bytes.count, whose search for two or three octets is slow in text.
_find_stuffed = re.compile(rb"\r\n\.").search
_MAYBE_END = frozenset(b"\r\n.")

TOO_BIG = reject("Message is too big", 552, "5.3.4")
BARE_NEWLINE = reject(
    "Message has a bare CR or LF; lines end with CRLF (RFC 5321 section 2.3.8)", 550, "5.6.11"
)
LINE_TOO_LONG = reject("Message has a line that is too long", 554, "5.6.0")
FULL = defer("Insufficient system storage", 452, "4.3.1")
FAILED = defer("Local error, try again later", 451, "4.3.0")


class DataScanner:
    """Takes the octets after the 354 reply and gives the message to `write`, dots unstuffed.

    `fault` tells, once something is wrong, how the message is to be answered; from then on nothing more is
    written and only the end is looked for. `write` may raise StorageFull or any other error of the disk.
    """

    __slots__ = (
        "_held",
        "_line",
        "_line_limit",
        "_repair",
        "_size_limit",
        "_skip",
        "_write",
        "error",
        "fault",
        "size",
    )

    def __init__(
        self,
        write: Callable[[bytes], None],
        *,
        size_limit: int = 0,
        line_limit: int = 65_536,
        repair: bool = False,
    ) -> None:
        self._write = write
        self._size_limit = size_limit
        self._line_limit = line_limit
        self._repair = repair
        # The CRLF that ended the DATA command counts for the end and for dots, but is no content.
        self._held = b"\r\n"
        self._skip = 2
        self._line = 0
        self.size = 0
        """Octets of the message so far, written or swallowed."""
        self.fault: Verdict | None = None
        self.error: Exception | None = None
        """What `write` raised, other than StorageFull."""

    def feed(self, data: bytes) -> bytes | None:
        """None while the message goes on, else what came after its end."""
        data = self._held + data if self._held else data
        if not data:
            return None
        # Base64 has no dots at all, and looking for one octet costs next to nothing.
        dot = _find_stuffed(data) if b"." in data else None
        stuffed = -1 if dot is None else dot.start()
        end = -1 if stuffed < 0 else data.find(END, stuffed)
        if end >= 0:
            self._take(data[: end + 2], stuffed < end)
            self._held = b""
            return data[end + 5 :]
        keep = _held_back(data)
        cut = len(data) - keep
        self._held = data[cut:]
        if cut:
            self._take(data[:cut] if keep else data, 0 <= stuffed < cut)
        return None

    def _take(self, body: bytes, stuffed: bool) -> None:
        """One run of whole octets: never begins or ends inside a CRLF or a stuffed dot."""
        if stuffed:
            # RFC 5321 §4.5.2: a first dot goes. No end is in here, and the pattern cannot overlap itself.
            body = body.replace(_STUFFED, b"\r\n")
        if self.fault is None and _has_bare_newline(body):
            if self._repair:
                body = _NEWLINE.sub(b"\r\n", body)
            else:
                self.fault = BARE_NEWLINE
        if self._skip:
            body = body[self._skip :]
            self._skip = 0
        self.size += len(body)
        if self.fault is not None or not body:
            return
        if self._size_limit and self.size > self._size_limit:
            self.fault = TOO_BIG
        elif self._too_long(body):
            self.fault = LINE_TOO_LONG
        else:
            try:
                self._write(body)
            except StorageFull:
                self.fault = FULL
            except Exception as error:
                # The rest must still be read to its end before it can be answered.
                self.fault, self.error = FAILED, error

    def _too_long(self, body: bytes) -> bool:
        first = body.find(b"\n")
        if first < 0:
            self._line += len(body)
            return self._line > self._line_limit
        if self._line + first + 1 > self._line_limit:
            return True
        self._line = len(body) - body.rfind(b"\n") - 1
        if self._line > self._line_limit:
            return True
        if len(body) <= self._line_limit:
            return False
        # A line over the limit covers at least one whole block of half the limit.
        half = self._line_limit // 2
        if all(body.find(b"\n", at, at + half) >= 0 for at in range(0, len(body) - half, half)):
            return False
        return max(map(len, body.split(b"\n"))) + 1 > self._line_limit


def _has_bare_newline(body: bytes) -> bool:
    """A CR without LF behind it, or an LF without CR before it: then taking all CR out and putting one before
    each LF does not give the same octets. Replacing single octets is what `bytes` does fastest."""
    return body.replace(b"\r", b"").replace(b"\n", b"\r\n") != body


def _held_back(data: bytes) -> int:
    """Octets at the end of `data` that may be the beginning of END: 0 to 4."""
    if data[-1] not in _MAYBE_END:
        return 0
    for length in (4, 3, 2, 1):
        if data.endswith(END[:length]):
            return length
    return 0
