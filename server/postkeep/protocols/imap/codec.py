"""Bytes into IMAP commands, without I/O: framing, literals and their bounds (RFC 3501 §2.2, RFC 7888).

`feed` what arrived, then pull `next` until it gives None. Memory held is at most the command limit plus
what was fed and not yet pulled. The message literal of APPEND is not collected but streamed: after an
`AppendLiteral` event call `accept_literal` or `refuse_literal`, then `take_literal` until `literal_left`
is 0; the rest of that line comes as a `Line`.
"""

import re
from enum import Enum
from typing import NamedTuple

COMMAND_LIMIT = 65_536
"""Octets of a whole command without an APPEND's message (RFC 7162 §4 asks for at least 8192)."""
SWALLOW_LIMIT = 65_536
"""Octets of a refused non-synchronizing literal that are read and dropped rather than hanging up."""
SKIP_LIMIT = 1_048_576
"""Octets of an over-long line that are read and dropped rather than hanging up."""

_LITERAL = re.compile(rb"(~?)\{(\d{1,20})(\+?)\}\Z")
# tag = 1*<ASTRING-CHAR except "+">
_TAG = re.compile(rb"[!#$&',\-./0-9:;<=>?@A-Z\[\]^_`a-z|}~]{1,256}(?=[ ]|\Z)")
_COMMAND = re.compile(rb"([^ ]+) +((?i:UID) +)?([A-Za-z][A-Za-z0-9._-]{0,31})( .*|)\Z", re.DOTALL)
_APPEND = re.compile(rb"[^ ]+ +APPEND +[^ ]", re.IGNORECASE)


class Command(NamedTuple):
    """`name` is upper-case ("UID FETCH" for UID's). `arguments` start with the space after it and hold
    literals inline as `{n}CRLF…`."""

    tag: bytes
    name: str
    arguments: bytes


class AppendLiteral(NamedTuple):
    """A message of `size` octets is announced by APPEND; `arguments` is what stands before it."""

    tag: bytes
    arguments: bytes
    size: int
    synchronizing: bool


class Continuation(NamedTuple):
    """The client waits for `+` before it sends a literal."""


class Line(NamedTuple):
    """One line as asked for by `expect_line` (IDLE's DONE, SASL), or what follows an APPEND's message."""

    text: bytes


class Problem(NamedTuple):
    """What was read is no command: answer `tag status text`; the stream stays in step."""

    tag: bytes
    status: bytes
    text: bytes


class Fatal(NamedTuple):
    """The stream cannot be kept in step: BYE and hang up."""

    text: bytes


Event = Command | AppendLiteral | Continuation | Line | Problem | Fatal


class _Mode(Enum):
    LINE = 0
    LITERAL = 1
    RAW = 2
    ANNOUNCED = 3
    STREAM = 4
    SWALLOW = 5
    SKIP = 6
    DEAD = 7


class Codec:
    """One connection's reading side. `command_limit` may be changed at any time."""

    __slots__ = (
        "_buffer",
        "_command",
        "_literal_left",
        "_mode",
        "_nonsync_limit",
        "_scanned",
        "_skipped",
        "command_limit",
    )

    def __init__(self, command_limit: int = COMMAND_LIMIT, nonsync_limit: int | None = None) -> None:
        """`nonsync_limit`: the largest non-synchronizing literal taken (4096 for LITERAL-), None: any."""
        self._buffer = bytearray()
        self._command = bytearray()
        self._literal_left = 0
        self._mode = _Mode.LINE
        self._nonsync_limit = nonsync_limit
        self._scanned = 0
        self._skipped = 0
        self.command_limit = command_limit

    @property
    def buffered(self) -> int:
        """Octets fed and not yet pulled."""
        return len(self._buffer)

    @property
    def literal_left(self) -> int:
        """Octets of the APPEND's message still to come out of `take_literal`."""
        return self._literal_left if self._mode is _Mode.STREAM else 0

    def feed(self, data: bytes) -> None:
        if self._mode is not _Mode.DEAD:
            self._buffer += data

    def clear(self) -> None:
        """Forget all that was received (STARTTLS: nothing sent in the clear may be obeyed after it)."""
        self._buffer = bytearray()
        self._command = bytearray()
        self._literal_left = self._scanned = self._skipped = 0
        self._mode = _Mode.LINE

    def expect_line(self) -> None:
        """The next line is not a command: `next` gives it as `Line`."""
        self._mode = _Mode.RAW

    def next(self) -> Event | None:
        """The next event, or None until more is fed."""
        while True:
            mode = self._mode
            if mode is _Mode.LITERAL:
                if len(self._buffer) < self._literal_left:
                    return None
                self._command += self._take(self._literal_left)
                self._literal_left = 0
                self._mode = _Mode.LINE
            elif mode is _Mode.SWALLOW:
                self._literal_left -= len(self._take(self._literal_left))
                if self._literal_left:
                    return None
                self._mode = _Mode.SKIP
            elif mode in (_Mode.ANNOUNCED, _Mode.STREAM, _Mode.DEAD):
                return None
            else:
                text = self._take_line()
                if text is None:
                    if mode is _Mode.SKIP:
                        return self._drop_partial_line()
                    if len(self._command) + len(self._buffer) <= self.command_limit:
                        return None
                    return self._too_long()
                event = self._line(mode, text)
                if event is not None:
                    return event

    def accept_literal(self) -> None:
        """The announced message is welcome; it comes by `take_literal`."""
        self._mode = _Mode.STREAM

    def refuse_literal(self, announced: AppendLiteral, swallow: int = SWALLOW_LIMIT) -> bool:
        """The announced message is not wanted. False: hang up, it is on its way and over `swallow` octets."""
        if announced.synchronizing:
            self._mode = _Mode.LINE
            self._command = bytearray()
            return True
        return self._swallow(announced.size, swallow)

    def abandon_literal(self) -> None:
        """Drop what is still to come of an accepted message, and the rest of its line."""
        self._mode = _Mode.SWALLOW if self._literal_left else _Mode.SKIP
        self._command = bytearray()

    def take_literal(self) -> bytes:
        """What has arrived of the accepted message, at most 256 KiB; b"" when more must be fed."""
        data = self._take(min(self._literal_left, 262_144))
        self._literal_left -= len(data)
        if not self._literal_left:
            self._mode = _Mode.RAW
        return data

    # --- inside -----------------------------------------------------------------------------------

    def _take(self, count: int) -> bytes:
        buffer = self._buffer
        if count >= len(buffer):
            self._buffer = bytearray()
            return bytes(buffer)
        data = bytes(buffer[:count])
        del buffer[:count]
        return data

    def _take_line(self) -> bytes | None:
        """A line without its end. A bare LF ends a line too, as in other servers; a CR alone does not."""
        end = self._buffer.find(b"\n", self._scanned)
        if end < 0:
            self._scanned = len(self._buffer)
            return None
        self._scanned = 0
        line = self._take(end + 1)
        return line[:-2] if line.endswith(b"\r\n") else line[:-1]

    def _line(self, mode: _Mode, text: bytes) -> Event | None:
        literal = _LITERAL.search(text) if text.endswith(b"}") else None
        if mode is _Mode.SKIP:
            return self._skipped_line(literal)
        if mode is _Mode.RAW:
            self._mode = _Mode.LINE
            self._command = bytearray()
            if literal and literal[3]:
                # A second message after APPEND's (MULTIAPPEND, not offered): keep in step.
                if not self._swallow(int(literal[2]), SWALLOW_LIMIT):
                    return self._fatal(b"Literal too long")
                return Line(text)
            return Line(text) if len(text) <= self.command_limit else self._fatal(b"Line too long")
        if len(self._command) + len(text) > self.command_limit:
            return self._overlong_command(text, literal)
        self._command += text
        if literal is None:
            return self._complete()
        return self._announced(literal)

    def _complete(self) -> Event:
        command = bytes(self._command)
        self._command = bytearray()
        tag = _TAG.match(command)
        if tag is None:
            return Problem(b"*", b"BAD", b"Missing or invalid tag")
        match = _COMMAND.match(command)
        if match is None:
            return Problem(tag[0], b"BAD", b"Missing or invalid command")
        _, uid, name, arguments = match.groups()
        return Command(tag[0], ("UID " if uid else "") + name.decode("ascii").upper(), arguments)

    def _announced(self, literal: re.Match[bytes]) -> Event | None:
        """A literal is announced at the end of the command so far."""
        size, synchronizing, binary = int(literal[2]), not literal[3], bool(literal[1])
        tag = self._tag()
        if not synchronizing and self._nonsync_limit is not None and size > self._nonsync_limit:
            # RFC 7888 §4: LITERAL- allows 4096 octets; the message is on its way, so hang up.
            return self._fatal(b"Non-synchronizing literal too long (RFC 7888)")
        before = bytes(self._command[: -len(literal[0])])
        if not binary and _APPEND.match(before):
            match = _COMMAND.match(before)
            self._mode = _Mode.ANNOUNCED
            self._command = bytearray()
            self._literal_left = size
            return AppendLiteral(tag, match[4] if match else b"", size, synchronizing)
        if binary or len(self._command) + 2 + size > self.command_limit:
            self._command = bytearray()
            self._mode = _Mode.LINE
            if not synchronizing and not self._swallow(size, SWALLOW_LIMIT):
                return self._fatal(b"Literal too long")
            if binary:
                return Problem(tag, b"BAD", b"Binary literals are not supported")
            return Problem(tag, b"NO", b"[TOOBIG] Literal too long")
        self._command += b"\r\n"
        self._literal_left = size
        self._mode = _Mode.LITERAL
        return Continuation() if synchronizing else None

    def _tag(self) -> bytes:
        match = _TAG.match(self._command)
        return match[0] if match else b"*"

    def _swallow(self, size: int, limit: int) -> bool:
        self._command = bytearray()
        self._skipped = 0
        if size > limit:
            self._mode = _Mode.DEAD
            return False
        self._literal_left = size
        self._mode = _Mode.SWALLOW
        return True

    def _skipped_line(self, literal: re.Match[bytes] | None) -> Event | None:
        """The rest of a refused command. Another literal in it is swallowed within the same bound."""
        self._mode = _Mode.LINE
        self._command = bytearray()
        if literal and literal[3]:
            skipped = self._skipped
            if not self._swallow(int(literal[2]), SWALLOW_LIMIT):
                return self._fatal(b"Literal too long")
            self._skipped = skipped + int(literal[2])
            if self._skipped > SKIP_LIMIT:
                return self._fatal(b"Line too long")
        else:
            self._skipped = 0
        return None

    def _drop_partial_line(self) -> Event | None:
        """Keep only the end, which may be the start of a literal's announcement."""
        surplus = len(self._buffer) - 32
        if surplus > 0:
            del self._buffer[:surplus]
            self._skipped += surplus
        self._scanned = len(self._buffer)
        return self._fatal(b"Line too long") if self._skipped > SKIP_LIMIT else None

    def _too_long(self) -> Event:
        if self._mode is _Mode.RAW:
            return self._fatal(b"Line too long")
        tag = self._tag() if self._command else self._tag_of(self._buffer)
        self._command = bytearray()
        self._mode = _Mode.SKIP
        self._skipped = 0
        return Problem(tag, b"BAD", b"Command line too long")

    def _overlong_command(self, text: bytes, literal: re.Match[bytes] | None) -> Event:
        tag = self._tag() if self._command else self._tag_of(text)
        self._command = bytearray()
        if literal and literal[3] and not self._swallow(int(literal[2]), SWALLOW_LIMIT):
            return self._fatal(b"Literal too long")
        return Problem(tag, b"BAD", b"Command line too long")

    @staticmethod
    def _tag_of(text: bytes | bytearray) -> bytes:
        match = _TAG.match(bytes(text[:257]))
        return match[0] if match else b"*"

    def _fatal(self, text: bytes) -> Fatal:
        self.clear()
        self._mode = _Mode.DEAD
        return Fatal(text)
