"""Changes to stored messages, each a function on the writer's transaction."""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import orjson

from postkeep.domain.change import Appended, Change, Expunged, FlagsChanged
from postkeep.domain.errors import LimitReached
from postkeep.domain.message import CopiedUids, Flag, FlagMode, FlagsRow, MessageRow
from postkeep.storage.catalogue import UID_LIMIT, AccountState, MailboxState
from postkeep.storage.database import json_columns
from postkeep.storage.ranges import ranges_of
from postkeep.storage.transaction import Transaction

_SEEN, _DELETED = int(Flag.SEEN), int(Flag.DELETED)
TEMPORARY = """
CREATE TEMP TABLE leaving (pack INTEGER, offset INTEGER, length INTEGER, item INTEGER, rows INTEGER,
    PRIMARY KEY (pack, offset)) WITHOUT ROWID;
CREATE TEMP TABLE staying (pack INTEGER, offset INTEGER, refs INTEGER,
    PRIMARY KEY (pack, offset)) WITHOUT ROWID;
"""
"""Tables of the writer's connection that `release` works with."""
_COLUMNS = "uid, modseq, created, flags, keywords, size, date, pack, offset, length, msgid, thread, item"
_INSERT = "INSERT INTO message VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)"
TOMBSTONE_CHANGES = 200_000
"""Expunges are remembered for so many changes of the account, at least."""
_FORGET_STEP = 2000
_BETWEEN = "m.account = ?1 AND m.mailbox = ?2 AND m.uid BETWEEN ?3 AND ?4"
_LISTED = "m.account = ?1 AND m.mailbox = ?2 AND m.uid IN (SELECT value FROM json_each(?3)) AND ?4 IS NULL"
_DENSE = 4
"""Uids to a range from which ranges are faster than a list."""


def _select(columns: str) -> str:
    """The rows of (ranges as JSON, account, mailbox), ascending: a JSON array for each column."""
    arrays = ", ".join([f"json_group_array({column})" for column in columns.split(", ")])
    return (
        f"SELECT {arrays} FROM (SELECT {columns} FROM json_each(?) r CROSS JOIN message m"  # noqa: S608
        " ON m.account = ? AND m.mailbox = ? AND m.uid BETWEEN r.value ->> 0 AND r.value ->> 1)"
    )


_SELECT_FLAGS = _select("uid, modseq, flags, keywords")
_SELECT_ALL = _select(_COLUMNS)
_SELECT_SIZES = _select("uid, flags, size")
_LEAVE = (
    "INSERT INTO leaving (pack, offset, length, item, rows)"
    " SELECT pack, offset, length, item, 1 FROM message m WHERE "
)
_LEAVE_AGAIN = " ON CONFLICT (pack, offset) DO UPDATE SET rows = rows + 1"
_flags_row = partial(tuple.__new__, FlagsRow)


class StoreResult(NamedTuple):
    """`change` holds what really changed; `rows` all messages asked for that exist and were not held back,
    as they are now; `modified` those held back by UNCHANGEDSINCE (RFC 7162 §3.1.3)."""

    change: FlagsChanged
    rows: tuple[FlagsRow, ...]
    modified: tuple[int, ...]


class CopyResult(NamedTuple):
    """`changes`: what is to be published, the new messages first."""

    copied: CopiedUids
    changes: tuple[Change, ...]


def store_flags(
    tx: Transaction,
    state: MailboxState,
    uids: Sequence[int],
    mode: FlagMode,
    flags: int,
    keywords: tuple[str, ...],
    unchanged_since: int | None,
) -> StoreResult:
    """RFC 3501 §6.4.6. Messages that have these flags already keep their modseq."""
    account = state.account
    found = _read(tx, _SELECT_FLAGS, state, uids)
    modified: tuple[int, ...] = ()
    if unchanged_since is not None:
        modified = tuple([row[0] for row in found if row[1] > unchanged_since])
        found = [row for row in found if row[1] <= unchanged_since]
    # A new keyword takes one of the account's few places only when a message takes it.
    bits = tx.keyword_bits(account, keywords, create=bool(found) and mode is not FlagMode.REMOVE)
    if mode is FlagMode.ADD:
        changing = [row for row in found if flags & ~row[2] or bits & ~row[3]]
    elif mode is FlagMode.REMOVE:
        changing = [row for row in found if flags & row[2] or bits & row[3]]
    else:
        changing = [row for row in found if flags != row[2] or bits != row[3]]
    if not changing:
        return StoreResult(FlagsChanged(account.id, state.id, ()), tuple(map(_flags_row, found)), modified)
    tx.touch(state)
    modseq = tx.next_modseq(state)
    if mode is FlagMode.ADD:
        assignment = "flags = flags | ?6, keywords = keywords | ?7"
        rows = [(row[0], modseq, row[2] | flags, row[3] | bits) for row in changing]
    elif mode is FlagMode.REMOVE:
        assignment = "flags = flags & ~?6, keywords = keywords & ~?7"
        rows = [(row[0], modseq, row[2] & ~flags, row[3] & ~bits) for row in changing]
    else:
        assignment = "flags = ?6, keywords = ?7"
        rows = [(row[0], modseq, flags, bits) for row in changing]
    for bit, counter, sign in ((_SEEN, "unseen", -1), (_DELETED, "deleted", 1)):
        change = sum([row[2] & bit for row in rows]) - sum([row[2] & bit for row in changing])
        setattr(state, counter, getattr(state, counter) + sign * change // bit)
    _apply(
        tx,
        f"UPDATE message AS m SET modseq = ?5, {assignment} WHERE ",  # noqa: S608
        state,
        [row[0] for row in changing],
        (modseq, flags, bits),
    )
    tx.flush(state)
    changed = tuple(map(_flags_row, rows))
    everything = changed
    if len(changing) != len(found):
        now = {row[0]: row for row in found} | {row[0]: row for row in rows}
        everything = tuple(map(_flags_row, now.values()))
    return StoreResult(FlagsChanged(account.id, state.id, changed), everything, modified)


def copy(
    tx: Transaction, source: MailboxState, uids: Sequence[int], target: MailboxState, remove: bool = False
) -> CopyResult:
    """New rows for the same records (`remove`: and the old ones go, RFC 6851). Messages that are gone are
    left out. Into another account keywords go by their names."""
    found = _read(tx, _SELECT_ALL, source, uids)
    if not found:
        return CopyResult(CopiedUids(target.id, _uidvalidity(target), (), ()), ())
    if target.uidnext + len(found) > UID_LIMIT:
        raise LimitReached("the mailbox has no UIDs left")
    account = target.account
    translated: dict[int, int] = {}
    if account is not source.account:
        translated = _translate_keywords(tx, source.account, account, {row[4] for row in found})
    tx.touch(target)
    modseq = tx.next_modseq(target)
    first = target.uidnext
    rows: list[MessageRow] = []
    inserts: list[tuple[int, ...]] = []
    for uid, row in enumerate(found, first):
        _, _, _, flags, keywords, size, date, pack, offset, length, msgid, thread, item = row
        if translated:
            keywords = translated[keywords]
        new = MessageRow(uid, modseq, modseq, flags, keywords, size, date, pack, offset, msgid, thread, item)
        rows.append(new)
        inserts.append((account.id, target.id, *new[:9], length, msgid, thread, item))
        target.size += size
        account.octets += size
        if not flags & _SEEN:
            target.unseen += 1
        if flags & _DELETED:
            target.deleted += 1
    target.uidnext = first + len(found)
    target.messages += len(found)
    account.messages += len(found)
    tx.connection.executemany(_INSERT, inserts)
    copied = CopiedUids(
        target.id,
        _uidvalidity(target),
        tuple([row[0] for row in found]),
        tuple(range(first, first + len(found))),
    )
    changes: list[Change] = [Appended(account.id, target.id, tuple(rows))]
    if remove:
        changes.append(_take_out(tx, source, copied.source_uids, dying=False))
    else:
        tx.connection.executemany(
            "INSERT INTO shared (pack, offset, refs) VALUES (?, ?, 2)"
            " ON CONFLICT (pack, offset) DO UPDATE SET refs = refs + 1",
            [(row.pack, row.offset) for row in rows],
        )
    tx.flush(target)
    return CopyResult(copied, tuple(changes))


def expunge(tx: Transaction, state: MailboxState, uids: Sequence[int] | None) -> Expunged:
    """Remove these messages, or with None those flagged \\Deleted (RFC 3501 §6.4.3)."""
    if uids is None:
        if state.deleted <= 0:
            return Expunged(state.account.id, state.id, (), state.modseq)
        uids = tx.json(
            "SELECT json_group_array(uid) FROM (SELECT uid FROM message"
            " WHERE account = ? AND mailbox = ? AND flags & 8 ORDER BY uid)",
            (state.account.id, state.id),
        )
    return _take_out(tx, state, uids, dying=True)


def _take_out(tx: Transaction, state: MailboxState, uids: Sequence[int], dying: bool) -> Expunged:
    """Rows become tombstones. `dying`: their records lose a reference (a move keeps it)."""
    account = state.account
    found = _read(tx, _SELECT_SIZES, state, uids)
    if not found:
        return Expunged(account.id, state.id, (), state.modseq)
    uids = tuple([row[0] for row in found])
    tx.touch(state)
    modseq = tx.next_modseq(state)
    size = sum([row[2] for row in found])
    state.messages -= len(found)
    state.size -= size
    account.messages -= len(found)
    account.octets -= size
    state.unseen -= sum([not row[1] & _SEEN for row in found])
    state.deleted -= sum([bool(row[1] & _DELETED) for row in found])
    if dying:
        _apply(tx, _LEAVE, state, uids, tail=_LEAVE_AGAIN)
        release(tx)
    _apply(
        tx,
        "INSERT INTO tombstone (account, mailbox, modseq, uid, item)"
        " SELECT account, mailbox, ?5, uid, item FROM message m WHERE ",
        state,
        uids,
        (modseq,),
    )
    _apply(tx, "DELETE FROM message AS m WHERE ", state, uids)
    if modseq > TOMBSTONE_CHANGES:
        _forget(tx, state, modseq - TOMBSTONE_CHANGES)
    tx.flush(state)
    return Expunged(account.id, state.id, uids, modseq)


def _forget(tx: Transaction, state: MailboxState, before: int) -> None:
    """Drop a bounded number of tombstones older than `before`. A client that was away for longer is told all
    UIDs that are not there (RFC 7162 §3.2.7 allows to tell more than was expunged since)."""
    where = (state.account.id, state.id, before, _FORGET_STEP)
    last = tx.execute(
        "SELECT max(modseq) FROM (SELECT modseq FROM tombstone"
        " WHERE account = ? AND mailbox = ? AND modseq < ? ORDER BY modseq LIMIT ?)",
        where,
    ).get
    if last is not None:
        tx.execute(
            "DELETE FROM tombstone WHERE (account, mailbox, modseq, uid) IN"
            " (SELECT account, mailbox, modseq, uid FROM tombstone"
            " WHERE account = ? AND mailbox = ? AND modseq < ? ORDER BY modseq LIMIT ?)",
            where,
        )
        tx.execute("UPDATE mailbox SET forgotten = ? WHERE id = ?", (last, state.id))


def drop_first(tx: Transaction, account: int, mailbox: int, last: int) -> None:
    """Delete the rows up to uid `last` of a mailbox that is gone, without a trace."""
    where = (account, mailbox, 0, last)
    tx.execute(_LEAVE + _BETWEEN + _LEAVE_AGAIN, where)
    release(tx)
    tx.execute("DELETE FROM message AS m WHERE " + _BETWEEN, where)  # noqa: S608


def _read(tx: Transaction, select: str, state: MailboxState, uids: Sequence[int]) -> list[tuple[int, ...]]:
    """The rows of these uids that exist, ascending."""
    ranges = orjson.dumps(ranges_of(uids)).decode()
    return list(json_columns(tx.connection, select, (ranges, state.account.id, state.id)))


def _apply(
    tx: Transaction,
    statement: str,
    state: MailboxState,
    uids: Sequence[int],
    more: tuple[int, ...] = (),
    tail: str = "",
) -> None:
    """Run `statement` … `tail` (alias m, further parameters from ?5 on) on the rows of these uids."""
    ranges = ranges_of(uids)
    if len(ranges) * _DENSE <= len(uids) or len(ranges) == 1:
        for first, last in ranges:
            tx.execute(statement + _BETWEEN + tail, (state.account.id, state.id, first, last, *more))
    else:
        listed = orjson.dumps(uids).decode()
        tx.execute(statement + _LISTED + tail, (state.account.id, state.id, listed, None, *more))


def release(tx: Transaction) -> None:
    """The rows noted in `leaving` are about to be deleted: count references down, and octets of records
    without any as dead in their pack. Empties `leaving`."""
    # A record in `shared` lives on while references are left; with one left it needs no row there.
    if tx.execute("SELECT EXISTS (SELECT 1 FROM shared)").get:
        tx.execute(
            "UPDATE shared SET refs = refs - l.rows FROM leaving l"
            " WHERE shared.pack = l.pack AND shared.offset = l.offset"
        )
        tx.execute("DELETE FROM staying")
        tx.execute(
            "INSERT INTO staying SELECT s.pack, s.offset, s.refs FROM leaving l CROSS JOIN shared s"
            " ON s.pack = l.pack AND s.offset = l.offset"
        )
        tx.execute(
            "DELETE FROM shared WHERE (pack, offset) IN (SELECT pack, offset FROM staying WHERE refs <= 1)"
        )
        tx.execute(
            "DELETE FROM leaving WHERE (pack, offset) IN (SELECT pack, offset FROM staying WHERE refs >= 1)"
        )
    tx.execute(
        "UPDATE pack SET dead = dead + d.octets"
        " FROM (SELECT pack, sum(length) AS octets FROM leaving GROUP BY pack) d WHERE pack.number = d.pack"
    )
    if tx.execute("SELECT EXISTS (SELECT 1 FROM structure)").get:
        tx.execute("DELETE FROM structure WHERE item IN (SELECT item FROM leaving)")
    tx.execute("DELETE FROM leaving")


def _translate_keywords(
    tx: Transaction, source: AccountState, target: AccountState, values: set[int]
) -> dict[int, int]:
    words: tuple[str, ...] = tx.get(source, "keywords")
    return {
        value: tx.keyword_bits(target, tuple(word for bit, word in enumerate(words) if value >> bit & 1))
        for value in values
    }


def _uidvalidity(state: MailboxState) -> int:
    return state.account.names[state.name].uidvalidity
