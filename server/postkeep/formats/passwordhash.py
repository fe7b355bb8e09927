"""Forms of stored passwords: argon2 as a PHC string, {SHA…} and {SSHA…} of RFC 2307 (row USR-8)."""

import base64
import binascii
import hashlib
import re
from typing import NamedTuple

_SCHEMES = {"sha": "sha1", "sha1": "sha1", "sha256": "sha256", "sha512": "sha512"}
_LENGTH_LIMIT = 512
# A PHC string of another server can ask for any amount of memory and time, and each try to log in pays it.
MEMORY_LIMIT_KIB = 256 << 10
COST_LIMIT = 1 << 20
"""KiB times passes: 1 GiB gone over once."""
_PASSES_LIMIT = 64
_LANES_LIMIT = 16
_ARGON2 = re.compile(
    r"\$argon2(?:id|i)\$v=(?:16|19)\$m=([0-9]{1,10}),t=([0-9]{1,10}),p=([0-9]{1,10})"
    r"\$[A-Za-z0-9+/]+\$[A-Za-z0-9+/]+\Z"
)


class ShaHash(NamedTuple):
    """`algorithm` as hashlib names it; `salt` is hashed behind the password."""

    algorithm: str
    digest: bytes
    salt: bytes


def is_hash(text: str) -> bool:
    """Whether a password can be verified against `text`: argon2 within bounds, {SHA}, {SSHA512}, …"""
    return is_argon2(text) or parse_sha(text) is not None


def is_argon2(text: str) -> bool:
    """A well-formed argon2id or argon2i string whose costs are bounded."""
    return len(text) < _LENGTH_LIMIT and _ARGON2.match(text) is not None and not is_too_costly(text)


def is_too_costly(text: str) -> bool:
    """A well-formed argon2 string that asks for more memory or time than a login may take."""
    found = _ARGON2.match(text)
    if found is None:
        return False
    memory, passes, lanes = map(int, found.groups())
    if passes > _PASSES_LIMIT or lanes > _LANES_LIMIT:
        return True
    return memory > MEMORY_LIMIT_KIB or memory * passes > COST_LIMIT


def parse_sha(text: str) -> ShaHash | None:
    """`{SCHEME}base64(digest + salt)` (RFC 2307, and {SSHA…} as OpenLDAP)."""
    scheme, brace, encoded = text[1:].partition("}")
    scheme = scheme.lower()
    name = _SCHEMES.get(scheme) or _SCHEMES.get(scheme[1:] if scheme.startswith("ssha") else "")
    if not text.startswith("{") or not brace or name is None:
        return None
    try:
        raw = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        return None
    size = hashlib.new(name, usedforsecurity=False).digest_size
    salted = scheme.startswith("ssha")
    if len(raw) < size or (len(raw) > size) != salted or len(raw) > size + 64:
        return None
    return ShaHash(name, raw[:size], raw[size:])
