"""Page checksums of the database: SQLite's own checksum VFS keeps 8 octets at the end of each page, computed
when the page is written into postkeep.db and compared when it is read from there. A flipped bit is an error
that names its page, never another date, flag or offset.

Each page with a wrong checksum is told once in the Error log, whoever came upon it. Other programs can read
such a database as any other; what they write into it has no checksums, so they must not.
"""

import functools
import logging
import re
import threading

import apsw
import apsw.sqlite_extra

from postkeep.domain.errors import DatabaseDamaged, StorageFailed

_log = logging.getLogger(__name__)

RESERVED = 8
"""Octets of a page that hold its checksum."""
PAGE_SIZE = 4096
RESERVED_AT = 20
"""Where the database's header says how many octets of each page are reserved."""
_EXTENSION = "cksumvfs"
_VFS = "cksmvfs"
_MARK = "checksums"
"""Key in `meta`: this database has them, so a header that says otherwise is damaged."""
_TOLD_LIMIT = 10_000
_FAULT = re.compile(r'checksum fault offset (\d+) of "(.*)"', re.DOTALL)


class Faults:
    """Where checksums did not fit, as SQLite tells it (any thread, in the middle of a read)."""

    def __init__(self) -> None:
        self._told: set[tuple[str, int]] = set()
        self._lock = threading.Lock()
        self._latest = threading.local()

    def note(self, code: int, text: str) -> None:
        """SQLite's log hook: everything else that it says comes out as an exception too."""
        if code != apsw.SQLITE_IOERR_DATA or (found := _FAULT.fullmatch(text)) is None:
            return
        page, path = int(found[1]) // PAGE_SIZE + 1, found[2]
        self._latest.page = page
        noted: set[int] | None = getattr(self._latest, "noted", None)
        if noted is not None:
            noted.add(page)
        with self._lock:
            new = (path, page) not in self._told and len(self._told) < _TOLD_LIMIT
            if new:
                self._told.add((path, page))
        if new:
            _log.error(
                "page %d of %s is damaged: its checksum does not fit; what lies there is refused until a"
                " rebuild, the rest is served (see `postkeep verify`)",
                page,
                path,
            )

    def take(self) -> int | None:
        """The page that this thread came upon last, once."""
        page: int | None = getattr(self._latest, "page", None)
        self._latest.page = None
        return page

    def collect(self) -> set[int]:
        """A set that gets each damaged page this thread comes upon from now on."""
        noted: set[int] = set()
        self._latest.noted = noted
        return noted


FAULTS = Faults()
"""One for the process, as SQLite's log hook is."""


@functools.cache
def vfs() -> str:
    """The name of the VFS for databases with checksums (others work too, without); StorageFailed."""
    try:
        connection = apsw.Connection(":memory:")
        try:
            apsw.sqlite_extra.load(connection, _EXTENSION)
        finally:
            connection.close()
    except (apsw.Error, ValueError, OSError) as error:
        raise StorageFailed(f"apsw comes without its extension {_EXTENSION}: {error}") from error
    apsw.config(apsw.SQLITE_CONFIG_LOG, FAULTS.note)
    return _VFS


def reserve(connection: apsw.Connection) -> None:
    """A database that is still empty gets checksums; of one that is not, its copy by VACUUM INTO does."""
    connection.reserve_bytes("main", RESERVED)


def verifying(connection: apsw.Connection) -> bool:
    """Are checksums compared on this connection."""
    return str(connection.pragma("checksum_verification")) == "1"


def is_marked(connection: apsw.Connection) -> bool:
    """The database is known to have checksums."""
    if not connection.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'meta'").get:
        return False
    return bool(connection.execute("SELECT 1 FROM meta WHERE key = ?", (_MARK,)).get)


def check_header(connection: apsw.Connection) -> None:
    """DatabaseDamaged: it should have checksums, and its header denies it."""
    if verifying(connection):
        return
    if connection.reserve_bytes("main") not in (0, RESERVED) or is_marked(connection):
        raise DatabaseDamaged("page 1, the database's header, is damaged")


def mark(connection: apsw.Connection) -> None:
    """Note that it has checksums, once."""
    if verifying(connection) and not is_marked(connection):
        connection.execute("INSERT INTO meta (key, value) VALUES (?, 1)", (_MARK,))


def is_fault(error: BaseException) -> bool:
    """A checksum did not fit."""
    return getattr(error, "extendedresult", 0) == apsw.SQLITE_IOERR_DATA  # none: a VFS in Python raised it


def is_damage(error: BaseException) -> bool:
    """The database's octets are wrong, and doing it again would not help."""
    return isinstance(error, (apsw.CorruptError, apsw.NotADBError, DatabaseDamaged)) or is_fault(error)
