"""Values into the octets of replies (RFC 3501 §9)."""

import functools
import re
import time

from postkeep.domain.mailbox import INBOX
from postkeep.domain.message import Flag
from postkeep.domain.naming import plain_quotes
from postkeep.protocols.imap import utf7
from postkeep.protocols.imap.syntax import MONTHS

_ATOM = re.compile(rb"[!#$&'+,\-./0-9:;<=>?@A-Z^_`a-z|~]+\Z")
_QUOTABLE = re.compile(rb"[\x01-\x09\x0b\x0c\x0e-\x7f]{0,1000}\Z")
SYSTEM_FLAGS = (
    (Flag.ANSWERED, b"\\Answered"),
    (Flag.FLAGGED, b"\\Flagged"),
    (Flag.DELETED, b"\\Deleted"),
    (Flag.SEEN, b"\\Seen"),
    (Flag.DRAFT, b"\\Draft"),
)
ALL_FLAGS = b" ".join(name for _, name in SYSTEM_FLAGS)


def quoted(value: bytes) -> bytes:
    """A quoted string; `value` must be free of CR, LF, NUL and 8-bit octets."""
    return b'"' + value.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'


def string(value: bytes) -> bytes:
    """Quoted where that is legal, else a literal (8-bit, CR, LF, or long)."""
    if _QUOTABLE.match(value):
        return quoted(value)
    return b"{%d}\r\n%b" % (len(value), value)


def astring(value: bytes) -> bytes:
    if _ATOM.match(value) and value.upper() != b"NIL":
        return value
    return string(value)


def mailbox(name: str) -> bytes:
    """A mailbox name as astring in modified UTF-7."""
    if name == INBOX:
        return b"INBOX"
    return astring(utf7.encode(name).encode("ascii"))


@functools.lru_cache(maxsize=4096)
def _day(day: int) -> bytes:
    date = time.gmtime(day * 86_400)
    return b'"%02d-%b-%04d ' % (date.tm_mday, MONTHS[date.tm_mon - 1], date.tm_year)


def internal_date(seconds: int) -> bytes:
    """date-time in UTC.

    >>> internal_date(0)
    b'"01-Jan-1970 00:00:00 +0000"'
    """
    day, rest = divmod(seconds, 86_400)
    minutes, second = divmod(rest, 60)
    return b'%b%02d:%02d:%02d +0000"' % (_day(day), minutes // 60, minutes % 60, second)


class FlagNames(dict[tuple[int, int], bytes]):
    """(flags, keywords) → `\\Seen $Junk`, made once each. `names` is the account's keyword list.

    Bounded: emptied when more than 4096 combinations were asked for.
    """

    __slots__ = ("names",)

    def __init__(self, names: tuple[str, ...]) -> None:
        super().__init__()
        self.names = names

    def __missing__(self, key: tuple[int, int]) -> bytes:
        flags, keywords = key
        words = [name for flag, name in SYSTEM_FLAGS if flags & flag]
        words += [name.encode("ascii") for bit, name in enumerate(self.names) if keywords >> bit & 1]
        if len(self) > 4096:
            self.clear()
        text = self[key] = b" ".join(words)
        return text


def single_line(text: str) -> bytes:
    """Human-readable text for a reply: one line of printable ASCII, at most 400 octets (RFC 3501 §9 text)."""
    line = "".join(letter if " " <= letter <= "~" else "?" for letter in plain_quotes(text))
    return line[:400].encode("ascii") or b"."
