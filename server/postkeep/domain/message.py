"""A stored message as a row, its flags, and the ways to change them (RFC 3501 §2.3)."""

from enum import Enum, IntFlag
from typing import NamedTuple


class Flag(IntFlag):
    """System flags; the bits are stored. \\Recent is never stored: it belongs to a session."""

    SEEN = 1
    ANSWERED = 2
    FLAGGED = 4
    DELETED = 8
    DRAFT = 16


class FlagMode(Enum):
    """STORE's FLAGS, +FLAGS and -FLAGS (RFC 3501 §6.4.6)."""

    REPLACE = "="
    ADD = "+"
    REMOVE = "-"


class MessageRow(NamedTuple):
    """One message in one mailbox: all that is known without opening its body.

    `modseq`/`created` are account-wide sequence numbers (RFC 7162; JMAP state), `flags` are Flag bits,
    `keywords` bits index the account's keyword list, `size` is octets as served (RFC822.SIZE), `date`
    is INTERNALDATE in seconds since 1970, `pack`/`offset` find the record, `msgid` and `thread` are
    64-bit hashes (signed), `item` is the message's identity across copies and moves (OBJECTID).
    """

    uid: int
    modseq: int
    created: int
    flags: int
    keywords: int
    size: int
    date: int
    pack: int
    offset: int
    msgid: int
    thread: int
    item: int


class FlagsRow(NamedTuple):
    """A message's flags after a change."""

    uid: int
    modseq: int
    flags: int
    keywords: int


class CopiedUids(NamedTuple):
    """COPYUID (RFC 4315): parallel tuples, ascending by source; `target` is the mailbox's id."""

    target: int
    uidvalidity: int
    source_uids: tuple[int, ...]
    target_uids: tuple[int, ...]
