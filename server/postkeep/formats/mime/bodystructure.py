"""The pieces of IMAP's BODYSTRUCTURE (RFC 3501 §7.4.2). `fields`: lower-case names, folded bodies."""

import functools
import re
from collections.abc import Mapping

from postkeep.formats.mime.headers import unfold
from postkeep.formats.mime.imapsyntax import nstring, parameter_list, string
from postkeep.formats.mime.parameters import ContentType, parse_disposition

TOKEN_LIMIT = 127
"""Octets of an encoding."""

_EXTENSION_FIELDS = (b"content-md5", b"content-disposition", b"content-language", b"content-location")
_TOKEN = re.compile(rb"[!#-'*+.0-9A-Z^-z|~-]+")
_LANGUAGE_TAG = re.compile(rb"[A-Za-z0-9*-]{1,64}")
_COMMENT = re.compile(rb"\([^()]*\)")

_Fields = Mapping[bytes, bytes]


def basic(content_type: ContentType, fields: _Fields, encoding: str, size: int) -> bytes:
    """("type" "subtype" params id description encoding size — the parenthesis stays open."""
    return b'("%b" "%b" %b %b %b "%b" %d' % (
        content_type.type.encode("ascii"),
        content_type.subtype.encode("ascii"),
        content_type.listed_params,
        nstring(fields.get(b"content-id")),
        nstring(fields.get(b"content-description")),
        encoding.encode("ascii"),
        size,
    )


def extension(fields: _Fields, first: bytes) -> bytes:
    """body-ext-1part or body-ext-mpart; `first` is the MD5 or the parameters."""
    if fields.keys().isdisjoint(_EXTENSION_FIELDS):
        return b" %b NIL NIL NIL" % first
    return b" %b %b %b %b" % (
        first,
        _disposition(fields.get(b"content-disposition")),
        _language(fields.get(b"content-language")),
        _location(fields.get(b"content-location")),
    )


def single_extension(fields: _Fields) -> bytes:
    """body-ext-1part."""
    return extension(fields, nstring(fields.get(b"content-md5")))


def transfer_encoding(value: bytes | None) -> str:
    """Lower-case; 7bit when there is none (RFC 2045 §6.1) or it is no token."""
    return "7bit" if value is None else _transfer_encoding(value[:TOKEN_LIMIT])


@functools.lru_cache(maxsize=128)
def _transfer_encoding(value: bytes) -> str:
    token = _TOKEN.match(unfold(value))
    return "7bit" if token is None else token.group().decode("ascii").lower()


def _disposition(value: bytes | None) -> bytes:
    if value is None:
        return b"NIL"
    kind, params = parse_disposition(unfold(value))
    return b'("%b" %b)' % (kind.encode("ascii"), parameter_list(params)) if kind else b"NIL"


def _language(value: bytes | None) -> bytes:
    """RFC 3282: a list of tags; comments are dropped."""
    if value is None:
        return b"NIL"
    tags = [string(tag) for tag in _LANGUAGE_TAG.findall(_COMMENT.sub(b"", value))[:100]]
    if len(tags) == 1:
        return tags[0]
    return b"(%b)" % b" ".join(tags) if tags else b"NIL"


def _location(value: bytes | None) -> bytes:
    """RFC 2557 §4.4.1: a folded URI has no white space of its own."""
    return b"NIL" if value is None else string(b"".join(value.split()))
