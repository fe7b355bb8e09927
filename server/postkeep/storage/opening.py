"""What an engine finds at start, and how it puts it right before anything else."""

import itertools
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import apsw

from postkeep.domain.errors import DatabaseDamaged, StorageFailed
from postkeep.runtime.files import Files
from postkeep.storage import checksums, wal
from postkeep.storage.packs import ARRIVING, SUFFIX, ActivePack, Packs

_log = logging.getLogger(__name__)

TAIL_LIMIT = 64 << 20
"""A crash leaves at most a batch or so behind the committed length. More than this is not cut but kept: it
tells of a database that is older than its packs (`postkeep rebuild`)."""


def check_database(files: Files, path: Path, connection: apsw.Connection) -> None:
    """DatabaseDamaged: its header denies its checksums, or the WAL is damaged in the middle, and SQLite has
    taken back without a word what was acknowledged. Before anything is written."""
    checksums.check_header(connection)
    valid, _ = connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_NOOP)
    frame = damaged_frame(files, path, valid)
    if frame is not None:
        raise DatabaseDamaged(f"frame {frame} of its WAL is damaged, and what was stored after that is lost")


def damaged_frame(files: Files, path: Path, valid: int | None = None) -> int | None:
    """See `wal.damaged`, of the database at `path`, while nobody writes to it."""
    log = path.with_name(path.name + "-wal")
    if not files.exists(log):
        return None
    fd = files.open(log, os.O_RDONLY)
    try:
        return wal.damaged(lambda length, offset: files.pread(fd, length, offset), files.size(fd), valid)
    finally:
        files.close(fd)


def empty_spool(files: Files, folder: Path) -> None:
    """Messages that were still coming in are gone; their senders know that."""
    for name in files.list_dir(folder):
        if name.endswith(SUFFIX):
            files.unlink(folder / name)


def settle_packs(files: Files, packs: Packs, connection: apsw.Connection) -> None:
    """Packs of one big message: those whose transaction is there become packs, the others go."""
    known = {row[0] for row in connection.execute("SELECT number FROM pack")}
    if not known and packs.numbers():  # before anything is removed that a rebuild could still want
        raise StorageFailed(
            "there are packs but the database knows none: it was lost or replaced; run `postkeep rebuild`"
        )
    arriving = packs.numbers(ARRIVING)
    for number in arriving:
        if number in known:
            files.rename(packs.path(number, ARRIVING), packs.path(number))
        else:
            files.unlink(packs.path(number, ARRIVING))
    if arriving:
        files.sync_dir(packs.folder)
    strange = [number for number in packs.numbers() if number not in known]
    for number in strange:
        _log.error("%s is unknown to the database and left alone", packs.path(number))


def pack_numbers(packs: Packs, connection: apsw.Connection) -> Iterator[int]:
    """Numbers for new packs, never used before. Each `next` is atomic (any thread may take one)."""
    reserved = connection.execute("SELECT value FROM meta WHERE key = 'pack_next'").get or 1
    return itertools.count(max([reserved - 1, *packs.numbers()]) + 1)


def open_active(files: Files, packs: Packs, connection: apsw.Connection) -> ActivePack | None:
    """The active pack, cut to its committed length; None when there is none, or it cannot be trusted."""
    row = connection.execute(
        "SELECT number, length FROM pack WHERE sealed = 0 ORDER BY number DESC LIMIT 1"
    ).fetchone()
    if row is None:
        return None
    number, length = row
    if not files.exists(packs.path(number)):
        if length:
            _log.error("%s is missing", packs.path(number))
            return None
        active = ActivePack(packs, number, 0)  # its row was committed, then came the crash
        try:
            files.sync_dir(packs.folder)
        except BaseException:
            active.close()
            raise
        return active
    fd = files.open(packs.path(number), os.O_RDWR)
    try:
        size = files.size(fd)
        if size < length:
            _log.error("%s is cut short: %d octets of %d", packs.path(number), size, length)
            return None
        if size > length + TAIL_LIMIT:
            _log.error("%s is longer than the database knows: kept as it is", packs.path(number))
            return None
        if size > length:
            _log.info("%s: %d octets after the last commit are cut", packs.path(number), size - length)
            files.truncate(fd, length)
            files.fdatasync(fd)
    finally:
        files.close(fd)
    return ActivePack(packs, number, length)
