"""Domains, accounts and aliases as values (rows DOM, USR, ALI, ADM)."""

from dataclasses import dataclass, field
from enum import StrEnum


class Rights(StrEnum):
    """What an account may administer (ADM-1)."""

    NONE = "none"
    DOMAIN = "domain"
    READ = "read"
    WRITE = "write"


@dataclass(frozen=True, slots=True)
class Domain:
    """A local domain. `name` and `aliases` are canonical (domain.address.parse_domain)."""

    name: str
    primary: bool = False
    description: str = ""
    aliases: tuple[str, ...] = ()
    max_message_size: int = 0
    """Octets of an outgoing message; 0 means no limit (DOM-4)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """What may be changed of a local user, beside the password."""

    full_name: str = ""
    description: str = ""
    enabled: bool = True
    rights: Rights = Rights.NONE
    aliases: tuple[str, ...] = ()
    """Further local parts in the account's own domain (USR-1)."""
    forwards: tuple[str, ...] = ()
    """Addresses that get a copy, or with keep_copy off the only one."""
    keep_copy: bool = True
    quota_bytes: int = 0
    quota_items: int = 0
    """0 means no limit (USR-5)."""


@dataclass(frozen=True, slots=True)
class Account(Profile):
    """A local user. `key` = name@domain, lower-case; it names the account's mail in the store."""

    name: str
    domain: str
    password_hash: str = field(default="", repr=False)
    """argon2id (PHC string), or a SHA form accepted on import; "" lets nobody in."""

    @property
    def key(self) -> str:
        return f"{self.name}@{self.domain}"


@dataclass(frozen=True, slots=True)
class Alias:
    """`pattern` (may hold ? and *) in `domain` is delivered to `targets` (addresses or local names)."""

    pattern: str
    domain: str
    targets: tuple[str, ...]
    description: str = ""
