"""`postkeep rebuild`: a new database when postkeep.db is lost or damaged.

Lost, or beyond use: from the packs alone. Each record names the accounts and mailboxes it went to,
with date and flags; that is what comes back. What was done later is lost with the database: flags changed
since, moves and copies, mailboxes without messages; expunged messages whose octets were not yet reclaimed
come back. A record that a compaction moved names where its messages were at that time.

Damaged: all that can be read is kept and only the rest comes from the packs (rescue.py). Where only pages are
damaged that hold nothing (free space), the database is copied and nothing is lost.

Works on a stopped store. The new database is made beside the old one and takes its name by one rename when it
is complete and durable; the old one is kept as postkeep.db.bad-<time>. Memory stays bounded: the rows wait,
in the order of the packs, in a temporary table on disk.
"""

import asyncio
import contextlib
import os
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import apsw
import orjson

from postkeep.domain.errors import AlreadyExists, DatabaseDamaged
from postkeep.domain.mailbox import DEFAULT_MAILBOXES
from postkeep.domain.message import Flag
from postkeep.formats.mime.structure import Structure
from postkeep.runtime.files import Files, SystemFiles
from postkeep.storage import checksums, convert, database, records
from postkeep.storage.bodies import structure_of
from postkeep.storage.catalogue import canonical
from postkeep.storage.keywords import keyword_bits, with_parents
from postkeep.storage.migrations import APPLICATION_ID, MIGRATIONS, migrate
from postkeep.storage.opening import damaged_frame
from postkeep.storage.packs import ARRIVING, Packs
from postkeep.storage.rebuilt import Rebuilt, take_place
from postkeep.storage.rescue import Rescue, Rescued, empty_wal
from postkeep.storage.survey import Damage, Found, Pace, Progress, search, survey
from postkeep.storage.verify import thread_of

DAMAGE_LIMIT = 1000
_NEW = convert.NEW
_STEP = 4 << 20
_ROWS = 2000
_ROLES = dict(DEFAULT_MAILBOXES)
_KNOWN_FLAGS = sum(Flag)


async def rebuild(
    folder: Path,
    progress: Progress | None = None,
    *,
    force: bool = False,
    files: Files | None = None,
    vfs: str | None = None,
) -> Rebuilt:
    """Rebuild the database of the store in `folder` (DATA/store), in a thread.

    AlreadyExists: the database is sound and `force` is off. StorageFailed: an engine runs on the store."""
    loop = asyncio.get_running_loop()
    pace = Pace()

    def tell(done: int, total: int, text: str) -> None:
        if progress is not None:
            loop.call_soon_threadsafe(progress, done, total, text)

    rebuilding = Rebuilding(folder, files or SystemFiles(), vfs, pace, tell)
    try:
        return await asyncio.to_thread(rebuilding.run, force)
    except BaseException as error:
        reason = database.translate(error)
        if reason is error:
            raise
        raise reason from error
    finally:
        pace.stop()


class Rebuilding:
    """One run, in one thread."""

    def __init__(self, folder: Path, files: Files, vfs: str | None, pace: Pace, tell: Progress) -> None:
        self._folder = folder
        self._files = files
        self._vfs = vfs
        self._pace = pace
        self._tell = tell
        self._packs = Packs(files, folder / "mail")
        self._damaged: list[str] = []
        self._records = self._more = self._done = self._told = 0
        self._database: apsw.Connection

    def run(self, force: bool) -> Rebuilt:
        lock = database.Lock(self._folder)
        try:
            self._files.mkdir(self._packs.folder)
            old = self._folder / database.NAME
            uidvalidity = int(time.time())
            if self._files.exists(old):
                sound, last = self._examine(old)
                if sound and not force:
                    raise AlreadyExists(
                        f"{old} is sound: nothing was changed (--force rebuilds it all the same)"
                    )
                if not force and (copied := self._copy(old)) is not None:
                    return copied._replace(kept=take_place(self._files, old))
                uidvalidity = max(uidvalidity, last + 1)
                if not force and (rescued := self._rescue(old, uidvalidity)) is not None:
                    return rescued._replace(kept=take_place(self._files, old))
            result = self._build(uidvalidity)
            return result._replace(kept=take_place(self._files, old))
        finally:
            self._packs.close()
            lock.release()

    def _examine(self, path: Path) -> tuple[bool, int]:
        """(the database is sound and belongs to these packs, the highest uidvalidity it knows)."""
        sound, last = False, 0
        with contextlib.suppress(apsw.Error):
            connection = database.open_reader(path, self._vfs)
            try:
                last = connection.execute("SELECT ifnull(max(uidvalidity), 0) FROM account").get
                last = max(last, connection.execute("SELECT ifnull(max(uidvalidity), 0) FROM mailbox").get)
                whole = connection.pragma("quick_check") == "ok"
                sound = whole and self._belongs(path, connection)
            finally:
                connection.close()
        return sound, last

    def _belongs(self, path: Path, connection: apsw.Connection) -> bool:
        """It is ours, knows these packs, and neither its header nor its WAL is damaged."""
        with contextlib.suppress(DatabaseDamaged):
            checksums.check_header(connection)
            knows = self._knows_packs(connection)
            ours = int(connection.pragma("application_id")) == APPLICATION_ID
            return knows and ours and damaged_frame(self._files, path) is None
        return False

    def _knows_packs(self, connection: apsw.Connection) -> bool:
        """It is no new database beside old packs: one with damaged pages is not new."""
        try:
            known = bool(connection.execute("SELECT count(*) FROM pack").get)
        except apsw.Error as error:
            if not checksums.is_damage(error):
                raise
            return True
        return known or not self._packs.numbers()

    def _copy(self, old: Path) -> Rebuilt | None:
        """A copy of a damaged database beside it; None when not all that is in it can be read."""
        convert.remove_new(self._files, self._folder)
        try:
            connection = database.open_reader(old, self._vfs)
            try:
                if not checksums.verifying(connection) or not self._belongs(old, connection):
                    return None
                self._tell(0, 0, "copying the database")
                convert.copy_sound(self._files, connection, self._folder / _NEW)
                return self._counted(self._folder / _NEW)
            finally:
                connection.close()
        except apsw.Error as error:
            convert.remove_new(self._files, self._folder)
            if not checksums.is_damage(error):
                raise
            return None

    def _rescue(self, old: Path, uidvalidity: int) -> Rebuilt | None:
        """All rows of a damaged database that can be read; None when it cannot even be opened."""
        try:
            connection = database.open_reader(old, self._vfs)
            try:
                schema = int(connection.pragma("user_version"))
                if schema != len(MIGRATIONS) or not self._belongs(old, connection):
                    return None
            finally:
                connection.close()
            empty_wal(old, self._vfs)
            connection = database.open_reader(old, self._vfs)
            try:
                return self._build(uidvalidity, connection, old)
            finally:
                connection.close()
        except apsw.Error as error:
            convert.remove_new(self._files, self._folder)
            if not checksums.is_damage(error):
                raise
            self._records = self._more = self._done = self._told = 0
            self._damaged.clear()
            return None

    def _counted(self, path: Path) -> Rebuilt:
        connection = database.open_reader(path, self._vfs)
        try:
            counts = self._counts(connection)
        finally:
            connection.close()
        return Rebuilt(*counts, 0, len(self._packs.numbers()), (), 0, None, copied=True)

    def _counts(self, connection: apsw.Connection) -> tuple[int, int, int]:
        counts: tuple[int, int, int] = connection.execute(
            "SELECT (SELECT count(*) FROM account WHERE key IS NOT NULL),"
            " (SELECT count(*) FROM mailbox WHERE name IS NOT NULL), (SELECT count(*) FROM message)"
        ).get
        return counts

    # --- building ---------------------------------------------------------------------------------

    def _build(
        self, uidvalidity: int, old: apsw.Connection | None = None, path_of_old: Path | None = None
    ) -> Rebuilt:
        """From the packs alone, or with the rows of `old`."""
        rescued: tuple[Rescued, ...] = ()
        path = self._folder / _NEW
        convert.remove_new(self._files, self._folder)
        connection = self._database = apsw.Connection(str(path), vfs=self._vfs or checksums.vfs())
        try:
            connection.pragma("page_size", checksums.PAGE_SIZE)
            checksums.reserve(connection)
            connection.pragma("journal_mode", "off")
            connection.pragma("synchronous", "off")
            migrate(connection)
            connection.execute(
                "CREATE TEMP TABLE found (pack INT, offset INT, item INT, account TEXT, mailbox TEXT,"
                " flags INT, keywords TEXT, size INT, date INT, length INT, msgid INT, thread INT);"
                "CREATE TEMP TABLE moved (item INTEGER PRIMARY KEY)"
            )
            numbers = self._settle()
            lengths = self._read_packs(numbers)
            self._tell(self._done, self._done, "writing the database")
            connection.execute("BEGIN")
            self._prefer_moved()
            if old is None or path_of_old is None:
                counts = self._write(uidvalidity)
            else:
                rescue = Rescue(old, path_of_old, connection, uidvalidity)
                try:
                    rescued = rescue.run()
                finally:
                    rescue.close()
                counts = self._counts(connection)
            self._write_packs(lengths)
            connection.execute("COMMIT")
        finally:
            connection.close()
        fd = self._files.open(path, os.O_RDWR)
        try:
            self._files.fdatasync(fd)
        finally:
            self._files.close(fd)
        damaged = tuple(self._damaged)
        result = Rebuilt(*counts, self._records, len(numbers), damaged, self._more, None)
        return result._replace(kept_rows=old is not None, rescued=rescued)

    def _settle(self) -> list[int]:
        """Big messages that were arriving when the power went: rather twice there than lost."""
        for number in self._packs.numbers(ARRIVING):
            self._files.rename(self._packs.path(number, ARRIVING), self._packs.path(number))
        self._files.sync_dir(self._packs.folder)
        return self._packs.numbers()

    def _read_packs(self, numbers: list[int]) -> dict[int, int]:
        """All records into temp.found; {pack: length up to the end of its last sound record}."""
        sizes = {number: self._packs.size(number) for number in numbers}
        total = sum(sizes.values())
        lengths: dict[int, int] = {}
        self._database.execute("BEGIN")
        for number, size in sizes.items():
            lengths[number] = 0
            for found in survey(self._packs, number, size, partial(search, self._packs, number, size)):
                if isinstance(found, Damage):
                    self._note_damage(number, found)
                    octets = found.end - found.start
                else:
                    octets = found.record.header.length
                    self._take(number, found)
                    lengths[number] = found.offset + octets
                self._step(octets, total, f"pack {number}")
        self._database.execute("COMMIT")
        return lengths

    def _note_damage(self, number: int, damage: Damage) -> None:
        if len(self._damaged) < DAMAGE_LIMIT:
            where = f"{self._packs.path(number).name}, octets {damage.start} to {damage.end}"
            self._damaged.append(f"{where}: {damage.reason}")
        else:
            self._more += 1

    def _step(self, octets: int, total: int, text: str) -> None:
        self._done += octets
        self._pace.spent(octets)
        if self._done - self._told >= _STEP or self._done >= total:
            self._told = self._done
            self._tell(self._done, total, text)

    def _take(self, number: int, found: Found) -> None:
        record, offset = found.record, found.offset
        self._records += 1
        structure: Structure = structure_of(self._packs, number, offset, record)
        item = record.trailer.item or records.item_of(number, offset)
        if record.trailer.item:
            self._database.execute("INSERT OR IGNORE INTO moved VALUES (?)", (item,))
        msgid = records.hash64(structure.message_id)
        thread = thread_of(structure.thread_root, record)
        self._database.executemany(
            "INSERT INTO found VALUES (?,?,?,?,?,?,?,?,?,?,?,?)",
            [
                (
                    *(number, offset, item, to.account, canonical(to.mailbox), to.flags & _KNOWN_FLAGS),
                    *(orjson.dumps(to.keywords).decode(), record.size, record.trailer.date),
                    *(record.header.length, msgid, thread),
                )
                for to in record.trailer.deliveries
            ],
        )

    # --- writing ----------------------------------------------------------------------------------

    def _prefer_moved(self) -> None:
        """A compaction that was cut short leaves a record twice: the moved one (later pack) is kept."""
        self._database.execute(
            "CREATE TEMP TABLE latest AS SELECT item, max(pack) AS pack FROM found"
            " WHERE item IN (SELECT item FROM moved) GROUP BY item;"
            "DELETE FROM found WHERE EXISTS"
            " (SELECT 1 FROM latest l WHERE l.item = found.item AND l.pack <> found.pack)"
        )

    def _write(self, uidvalidity: int) -> tuple[int, int, int]:
        """All tables but the packs'; (accounts, mailboxes, messages)."""
        connection = self._database
        connection.execute("CREATE INDEX temp.found_order ON found (account, mailbox, date, pack, offset)")
        accounts = mailboxes = messages = 0
        keys = [key for (key,) in connection.execute("SELECT DISTINCT account FROM found ORDER BY account")]
        for key in keys:
            account = self._write_account(key, uidvalidity)
            accounts += 1
            mailboxes += account[0]
            messages += account[1]
        return accounts, mailboxes, messages

    def _write_account(self, key: str, uidvalidity: int) -> tuple[int, int]:
        connection = self._database
        names = {
            row[0]
            for row in connection.execute("SELECT DISTINCT mailbox FROM found WHERE account = ?", (key,))
        }
        everything = [*_ROLES, *sorted(with_parents(names) - _ROLES.keys())]
        connection.execute(
            "INSERT INTO account (key, modseq, uidvalidity, keywords) VALUES (?, 1, ?, '[]')",
            (key, uidvalidity + len(everything)),
        )
        account = connection.last_insert_rowid()
        words: dict[str, int] = {}
        spelled: list[str] = []
        modseq = 1
        messages = 0
        for number, name in enumerate(everything):
            connection.execute(
                "INSERT INTO mailbox (account, name, uidvalidity, role, subscribed, uidnext, modseq,"
                " messages, unseen, deleted, size) VALUES (?, ?, ?, ?, 1, 1, ?, 0, 0, 0, 0)",
                (account, name, uidvalidity + number, _ROLES.get(name, ""), modseq),
            )
            mailbox = connection.last_insert_rowid()
            uid = 0
            for batch in self._found(key, name):
                rows = []
                for flags, keywords, *place in batch:
                    uid, modseq = uid + 1, modseq + 1
                    bits = keyword_bits(orjson.loads(keywords), words, spelled)
                    rows.append((account, mailbox, uid, modseq, modseq, flags, bits, *place))
                connection.executemany("INSERT INTO message VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)", rows)
            connection.execute(
                "UPDATE mailbox SET uidnext = ?, modseq = ?,"
                " (messages, unseen, deleted, size) = (SELECT count(*), ifnull(sum(flags & 1 = 0), 0),"
                " ifnull(sum(flags & 8 <> 0), 0), ifnull(sum(size), 0) FROM message"
                " WHERE account = mailbox.account AND mailbox = mailbox.id) WHERE id = ?",
                (uid + 1, modseq, mailbox),
            )
            messages += uid
        connection.execute(
            "UPDATE account SET modseq = ?, keywords = ? WHERE id = ?",
            (modseq, orjson.dumps(spelled).decode(), account),
        )
        return len(everything), messages

    def _found(self, key: str, name: str) -> Iterator[list[tuple[Any, ...]]]:
        """A mailbox's rows by date, in bounded batches."""
        cursor = self._database.cursor()
        cursor.execute(
            "SELECT flags, keywords, size, date, pack, offset, length, msgid, thread, item FROM found"
            " WHERE account = ? AND mailbox = ? ORDER BY date, pack, offset",
            (key, name),
        )
        while batch := list(_take(cursor, _ROWS)):
            yield batch

    def _write_packs(self, lengths: dict[int, int]) -> None:
        """References, dead octets and pack numbers. All packs are sealed: new mail goes to a new one."""
        connection = self._database
        # A row that was kept may point behind the last sound record.
        for number, end in connection.execute("SELECT pack, max(offset + length) FROM message GROUP BY pack"):
            if number in lengths:
                lengths[number] = max(lengths[number], end)
        connection.executemany(
            "INSERT INTO pack (number, length, dead, sealed) VALUES (?, ?, ?, 1)",
            [(number, length, length) for number, length in lengths.items()],
        )
        connection.execute(
            "INSERT INTO shared SELECT pack, offset, count(*) FROM message GROUP BY pack, offset"
            " HAVING count(*) > 1;"
            "UPDATE pack SET dead = length - l.live FROM (SELECT pack, sum(length) AS live FROM"
            " (SELECT DISTINCT pack, offset, length FROM message) GROUP BY pack) l WHERE l.pack = pack.number"
        )
        connection.execute(
            "INSERT INTO meta (key, value) VALUES ('pack_next', ?)"
            " ON CONFLICT (key) DO UPDATE SET value = max(value, excluded.value)",
            (max(lengths, default=0) + 1,),
        )


def _take(cursor: apsw.Cursor, count: int) -> Iterator[tuple[Any, ...]]:
    for _ in range(count):
        row = cursor.fetchone()
        if row is None:
            return
        yield row
