"""Accounts and mailboxes made, renamed and removed: functions on the writer's transaction.

Removing is quick for the user and slow behind: the name goes at once (NULL in the database), the messages
are removed afterwards in bounded steps by `reap`, which an engine takes up again at its next start.
"""

from collections.abc import Sequence
from functools import partial

import apsw
import orjson

from postkeep.domain.change import MailboxesChanged
from postkeep.domain.errors import (
    AlreadyExists,
    Denied,
    InvalidName,
    MailboxExists,
    MailboxNotFound,
    NotFound,
)
from postkeep.domain.mailbox import DELIMITER, INBOX, NAME_LIMIT, Counters, Mailbox, Role
from postkeep.storage.catalogue import AccountState, Catalogue, MailboxState, canonical
from postkeep.storage.messages import drop_first
from postkeep.storage.transaction import Transaction

_REAP_ROWS = 2000


def check_name(name: str) -> str:
    """The canonical form of a mailbox name; InvalidName."""
    name = canonical(name)
    levels = name.split(DELIMITER)
    if not all(levels) or len(name.encode("utf-8", "replace")) > NAME_LIMIT:
        raise InvalidName(f"“{name[:200]}” is not a mailbox name")
    if any(ord(char) < 32 or ord(char) == 127 or 0xD800 <= ord(char) < 0xE000 for char in name):
        raise InvalidName("a mailbox name may not hold control characters")
    return name


# --- accounts ---------------------------------------------------------------------------------------


def create_accounts(
    tx: Transaction, keys: Sequence[str], mailboxes: Sequence[tuple[str, Role]], now: int
) -> list[int]:
    """Ids of these accounts in order; those that are missing are made, with `mailboxes`."""
    by_key = tx.catalogue.by_key
    made: dict[str, AccountState] = {}
    ids = []
    now = max(now, (tx.execute("SELECT value FROM meta WHERE key = 'uidvalidity'").get or 0) + 1)
    for key in keys:
        known = by_key.get(key) or made.get(key)
        if known is None and (row := tx.execute("SELECT id FROM account WHERE key = ?", (key,)).fetchone()):
            ids.append(row[0])  # made a moment ago, in this same transaction
            continue
        if known is None:
            tx.execute(
                "INSERT INTO account (key, modseq, uidvalidity, keywords) VALUES (?, 1, ?, '[]')", (key, now)
            )
            known = made[key] = AccountState(tx.connection.last_insert_rowid(), key, 1, now, ())
            names: dict[str, Mailbox] = {}
            states = []
            for number, (name, role) in enumerate(mailboxes):
                mailbox, state = _insert(tx, known, name, role, True, now + number)
                names[name] = mailbox
                states.append(state)
            known.uidvalidity = now + len(mailboxes)
            tx.execute("UPDATE account SET uidvalidity = ? WHERE id = ?", (known.uidvalidity, known.id))
            known.set_names(names)
            tx.after_commit(partial(_add, tx.catalogue, known, states))
        ids.append(known.id)
    return ids


def _add(catalogue: Catalogue, account: AccountState, states: Sequence[MailboxState]) -> None:
    for state in states:
        catalogue.states[state.id] = state
    catalogue.add_account(account)


def _known(tx: Transaction, key: str) -> AccountState:
    account = tx.catalogue.by_key.get(key)
    if account is None or not tx.get(account, "alive") or tx.get(account, "key") != key:
        raise NotFound(f"the store has no account “{key}”")
    return account


def rename_account(tx: Transaction, key: str, new_key: str) -> None:
    account = _known(tx, key)
    if tx.execute("SELECT EXISTS (SELECT 1 FROM account WHERE key = ?)", (new_key,)).get:
        raise AlreadyExists(f"the store has an account “{new_key}” already")
    tx.execute("UPDATE account SET key = ? WHERE id = ?", (new_key, account.id))

    tx.put(account, "key", new_key)

    def rename() -> None:
        if tx.catalogue.by_key.get(key) is account:
            del tx.catalogue.by_key[key]
        if account.alive:
            tx.catalogue.by_key[new_key] = account

    tx.after_commit(rename)


def delete_account(tx: Transaction, key: str) -> None:
    account = _known(tx, key)
    tx.execute("UPDATE account SET key = NULL WHERE id = ?", (account.id,))
    # An account of the same name made later must not meet a UIDVALIDITY again (RFC 3501 §2.3.1.1).
    tx.execute(
        "INSERT INTO meta (key, value) VALUES ('uidvalidity', ?)"
        " ON CONFLICT (key) DO UPDATE SET value = max(value, excluded.value)",
        (tx.get(account, "uidvalidity"),),
    )
    tx.execute("UPDATE mailbox SET name = NULL WHERE account = ?", (account.id,))
    tx.put(account, "alive", False)
    for mailbox in tx.get(account, "names").values():
        state = tx.catalogue.states.get(mailbox.id)
        if state is not None:
            tx.put(state, "alive", False)
    tx.after_commit(lambda: tx.catalogue.remove_account(account))


# --- mailboxes --------------------------------------------------------------------------------------


def _names(tx: Transaction, account: AccountState) -> dict[str, Mailbox]:
    """A copy to be changed and `put` back."""
    if not tx.get(account, "alive"):
        raise NotFound("the account is gone")
    return dict(tx.get(account, "names"))


def create_mailbox(
    tx: Transaction, account: AccountState, name: str, role: Role, now: int
) -> tuple[Mailbox, MailboxesChanged]:
    """Make it and its missing parents (RFC 3501 §6.3.3), all subscribed."""
    name = check_name(name)
    names = _names(tx, account)
    if name in names:
        raise MailboxExists(f"there is a mailbox “{name[:200]}” already")
    levels = name.split(DELIMITER)
    for depth in range(1, len(levels) + 1):
        part = DELIMITER.join(levels[:depth])
        if part not in names:
            names[part] = _create(tx, account, part, role if depth == len(levels) else Role.NONE, now)
    tx.put(account, "names", names)
    return names[name], MailboxesChanged(account.id)


def _create(tx: Transaction, account: AccountState, name: str, role: Role, now: int) -> Mailbox:
    uidvalidity = max(tx.get(account, "uidvalidity") + 1, now)
    tx.put(account, "uidvalidity", uidvalidity)
    tx.execute("UPDATE account SET uidvalidity = ? WHERE id = ?", (uidvalidity, account.id))
    mailbox, state = _insert(tx, account, name, role, True, uidvalidity)
    tx.after_commit(lambda: tx.catalogue.states.__setitem__(state.id, state))
    return mailbox


def _insert(
    tx: Transaction, account: AccountState, name: str, role: Role, subscribed: bool, uidvalidity: int
) -> tuple[Mailbox, MailboxState]:
    counters = Counters(1, account.modseq, 0, 0, 0, 0)
    tx.execute(
        "INSERT INTO mailbox (account, name, uidvalidity, role, subscribed,"
        " uidnext, modseq, messages, unseen, deleted, size) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (account.id, name, uidvalidity, role.value, int(subscribed), *counters),
    )
    id = tx.connection.last_insert_rowid()
    mailbox = Mailbox(id, account.id, name, uidvalidity, role, subscribed)
    return mailbox, MailboxState(account, id, name, counters)


def rename_mailbox(
    tx: Transaction, account: AccountState, name: str, new_name: str, now: int
) -> MailboxesChanged:
    """RFC 3501 §6.3.5: children go along. INBOX's messages go to the new mailbox and INBOX begins anew, with
    another id and UIDVALIDITY: for those who have it open its old id is gone."""
    name, new_name = canonical(name), check_name(new_name)
    names = _names(tx, account)
    if name not in names:
        raise MailboxNotFound(f"no mailbox “{name[:200]}”")
    if new_name in names:
        raise MailboxExists(f"there is a mailbox “{new_name[:200]}” already")
    below = name + DELIMITER
    if new_name.startswith(below) and name != INBOX:
        raise InvalidName("a mailbox cannot become a child of itself")
    moved = [name]
    if name != INBOX:
        moved += [other for other in names if other.startswith(below)]
    renamed = {old: new_name + old[len(name) :] for old in moved}
    for new in renamed.values():
        if new in names:
            raise MailboxExists(f"there is a mailbox “{new[:200]}” already")
        check_name(new)
    for depth in range(1, new_name.count(DELIMITER) + 1):  # its parents
        parent = DELIMITER.join(new_name.split(DELIMITER)[:depth])
        if parent not in names and parent not in renamed:
            names[parent] = _create(tx, account, parent, Role.NONE, now)
    for old, new in renamed.items():
        mailbox = names.pop(old)._replace(name=new)
        names[new] = mailbox
        tx.execute("UPDATE mailbox SET name = ? WHERE id = ?", (new, mailbox.id))
    removed: tuple[int, ...] = ()
    if name == INBOX:
        removed = (names[new_name].id,)
        names[INBOX] = _create(tx, account, INBOX, Role.NONE, now)
    tx.put(account, "names", names)
    return MailboxesChanged(account.id, removed)


def delete_mailbox(tx: Transaction, account: AccountState, name: str) -> MailboxesChanged:
    """The mailbox alone: its children stay (RFC 3501 §6.3.4)."""
    name = canonical(name)
    if name == INBOX:
        raise Denied("INBOX cannot be deleted")
    names = _names(tx, account)
    mailbox = names.pop(name, None)
    if mailbox is None:
        raise MailboxNotFound(f"no mailbox “{name[:200]}”")
    tx.execute("UPDATE mailbox SET name = NULL WHERE id = ?", (mailbox.id,))
    # The account's modseq may be known from this mailbox alone.
    tx.execute("UPDATE account SET modseq = max(modseq, ?) WHERE id = ?", (account.modseq, account.id))
    tx.put(account, "names", names)
    state = tx.catalogue.states.get(mailbox.id)
    if state is not None:
        tx.touch(state)
        tx.put(state, "alive", False)
        account.octets -= state.size
        account.messages -= state.messages
    tx.after_commit(lambda: tx.catalogue.remove_mailbox(mailbox.id))
    return MailboxesChanged(account.id, (mailbox.id,))


def subscribe(tx: Transaction, account: AccountState, name: str, on: bool) -> MailboxesChanged:
    name = canonical(name)
    names = _names(tx, account)
    if name not in names:
        raise MailboxNotFound(f"no mailbox “{name[:200]}”")
    names[name] = names[name]._replace(subscribed=on)
    tx.execute("UPDATE mailbox SET subscribed = ? WHERE id = ?", (int(on), names[name].id))
    tx.put(account, "names", names)
    return MailboxesChanged(account.id)


# --- in the background ------------------------------------------------------------------------------


def doomed(connection: apsw.Connection, leave: Sequence[int]) -> tuple[int, int] | None:
    """(account, id) of a mailbox that is gone and still has rows; not one of `leave`."""
    found: tuple[int, int] | None = connection.execute(
        "SELECT account, id FROM mailbox WHERE name IS NULL"
        " AND id NOT IN (SELECT value FROM json_each(?)) LIMIT 1",
        (orjson.dumps(leave).decode(),),
    ).fetchone()
    return found


def reap(tx: Transaction, doomed: tuple[int, int], rows: int = _REAP_ROWS) -> bool:
    """Remove a bounded number of messages of a mailbox that is gone; False when it is gone for good."""
    account, mailbox = doomed
    last = tx.execute(
        "SELECT max(uid) FROM"
        " (SELECT uid FROM message WHERE account = ? AND mailbox = ? ORDER BY uid LIMIT ?)",
        (account, mailbox, rows),
    ).get
    if last is not None:
        drop_first(tx, account, mailbox, last)
        return True
    tx.execute(
        "DELETE FROM tombstone WHERE (account, mailbox, modseq, uid) IN"
        " (SELECT account, mailbox, modseq, uid FROM tombstone WHERE account = ? AND mailbox = ? LIMIT ?)",
        (account, mailbox, rows),
    )
    if tx.connection.changes():
        return True
    tx.execute("DELETE FROM mailbox WHERE id = ?", (mailbox,))
    return False


def forget_accounts(tx: Transaction) -> None:
    """Accounts that are gone and have no mailbox left."""
    tx.execute(
        "DELETE FROM account WHERE key IS NULL AND NOT EXISTS"
        " (SELECT 1 FROM mailbox WHERE mailbox.account = account.id)"
    )
