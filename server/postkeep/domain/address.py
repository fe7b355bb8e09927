"""Addresses and domain names (RFC 5321 §4.1.2, RFC 6531, RFC 5890)."""

import re
from typing import NamedTuple

import idna

from postkeep.domain.errors import InvalidAddress

_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~\-\u0080-\U0010ffff]+"
_DOT_STRING = re.compile(rf"{_ATOM}(?:\.{_ATOM})*\Z")
_QUOTED = re.compile(r'"(?:[\x20-\x21\x23-\x5b\x5d-\x7e\u0080-\U0010ffff]|\\[\x20-\x7e])*"\Z')
_QUOTED_PAIR = re.compile(r"\\(.)")
_LABELS = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)(?:\.(?!-)[a-z0-9_-]{1,63}(?<!-))*\Z")
_LITERAL = re.compile(r"\[(?:[0-9.]{7,15}|IPv6:[0-9A-Fa-f:.]{2,45})\]\Z")

LOCAL_PART_LIMIT = 64
"""Octets (RFC 5321 §4.5.3.1.1)."""
DOMAIN_LIMIT = 255
"""Octets (RFC 5321 §4.5.3.1.2)."""


class Address(NamedTuple):
    """An e-mail address. `local` is unquoted and keeps its case; `domain` is lower-case, A-labels."""

    local: str
    domain: str

    @property
    def key(self) -> str:
        """How this server compares addresses: lower-case local part @ domain."""
        return f"{self.local.lower()}@{self.domain}"

    @property
    def is_ascii(self) -> bool:
        return self.local.isascii()

    def __str__(self) -> str:
        """As written in SMTP: the local part quoted when it must be."""
        if _DOT_STRING.match(self.local):
            return f"{self.local}@{self.domain}"
        quoted = self.local.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{quoted}"@{self.domain}'


def parse_domain(text: str) -> str:
    """A domain name or address literal in its one canonical form (lower-case A-labels).

    >>> parse_domain("Bücher.Example.")
    'xn--bcher-kva.example'
    """
    if text.startswith("["):
        if _LITERAL.match(text):
            return text
        raise InvalidAddress(f"“{text[:80]}” is not an address literal")
    name = text[:-1] if text.endswith(".") else text
    if not name.isascii():
        try:
            name = idna.encode(name, uts46=True).decode("ascii")
        except idna.IDNAError as error:
            raise InvalidAddress(f"“{text[:80]}” is not a domain name") from error
    name = name.lower()
    if len(name) > DOMAIN_LIMIT or not _LABELS.match(name):
        raise InvalidAddress(f"“{text[:80]}” is not a domain name")
    return name


def parse_address(text: str) -> Address:
    """An address without angle brackets, as in MAIL FROM or a form field.

    >>> parse_address('"john doe"@Example.COM')
    Address(local='john doe', domain='example.com')
    """
    local, at, domain = text.rpartition("@")
    if not at or not local:
        raise InvalidAddress(f"“{text[:80]}” is not an e-mail address")
    if local.startswith('"'):
        if not _QUOTED.match(local):
            raise InvalidAddress(f"“{text[:80]}” is not an e-mail address")
        local = _QUOTED_PAIR.sub(r"\1", local[1:-1])
        if not local:
            raise InvalidAddress(f"“{text[:80]}” is not an e-mail address")
    elif not _DOT_STRING.match(local):
        raise InvalidAddress(f"“{text[:80]}” is not an e-mail address")
    if len(local.encode()) > LOCAL_PART_LIMIT:
        raise InvalidAddress("the part before @ is longer than 64 octets")
    return Address(local, parse_domain(domain))
