"""The one SQLite database: how it is opened, locked and asked. All SQL of the product lives in storage/."""

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import apsw
import orjson

from postkeep.domain.errors import DatabaseDamaged, PostkeepError, StorageFailed, StorageFull
from postkeep.storage import checksums
from postkeep.storage.checksums import PAGE_SIZE

NAME = "postkeep.db"
WAL_LIMIT = 64 << 20
"""Octets that the WAL keeps when it is not in use."""
_WRITER_CACHE_KIB = 32 << 10
_READER_CACHE_KIB = 4 << 10
_BUSY_MS = 10_000

Bindings = Sequence[Any]


class Lock:
    """Keeps a second engine out of the same store, for as long as the process lives."""

    def __init__(self, folder: Path) -> None:
        """StorageFailed when another engine holds it."""
        self._fd = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._fd)
            raise StorageFailed(f"another engine has {folder} open") from error

    def release(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def is_locked(folder: Path) -> bool:
    """An engine (or a rebuild) works on the store."""
    try:
        fd = os.open(folder / "lock", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(fd)
    return False


def open_writer(path: Path, vfs: str | None = None) -> apsw.Connection:
    """The read-write connection, made durable: WAL, synchronous=FULL, checkpoints by hand. A new database has
    page checksums."""
    if vfs is None:  # SQLite itself would make it readable for all
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    connection = apsw.Connection(str(path), vfs=vfs or checksums.vfs())
    try:
        _make_durable(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _make_durable(connection: apsw.Connection) -> None:
    connection.set_busy_timeout(_BUSY_MS)
    connection.pragma("page_size", PAGE_SIZE)
    checksums.reserve(connection)
    if connection.pragma("journal_mode", "wal") != "wal":
        raise StorageFailed("postkeep.db cannot be put into WAL mode")
    connection.pragma("synchronous", "FULL")
    connection.pragma("wal_autocheckpoint", 0)
    connection.pragma("cache_size", -_WRITER_CACHE_KIB)
    _common(connection)
    # Overwriting a file costs a sixth of extending it: the WAL stays at its full size, unless a long reading
    # has made it grow beyond measure (it is then cut when it begins anew).
    connection.pragma("journal_size_limit", WAL_LIMIT)
    _keep_wal(connection)


def close_writer(connection: apsw.Connection) -> None:
    """Close the read-write connection; the WAL keeps its size over the restart, but not what was in it: the
    next start would read that again, and a bit flipped there meanwhile would take back all behind it."""
    connection.pragma("journal_size_limit", -1)
    with contextlib.suppress(apsw.Error):  # a reader holds the WAL, or the disk is full: as after a crash
        connection.set_busy_timeout(0)
        connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_RESTART)
        connection.pragma("user_version", int(connection.pragma("user_version")))  # begins it anew
    connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 0)
    connection.close()


def open_reader(path: Path, vfs: str | None = None) -> apsw.Connection:
    """A connection that cannot write."""
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY, vfs=vfs or checksums.vfs())
    connection.set_busy_timeout(_BUSY_MS)
    connection.pragma("cache_size", -_READER_CACHE_KIB)
    _common(connection)
    return connection


def _common(connection: apsw.Connection) -> None:
    connection.pragma("temp_store", "memory")
    connection.pragma("cell_size_check", 1)  # damage is told early, as SQLITE_CORRUPT
    connection.pragma("trusted_schema", 0)
    # Closing leaves the WAL alone: a start that finds it damaged must not copy half of it and cut the rest.
    connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)


def _keep_wal(connection: apsw.Connection) -> None:
    import ctypes

    flag = ctypes.c_int(1)
    connection.file_control("main", apsw.SQLITE_FCNTL_PERSIST_WAL, ctypes.addressof(flag))


@contextlib.contextmanager
def atomic(connection: apsw.Connection) -> Iterator[None]:
    """A transaction, of reading too (one snapshot). SQLite may give it up by itself (full, I/O, a damaged
    page): what is raised then is the reason for that."""
    connection.execute("BEGIN")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            with contextlib.suppress(apsw.Error):
                connection.execute("ROLLBACK")
        raise


def json_value(connection: apsw.Connection, sql: str, bindings: Bindings = ()) -> Any:
    """The one JSON value that `sql` yields, decoded: half the cost of rows as tuples."""
    text = connection.execute(sql, bindings).get
    return orjson.loads(text) if text else None


def json_columns(connection: apsw.Connection, sql: str, bindings: Bindings) -> Iterator[tuple[Any, ...]]:
    """The rows of a query that yields one JSON array for each column."""
    columns: Any = connection.execute(sql, bindings).fetchall()[0]
    return zip(*map(orjson.loads, columns), strict=True)


def translate(error: BaseException) -> BaseException:
    """What went wrong in the words of domain.errors; errors of other kinds (bugs) stay what they are."""
    if isinstance(error, PostkeepError):
        return error
    if isinstance(error, apsw.FullError):
        return StorageFull("the disk is full")
    if isinstance(error, OSError):
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            return StorageFull("the disk is full")
        return StorageFailed(f"the disk failed: {error.strerror or error}")
    if checksums.is_fault(error):
        page = checksums.FAULTS.take()
        where = "a page" if page is None else f"page {page}"
        return DatabaseDamaged(f"the database is damaged ({where}), see `postkeep verify`")
    if isinstance(error, (apsw.CorruptError, apsw.NotADBError)):
        return DatabaseDamaged(f"the database is damaged ({error}), see `postkeep verify`")
    if isinstance(error, apsw.Error) and not isinstance(error, (apsw.SQLError, apsw.BindingsError)):
        return StorageFailed(f"the database failed: {error}")
    return error
