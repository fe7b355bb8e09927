"""Octets as IMAP writes them: NIL, quoted strings, literals, parameter lists (RFC 3501 §9)."""

import re
from collections.abc import Iterable

from postkeep.formats.mime.headers import unfold

_PLAIN = re.compile(rb"[ !#-\[\]-~]{0,1000}\Z")
_QUOTABLE = re.compile(rb"[\t -~]{0,1000}\Z")


def string(value: bytes) -> bytes:
    """A quoted string, or a literal for 8-bit, line ends and great lengths; NUL is left out.

    >>> string(b'say "hi"')
    b'"say \\\\"hi\\\\""'
    """
    if _PLAIN.match(value):
        return b'"%b"' % value
    if _QUOTABLE.match(value):
        return b'"%b"' % value.replace(b"\\", b"\\\\").replace(b'"', b'\\"')
    value = value.replace(b"\0", b"")
    return b"{%d}\r\n%b" % (len(value), value)


def nstring(value: bytes | None) -> bytes:
    """`value` folded or not; NIL for None."""
    return b"NIL" if value is None else string(unfold(value))


def parameter_list(params: Iterable[tuple[bytes, bytes]]) -> bytes:
    """("charset" "utf-8") or NIL."""
    pairs = [b"%b %b" % (string(name), string(value)) for name, value in params]
    return b"(%b)" % b" ".join(pairs) if pairs else b"NIL"
