"""Accounts, mailboxes and counters in memory: read by everybody, changed by the writer thread only.

What is read here is committed. Values are replaced whole (a tuple, a dict), never changed in place, so a
reader on the loop sees the state before or after a commit.
"""

import logging
from typing import Any

import apsw
import orjson

from postkeep.domain.errors import DatabaseDamaged, MailboxNotFound, NotFound
from postkeep.domain.mailbox import DELIMITER, INBOX, Counters, Mailbox, Role
from postkeep.storage.checksums import is_damage

_log = logging.getLogger(__name__)

UID_LIMIT = 0xFFFFFFFE
_UNKNOWN_MODSEQS = 1 << 20
"""An account leaves out so many modseqs when it cannot be known which were given last."""


_UNCOUNTED = (
    "SELECT b.id, count(*), max(m.uid), max(m.modseq),"
    " sum(m.flags & 1 = 0), sum(m.flags & 8 <> 0), sum(m.size)"
    " FROM mailbox b CROSS JOIN message m"
    " ON m.account = b.account AND m.mailbox = b.id AND m.uid >= b.uidnext"
)


class AccountState:
    """One account. `modseq`, `octets` and `messages` are the writer's; `usage` is what was committed."""

    __slots__ = (
        "alive",
        "committed_modseq",
        "id",
        "key",
        "keyword_bits",
        "keywords",
        "listing",
        "messages",
        "modseq",
        "names",
        "octets",
        "uidvalidity",
        "usage",
    )

    def __init__(self, id: int, key: str, modseq: int, uidvalidity: int, keywords: tuple[str, ...]) -> None:
        self.id = id
        self.key = key
        self.alive = True
        self.modseq = self.committed_modseq = modseq
        self.uidvalidity = uidvalidity
        self.names: dict[str, Mailbox] = {}
        self.listing: tuple[Mailbox, ...] | None = None
        self.octets = self.messages = 0
        self.usage = (0, 0)
        self.keywords = keywords
        self.keyword_bits = {word.lower(): bit for bit, word in enumerate(keywords)}

    def set_keywords(self, keywords: tuple[str, ...]) -> None:
        self.keywords = keywords
        self.keyword_bits = {word.lower(): bit for bit, word in enumerate(keywords)}

    def set_names(self, names: dict[str, Mailbox]) -> None:
        self.names = names
        self.listing = None


class MailboxState:
    """A mailbox's counters. The single numbers are the writer's; `counters` is what was committed."""

    __slots__ = (
        "account",
        "alive",
        "counters",
        "damaged",
        "deleted",
        "dirty",
        "hidden",
        "id",
        "messages",
        "modseq",
        "name",
        "size",
        "uidnext",
        "unseen",
    )

    def __init__(self, account: AccountState, id: int, name: str, counters: Counters) -> None:
        self.account = account
        self.id = id
        self.name = name
        self.alive = True
        self.damaged = False
        """What was delivered last cannot be read: nothing is changed here, see `Catalogue.sound`."""
        self.hidden = False
        """Some rows were found to lie in damaged pages: it is only read until a rebuild."""
        self.dirty = False
        """The numbers in the database are older (by deliveries only)."""
        self.counters = counters
        self.restore(counters)

    def restore(self, counters: Counters) -> None:
        self.uidnext, self.modseq, self.messages, self.unseen, self.deleted, self.size = counters

    def current(self) -> Counters:
        return Counters(self.uidnext, self.modseq, self.messages, self.unseen, self.deleted, self.size)

    def publish(self) -> None:
        """After a commit: the writer's numbers become what others see."""
        counters = self.current()
        self.counters = counters


class Catalogue:
    """All accounts and mailboxes of the store."""

    def __init__(self) -> None:
        self.accounts: dict[int, AccountState] = {}
        self.by_key: dict[str, AccountState] = {}
        self.states: dict[int, MailboxState] = {}

    def account(self, account: int) -> AccountState:
        try:
            return self.accounts[account]
        except KeyError:
            raise NotFound("no such account in the store") from None

    def mailbox(self, account: int, name: str) -> Mailbox:
        try:
            return self.account(account).names[canonical(name)]
        except KeyError:
            raise MailboxNotFound(f"no mailbox “{name[:200]}”") from None

    def state(self, account: int, mailbox: int) -> MailboxState:
        """The mailbox of this id, if it is the account's; MailboxNotFound."""
        state = self.states.get(mailbox)
        if state is None or state.account.id != account or not state.alive:
            raise MailboxNotFound("the mailbox is gone")
        return state

    def sound(self, account: int, mailbox: int) -> MailboxState:
        """As `state`; DatabaseDamaged when its counters cannot be known."""
        state = self.state(account, mailbox)
        if state.damaged:
            raise DatabaseDamaged("the database is damaged in this mailbox, see `postkeep verify`")
        return state

    def writable(self, account: int, mailbox: int) -> MailboxState:
        """As `sound`; DatabaseDamaged also when some of its messages are known to be unreadable."""
        state = self.sound(account, mailbox)
        if state.hidden:
            raise DatabaseDamaged(
                "the database is damaged in this mailbox: read-only until `postkeep rebuild`"
            )
        return state

    def hide(self, mailbox: int) -> None:
        """Rows of it were found in a damaged page (any thread). Told once."""
        state = self.states.get(mailbox)
        if state is None or state.hidden:
            return
        state.hidden = True
        _log.error(
            "%s, mailbox %s: some messages lie in damaged pages of the database; the others are served,"
            " nothing is changed there until `postkeep rebuild`",
            state.account.key,
            state.name,
        )

    def listing(self, account: int) -> tuple[Mailbox, ...]:
        """By name, INBOX first."""
        state = self.account(account)
        listing = state.listing
        if listing is None:
            names = state.names
            listing = tuple(sorted(names.values(), key=lambda mailbox: (mailbox.name != INBOX, mailbox.name)))
            if state.names is names:
                state.listing = listing
        return listing

    def load(self, connection: apsw.Connection) -> int:
        """Read everything and count what was delivered after the last flush; the number of such messages."""
        for row in connection.execute(
            "SELECT id, key, modseq, uidvalidity, keywords FROM account WHERE key IS NOT NULL"
        ):
            self.add_account(AccountState(row[0], row[1], row[2], row[3], tuple(orjson.loads(row[4]))))
        recovered, damaged = self._recover(connection)
        for row in connection.execute(
            "SELECT account, id, name, uidvalidity, role, subscribed,"
            " uidnext, modseq, messages, unseen, deleted, size"
            " FROM mailbox WHERE name IS NOT NULL ORDER BY account"
        ):
            account = self.accounts.get(row[0])
            if account is None:
                continue  # its account is being removed
            mailbox = Mailbox(row[1], row[0], row[2], row[3], _role(row[4]), bool(row[5]))
            account.names[mailbox.name] = mailbox
            state = MailboxState(account, mailbox.id, mailbox.name, Counters(*row[6:]))
            newer = recovered.get(mailbox.id)
            if newer is not None:
                _, count, uid, modseq, unseen, deleted, size = newer
                state.uidnext = uid + 1
                state.modseq = max(state.modseq, modseq)
                state.messages += count
                state.unseen += unseen
                state.deleted += deleted
                state.size += size
                state.dirty = True
                state.publish()
            if mailbox.id in damaged:
                state.damaged = state.hidden = True
                state.modseq += _UNKNOWN_MODSEQS
                _log.error(
                    "%s, mailbox %s: the database is damaged there; what can be read is served, nothing is"
                    " delivered or changed until `postkeep rebuild`",
                    account.key,
                    mailbox.name,
                )
            self.states[mailbox.id] = state
            account.modseq = account.committed_modseq = max(account.modseq, state.modseq)
            account.octets += state.size
            account.messages += state.messages
        for account in self.accounts.values():
            account.usage = (account.octets, account.messages)
        return sum(row[1] for row in recovered.values())

    def _recover(self, connection: apsw.Connection) -> tuple[dict[int, tuple[int, ...]], set[int]]:
        """By mailbox id: what the rows from the stored uidnext on add up to; mailboxes whose last rows lie in
        a damaged page."""
        try:
            return {row[0]: row for row in connection.execute(_UNCOUNTED + " GROUP BY b.id")}, set()
        except apsw.Error as error:
            if not is_damage(error):
                raise
        found: dict[int, tuple[int, ...]] = {}
        damaged: set[int] = set()
        mailboxes: list[tuple[Any, ...]] = connection.execute(
            "SELECT id FROM mailbox WHERE name IS NOT NULL"
        ).fetchall()
        for (mailbox,) in mailboxes:
            try:
                row = connection.execute(f"{_UNCOUNTED} WHERE b.id = ? GROUP BY b.id", (mailbox,)).fetchone()
            except apsw.Error as error:
                if not is_damage(error):
                    raise
                damaged.add(mailbox)
                continue
            if row is not None:
                found[mailbox] = row
        return found, damaged

    def add_account(self, account: AccountState) -> None:
        self.accounts[account.id] = account
        self.by_key[account.key] = account

    def set_names(self, account: AccountState, names: dict[str, Mailbox]) -> None:
        for mailbox in names.values():
            state = self.states.get(mailbox.id)
            if state is not None:
                state.name = mailbox.name
        account.set_names(names)

    def remove_account(self, account: AccountState) -> None:
        account.alive = False
        for mailbox in account.names.values():
            self.remove_mailbox(mailbox.id)
        self.accounts.pop(account.id, None)
        if self.by_key.get(account.key) is account:
            del self.by_key[account.key]

    def remove_mailbox(self, mailbox: int) -> None:
        state = self.states.pop(mailbox, None)
        if state is not None:
            state.alive = False


def canonical(name: str) -> str:
    """INBOX is the same in any case, also as the first level (RFC 3501 §5.1)."""
    if name[:5].upper() == INBOX and (len(name) == 5 or name[5] == DELIMITER):
        return INBOX + name[5:]
    return name


def _role(value: Any) -> Role:
    try:
        return Role(value)
    except ValueError:  # of a newer version
        return Role.NONE
