"""A database from before page checksums gets them, once, at the first start with a version that has them.

A copy with checksums is made beside it (SQLite's VACUUM INTO, which also reads all of the old one) and takes
its name by one rename when it is complete and durable. Before that the old one is made whole without its WAL
and the WAL's removal is durable: never does a WAL lie beside a database that it does not belong to. A crash
at any point leaves the old database or the new one.
"""

import contextlib
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import apsw

from postkeep.runtime.files import Files
from postkeep.storage import checksums, database
from postkeep.storage.migrations import APPLICATION_ID
from postkeep.storage.opening import check_database

_log = logging.getLogger(__name__)

NEW = database.NAME + ".new"
"""Where a database is made that will take the place of another; what is found there at start is refuse."""
_ROOM = 64 << 20
"""Octets that stay free on the disk beside the copy."""
_TELL_SECONDS = 5.0
_STEPS = 200_000


def add_checksums(
    files: Files,
    path: Path,
    vfs: str | None,
    monotonic: Callable[[], float],
    free: Callable[[Path], int] = lambda folder: shutil.disk_usage(folder).free,
) -> bool:
    """Convert the database at `path` if it has none; was it done. Without room for the copy it stays as it
    is, which is told. DatabaseDamaged: its header only says that it has none, or its WAL is damaged."""
    remove_new(files, path.parent)
    if not _is_without(files, path):
        return False
    connection = database.open_writer(path, vfs)
    try:
        application = int(connection.pragma("application_id"))
        if application != APPLICATION_ID:
            return False  # see `migrate`
        check_database(files, path, connection)
        octets = int(connection.pragma("page_count")) * checksums.PAGE_SIZE
        if free(path.parent) < octets + _ROOM:
            _log.error(
                "no room to give the database page checksums: %d MiB are needed in %s; flipped bits stay"
                " unnoticed until then, the next start tries again",
                (octets + _ROOM) >> 20,
                path.parent,
            )
            return False
        _log.info("the database gets page checksums (%d MiB are copied, once)", octets >> 20)
        if not _copied(files, connection, path, octets, monotonic):
            return False
        busy = not _empty_wal(connection)
    except BaseException:
        connection.close()
        remove_new(files, path.parent)
        raise
    connection.close()
    if busy:
        _log.error("the database gets page checksums at the next start: another program is reading it")
        remove_new(files, path.parent)
        return False
    for suffix in ("-wal", "-shm"):
        with contextlib.suppress(FileNotFoundError):
            files.unlink(path.with_name(path.name + suffix))
    files.sync_dir(path.parent)
    files.rename(path.parent / NEW, path)
    files.sync_dir(path.parent)
    _log.info("the database has page checksums")
    return True


def _copied(
    files: Files, connection: apsw.Connection, path: Path, octets: int, monotonic: Callable[[], float]
) -> bool:
    """False, told: a page is damaged. What is sound is served as before, and a rebuild gives checksums."""
    try:
        with _progress(connection, path.parent, octets, monotonic):
            copy_sound(files, connection, path.parent / NEW)
    except apsw.Error as error:
        if not checksums.is_damage(error):
            raise
        _log.error(
            "the database gets no page checksums, since it is damaged (%s): see `postkeep verify`, then make"
            " a new one with `postkeep rebuild`",
            error,
        )
        remove_new(files, path.parent)
        return False
    return True


def copy_sound(files: Files, connection: apsw.Connection, target: Path) -> None:
    """A copy of all that is in the database, with checksums, durable but for its name. Fails with apsw.Error
    when a page that holds something cannot be read."""
    checksums.reserve(connection)
    files.close(files.open(target, os.O_RDWR | os.O_CREAT, 0o600))  # SQLite would make it readable for all
    connection.execute("VACUUM INTO ?", (str(target),))  # an empty file is as good as none
    fd = files.open(target, os.O_RDWR)
    try:
        files.fdatasync(fd)
    finally:
        files.close(fd)


def remove_new(files: Files, folder: Path) -> None:
    """What a conversion or a rebuild that was cut short has left."""
    for suffix in ("", "-journal", "-wal", "-shm"):
        with contextlib.suppress(FileNotFoundError):
            files.unlink(folder / (NEW + suffix))


def _is_without(files: Files, path: Path) -> bool:
    """Its header, which is never in the WAL alone, says that no octets are reserved."""
    if not files.exists(path):
        return False
    fd = files.open(path, os.O_RDONLY)
    try:
        header = files.pread(fd, 100, 0)
    finally:
        files.close(fd)
    return len(header) == 100 and header.startswith(b"SQLite format 3") and header[checksums.RESERVED_AT] == 0


def _empty_wal(connection: apsw.Connection) -> bool:
    connection.set_busy_timeout(0)
    try:
        pages, _ = connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
    except apsw.BusyError:
        return False
    return pages == 0


@contextlib.contextmanager
def _progress(
    connection: apsw.Connection, folder: Path, octets: int, monotonic: Callable[[], float]
) -> Iterator[None]:
    """Tell now and then how much is copied."""
    told = monotonic()

    def step() -> bool:
        nonlocal told
        if monotonic() - told >= _TELL_SECONDS:
            told = monotonic()
            with contextlib.suppress(OSError):
                done = os.stat(folder / NEW).st_size
                _log.info("page checksums: %d of %d MiB", done >> 20, octets >> 20)
        return False

    connection.set_progress_handler(step, _STEPS)
    try:
        yield
    finally:
        connection.set_progress_handler(None)
