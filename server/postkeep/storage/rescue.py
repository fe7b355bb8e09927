"""A damaged database made again: each row that can be read is kept, and only what stood on damaged pages is
taken from the packs.

Accounts, mailboxes, uids, modseqs, flags and what was expunged are copied as they are. A message whose row is
lost comes back from its record, with the flags it was delivered with and with a new uid behind all that were
given: clients see it as a new one, and no uid ever means another message, so uidvalidity stays. A mailbox
whose own row is lost gets a new one, and a name from where its messages were delivered to.

Which messages are lost is known from the trailers (delivered there, no row there, not expunged there). One
that was moved into a damaged page is known by its mailbox's count alone: then all that nobody refers to come
back, also expunged ones, rather than one too few.
"""

import contextlib
import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import apsw
import orjson

from postkeep.domain.mailbox import DEFAULT_MAILBOXES
from postkeep.storage import database
from postkeep.storage.checksums import is_damage
from postkeep.storage.keywords import keyword_bits, with_parents
from postkeep.storage.seams import Key, Pages

_BATCH = 2000
_ROLES = dict(DEFAULT_MAILBOXES)
_MODSEQS = 1 << 20
"""An account with damaged pages leaves out so many modseqs: which were given last cannot be known."""
_END: Key = ((1 << 63) - 1,) * 3
_MAILBOX = (
    "id, account, name, uidvalidity, role, subscribed, uidnext, modseq, messages, unseen, deleted, size,"
    " forgotten"
)


class Rescued(NamedTuple):
    """Of one mailbox: messages that came back from the packs, and how many of those it counted did not."""

    account: str
    mailbox: str
    recovered: int
    lost: int
    renewed: bool

    def __str__(self) -> str:
        text = (
            f"{self.account}, mailbox {self.mailbox}: {self.recovered} messages recovered from the packs"
            f" (flags as delivered), {self.lost} lost"
        )
        return f"{text}; the mailbox itself was lost and has a new UIDVALIDITY" if self.renewed else text


class _Gap(NamedTuple):
    """Keys between which nothing can be read."""

    after: Key
    before: Key

    def touches(self, account: int, mailbox: int) -> bool:
        return self.after[:2] <= (account, mailbox) <= self.before[:2]

    def ends(self, account: int, mailbox: int) -> bool:
        """It reaches over the end of the mailbox."""
        return self.touches(account, mailbox) and self.before[:2] != (account, mailbox)


class Rescue:
    """From the database `old` at `path` (its WAL is empty) into `new`, an empty one with `temp.found`: what
    the packs' trailers say (see rebuild.py)."""

    def __init__(self, old: apsw.Connection, path: Path, new: apsw.Connection, uidvalidity: int) -> None:
        self._old = old
        self._new = new
        self._uidvalidity = uidvalidity
        self._pages = Pages(path)
        self._gaps: list[_Gap] = []
        self._renewed: set[int] = set()
        self._uncounted: set[int] = set()
        """Mailboxes whose own rows are lost, so that nothing says how many messages they had."""
        self._deficits: dict[int, int] = {}
        self._recovered: dict[int, int] = {}

    def close(self) -> None:
        self._pages.close()

    def run(self) -> tuple[Rescued, ...]:
        """All but the packs' table, within a transaction of `new`. apsw.Error when nothing can be read."""
        lost_catalogue = self._copy_catalogue()
        self._gaps = self._copy("message", 15, 3)
        expunged = self._copy("tombstone", 5, 4)
        self._new.execute(
            "CREATE INDEX temp.found_item ON found (item);"
            "CREATE TEMP TABLE rows AS SELECT item, account, mailbox, count(*) AS count FROM message"
            " GROUP BY item, account, mailbox;"
            "CREATE INDEX temp.rows_item ON rows (item, account);"
            "CREATE TEMP TABLE gone AS SELECT item, account, mailbox, count(*) AS count FROM tombstone"
            " GROUP BY item, account, mailbox;"
            "CREATE INDEX temp.gone_item ON gone (item, account)"
        )
        self._name_accounts()
        self._name_mailboxes(lost_catalogue)
        for gap in expunged:  # who was away is told all that are not there
            self._new.execute(
                "UPDATE mailbox SET forgotten = modseq"
                " WHERE (account, id) >= (?, ?) AND (account, id) <= (?, ?)",
                (*gap.after[:2], *gap.before[:2]),
            )
        self._prepare()
        self._recover_delivered()
        self._recover_moved()
        self._count()
        return self._report()

    # --- what can be read -------------------------------------------------------------------------

    def _copy_catalogue(self) -> bool:
        """Accounts, mailboxes and marks; were some of them lost."""
        lost = False
        for table, columns in (
            ("account", "id, key, modseq, uidvalidity, keywords"),
            ("mailbox", _MAILBOX),
        ):
            marks = ",".join("?" * len(columns.split(", ")))
            sql = f"INSERT OR IGNORE INTO {table} ({columns}) VALUES ({marks})"  # noqa: S608
            for rows in _batches(self._by_rowid(table, columns)):
                lost |= None in rows
                self._new.executemany(sql, [row for row in rows if row is not None])
        for table in ("meta", "sqlite_sequence"):
            with contextlib.suppress(apsw.IOError, apsw.CorruptError):
                rows = self._old.execute(f"SELECT * FROM {table}").fetchall()  # noqa: S608
                self._new.execute("DELETE FROM sqlite_sequence" if table != "meta" else "DELETE FROM meta")
                self._new.executemany(f"INSERT INTO {table} VALUES (?, ?)", rows)  # noqa: S608
        return lost

    def _by_rowid(self, table: str, columns: str) -> Iterator[tuple[Any, ...] | None]:
        """Rows, None for damage between them."""
        root, place = self._root(table), -1
        while True:
            try:
                for row in self._old.execute(
                    f"SELECT {columns} FROM {table} NOT INDEXED WHERE id > ? ORDER BY id",  # noqa: S608
                    (place,),
                ):
                    place = row[0]
                    yield row
                return
            except apsw.Error as error:
                if not is_damage(error):
                    raise
            yield None
            seam = self._pages.behind(root, (place + 1,))
            if seam is None:
                return
            place = max(place + 1, seam.row[0])

    def _copy(self, table: str, columns: int, keys: int) -> list[_Gap]:
        """All rows of a table of integers; the gaps between them."""
        gaps: list[_Gap] = []
        marks = ",".join("?" * columns)
        for rows in _batches(self._by_key(table, columns, keys, gaps)):
            self._new.executemany(f"INSERT INTO {table} VALUES ({marks})", rows)  # noqa: S608
        return gaps

    def _by_key(self, table: str, columns: int, keys: int, gaps: list[_Gap]) -> Iterator[Key]:
        root = self._root(table)
        names = ("account, mailbox, uid", "account, mailbox, modseq, uid")[keys - 3]
        marks = ",".join("?" * keys)
        sql = f"SELECT * FROM {table} WHERE ({names}) >= ({marks}) ORDER BY {names}"  # noqa: S608
        place: Key = (-1,) * keys
        while True:
            try:
                # SQLite looks for `place` itself below, in the damaged page; for what follows it does not.
                for row in self._old.execute(sql, (*place[:-1], place[-1] + 1)):
                    place = row[:keys]
                    yield row
                return
            except apsw.Error as error:
                if not is_damage(error):
                    raise
            seam = self._pages.behind(root, (*place[:-1], place[-1] + 1))
            if seam is None or len(seam.row) != columns or seam.row[:keys] <= place:
                gaps.append(_Gap(place, _END))
                return
            gaps.append(_Gap(place, seam.row[:keys]))
            place = seam.row[:keys]
            yield seam.row

    def _root(self, table: str) -> int:
        return int(self._old.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", (table,)).get)

    # --- accounts and mailboxes whose rows are lost -----------------------------------------------

    def _name_accounts(self) -> None:
        new = self._new
        for account in _column(
            new,
            "SELECT account FROM message UNION SELECT account FROM mailbox EXCEPT SELECT id FROM account",
        ):
            key = new.execute(
                "SELECT f.account FROM rows r JOIN found f ON f.item = r.item WHERE r.account = ?"
                " AND f.account NOT IN (SELECT key FROM account WHERE key IS NOT NULL)"
                " GROUP BY f.account ORDER BY count(*) DESC LIMIT 1",
                (account,),
            ).get
            new.execute(
                "INSERT INTO account (id, key, modseq, uidvalidity, keywords) VALUES (?, ?, 1, ?, '[]')",
                (account, key or f"recovered-{account}", self._uidvalidity),
            )
            new.execute("UPDATE message SET keywords = 0 WHERE account = ?", (account,))

    def _name_mailboxes(self, lost: bool) -> None:
        new = self._new
        for account, mailbox in _rows(
            new,
            "SELECT DISTINCT m.account, m.mailbox FROM rows m LEFT JOIN mailbox b ON b.id = m.mailbox"
            " WHERE b.id IS NULL ORDER BY 2",
        ):
            name = new.execute(
                "SELECT f.mailbox FROM rows r JOIN found f ON f.item = r.item JOIN account a"
                " ON a.id = r.account AND a.key = f.account WHERE r.account = ?1 AND r.mailbox = ?2"
                " AND f.mailbox NOT IN (SELECT name FROM mailbox WHERE account = ?1 AND name IS NOT NULL)"
                " GROUP BY f.mailbox ORDER BY count(*) DESC LIMIT 1",
                (account, mailbox),
            ).get
            self._renewed.add(self._add(account, name or f"Recovered-{mailbox}", mailbox))
        if not lost:
            return
        for account in _column(new, "SELECT id FROM account WHERE key IS NOT NULL"):
            names = set(
                _column(new, "SELECT name FROM mailbox WHERE account = ? AND name IS NOT NULL", account)
            )
            for name in (*_ROLES, *sorted(with_parents(names) - _ROLES.keys())):
                if name not in names:
                    self._add(account, name)

    def _add(self, account: int, name: str, mailbox: int | None = None) -> int:
        self._uidvalidity += 1
        self._new.execute(
            "INSERT INTO mailbox (id, account, name, uidvalidity, role, subscribed, uidnext, modseq,"
            " messages, unseen, deleted, size) VALUES (?, ?, ?, ?, ?, 1, 1, 1, 0, 0, 0, 0)",
            (mailbox, account, name, self._uidvalidity, _ROLES.get(name, "")),
        )
        self._new.execute(
            "UPDATE account SET uidvalidity = max(uidvalidity, ?) WHERE id = ?", (self._uidvalidity, account)
        )
        made = self._new.last_insert_rowid()
        self._uncounted.add(made)
        return made

    # --- messages ---------------------------------------------------------------------------------

    def _prepare(self) -> None:
        """What each damaged mailbox counted and does not have, and numbers behind all that were given."""
        new = self._new
        deliveries = int(new.execute("SELECT count(*) FROM found").get)
        new.execute(
            "UPDATE mailbox SET modseq = max(modseq, ifnull((SELECT max(modseq) FROM message m"
            " WHERE m.account = mailbox.account AND m.mailbox = mailbox.id), 0), ifnull((SELECT max(modseq)"
            " FROM tombstone t WHERE t.account = mailbox.account AND t.mailbox = mailbox.id), 0));"
            "UPDATE account SET modseq = max(modseq, ifnull((SELECT max(modseq) FROM mailbox b"
            " WHERE b.account = account.id), 0))"
        )
        touched = set()
        for account, mailbox, uidnext, messages in _rows(
            new, "SELECT account, id, uidnext, messages FROM mailbox WHERE name IS NOT NULL"
        ):
            ((there, last),) = _rows(
                new,
                "SELECT count(*) FILTER (WHERE uid < ?3), ifnull(max(uid), 0) FROM message"
                " WHERE account = ?1 AND mailbox = ?2",
                account,
                mailbox,
                uidnext,
            )
            if self._is_touched(account, mailbox):
                touched.add(account)
                self._deficits[mailbox] = max(0, messages - there)
            leap = deliveries if any(gap.ends(account, mailbox) for gap in self._gaps) else 0
            new.execute(
                "UPDATE mailbox SET uidnext = ? WHERE id = ?", (max(uidnext, last + 1) + leap, mailbox)
            )
        for account in touched:
            new.execute("UPDATE account SET modseq = modseq + ? WHERE id = ?", (_MODSEQS, account))
        new.execute(
            "CREATE TEMP TABLE lost (account INT, mailbox INT, place INT);"
            "CREATE TEMP TABLE damaged (mailbox INTEGER PRIMARY KEY)"
        )
        new.executemany("INSERT INTO damaged VALUES (?)", [(mailbox,) for mailbox in self._deficits])

    def _is_touched(self, account: int, mailbox: int) -> bool:
        if mailbox in self._uncounted:  # it may have another number now
            return any(gap.after[0] <= account <= gap.before[0] for gap in self._gaps)
        return any(gap.touches(account, mailbox) for gap in self._gaps)

    def _recover_delivered(self) -> None:
        """Delivered to a damaged mailbox, and neither there nor expunged or moved from there. A mailbox that
        was renamed or is gone: delivered to an account that has no row of it any more."""
        self._new.execute(
            "INSERT INTO lost SELECT account, mailbox, place FROM (SELECT a.id AS account, b.id AS mailbox,"
            " f.rowid AS place, f.item AS item,"
            " row_number() OVER (PARTITION BY a.id, b.id, f.item ORDER BY f.pack DESC, f.rowid) AS number"
            " FROM found f JOIN account a ON a.key = f.account"
            " JOIN mailbox b ON b.account = a.id AND b.name = f.mailbox JOIN damaged d ON d.mailbox = b.id) x"
            " WHERE number > ifnull((SELECT sum(count) FROM rows r WHERE r.item = x.item"
            " AND r.account = x.account AND r.mailbox = x.mailbox), 0)"
            " + ifnull((SELECT sum(count) FROM gone g WHERE g.item = x.item"
            " AND g.account = x.account AND g.mailbox = x.mailbox), 0)"
        )
        self._write()

    def _recover_moved(self) -> None:
        """Messages that were moved into a damaged page, or delivered to a mailbox of another name."""
        for mailbox in self._deficits:
            counted = mailbox not in self._uncounted
            if counted and self._deficits[mailbox] <= self._recovered.get(mailbox, 0):
                continue
            self._new.execute(
                "INSERT INTO lost SELECT a.id, b.id, min(f.rowid) FROM mailbox b"
                " JOIN account a ON a.id = b.account"
                " JOIN found f ON f.account = a.key WHERE b.id = ?1 AND NOT EXISTS"
                " (SELECT 1 FROM rows r WHERE r.item = f.item AND r.account = a.id) AND NOT EXISTS"
                " (SELECT 1 FROM gone g WHERE g.item = f.item AND g.account = a.id AND g.mailbox = ?1)"
                " GROUP BY f.item",
                (mailbox,),
            )
            self._write()

    def _write(self) -> None:
        """Rows for what is in temp.lost, by mailbox and date."""
        new = self._new
        for account, mailbox in _rows(new, "SELECT DISTINCT account, mailbox FROM lost"):
            spelled = orjson.loads(new.execute("SELECT keywords FROM account WHERE id = ?", (account,)).get)
            words = {word.lower(): bit for bit, word in enumerate(spelled)}
            modseq = int(new.execute("SELECT modseq FROM account WHERE id = ?", (account,)).get)
            uid = int(new.execute("SELECT uidnext FROM mailbox WHERE id = ?", (mailbox,)).get)
            first = uid
            cursor = new.execute(
                "SELECT f.flags, f.keywords, f.size, f.date, f.pack, f.offset, f.length, f.msgid, f.thread,"
                " f.item"
                " FROM lost l JOIN found f ON f.rowid = l.place WHERE l.account = ? AND l.mailbox = ?"
                " ORDER BY f.date, f.pack, f.offset",
                (account, mailbox),
            )
            for batch in _batches(cursor):
                rows = []
                for flags, keywords, *place in batch:
                    modseq += 1
                    bits = keyword_bits(orjson.loads(keywords), words, spelled)
                    rows.append((account, mailbox, uid, modseq, modseq, flags, bits, *place))
                    uid += 1
                new.executemany("INSERT INTO message VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)", rows)
                new.executemany(
                    "INSERT INTO rows VALUES (?, ?, ?, 1)", [(row[14], account, mailbox) for row in rows]
                )
            self._recovered[mailbox] = self._recovered.get(mailbox, 0) + uid - first
            new.execute("UPDATE mailbox SET uidnext = ?, modseq = ? WHERE id = ?", (uid, modseq, mailbox))
            new.execute(
                "UPDATE account SET modseq = ?, keywords = ? WHERE id = ?",
                (modseq, orjson.dumps(spelled).decode(), account),
            )
        new.execute("DELETE FROM lost")

    def _count(self) -> None:
        self._new.execute(
            "UPDATE mailbox SET (messages, unseen, deleted, size) = (SELECT count(*),"
            " ifnull(sum(flags & 1 = 0), 0), ifnull(sum(flags & 8 <> 0), 0), ifnull(sum(size), 0)"
            " FROM message WHERE account = mailbox.account AND mailbox = mailbox.id)"
        )

    def _report(self) -> tuple[Rescued, ...]:
        found = []
        for mailbox, key, name in _rows(
            self._new,
            "SELECT b.id, a.key, b.name FROM mailbox b JOIN account a ON a.id = b.account"
            " WHERE b.name IS NOT NULL ORDER BY a.key, b.name",
        ):
            recovered = self._recovered.get(mailbox, 0)
            lost = max(0, self._deficits.get(mailbox, 0) - recovered)
            if recovered or lost or mailbox in self._renewed:
                found.append(Rescued(str(key), str(name), recovered, lost, mailbox in self._renewed))
        return tuple(found)


def empty_wal(path: Path, vfs: str | None) -> None:
    """Copy the WAL into the database, so that its file alone is the truth. apsw.Error."""
    connection = database.open_writer(path, vfs)
    try:
        connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
    finally:
        connection.close()


def _batches(rows: Iterable[Any]) -> Iterator[list[Any]]:
    iterator = iter(rows)
    while batch := list(itertools.islice(iterator, _BATCH)):
        yield batch


def _column(connection: apsw.Connection, sql: str, *bindings: Any) -> list[Any]:
    return [value for (value,) in connection.execute(sql, bindings)]


def _rows(connection: apsw.Connection, sql: str, *bindings: Any) -> list[tuple[Any, ...]]:
    return connection.execute(sql, bindings).fetchall()
