"""`postkeep upgrade`: a store of an older version becomes one of this version, or stays what it was.

A copy of the database is migrated and checked beside the old one, then takes its name by one rename; packs
are append-only and stay as they are. Whenever this is killed there is a whole database, old or new:

    postkeep.db                  the one that counts
    postkeep.db.upgrade          the copy, until it is checked (what a killed run left is thrown away)
    postkeep.db.before           the old one (a hard link first), until an engine of this version was ready

The WAL is emptied into the old database before it is copied, and gone before the swap: its frames would be
read into whatever database has the name.
"""

import asyncio
import contextlib
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

import apsw

from postkeep.domain.errors import NotFound, StorageFailed, StorageFull
from postkeep.runtime.files import Files, SystemFiles, write_all
from postkeep.storage import checksums, database, opening
from postkeep.storage.convert import add_checksums
from postkeep.storage.marker import write_marker
from postkeep.storage.migrations import MIGRATIONS, check_age, migrate
from postkeep.storage.survey import Pace, Progress
from postkeep.storage.verify import Report, Verification

T = TypeVar("T")
COPY = database.NAME + ".upgrade"
BEFORE = database.NAME + ".before"
_CHUNK = 4 << 20
_SPARE = 64 << 20
"""Octets that stay free on the disk beside the copy and what its migration writes."""
_ASIDE = ("-wal", "-shm", "-journal")


class Upgraded(NamedTuple):
    """Schemas before and after, whether anything was done, messages in the store, what is kept of the old,
    problems that it had before."""

    before: int
    after: int
    changed: bool
    messages: int
    kept: Path | None
    older: int = 0

    def __str__(self) -> str:
        if not self.changed:
            return f"the store has the schema of this version ({self.after}) already; nothing was done"
        return (
            f"schema {self.before} → {self.after}, {self.messages} messages checked; the old database is kept"
            f" as {BEFORE} until the engine has started"
            + (
                f"; {self.older} problems that it had before are left: see `postkeep verify`"
                if self.older
                else ""
            )
        )


def needs_upgrade(folder: Path) -> bool:
    """Whether the store in `folder` is of an older version. A quick look; False for one that is not there,
    or cannot be read (opening it says why)."""
    path = folder / database.NAME
    try:
        if not path.exists() or not path.stat().st_size:
            return False
        connection = database.open_reader(path)
        try:
            return 0 < check_age(connection) < len(MIGRATIONS)
        finally:
            connection.close()
    except (apsw.Error, OSError, StorageFailed):
        return False


async def upgrade(
    folder: Path,
    progress: Progress | None = None,
    *,
    files: Files | None = None,
    vfs: str | None = None,
    migrations: Sequence[str] = MIGRATIONS,
) -> Upgraded:
    """Bring the store in `folder` (DATA/store) to this version, in a thread; safe to repeat.

    StoreTooNew: a newer version wrote it. StorageFull: no room for the copy. StorageFailed: it cannot be
    migrated, or what came out is not right. In each case the store is as it was.
    """
    return await _run(Upgrade(folder, files or SystemFiles(), vfs, migrations, _teller(progress)).run)


async def go_back(folder: Path, *, files: Files | None = None, vfs: str | None = None) -> int:
    """Undo the last upgrade while nothing was received or changed since; the schema is answered.

    NotFound: there is nothing kept. StorageFailed: the new database holds what the old one does not.
    """
    return await _run(Upgrade(folder, files or SystemFiles(), vfs, MIGRATIONS, _teller(None)).back)


def forget_before(folder: Path) -> bool:
    """An engine of this version is ready: the old database will not be needed. Whether there was one."""
    try:
        os.unlink(folder / BEFORE)
    except OSError:
        return False
    return True


class Upgrade:
    """One run, in one thread."""

    def __init__(
        self, folder: Path, files: Files, vfs: str | None, migrations: Sequence[str], tell: Progress
    ) -> None:
        self._folder = folder
        self._path, self._copy, self._before = folder / database.NAME, folder / COPY, folder / BEFORE
        self._files = files
        self._vfs = vfs
        self._migrations = migrations
        self._tell = tell

    def run(self) -> Upgraded:
        target = len(self._migrations)
        if not self._files.exists(self._path):
            return Upgraded(target, target, False, 0, None)  # the engine makes it
        with self._locked():
            self._throw_away(self._copy)
            before, facts = self._settle(self._path)
            if before in (0, target):
                write_marker(self._files, self._folder, target)
                return Upgraded(before, target, False, facts[2], None)
            self._check_room()
            self._make_copy()
            add_checksums(self._files, self._copy, self._vfs, time.monotonic)
            report = self._migrate(before, facts)
            self._swap()
            write_marker(self._files, self._folder, target)
            return Upgraded(before, target, True, report.messages, self._before, len(report.problems))

    def back(self) -> int:
        with self._locked():
            if not self._files.exists(self._before):
                raise NotFound(f"there is no {BEFORE} in {self._folder}: nothing to go back to")
            schema, old = self._settle(self._before)
            _, new = self._settle(self._path)
            if old != new:
                raise StorageFailed(
                    "the store has changed since the upgrade, and the old database does not know of it; it is"
                    f" kept as {self._before}"
                )
            self._files.rename(self._before, self._path)
            self._files.sync_dir(self._folder)
            write_marker(self._files, self._folder, schema)
            return schema

    # --- steps ------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        lock = database.Lock(self._folder)
        try:
            yield
        except BaseException:
            with contextlib.suppress(OSError):
                self._throw_away(self._copy)
            raise
        finally:
            lock.release()

    def _settle(self, path: Path) -> tuple[int, "Facts"]:
        """Empty the WAL into the database; (schema, what must not change)."""
        connection = database.open_writer(path, self._vfs)
        try:
            opening.check_database(self._files, path, connection)
            schema = check_age(connection, len(self._migrations))
            facts = facts_of(connection) if schema else Facts(0, 0, 0, 0, 0)
            self._empty_wal(connection)
        finally:
            connection.close()
        self._remove_wal(path)
        return schema, facts

    def _check_room(self) -> None:
        size = os.stat(self._path).st_size
        needed = 2 * size + _SPARE  # the copy, and a migration that rewrites all of it in one transaction
        free = shutil.disk_usage(self._folder).free
        if free < needed:
            raise StorageFull(
                f"the upgrade needs {needed >> 20} MB free in {self._folder}, there are {free >> 20} MB;"
                " nothing was changed"
            )

    def _make_copy(self) -> None:
        source = self._files.open(self._path, os.O_RDONLY)
        try:
            target = self._files.open(self._copy, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            try:
                size, done = self._files.size(source), 0
                while piece := self._files.pread(source, _CHUNK, done):
                    write_all(self._files, target, piece)
                    done += len(piece)
                    self._tell(done, size, "copying the database")
                self._files.fdatasync(target)
            finally:
                self._files.close(target)
        finally:
            self._files.close(source)

    def _migrate(self, before: int, facts: "Facts") -> Report:
        """What came out has to be right: no message may be missing, all that it says must agree."""
        target = len(self._migrations)
        connection = database.open_writer(self._copy, self._vfs)
        try:
            for schema in range(before + 1, target + 1):
                self._tell(schema - before - 1, target - before, f"migrating to schema {schema}")
                migrate(connection, self._migrations[:schema])
            checksums.mark(connection)
            self._tell(0, 1, "checking the new database")
            found = facts_of(connection)
            if found != facts:
                raise StorageFailed(
                    f"the migration changed the mail itself ({facts} → {found}); it is not used"
                )
            report = self._verify()
            self._empty_wal(connection)
        finally:
            connection.close()
        self._remove_wal(self._copy)
        return report

    def _verify(self) -> Report:
        """What is wrong now and was not before. Old damage is no reason to stay with an old version: the
        engine serves around it, and only the new one may be able to mend it."""
        report = self._look(COPY)
        if report.clean:
            return report
        old = {(one.kind, one.text) for one in self._look(database.NAME).problems}
        new = [one for one in report.problems if (one.kind, one.text) not in old]
        if new or report.more:
            first = (new or report.problems)[0]
            raise StorageFailed(
                f"{len(new) + report.more} problems after the migration, nothing was changed;"
                f" first: {first.kind}: {first.text}. See `postkeep verify`: they may be older"
            )
        return report

    def _look(self, name: str) -> Report:
        return Verification(
            self._folder, None, self._files, self._vfs, Pace(), self._tell, name=name, quick=True
        ).run()

    def _swap(self) -> None:
        fd = self._files.open(self._copy, os.O_RDWR)
        try:
            self._files.fdatasync(fd)
        finally:
            self._files.close(fd)
        self._remove_wal(self._path)
        with contextlib.suppress(FileNotFoundError):
            self._files.unlink(self._before)
        self._files.link(self._path, self._before)
        self._files.sync_dir(
            self._folder
        )  # the names of the copy and of the old one, and that no WAL is left
        self._files.rename(self._copy, self._path)
        self._files.sync_dir(self._folder)
        self._tell(1, 1, "the new database is in place")

    # --- the WAL ----------------------------------------------------------------------------------

    def _empty_wal(self, connection: apsw.Connection) -> None:
        if connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()[0][0]:  # SQLite found it busy
            raise StorageFailed("another program reads the database; stop it and try again")

    def _remove_wal(self, path: Path) -> None:
        for suffix in _ASIDE:
            aside = path.with_name(path.name + suffix)
            if not self._files.exists(aside):
                continue
            if suffix == "-wal" and os.stat(aside).st_size:
                raise StorageFailed(f"{aside.name} is not empty: another program works on the database")
            self._files.unlink(aside)

    def _throw_away(self, path: Path) -> None:
        for suffix in ("", *_ASIDE):
            with contextlib.suppress(FileNotFoundError):
                self._files.unlink(path.with_name(path.name + suffix))


class Facts(NamedTuple):
    """What no migration may change: numbers of accounts, mailboxes and messages, octets of packs, changes."""

    accounts: int
    mailboxes: int
    messages: int
    packed: int
    modseqs: int


def facts_of(connection: apsw.Connection) -> Facts:
    """These tables and columns are older than all migrations."""
    row = connection.execute(
        "SELECT (SELECT count(*) FROM account), (SELECT count(*) FROM mailbox),"
        " (SELECT count(*) FROM message), (SELECT ifnull(sum(length), 0) FROM pack),"
        " (SELECT ifnull(sum(modseq), 0) FROM mailbox)"
    ).get
    return Facts(*(int(number) for number in row))


def _teller(progress: Progress | None) -> Progress:
    loop = asyncio.get_running_loop()

    def tell(done: int, total: int, text: str) -> None:
        if progress is not None:
            loop.call_soon_threadsafe(progress, done, total, text)

    return tell


async def _run(work: Callable[[], T]) -> T:
    try:
        return await asyncio.to_thread(work)
    except BaseException as error:
        reason = database.translate(error)
        if reason is error:
            raise
        raise reason from error
