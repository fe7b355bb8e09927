"""A command line and the paths in it: octets to text, bad ones refused (RFC 5321 §2.3.8, §4.1). No I/O."""

import re
from typing import NamedTuple

LINE_LIMIT = 12_288 + 32
"""Octets of the longest command: AUTH with an initial response (RFC 4954 §4)."""

_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")

# A path as nearly all mail has it: dot-string @ domain (RFC 5321 §4.1.2), or none.
_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_DOMAIN = r"[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?"
_PATH = re.compile(rf"<({_ATOM}(?:\.{_ATOM})*@{_DOMAIN}|)>(?: +(.*))?\Z")
# Any path at all: a source route, a quoted or plain local part, a domain; or the same without brackets.
# email's parser, which reads those, would make one out of half a path or of two words.
_ANY_PATH = re.compile(
    r"""<(?:@[^\s<>:"]+:)?(?:"(?:[^"\\]|\\.)*"|[^\s<>"]+?)(?:@[^\s<>"@]+)?>(?:\ +.*)?\Z"""
    r"""|[^\s<>"]+(?:\ +.*)?\Z"""
)


class CommandLimits(dict[str, int]):
    """Octets of a command line without CRLF (RFC 5321 §4.5.3.1.4 and what extensions add).

    aiosmtpd keeps these in one dict of the class, clears it at each connection and adds to it at each EHLO:
    here both do nothing.
    """

    def __missing__(self, command: str) -> int:
        return 512

    def __setitem__(self, command: str, size: int) -> None:
        """Fixed."""

    def clear(self) -> None:
        """Fixed."""


# MAIL: SIZE 26, BODY 17, SMTPUTF8 10, ENVID and RET 116 (RFC 3461 §4), AUTH 500 (RFC 4954 §3)
# RCPT: ORCPT and NOTIFY 532 (RFC 3461 §4), SMTPUTF8 10
LIMITS = CommandLimits({"MAIL": 1200, "RCPT": 1064, "VRFY": 522, "AUTH": 12_288})


class Command(NamedTuple):
    """`verb` in upper case; `argument` stripped, None for none, undecodable octets as surrogates.

    Blanks beyond ASCII alone are no argument either: aiosmtpd splits at them, and would find nothing.
    """

    verb: str
    argument: str | None


def parse_command(line: bytes, *, extended: bool) -> Command | str:
    """The command in `line` (with its line ending), or the reply that refuses it."""
    if not line.endswith(b"\r\n"):
        # RFC 5321 §2.3.8: a bare LF ends nothing. Answered, lest the peer waits; never obeyed.
        return "500 5.5.2 Error: lines end with CRLF"
    line = line[:-2]
    if _CONTROL.search(line):
        return "500 5.5.2 Error: control character in a command"
    verb_octets, _, rest = line.partition(b" ")
    if not verb_octets.isalnum() or not verb_octets.isascii():
        return "500 5.5.2 Error: bad syntax"
    verb = verb_octets.upper().decode("ascii")
    if len(line) > (LIMITS[verb] if extended else 512):
        return "500 5.5.2 Command line too long"
    argument = rest.strip().decode("utf-8", "surrogateescape")
    return Command(verb, argument if argument and not argument.isspace() else None)


def is_path(text: str) -> bool:
    """Has it the shape of a path with parameters (RFC 5321 §4.1.2), ordinary or not?

    >>> is_path('<"a b"@c> SIZE=3'), is_path("<postmaster>"), is_path("<a@b"), is_path("<a b@c>")
    (True, True, False, False)
    """
    return _ANY_PATH.match(text.strip(" ")) is not None


def parse_path(text: str) -> tuple[str, str] | None:
    """(address, parameters) of an ordinary "<local@domain> …", address "<>" for none; None: not ordinary.

    >>> parse_path("<a@b.example> SIZE=3"), parse_path("<>"), parse_path('<"a b"@c>')
    (('a@b.example', 'SIZE=3'), ('<>', ''), None)
    """
    found = _PATH.match(text)
    if found is None:
        return None
    return found[1] or "<>", found[2] or ""
