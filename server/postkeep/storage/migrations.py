"""The schema, numbered: migration n brings a database from version n - 1 to n (PRAGMA user_version).

A migration that stands in a release is never changed; what comes later is a new one.
"""

from collections.abc import Sequence

import apsw

from postkeep.domain.errors import StorageFailed, StoreTooNew
from postkeep.storage.database import atomic

APPLICATION_ID = 0x504B5001
"""PRAGMA application_id: "PKP" 1; a file of something else is refused."""

_INITIAL = """
CREATE TABLE meta (
    key TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- key is NULL while the account's mail is being removed in the background.
CREATE TABLE account (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    key TEXT UNIQUE,
    modseq INTEGER NOT NULL,       -- at least this; see the mailboxes and messages for the latest
    uidvalidity INTEGER NOT NULL,  -- the last one given to a mailbox
    keywords TEXT NOT NULL         -- JSON array; a keyword's index is its bit
) STRICT;

-- name is NULL while the mailbox's messages are being removed in the background.
-- Lazy counters: all messages below uidnext are counted here, none from uidnext on.
CREATE TABLE mailbox (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    account INTEGER NOT NULL,
    name TEXT,
    uidvalidity INTEGER NOT NULL,
    role TEXT NOT NULL,
    subscribed INTEGER NOT NULL,
    uidnext INTEGER NOT NULL,
    modseq INTEGER NOT NULL,
    messages INTEGER NOT NULL,
    unseen INTEGER NOT NULL,
    deleted INTEGER NOT NULL,
    size INTEGER NOT NULL,
    UNIQUE (account, name)
) STRICT;

-- The one clustered row a message has in a mailbox (domain.message.MessageRow, and the record's length).
CREATE TABLE message (
    account INTEGER NOT NULL,
    mailbox INTEGER NOT NULL,
    uid INTEGER NOT NULL,
    modseq INTEGER NOT NULL,
    created INTEGER NOT NULL,
    flags INTEGER NOT NULL,
    keywords INTEGER NOT NULL,
    size INTEGER NOT NULL,
    date INTEGER NOT NULL,
    pack INTEGER NOT NULL,
    offset INTEGER NOT NULL,
    length INTEGER NOT NULL,
    msgid INTEGER NOT NULL,
    thread INTEGER NOT NULL,
    item INTEGER NOT NULL,
    PRIMARY KEY (account, mailbox, uid)
) STRICT, WITHOUT ROWID;

-- What was expunged or moved away (CONDSTORE, QRESYNC, JMAP).
CREATE TABLE tombstone (
    account INTEGER NOT NULL,
    mailbox INTEGER NOT NULL,
    modseq INTEGER NOT NULL,
    uid INTEGER NOT NULL,
    item INTEGER NOT NULL,
    PRIMARY KEY (account, mailbox, modseq, uid)
) STRICT, WITHOUT ROWID;

CREATE TABLE pack (
    number INTEGER PRIMARY KEY,
    length INTEGER NOT NULL,       -- committed octets
    dead INTEGER NOT NULL,         -- octets of records that no message row refers to
    sealed INTEGER NOT NULL
) STRICT;

-- Records with more than one message row; an absent one has exactly one.
CREATE TABLE shared (
    pack INTEGER NOT NULL,
    offset INTEGER NOT NULL,
    refs INTEGER NOT NULL,
    PRIMARY KEY (pack, offset)
) STRICT, WITHOUT ROWID;

-- Encoded structures (zstd) once read from the packs, for cold ENVELOPE and SORT. May be emptied at will.
CREATE TABLE structure (
    item INTEGER PRIMARY KEY,
    data BLOB NOT NULL
) STRICT;
"""

# Tombstones are not kept for ever: `forgotten` is the modseq up to which those of a mailbox may be missing.
_FORGOTTEN = "ALTER TABLE mailbox ADD COLUMN forgotten INTEGER NOT NULL DEFAULT 0"

MIGRATIONS: tuple[str, ...] = (_INITIAL, _FORGOTTEN)


def migrate(connection: apsw.Connection, migrations: Sequence[str] = MIGRATIONS) -> tuple[int, int]:
    """Bring the schema up to date, each step in a transaction of its own; (version before, after).

    Raises as `check_age`."""
    before = check_age(connection, len(migrations))
    for version in range(before + 1, len(migrations) + 1):
        with atomic(connection):  # all of a step or nothing of it
            connection.execute(migrations[version - 1])
            connection.pragma("user_version", version)
            connection.pragma("application_id", APPLICATION_ID)
    return before, len(migrations)


def check_age(connection: apsw.Connection, known: int = len(MIGRATIONS)) -> int:
    """Its schema, 0 for an empty database. StoreTooNew: above `known`. StorageFailed: another program's."""
    application = int(connection.pragma("application_id"))
    schema = int(connection.pragma("user_version"))
    if application not in (0, APPLICATION_ID) or (application == 0 and _has_tables(connection)):
        raise StorageFailed("postkeep.db is not a database of Postkeep")
    if schema > known:
        raise StoreTooNew(
            f"postkeep.db was written by a newer version (schema {schema}, this one knows {known})"
        )
    return schema


def _has_tables(connection: apsw.Connection) -> bool:
    return bool(connection.execute("SELECT count(*) FROM sqlite_schema").get)
