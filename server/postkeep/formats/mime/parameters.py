"""Content-Type, Content-Disposition and their parameters (RFC 2045 §5.1, RFC 2183, RFC 2231), tolerant."""

import functools
import re
from collections.abc import Iterable
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from postkeep.formats.mime.charsets import decode_charset, guess_text
from postkeep.formats.mime.headers import decode_words
from postkeep.formats.mime.imapsyntax import parameter_list

PARAMETER_LIMIT = 100
"""Parameters taken from one field."""

RawParams = tuple[tuple[bytes, bytes], ...]

_TYPE = re.compile(
    rb"[ \t]*([^\x00- ()<>@,;:\\\"/\[\]?=\x7f-\xff]+)[ \t]*/[ \t]*([^\x00- ()<>@,;:\\\"/\[\]?=\x7f-\xff]+)"
)
_TOKEN = re.compile(rb"[ \t]*([^\x00- ()<>@,;:\\\"/\[\]?=\x7f-\xff]+)")
_PARAMETER = re.compile(
    rb';[ \t\r\n]*([^\x00- =;"(),]+)[ \t\r\n]*=[ \t\r\n]*(?:"((?:[^"\\]+|\\.)*)\\?"?|([^;]*))', re.DOTALL
)
_QUOTED_PAIR = re.compile(rb'\\(["\\])')
_COMMENT_AT_END = re.compile(rb"[ \t]+\([^()]*\)[ \t]*\Z")
_SECTION = re.compile(r"([^*]+)(?:\*(\d{1,3}))?(\*)?\Z")


class ContentType(NamedTuple):
    """`type` and `subtype` are lower-case. Do not change `params`: values are shared."""

    type: str
    subtype: str
    params: dict[str, str]
    """Decoded, names in lower case."""
    listed_params: bytes
    """As written (RFC 2231 pieces too), a parenthesized list of IMAP."""
    boundary: bytes


TEXT_PLAIN = ContentType("text", "plain", {"charset": "us-ascii"}, b'("charset" "us-ascii")', b"")
"""What an entity without, or with a broken, Content-Type is (RFC 2045 §5.2)."""


def parse_content_type(value: bytes) -> ContentType:
    """An unfolded field body; a broken one is TEXT_PLAIN."""
    if len(value) <= 80 and b"oundary" not in value:
        return _parse_content_type_again(value)
    return _parse_content_type(value)


def _parse_content_type(value: bytes) -> ContentType:
    match = _TYPE.match(value)
    if match is None:
        return TEXT_PLAIN
    raw = parse_params(value, match.end())
    return ContentType(
        match[1].decode("ascii").lower(),
        match[2].decode("ascii").lower(),
        decode_params(raw),
        parameter_list(raw),
        dict(raw).get(b"boundary", b"").rstrip(),
    )


# A handful of values makes up nearly all mail.
_parse_content_type_again = functools.lru_cache(maxsize=512)(_parse_content_type)


def parse_disposition(value: bytes) -> tuple[str, RawParams]:
    """("attachment", parameters) of Content-Disposition; ("", ()) when it is broken."""
    match = _TOKEN.match(value)
    if match is None:
        return "", ()
    return match[1].decode("ascii").lower(), parse_params(value, match.end())


def parse_params(value: bytes, start: int) -> RawParams:
    """All `; name=value` from octet `start`. The first of two equal names counts."""
    found: dict[bytes, bytes] = {}
    for match in _PARAMETER.finditer(value, start):
        name, quoted, plain = match.groups()
        if quoted is not None:
            text = _QUOTED_PAIR.sub(rb"\1", quoted) if b"\\" in quoted else quoted
        else:
            text = plain.strip()
            if text.endswith(b")"):
                text = _COMMENT_AT_END.sub(b"", text)
        found.setdefault(name.lower(), text)
        if len(found) >= PARAMETER_LIMIT:
            break
    return tuple(found.items())


def decode_params(params: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Parameters as text: RFC 2231 continuations joined and charsets decoded, RFC 2047 words tolerated.

    >>> decode_params([(b"name*0*", b"utf-8''%c3%a4"), (b"name*1", b".txt")])
    {'name': 'ä.txt'}
    """
    decoded: dict[str, str] = {}
    if not params:
        return decoded
    pieces: dict[str, dict[int, tuple[bool, bytes]]] = {}
    for raw_name, value in params:
        name = guess_text(raw_name)
        if "*" not in name:
            decoded.setdefault(name, decode_words(guess_text(value)))
            continue
        match = _SECTION.match(name)
        if match is None:
            decoded.setdefault(name, guess_text(value))
            continue
        extended = match[3] is not None
        pieces.setdefault(match[1], {}).setdefault(int(match[2] or 0), (extended, value))
    for name, numbered in pieces.items():
        decoded[name] = _join_sections(numbered)
    return decoded


def _join_sections(numbered: dict[int, tuple[bool, bytes]]) -> str:
    """RFC 2231 §3–4: sections in order of number; charset and language stand in the first."""
    octets: list[bytes] = []
    charset = ""
    for position, number in enumerate(sorted(numbered)):
        extended, value = numbered[number]
        if extended and position == 0 and value.count(b"'") >= 2:
            charset_raw, _, value = value.split(b"'", 2)
            charset = guess_text(charset_raw)
        octets.append(unquote_to_bytes(value) if extended else value)
    return decode_charset(b"".join(octets), charset or "utf-8")
