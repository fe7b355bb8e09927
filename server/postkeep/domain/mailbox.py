"""Mailboxes: names, roles and counters (RFC 3501 §5.1, RFC 6154)."""

from enum import StrEnum
from typing import NamedTuple

DELIMITER = "/"
INBOX = "INBOX"
NAME_LIMIT = 1000
"""Octets of a whole mailbox name in UTF-8."""


class Role(StrEnum):
    """Special use of a mailbox (RFC 6154); the value is the attribute without its backslash."""

    NONE = ""
    DRAFTS = "Drafts"
    SENT = "Sent"
    TRASH = "Trash"
    JUNK = "Junk"
    ARCHIVE = "Archive"


DEFAULT_MAILBOXES: tuple[tuple[str, Role], ...] = (
    (INBOX, Role.NONE),
    ("Drafts", Role.DRAFTS),
    ("Sent", Role.SENT),
    ("Trash", Role.TRASH),
    ("Junk", Role.JUNK),
)
"""What a new account starts with, all subscribed."""


class Mailbox(NamedTuple):
    """A mailbox as listed. Names are Unicode (NFC), levels separated by DELIMITER, INBOX upper-case."""

    id: int
    account: int
    name: str
    uidvalidity: int
    role: Role
    subscribed: bool


class Counters(NamedTuple):
    """What STATUS answers, always current. `size` is octets; `modseq` is HIGHESTMODSEQ."""

    uidnext: int
    modseq: int
    messages: int
    unseen: int
    deleted: int
    size: int
