"""The grammar of command arguments: one cursor over the octets of a command (RFC 3501 §9)."""

import datetime
import re
from typing import NamedTuple

from postkeep.domain.message import Flag
from postkeep.protocols.imap import utf7
from postkeep.protocols.imap.sequence import SequenceSet, parse_set

KEYWORD_LIMIT = 128
"""Octets of one keyword."""
FLAGS_LIMIT = 256
"""Flags in one list."""

_ATOM = re.compile(rb"[!#$&'+,\-./0-9:;<=>?@A-Z\[^_`a-z|}~]+")
_ASTRING_ATOM = re.compile(rb"[!#$&'+,\-./0-9:;<=>?@A-Z\[\]^_`a-z|}~\x80-\xff]+")
_LIST_ATOM = re.compile(rb"[!#$%&'*+,\-./0-9:;<=>?@A-Z\[\]^_`a-z|}~\x80-\xff]+")
_QUOTED = re.compile(rb'"((?:[^\x00\r\n"\\]|\\["\\])*)"')
_LITERAL = re.compile(rb"\{(\d{1,20})\+?\}\r\n")
_NUMBER = re.compile(rb"\d{1,20}")
_SEQUENCE = re.compile(rb"[0-9*:,]+")
_FLAG = re.compile(rb"\\?[!#$&'+,\-./0-9:;<=>?@A-Z\[\]^_`a-z|}~]+")
_DATE = re.compile(rb'("?)([0-9]{1,2})-([A-Za-z]{3})-([0-9]{4})\1(?=[ )]|\Z)')
_DATE_TIME = re.compile(
    rb'"([ 0-9][0-9])-([A-Za-z]{3})-([0-9]{4}) ([0-9]{2}):([0-9]{2}):([0-9]{2}) ([+-])([0-9]{2})([0-9]{2})"'
)

MONTHS = (b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec")
_MONTH_NUMBER = {name.upper(): number for number, name in enumerate(MONTHS, 1)}
SYSTEM_FLAGS = {
    b"\\ANSWERED": Flag.ANSWERED,
    b"\\FLAGGED": Flag.FLAGGED,
    b"\\DELETED": Flag.DELETED,
    b"\\SEEN": Flag.SEEN,
    b"\\DRAFT": Flag.DRAFT,
}


class BadSyntax(Exception):
    """The command is answered with BAD and this text."""


class FlagList(NamedTuple):
    """`flags` are domain Flag bits."""

    flags: int
    keywords: tuple[str, ...]


class Cursor:
    """Reads arguments from left to right; each method raises BadSyntax when its thing is not there."""

    __slots__ = ("data", "position")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.position = 0

    # --- structure --------------------------------------------------------------------------------

    @property
    def at_end(self) -> bool:
        return self.position >= len(self.data)

    def end(self) -> None:
        """Nothing may follow (spaces before CRLF are forgiven)."""
        if self.data[self.position :].strip(b" "):
            raise BadSyntax("Unexpected arguments")

    def peek(self) -> bytes:
        return self.data[self.position : self.position + 1]

    def take(self, token: bytes) -> bool:
        """Step over `token` if it comes next, in any case."""
        end = self.position + len(token)
        if self.data[self.position : end].upper() == token:
            self.position = end
            return True
        return False

    def expect(self, token: bytes) -> None:
        if not self.take(token):
            raise BadSyntax(f"Expected {token.decode('ascii')}")

    def space(self) -> None:
        """SP; more than one is forgiven."""
        if self.peek() != b" ":
            raise BadSyntax("Missing argument" if self.at_end else "Expected a space")
        while self.peek() == b" ":
            self.position += 1

    def more(self) -> bool:
        """Step over spaces; whether an optional argument follows them (BadSyntax: without a space)."""
        if not self.at_end:
            self.space()
        return not self.at_end

    def match(self, pattern: re.Pattern[bytes], what: str) -> re.Match[bytes]:
        found = pattern.match(self.data, self.position)
        if found is None:
            raise BadSyntax(f"Expected {what}")
        self.position = found.end()
        return found

    # --- strings ------------------------------------------------------------------------------------

    def atom(self) -> bytes:
        return self.match(_ATOM, "an atom")[0]

    def word(self) -> str:
        """An atom that is compared without case, upper-case."""
        return self.atom().decode("ascii").upper()

    def string(self) -> bytes:
        """quoted or literal, without NUL."""
        if self.peek() == b'"':
            text = self.match(_QUOTED, "a quoted string")[1]
            return re.sub(rb"\\(.)", rb"\1", text) if b"\\" in text else text
        header = self.match(_LITERAL, "a string")
        end = self.position + int(header[1])
        value = self.data[self.position : end]
        if len(value) != int(header[1]) or b"\0" in value:
            raise BadSyntax("Invalid literal")
        self.position = end
        return value

    def astring(self) -> bytes:
        if self.peek() in (b'"', b"{"):
            return self.string()
        return self.match(_ASTRING_ATOM, "a string")[0]

    def nstring(self) -> bytes | None:
        if self.peek() in (b'"', b"{"):
            return self.string()
        if self.atom().upper() != b"NIL":
            raise BadSyntax("Expected a string or NIL")
        return None

    def mailbox(self) -> str:
        return decode_mailbox(self.astring())

    def list_mailbox(self) -> str:
        if self.peek() in (b'"', b"{"):
            return decode_mailbox(self.string())
        return decode_mailbox(self.match(_LIST_ATOM, "a mailbox pattern")[0])

    def text(self) -> str:
        """An astring in UTF-8 (a user's name)."""
        try:
            return self.astring().decode("utf-8")
        except UnicodeDecodeError as error:
            raise BadSyntax("Invalid UTF-8") from error

    # --- values -------------------------------------------------------------------------------------

    def number(self, largest: int = 0xFFFF_FFFF) -> int:
        value = int(self.match(_NUMBER, "a number")[0])
        if value > largest:
            raise BadSyntax("Number too large")
        return value

    def modseq(self) -> int:
        """mod-sequence-valzer: 63 bits (RFC 7162 §7)."""
        return self.number(0x7FFF_FFFF_FFFF_FFFF)

    def sequence_set(self) -> SequenceSet:
        text = self.match(_SEQUENCE, "a sequence set")[0]
        try:
            return parse_set(text.decode("ascii"))
        except ValueError as error:
            raise BadSyntax("Invalid sequence set") from error

    def flags(self) -> FlagList:
        """A list in parentheses, or one or more flags without them (STORE)."""
        names = []
        if self.take(b"("):
            if not self.take(b")"):
                names.append(self.match(_FLAG, "a flag")[0])
                while not self.take(b")"):
                    self.space()
                    if self.take(b")"):
                        break
                    names.append(self.match(_FLAG, "a flag")[0])
        else:
            names.append(self.match(_FLAG, "a flag")[0])
            while self.peek() == b" ":
                self.space()
                names.append(self.match(_FLAG, "a flag")[0])
        return flag_list(names)

    def date(self) -> datetime.date:
        found = self.match(_DATE, "a date")
        month = _MONTH_NUMBER.get(found[3].upper(), 0)
        try:
            return datetime.date(int(found[4]), month, int(found[2]))
        except ValueError as error:
            raise BadSyntax("Invalid date") from error

    def date_time(self) -> int:
        """Seconds since 1970 (may be negative)."""
        found = self.match(_DATE_TIME, "a date-time")
        zone = int(found[8]) * 60 + int(found[9])
        if int(found[8]) > 23 or int(found[9]) > 59:
            raise BadSyntax("Invalid time zone")
        sign = -1 if found[7] == b"-" else 1
        try:
            offset = datetime.timezone(datetime.timedelta(minutes=sign * zone))
            moment = datetime.datetime(
                int(found[3]),
                _MONTH_NUMBER.get(found[2].upper(), 0),
                int(found[1]),
                int(found[4]),
                int(found[5]),
                min(int(found[6]), 59),
                tzinfo=offset,
            )
            return int((moment - _EPOCH).total_seconds())
        except (ValueError, OverflowError) as error:
            raise BadSyntax("Invalid date-time") from error


_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


def flag_list(names: list[bytes]) -> FlagList:
    """\\Recent is ignored: it belongs to the server, yet clients copy it along."""
    if len(names) > FLAGS_LIMIT:
        raise BadSyntax("Too many flags")
    flags = 0
    keywords: dict[str, str] = {}
    for name in names:
        if name.startswith(b"\\"):
            upper = name.upper()
            if upper == b"\\RECENT":
                continue
            if upper not in SYSTEM_FLAGS:
                raise BadSyntax(f"Invalid system flag {name.decode('ascii')}")
            flags |= SYSTEM_FLAGS[upper]
        elif len(name) > KEYWORD_LIMIT:
            raise BadSyntax("Keyword too long")
        else:
            keyword = name.decode("ascii")
            keywords.setdefault(keyword.lower(), keyword)
    return FlagList(flags, tuple(keywords.values()))


def decode_mailbox(raw: bytes) -> str:
    """Modified UTF-7, or UTF-8 as some clients send it. Raises BadSyntax for what is neither: an ill-formed
    `&` cannot name a mailbox that we listed."""
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadSyntax("Mailbox name is neither modified UTF-7 nor UTF-8") from error
    if not text.isascii():
        return text
    try:
        return utf7.decode(text)
    except ValueError as error:
        raise BadSyntax("Mailbox name is not in modified UTF-7") from error
