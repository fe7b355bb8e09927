"""A part's octets without transfer encoding, and as text for SEARCH and display. Never raises on content."""

import binascii
import re

from postkeep.formats.mime.charsets import decode_charset, guess_text
from postkeep.formats.mime.structure import Part

TEXT_LIMIT = 1024 * 1024
"""Octets of one part that are read as text when nothing else is said."""

_ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_NOT_ALPHABET = bytes(octet for octet in range(256) if octet not in _ALPHABET)
_PADDED_SOFT_BREAK = re.compile(rb"=[ \t]++(?=\r?\n)")
_META_CHARSET = re.compile(rb"<meta[^>]{0,200}charset\s{0,9}=\s{0,9}[\"']?([\w.:-]{1,40})", re.IGNORECASE)


def decode_transfer(data: bytes, encoding: str) -> bytes:
    """Undo base64 or quoted-printable (RFC 2045 §6); any other encoding leaves `data` as it is.

    Cut or damaged input gives what can be read of it.
    """
    encoding = encoding.lower()
    if encoding == "base64":
        return _decode_base64(data)
    if encoding == "quoted-printable":
        # RFC 2045 §6.7 (3): white space added at a line's end by transport is no part of it
        return binascii.a2b_qp(_PADDED_SOFT_BREAK.sub(b"=", data))
    return data


def _decode_base64(data: bytes) -> bytes:
    letters = data.translate(None, _NOT_ALPHABET)
    whole = len(letters) // 4 * 4
    rest = letters[whole:]
    decoded = binascii.a2b_base64(letters[:whole])
    if len(rest) > 1:
        decoded += binascii.a2b_base64(rest + b"=" * (4 - len(rest)))
    return decoded


def part_text(data: bytes, part: Part, limit: int = TEXT_LIMIT) -> str:
    """Text of a part from its encoded octets (of which at most `limit` are looked at).

    Charset by its parameter; HTML without one is asked for <meta charset>. Unknown or wrong: UTF-8 if it is
    valid, else ISO-8859-1. HTML tags stay.
    """
    cut = len(data) > limit
    octets = decode_transfer(data[:limit], part.encoding)
    charset = part.params.get("charset", "")
    if not charset and part.subtype == "html":
        meta = _META_CHARSET.search(octets[:2048])
        charset = meta[1].decode("ascii", "replace") if meta is not None else ""
    if cut or len(data) < part.size:
        octets = _without_split_character(octets)
    return decode_charset(octets, charset) if charset else guess_text(octets)


def _without_split_character(octets: bytes) -> bytes:
    """Without the first octets of a UTF-8 character at the end, which would make all of it ISO-8859-1."""
    for back in range(1, min(4, len(octets)) + 1):
        octet = octets[-back]
        if octet < 0x80:
            return octets
        if octet >= 0xC0:
            length = 2 if octet < 0xE0 else 3 if octet < 0xF0 else 4
            return octets[:-back] if length > back else octets
    return octets
