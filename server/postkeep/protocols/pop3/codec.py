"""POP3's octets: lines in, replies out (RFC 1939 §3, RFC 2449 §4). No I/O.

Memory is bounded: of a line that is too long nothing is kept but the fact.
"""

from enum import Enum

from postkeep.domain.naming import plain_quotes

COMMAND_LIMIT = 512
"""Octets of a command with its CRLF. RFC 2449 §4 says 255; somewhat longer ones are taken."""
RESPONSE_LIMIT = 12_288
"""Octets of a line in a SASL exchange (RFC 5034 §4)."""

END = b".\r\n"


class Fault(Enum):
    """What came instead of a line."""

    TOO_LONG = "Line too long"
    NUL = "NUL is not allowed"


class Codec:
    """Feed it what arrives; `next` gives one complete line at a time, without its line end."""

    __slots__ = ("_buffer", "_dropping", "_scanned")

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._scanned = 0  # no LF before this octet
        self._dropping = False  # inside a line that is too long

    @property
    def buffered(self) -> int:
        return len(self._buffer)

    def feed(self, data: bytes) -> None:
        self._buffer += data

    def clear(self) -> None:
        """Forget all that has not been taken (STLS: RFC 2595 §4 with RFC 3207 §6)."""
        self._buffer.clear()
        self._scanned = 0
        self._dropping = False

    def next(self, limit: int = COMMAND_LIMIT) -> bytes | Fault | None:
        """A line, a fault in place of one, or None when more must arrive first. A bare LF ends a line too."""
        buffer = self._buffer
        end = buffer.find(b"\n", self._scanned)
        if end < 0:
            if self._dropping or len(buffer) > limit:
                self._dropping = True
                buffer.clear()
            self._scanned = len(buffer)
            return None
        line = bytes(buffer[:end])
        del buffer[: end + 1]
        self._scanned = 0
        if self._dropping or end + 1 > limit:
            self._dropping = False
            return Fault.TOO_LONG
        if b"\0" in line:
            return Fault.NUL
        return line[:-1] if line.endswith(b"\r") else line


def ok(text: str = "") -> bytes:
    return b"+OK %b\r\n" % _printable(text) if text else b"+OK\r\n"


def err(text: str, code: str = "") -> bytes:
    """`code` without its brackets: IN-USE (RFC 2449 §8), AUTH, SYS/TEMP, SYS/PERM (RFC 3206)."""
    return (
        b"-ERR [%b] %b\r\n" % (code.encode("ascii"), _printable(text))
        if code
        else b"-ERR %b\r\n" % _printable(text)
    )


def _printable(text: str) -> bytes:
    """One line of ASCII: replies of RFC 1939 know nothing else."""
    return "".join(char if " " <= char <= "~" else "?" for char in plain_quotes(text[:400])).encode("ascii")


def parse(line: bytes) -> tuple[str, bytes]:
    """The keyword in upper case ("" when it is none) and all after the first space."""
    keyword, _, argument = line.partition(b" ")
    if not keyword.isalpha() or not keyword.isascii() or len(keyword) > 16:
        return "", argument
    return keyword.decode("ascii").upper(), argument


class Stuffer:
    """A message in slices, as a multi-line reply (RFC 1939 §3).

    A dot after any LF is doubled, for there are clients to whom a bare LF ends a line.
    """

    __slots__ = ("_tail",)

    def __init__(self) -> None:
        self._tail = b"\r\n"

    def feed(self, data: bytes) -> bytes:
        if not data:
            return b""
        at_line = self._tail.endswith(b"\n")
        self._tail = (self._tail + data[-2:])[-2:]
        if b"\n." in data:
            data = data.replace(b"\n.", b"\n..")
        return b"." + data if at_line and data.startswith(b".") else data

    def finish(self) -> bytes:
        """The end of the reply; a last line without CRLF gets one."""
        return END if self._tail == b"\r\n" else b"\r\n" + END
