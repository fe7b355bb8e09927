"""\\Recent: which messages no session has been told of yet (RFC 3501 §2.3.2).

The flag is not stored. Since the server's start the first message that nobody has seen is remembered for
each mailbox; the first read-write session that hears of it takes all from there on.
"""

from postkeep.domain.change import Appended, Change, MailboxesChanged


class RecentMessages:
    """Subscribed to all changes. Costs an entry only for mailboxes with mail that no session took."""

    __slots__ = ("_first",)

    def __init__(self) -> None:
        self._first: dict[int, int] = {}

    def hear(self, change: Change) -> None:
        if isinstance(change, Appended):
            if change.rows:
                self._first.setdefault(change.mailbox, change.rows[0].uid)
        elif isinstance(change, MailboxesChanged):
            for mailbox in change.removed:
                self._first.pop(mailbox, None)

    def first(self, mailbox: int) -> int | None:
        """The lowest UID that is still recent for whoever comes first; None when there is none."""
        return self._first.get(mailbox)

    def take(self, mailbox: int) -> int | None:
        """As `first`, and from now on they are recent in the asking session only."""
        return self._first.pop(mailbox, None)
