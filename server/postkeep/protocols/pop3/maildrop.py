"""The maildrop: INBOX as it was at login, held by one session at a time (RFC 1939 §4)."""

from array import array
from collections.abc import Iterator

from postkeep.domain.errors import CorruptRecord
from postkeep.domain.mailbox import INBOX
from postkeep.domain.message import Flag, FlagMode, MessageRow
from postkeep.services.mailboxes import MailboxService
from postkeep.storage.bodies import StoredMessage


class MaildropLocks:
    """Which accounts have a session now."""

    def __init__(self) -> None:
        self._held: set[int] = set()

    def acquire(self, account: int) -> bool:
        """False when another session holds it."""
        if account in self._held:
            return False
        self._held.add(account)
        return True

    def release(self, account: int) -> None:
        self._held.discard(account)


class Maildrop:
    """Message numbers 1…n of a snapshot. Twelve octets a message are kept, whatever their number."""

    def __init__(self, mailboxes: MailboxService, account: int, origin: object) -> None:
        inbox = mailboxes.mailbox(account, INBOX)
        self.account = account
        self._mailboxes = mailboxes
        self._mailbox = inbox.id
        self._uidvalidity = inbox.uidvalidity
        self._origin = origin
        self._uids = array("I")
        self._sizes = array("Q")
        self._deleted: set[int] = set()
        self._fetched: set[int] = set()
        self._octets = 0  # of all messages
        self._left = 0  # of those that are not marked deleted

    async def load(self) -> None:
        """Take the snapshot."""
        async for batch in self._mailboxes.rows(self.account, self._mailbox, [(1, 0xFFFFFFFF)]):
            self._uids.extend([row.uid for row in batch])
            self._sizes.extend([row.size for row in batch])
        self._octets = self._left = sum(self._sizes)

    def totals(self) -> tuple[int, int]:
        """Messages and octets, without those marked deleted."""
        return len(self._uids) - len(self._deleted), self._left

    def numbers(self) -> Iterator[int]:
        """Message numbers that are not marked deleted."""
        deleted = self._deleted
        return (number for number in range(1, len(self._uids) + 1) if number not in deleted)

    def exists(self, number: int) -> bool:
        return 1 <= number <= len(self._uids)

    def is_deleted(self, number: int) -> bool:
        return number in self._deleted

    def size(self, number: int) -> int:
        return self._sizes[number - 1]

    def uidl(self, number: int) -> bytes:
        """Never given to another message of this INBOX (RFC 1939 §7: 1 to 70 visible characters)."""
        return b"%08x%08x" % (self._uids[number - 1], self._uidvalidity)

    def mark_deleted(self, number: int) -> None:
        if number not in self._deleted:
            self._deleted.add(number)
            self._left -= self._sizes[number - 1]

    def mark_fetched(self, number: int) -> None:
        self._fetched.add(number)

    def reset(self) -> None:
        self._deleted.clear()
        self._left = self._octets

    async def open(self, number: int) -> StoredMessage | None:
        """None when it was removed meanwhile by another protocol. Raises CorruptRecord."""
        uid = self._uids[number - 1]
        rows: list[MessageRow] = []
        async for batch in self._mailboxes.rows(self.account, self._mailbox, [(uid, uid)]):
            rows += batch
        if not rows:
            return None
        (message,) = await self._mailboxes.messages(rows[:1])
        if isinstance(message, CorruptRecord):
            raise message
        return message

    async def update(self, *, mark_seen: bool) -> int:
        """The UPDATE state: remove what is marked deleted, durable on return; how many were removed."""
        if mark_seen and not self._mailboxes.is_damaged(self.account, self._mailbox):
            seen = [self._uids[number - 1] for number in sorted(self._fetched - self._deleted)]
            if seen:
                await self._mailboxes.store_flags(
                    self.account, self._mailbox, seen, FlagMode.ADD, Flag.SEEN, origin=self._origin
                )
        uids = [self._uids[number - 1] for number in sorted(self._deleted)]
        if uids:
            await self._mailboxes.expunge(self.account, self._mailbox, uids, origin=self._origin)
        return len(uids)
