"""`postkeep verify`: every record, reference and counter of a store is looked at, nothing is changed.

Works on a stopped store and beside a running engine: the database is read in one short snapshot (its facts
go into a temporary table on disk, so memory stays bounded), then the packs are read at a bounded rate. What
changed meanwhile is looked at again before it is called a problem.
"""

import asyncio
from pathlib import Path
from typing import NamedTuple

import apsw

from postkeep.domain.errors import CorruptRecord
from postkeep.formats.mime.structure import StructureVersionError, decode_structure
from postkeep.runtime.files import Files, SystemFiles
from postkeep.storage import checksums, damage, database, opening, records
from postkeep.storage.ledger import CHECKS, Kind
from postkeep.storage.packs import ARRIVING, Packs, Record
from postkeep.storage.survey import Damage, Found, Interrupted, Pace, Progress, survey

DEFAULT_RATE = 64 << 20
"""Octets a second that are read, so that a running engine keeps most of the disk."""
PROBLEM_LIMIT = 1000
"""More problems than this are counted only."""
_STEP = 4 << 20


_ADVICE = {
    Kind.PAGE: "stop the engine and run `postkeep rebuild`, or restore postkeep.db from a backup",
    Kind.DATABASE: "stop the engine and run `postkeep rebuild --force`, or restore postkeep.db from a backup",
    Kind.RECORD: "restore this message from a backup, or expunge it; other messages are not touched by it",
    Kind.REFERENCE: "restore this message from a backup, or expunge it",
    Kind.COUNTER: "stop the engine and run `postkeep rebuild --force`; messages are not touched by it",
    Kind.ACCOUNTING: "no message is at risk, but some disk space stays taken; a rebuild corrects it",
    Kind.STRUCTURE: "no message is at risk; it is computed anew when it is next read",
    Kind.PACK: "restore the file from a backup",
}


class Problem(NamedTuple):
    """`text` is one line that says what is wrong and where, `advice` what to do about it."""

    kind: Kind
    text: str
    advice: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.text} ({self.advice})"


class Report(NamedTuple):
    """What was found. `notes` are oddities that need no action; `more` problems were found past the limit."""

    problems: tuple[Problem, ...]
    notes: tuple[str, ...]
    accounts: int
    mailboxes: int
    messages: int
    records: int
    packs: int
    octets: int
    queued: int
    more: int = 0

    @property
    def clean(self) -> bool:
        return not self.problems

    def __str__(self) -> str:
        """The last line that `postkeep verify` prints."""
        looked = (
            f"{self.accounts} accounts, {self.mailboxes} mailboxes, {self.messages} messages, "
            f"{self.records} records in {self.packs} packs ({self.octets} octets), {self.queued} queued"
        )
        return f"{looked}: " + ("clean" if self.clean else f"{len(self.problems) + self.more} problems")


async def verify(
    folder: Path,
    progress: Progress | None = None,
    *,
    queue: Path | None = None,
    rate: int = DEFAULT_RATE,
    files: Files | None = None,
    vfs: str | None = None,
) -> Report:
    """Check the store in `folder` (DATA/store) and the queue folder, in a thread.

    `rate` is in octets a second (0: no bound). `progress` is called on the loop. Raises nothing for a damaged
    store: that is what the report is for."""
    loop = asyncio.get_running_loop()
    pace = Pace(rate)

    def tell(done: int, total: int, text: str) -> None:
        if progress is not None:
            loop.call_soon_threadsafe(progress, done, total, text)

    verification = Verification(folder, queue, files or SystemFiles(), vfs, pace, tell)
    try:
        return await asyncio.to_thread(verification.run)
    finally:
        pace.stop()  # when we were cancelled, the thread ends at its next step


class Verification:
    """One run, in one thread."""

    def __init__(
        self,
        folder: Path,
        queue: Path | None,
        files: Files,
        vfs: str | None,
        pace: Pace,
        tell: Progress,
        *,
        name: str = database.NAME,
        quick: bool = False,
    ) -> None:
        """`name`: another database in the folder. `quick`: of the packs their lengths alone."""
        self._folder = folder
        self._name_of_database = name
        self._quick = quick
        self._queue = queue
        self._files = files
        self._vfs = vfs
        self._pace = pace
        self._tell = tell
        self._problems: list[Problem] = []
        self._more = 0
        self._notes: list[str] = []
        self._records = self._octets = self._total = self._told = 0
        self._database: apsw.Connection
        self._damage: damage.Damage

    def run(self) -> Report:
        counts = (0, 0, 0, 0)
        try:
            counts = self._check_store()
        except (apsw.Error, OSError) as error:
            if isinstance(error, apsw.InterruptError):
                raise Interrupted from error
            kind = Kind.PAGE if checksums.is_fault(error) else Kind.DATABASE
            self._problem(kind, f"postkeep.db cannot be read: {database.translate(error)}")
        queued = self._check_queue()
        accounts, mailboxes, messages, packs = counts
        return Report(
            tuple(self._problems),
            tuple(self._notes),
            accounts,
            mailboxes,
            messages,
            self._records,
            packs,
            self._octets,
            queued,
            self._more,
        )

    def _problem(self, kind: Kind, text: str) -> None:
        if len(self._problems) < PROBLEM_LIMIT:
            self._problems.append(Problem(kind, text, _ADVICE[kind]))
        else:
            self._more += 1

    def _note(self, text: str) -> None:
        if len(self._notes) < PROBLEM_LIMIT:
            self._notes.append(text)

    # --- the database -----------------------------------------------------------------------------

    def _check_store(self) -> tuple[int, int, int, int]:
        path = self._folder / self._name_of_database
        if not self._files.exists(path):
            self._problem(Kind.DATABASE, f"there is no {database.NAME} in {self._folder}")
            return 0, 0, 0, 0
        self._check_integrity(path)
        self._database = connection = database.open_reader(path, self._vfs)
        packs = Packs(self._files, self._folder / "mail")
        try:
            connection.pragma("temp_store", "file")  # the copy of the references may be large
            connection.execute("BEGIN")
            known = self._take_references(self._damage.mailboxes)
            self._total = sum(length for length, _ in known.values())
            counts = self._check_tables(known)
            connection.execute("COMMIT")
            for number in known:
                if self._quick:
                    self._check_length(packs, number, *known[number])
                else:
                    self._check_pack(packs, number, *known[number])
            self._check_strangers(packs)
            return (*counts, len(known))
        finally:
            packs.close()
            connection.close()

    def _check_integrity(self, path: Path) -> None:
        self._tell(0, 0, "checking the database")
        self._damage = damage.find(path, self._vfs)
        for text in self._damage.pages:
            self._problem(Kind.PAGE, text)
        for text in self._damage.other:
            self._problem(Kind.DATABASE, text)
        if database.is_locked(self._folder):
            return  # an engine writes to the WAL
        frame = opening.damaged_frame(self._files, path)
        if frame is not None and not database.is_locked(self._folder):
            self._problem(
                Kind.PAGE, f"frame {frame} of {path.name}-wal is damaged: what came after it is lost"
            )

    def _take_references(self, unreadable: frozenset[int]) -> dict[int, tuple[int, int]]:
        """Copy every row's reference into temp.reference, by pack and offset; {pack: (length, dead)}."""
        self._tell(0, 0, "reading all references")
        self._database.execute(
            "CREATE TEMP TABLE reference (pack INT, offset INT, length INT, size INT, msgid INT, thread INT,"
            " item INT, account INT, mailbox INT, uid INT,"
            " PRIMARY KEY (pack, offset, account, mailbox, uid)) WITHOUT ROWID"
        )
        copy = (
            "INSERT INTO reference SELECT pack, offset, length, size, msgid, thread, item, account, mailbox,"
            " uid FROM main.message"
        )
        if not unreadable:
            self._database.execute(f"{copy} ORDER BY pack, offset, account, mailbox, uid")
        else:
            for where in self._database.execute("SELECT account, id FROM mailbox").fetchall():
                if where[1] not in unreadable:
                    self._database.execute(f"{copy} WHERE account = ? AND mailbox = ?", where)
        return {
            number: (length, dead)
            for number, length, dead in self._database.execute(
                "SELECT number, length, dead FROM pack ORDER BY number"
            )
        }

    def _check_tables(self, known: dict[int, tuple[int, int]]) -> tuple[int, int, int]:
        self._tell(0, self._total, "checking counters")
        for check in CHECKS if not self._damage.pages else ():
            for kind, text in check(self._database):
                self._problem(kind, text)
        if self._damage.pages:
            self._note("counters and references were not compared: the database has damaged pages")
        for pack, count in self._database.execute(
            "SELECT pack, count(*) FROM reference GROUP BY pack"
        ).fetchall():
            if pack not in known:
                self._problem(
                    Kind.REFERENCE, f"{count} messages are said to lie in pack {pack}, which is unknown"
                )
        one = self._database.execute(
            "SELECT (SELECT count(*) FROM account WHERE key IS NOT NULL),"
            " (SELECT count(*) FROM mailbox WHERE name IS NOT NULL), (SELECT count(*) FROM reference)"
        ).get
        return one[0], one[1], one[2]

    # --- the packs --------------------------------------------------------------------------------

    def _check_pack(self, packs: Packs, number: int, length: int, dead: int) -> None:
        if length and dead == length:
            self._note(f"pack {number} holds no message any more: compaction will remove it")
        if not self._check_length(packs, number, length, dead):
            return
        for found in survey(packs, number, length, lambda place: self._next_reference(number, place)):
            if isinstance(found, Damage):
                self._check_damage(number, found)
                self._step(number, found.end - found.start)
            else:
                self._records += 1
                self._check_record(number, found)
                self._step(number, found.record.header.length)
        self._check_pointers(number)

    def _check_length(self, packs: Packs, number: int, length: int, dead: int) -> bool:
        """Whether it can be read."""
        try:
            size = packs.size(number)
        except FileNotFoundError:
            self._missing(packs, number, length, dead)
            return False
        except OSError as error:
            self._problem(Kind.PACK, f"pack {number} cannot be opened: {error.strerror}")
            return False
        if size < length and self._still(number, length):
            self._problem(Kind.PACK, f"pack {number} has {size} octets, {length} were written")
        return True

    def _missing(self, packs: Packs, number: int, length: int, dead: int) -> None:
        if dead == length or not self._still(number, length):
            return  # compaction is about to forget it, or has
        if (
            self._files.exists(packs.path(number, ARRIVING))
            and not self._database.execute("SELECT 1 FROM reference WHERE pack = ?", (number,)).get
        ):
            return
        count = self._database.execute("SELECT count(*) FROM reference WHERE pack = ?", (number,)).get
        self._problem(Kind.PACK, f"the file of pack {number} is missing, and {count} messages with it")

    def _check_damage(self, number: int, damage: Damage) -> None:
        lost = [
            reference
            for reference in self._references(number, damage.start, damage.end)
            if self._current(number, reference)
        ]
        for reference in lost:
            self._problem(Kind.RECORD, f"{self._name(reference)} is damaged: {damage.reason}")
        self._database.execute(
            "DELETE FROM reference WHERE pack = ? AND offset >= ? AND offset < ?",
            (number, damage.start, damage.end),
        )
        if not lost and self._still(number, damage.end):
            where = f"pack {number}, octets {damage.start} to {damage.end}"
            self._note(f"damage where no message lies: {where}: {damage.reason}")

    def _check_record(self, number: int, found: Found) -> None:
        record = found.record
        item = record.trailer.item or records.item_of(number, found.offset)
        try:
            structure = decode_structure(record.trailer.structure)
            names = records.hash64(structure.message_id), thread_of(structure.thread_root, record)
        except StructureVersionError as error:
            self._note(f"pack {number} offset {found.offset}: {error}; it is computed when read")
            names = None
        for reference in self._references(number, found.offset, found.offset + 1):
            wrong = _wrong_columns(reference, record, item, names)
            if wrong and self._current(number, reference):
                self._problem(Kind.REFERENCE, f"{self._name(reference)}: {wrong}")
        self._check_cache(item, record)
        self._database.execute("DELETE FROM reference WHERE pack = ? AND offset = ?", (number, found.offset))

    def _check_cache(self, item: int, record: Record) -> None:
        if "structure" in self._damage.tables:
            return
        data = self._database.execute("SELECT data FROM structure WHERE item = ?", (item,)).get
        if data is None:
            return
        encoded = record.trailer.structure
        try:  # see structures.py: one octet for the form, the length of what is compressed
            same = encoded == (records.decompress(data[5:], len(encoded)) if data[0] else data[1:])
        except (CorruptRecord, IndexError):
            same = False
        if not same:
            self._problem(Kind.STRUCTURE, f"the kept structure of item {item} is not the one in its record")

    def _check_pointers(self, number: int) -> None:
        """What is left in temp.reference pointed at no record (damaged ones were told and removed)."""
        for reference in self._references(number, 0, 1 << 62):
            if self._current(number, reference):
                self._problem(Kind.REFERENCE, f"{self._name(reference)} points to where no record begins")
        self._database.execute("DELETE FROM reference WHERE pack = ?", (number,))

    def _references(self, number: int, start: int, end: int) -> list[tuple[int, ...]]:
        cursor = self._database.execute(
            "SELECT offset, length, size, msgid, thread, item, account, mailbox, uid FROM reference"
            " WHERE pack = ? AND offset >= ? AND offset < ? LIMIT ?",
            (number, start, end, PROBLEM_LIMIT),
        )
        return [tuple(map(int, row)) for row in cursor]

    def _next_reference(self, number: int, place: int) -> int | None:
        offset: int | None = self._database.execute(
            "SELECT min(offset) FROM reference WHERE pack = ? AND offset > ?", (number, place)
        ).get
        return offset

    def _current(self, number: int, reference: tuple[int, ...]) -> bool:
        """The row still refers to this record (outside the snapshot: it may be gone or moved by now)."""
        offset, account, mailbox, uid = reference[0], *reference[6:9]
        return bool(
            self._database.execute(
                "SELECT 1 FROM message WHERE account = ? AND mailbox = ? AND uid = ?"
                " AND pack = ? AND offset = ?",
                (account, mailbox, uid, number, offset),
            ).get
        )

    def _still(self, number: int, length: int) -> bool:
        """The pack is still there by now."""
        return bool(
            self._database.execute(
                "SELECT 1 FROM pack WHERE number = ? AND length >= ?", (number, length)
            ).get
        )

    def _name(self, reference: tuple[int, ...]) -> str:
        offset, account, mailbox, uid = reference[0], *reference[6:9]
        key = self._database.execute("SELECT key FROM account WHERE id = ?", (account,)).get
        name = self._database.execute("SELECT name FROM mailbox WHERE id = ?", (mailbox,)).get
        return (
            f"{key or 'a removed account'}, mailbox {name or 'that was removed'}, uid {uid} (offset {offset})"
        )

    def _step(self, number: int, octets: int) -> None:
        self._octets += octets
        self._pace.spent(octets)
        if self._octets - self._told >= _STEP or self._octets >= self._total:
            self._told = self._octets
            self._tell(self._octets, self._total, f"pack {number}")

    def _check_strangers(self, packs: Packs) -> None:
        """Pack files that the database does not know (by now)."""
        on_disk = packs.numbers()
        known = {number for (number,) in self._database.execute("SELECT number FROM pack")}
        for number in on_disk:
            if number not in known and self._files.exists(packs.path(number)):
                self._note(
                    f"the database knows nothing of {packs.path(number).name}; `postkeep rebuild` would"
                )

    # --- the queue --------------------------------------------------------------------------------

    def _check_queue(self) -> int:
        """An acknowledged entry has both its files; one alone is removed when the queue starts."""
        if self._queue is None or not self._files.exists(self._queue):
            return 0
        names = set(self._files.list_dir(self._queue))
        for name in sorted(names):
            path = self._queue / name
            if name.endswith(".env") and f"{name[:-4]}.eml" not in names and self._files.exists(path):
                self._note(
                    f"queue: {name} has no message: it was never accepted, or somebody deleted its .eml; "
                    "the next start removes it"
                )
            if name.endswith(".eml") and f"{name[:-4]}.env" not in names and self._files.exists(path):
                self._note(f"queue: {name} has no envelope (it was never accepted)")
        return sum(1 for name in names if name.endswith(".env"))


def thread_of(root: str, record: Record) -> int:
    """The thread column: a message that refers to nothing and has no Message-ID is a thread of its own."""
    return records.hash64(root) or int.from_bytes(record.header.digest[:8], "little", signed=True)


def _wrong_columns(
    reference: tuple[int, ...], record: Record, item: int, names: tuple[int, int] | None
) -> str | None:
    _, length, size, msgid, thread, row_item = reference[:6]
    if (length, size) != (record.header.length, record.size):
        return f"row says {length} octets for {size}, record has {record.header.length} for {record.size}"
    if names is not None and (msgid, thread) != names:
        return "row and record disagree on Message-ID or thread"
    if row_item != item:
        return "row and record disagree on the message's identity"
    return None
