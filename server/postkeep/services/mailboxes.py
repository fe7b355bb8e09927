"""What a user can do with mailboxes and messages: the store's verbs with names checked, quotas kept and
every change published once it is durable."""

import unicodedata
from array import array
from collections.abc import AsyncIterator, Sequence
from functools import partial

from postkeep.domain.account import Account
from postkeep.domain.change import Appended, Change, Expunged
from postkeep.domain.errors import CorruptRecord, Denied, InvalidName, MailboxExists, OverQuota
from postkeep.domain.mailbox import DELIMITER, INBOX, NAME_LIMIT, Counters, Mailbox, Role
from postkeep.domain.message import FlagMode, FlagsRow, MessageRow
from postkeep.formats.mime.structure import Structure
from postkeep.runtime.clock import Clock
from postkeep.services.changes import ChangeBus
from postkeep.services.quotas import Quotas
from postkeep.storage.bodies import Body, Incoming, StoredMessage
from postkeep.storage.store import CopyResult, MailStore, StoreResult, Target

LEVEL_LIMIT = 32
"""Levels of a mailbox name."""
MAILBOX_LIMIT = 10_000
"""Mailboxes of one account."""


def normal_name(name: str) -> str:
    """A mailbox name in its one spelling: NFC, INBOX upper-case, no delimiter at the end (RFC 3501 §6.3.3).

    Raises InvalidName. Looking up a name that cannot exist is no error of this kind: see `find_name`.
    """
    name = find_name(name)
    if not name:
        raise InvalidName("a mailbox name cannot be empty")
    if len(name.encode("utf-8", "surrogatepass")) > NAME_LIMIT:
        raise InvalidName(f"a mailbox name has at most {NAME_LIMIT} octets")
    levels = name.split(DELIMITER)
    if len(levels) > LEVEL_LIMIT:
        raise InvalidName(f"a mailbox name has at most {LEVEL_LIMIT} levels")
    if any(not level.strip() for level in levels):
        raise InvalidName("a mailbox name cannot have empty levels")
    if any(level in (".", "..") for level in levels):
        # Nothing here is a path, but mail programs and other servers keep folders as files of these names.
        raise InvalidName("a level of a mailbox name cannot be “.” or “..”")
    if any(unicodedata.category(letter) in ("Cc", "Cs", "Zl", "Zp") for letter in name):
        raise InvalidName("a mailbox name cannot hold control characters")
    return name


def find_name(name: str) -> str:
    """The spelling under which a mailbox of this name would be stored."""
    if not name.isascii():
        name = unicodedata.normalize("NFC", name)
    if name.endswith(DELIMITER):
        name = name[: -len(DELIMITER)]
    head, delimiter, rest = name.partition(DELIMITER)
    return INBOX + delimiter + rest if head.upper() == INBOX else name


class MailboxService:
    """`account` is the store's id, as from `open_account`. A change is published with its commit, also when
    who asked for it was cancelled, and carries `origin`, so that who made it can skip it. Errors are those of
    domain.errors."""

    def __init__(self, store: MailStore, bus: ChangeBus, quotas: Quotas, clock: Clock) -> None:
        self.bus = bus
        self.clock = clock
        self._store = store
        self._quotas = quotas

    # --- accounts -----------------------------------------------------------------------------------

    async def open_account(self, owner: Account) -> int:
        """The store's id of the account's mail; made with the default mailboxes the first time."""
        account = self._store.account_id(owner.key)
        return account if account is not None else await self._store.create_account(owner.key)

    def usage(self, account: int) -> tuple[int, int]:
        """Octets and messages."""
        return self._store.usage(account)

    def check_quota(self, owner: Account, octets: int, messages: int = 1) -> None:
        """Raises OverQuota when so much more would be too much. Reading and deleting always work (USR-5)."""
        self._quotas.check(owner, octets, messages)

    # --- mailboxes ----------------------------------------------------------------------------------

    def mailboxes(self, account: int) -> tuple[Mailbox, ...]:
        """Sorted by name, INBOX first."""
        return self._store.mailboxes(account)

    def mailbox(self, account: int, name: str) -> Mailbox:
        """Raises MailboxNotFound."""
        return self._store.mailbox(account, find_name(name))

    def counters(self, account: int, mailbox: int) -> Counters:
        return self._store.counters(account, mailbox)

    def is_damaged(self, account: int, mailbox: int) -> bool:
        """Some of its messages cannot be read until a rebuild, and it cannot be changed."""
        return self._store.is_damaged(account, mailbox)

    def keywords(self, account: int) -> tuple[str, ...]:
        """Bit n of a row's `keywords` is element n."""
        return self._store.keywords(account)

    async def create_mailbox(
        self, account: int, name: str, role: Role = Role.NONE, *, origin: object | None = None
    ) -> Mailbox:
        """Make it and its missing parents. Raises InvalidName, MailboxExists, LimitReached."""
        name = normal_name(name)
        mailboxes = self._store.mailboxes(account)
        if len(mailboxes) >= MAILBOX_LIMIT:
            raise OverQuota(f"an account has at most {MAILBOX_LIMIT} mailboxes")
        if role is not Role.NONE and any(other.role is role for other in mailboxes):
            # RFC 6154 §3: a server may refuse a second mailbox of the same use.
            raise MailboxExists(f"another mailbox is already \\{role.value}")
        mailbox, _ = await self._store.create_mailbox(
            account, name, role, lambda made: self._publish(origin, made[1])
        )
        return mailbox

    async def rename_mailbox(
        self, account: int, name: str, new_name: str, *, origin: object | None = None
    ) -> None:
        """Children move along. INBOX's messages move to a new mailbox, it stays (RFC 3501 §6.3.5)."""
        name, new_name = find_name(name), normal_name(new_name)
        if new_name == INBOX or new_name.startswith(name + DELIMITER):
            if new_name == INBOX:
                raise MailboxExists("INBOX exists")
            raise InvalidName("a mailbox cannot be moved below itself")
        # The longest child must fit too.
        grown = len(new_name.encode()) - len(name.encode())
        levels = new_name.count(DELIMITER) - name.count(DELIMITER)
        if name != INBOX:
            for other in self._store.mailboxes(account):
                if other.name.startswith(name + DELIMITER) and (
                    len(other.name.encode()) + grown > NAME_LIMIT
                    or other.name.count(DELIMITER) + 1 + levels > LEVEL_LIMIT
                ):
                    raise InvalidName("the name of a mailbox below it would be too long")
        await self._store.rename_mailbox(account, name, new_name, partial(self._publish, origin))

    async def delete_mailbox(self, account: int, name: str, *, origin: object | None = None) -> None:
        """Its messages go with it. INBOX stays (RFC 3501 §6.3.4)."""
        name = find_name(name)
        if name == INBOX:
            raise Denied("INBOX cannot be deleted")
        await self._store.delete_mailbox(account, name, partial(self._publish, origin))

    async def subscribe(self, account: int, name: str, on: bool, *, origin: object | None = None) -> None:
        await self._store.subscribe(account, find_name(name), on, partial(self._publish, origin))

    # --- messages in --------------------------------------------------------------------------------

    def incoming(self) -> Incoming:
        return self._store.incoming()

    async def append(
        self, body: Body, target: Target, date: int, owner: Account, *, origin: object | None = None
    ) -> Appended:
        """Store a finished message in one mailbox; durable on return. Consumes `body` whatever happens."""
        try:
            self.check_quota(owner, body.size)
            with self._quotas.hold((owner,), body.size):
                (appended,) = await self._store.deliver(
                    body, (target,), date, lambda appended: self._publish(origin, *appended)
                )
        except BaseException:
            body.discard()
            raise
        return appended

    # --- changing -----------------------------------------------------------------------------------

    async def store_flags(
        self,
        account: int,
        mailbox: int,
        uids: Sequence[int],
        mode: FlagMode,
        flags: int,
        keywords: Sequence[str] = (),
        unchanged_since: int | None = None,
        *,
        origin: object | None = None,
    ) -> StoreResult:
        def publish(result: StoreResult) -> None:
            if result.change.rows:
                self._publish(origin, result.change)

        return await self._store.store_flags(
            account, mailbox, uids, mode, flags, keywords, unchanged_since, publish
        )

    async def copy(
        self,
        account: int,
        mailbox: int,
        uids: Sequence[int],
        target: int,
        owner: Account,
        *,
        octets: int = 0,
        origin: object | None = None,
    ) -> CopyResult:
        """All or nothing (RFC 3501 §6.4.7). `octets` is what the messages count towards the quota."""
        self.check_quota(owner, octets, len(uids))
        with self._quotas.hold((owner,), octets, len(uids)):
            return await self._store.copy(
                account, mailbox, uids, target, then=lambda result: self._publish(origin, *result.changes)
            )

    async def move(
        self,
        account: int,
        mailbox: int,
        uids: Sequence[int],
        target: int,
        *,
        origin: object | None = None,
    ) -> CopyResult:
        """Each message is in one of the two mailboxes at any time (RFC 6851)."""
        return await self._store.move(
            account, mailbox, uids, target, then=lambda result: self._publish(origin, *result.changes)
        )

    async def expunge(
        self, account: int, mailbox: int, uids: Sequence[int] | None = None, *, origin: object | None = None
    ) -> Expunged:
        """Those with \\Deleted, or exactly `uids` (the caller has chosen)."""

        def publish(expunged: Expunged) -> None:
            if expunged.uids:
                self._publish(origin, expunged)

        return await self._store.expunge(account, mailbox, uids, publish)

    # --- reading ------------------------------------------------------------------------------------

    async def uids(self, account: int, mailbox: int) -> "array[int]":
        """Ascending, as array('I')."""
        return await self._store.uids(account, mailbox)

    def rows(
        self, account: int, mailbox: int, ranges: Sequence[tuple[int, int]], *, changed_since: int = 0
    ) -> AsyncIterator[list[MessageRow]]:
        """Ascending by UID, in batches of at most 1,000."""
        return self._store.rows(account, mailbox, ranges, changed_since=changed_since)

    def flags(
        self, account: int, mailbox: int, ranges: Sequence[tuple[int, int]], *, changed_since: int = 0
    ) -> AsyncIterator[list[FlagsRow]]:
        """As `rows`, without what only FETCH of more than flags needs: cheaper."""
        return self._store.flags(account, mailbox, ranges, changed_since=changed_since)

    async def expunged_since(self, account: int, mailbox: int, modseq: int) -> "array[int]":
        return await self._store.expunged_since(account, mailbox, modseq)

    async def structures(self, rows: Sequence[MessageRow]) -> list[Structure | None]:
        """None for a record that is corrupt."""
        return await self._store.structures(rows)

    async def messages(self, rows: Sequence[MessageRow]) -> list[StoredMessage | CorruptRecord]:
        return await self._store.messages(rows)

    def _publish(self, origin: object | None, *changes: Change) -> None:
        self.bus.publish(*(change._replace(origin=origin) for change in changes))
