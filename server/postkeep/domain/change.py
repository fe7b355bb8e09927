"""What happened to an account's mail, published once it is durable.

A session that made a change itself passes an `origin` object and skips changes that carry it.
"""

from typing import NamedTuple

from postkeep.domain.message import FlagsRow, MessageRow


class Appended(NamedTuple):
    """New messages, ascending by uid (delivered, appended, copied or moved here)."""

    account: int
    mailbox: int
    rows: tuple[MessageRow, ...]
    origin: object | None = None


class FlagsChanged(NamedTuple):
    """Flags or keywords changed, ascending by uid."""

    account: int
    mailbox: int
    rows: tuple[FlagsRow, ...]
    origin: object | None = None


class Expunged(NamedTuple):
    """Messages gone for good from this mailbox (expunged or moved away), ascending."""

    account: int
    mailbox: int
    uids: tuple[int, ...]
    modseq: int
    origin: object | None = None


class MailboxesChanged(NamedTuple):
    """Mailboxes of the account were made, renamed, removed or (un)subscribed; `removed` ids are gone."""

    account: int
    removed: tuple[int, ...] = ()
    origin: object | None = None


Change = Appended | FlagsChanged | Expunged | MailboxesChanged
