"""Which names accounts and aliases may have (rows USR-1, ALI-1)."""

import re
import unicodedata

from postkeep.domain.address import LOCAL_PART_LIMIT
from postkeep.domain.errors import InvalidName

_NAME = re.compile(r"[a-z0-9_](?:[a-z0-9_'+-]|\.(?=[a-z0-9_'+-]))*\Z")
_PATTERN = re.compile(r"[a-z0-9._?*-]+\Z")


_CONTROL = frozenset({"Cc", "Cs", "Zl", "Zp"})


def has_control(text: str) -> bool:
    """Whether `text` holds what no name, description or password may: control characters, line separators,
    lone surrogates."""
    return not text.isprintable() and any(unicodedata.category(char) in _CONTROL for char in text)


def account_name(text: str) -> str:
    """A user's name in its one form (lower-case); it is the local part of the address too.

    ASCII letters, digits and . - _ ' +, no dot at an end nor two in a row (RFC 5321 §4.1.2 Dot-string).
    """
    name = text.strip().lower()
    _require_length(name)
    if not _NAME.match(name):
        raise InvalidName(
            f"“{text[:80]}” cannot be a user name: use a–z, digits and _ . - + ' (first a letter, "
            "a digit or _; no dot at the end, nor two in a row)"
        )
    return name


def alias_pattern(text: str) -> str:
    """An alias in its one form: a–z 0–9 . - _ and the wildcards ? and * (ALI-1)."""
    pattern = text.strip().lower()
    _require_length(pattern)
    if not _PATTERN.match(pattern):
        raise InvalidName(f"“{text[:80]}” cannot be an alias: use a–z, digits and . - _ ? *")
    return pattern


def _require_length(name: str) -> None:
    if len(name) > LOCAL_PART_LIMIT:
        raise InvalidName(
            f"“{name[:20]}…” is too long: {len(name)} characters, at most {LOCAL_PART_LIMIT} are allowed"
        )


_PLAIN = str.maketrans({"“": '"', "”": '"', "‘": "'", "’": "'", "…": "..."})


def plain_quotes(text: str) -> str:
    """The product's own words as protocols of ASCII take them.

    >>> plain_quotes("no mailbox “x”")
    'no mailbox "x"'
    """
    return text.translate(_PLAIN)
