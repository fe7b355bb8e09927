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
    if len(name) > LOCAL_PART_LIMIT or not _NAME.match(name):
        raise InvalidName(f"“{text[:80]}” cannot be a user name: use letters, digits and . - _")
    return name


def alias_pattern(text: str) -> str:
    """An alias in its one form: a–z 0–9 . - _ and the wildcards ? and * (ALI-1)."""
    pattern = text.strip().lower()
    if len(pattern) > LOCAL_PART_LIMIT or not _PATTERN.match(pattern):
        raise InvalidName(f"“{text[:80]}” cannot be an alias: use letters, digits and . - _ ? *")
    return pattern
