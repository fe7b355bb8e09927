"""Which pages of the database are damaged, and whom that concerns: for verify."""

import re
from pathlib import Path
from typing import Any, NamedTuple

import apsw

from postkeep.storage import checksums, database

_LINES = 50
"""Findings of SQLite's own check that are asked for."""
_UNREADABLE = re.compile(
    r"^(?:Tree (\d+) page (\d+)|Freelist).*(?:unable to get the page|failed to get page)"
)
_FOLLOWS = re.compile(r"^Page \d+: never used|^\*\*\*|^Freelist: ")
"""What SQLite also says because a page above it cannot be read."""


class Damage(NamedTuple):
    """`pages`: one line for each page whose checksum does not fit; `other`: what else SQLite's check says;
    `tables`: names of those concerned; `mailboxes`: ids of those whose rows cannot all be read."""

    pages: tuple[str, ...]
    other: tuple[str, ...]
    tables: frozenset[str]
    mailboxes: frozenset[int]


def find(path: Path, vfs: str | None) -> Damage:
    """Look at every page of the database at `path` that holds something. apsw.Error when it cannot even be
    opened."""
    connection = database.open_reader(path, vfs)
    try:
        return _find(connection)
    finally:
        connection.close()


def _find(connection: apsw.Connection) -> Damage:
    faults = checksums.FAULTS.collect()
    owners: dict[int, str] = {}
    other: list[str] = []
    roots = dict(connection.execute("SELECT rootpage, tbl_name FROM sqlite_schema WHERE rootpage > 0"))
    try:
        for (text,) in connection.execute(f"PRAGMA integrity_check({_LINES})"):
            for line in [] if text == "ok" else str(text).splitlines():
                _sort(line, roots, owners, other)
    except apsw.Error as error:
        if not checksums.is_damage(error):
            raise
    tables = set(owners.values())
    mailboxes = _unreadable_mailboxes(connection) if "message" in tables else set()
    pages = []
    for page in sorted(faults):
        table = owners.get(page)
        where = (
            f", table {table}" if table else ", free space" if tables or not faults - owners.keys() else ""
        )
        pages.append(f"page {page} of the database{where}: its checksum does not fit")
    if faults:
        other = [line for line in other if not _FOLLOWS.match(line)]
    pages += _names(connection, mailboxes)
    return Damage(tuple(pages), tuple(other), frozenset(tables), frozenset(mailboxes))


def _sort(line: str, roots: dict[int, str], owners: dict[int, str], other: list[str]) -> None:
    found = _UNREADABLE.match(line)
    if found is None:
        other.append(line)
    elif found[1] is not None:
        owners[int(found[2])] = roots.get(int(found[1]), "sqlite_schema")


def _unreadable_mailboxes(connection: apsw.Connection) -> set[int]:
    found: set[int] = set()
    rows: list[tuple[Any, ...]] = connection.execute("SELECT account, id FROM mailbox").fetchall()
    for account, mailbox in rows:
        try:
            connection.execute(
                "SELECT sum(uid) FROM message WHERE account = ? AND mailbox = ?", (account, mailbox)
            ).fetchall()
        except apsw.Error as error:
            if not checksums.is_damage(error):
                raise
            found.add(mailbox)
    return found


def _names(connection: apsw.Connection, mailboxes: set[int]) -> list[str]:
    return [
        f"{key or 'a removed account'}, mailbox {name or 'that was removed'}: messages in damaged pages"
        " cannot be read"
        for mailbox in sorted(mailboxes)
        for key, name in connection.execute(
            "SELECT a.key, b.name FROM mailbox b LEFT JOIN account a ON a.id = b.account WHERE b.id = ?",
            (mailbox,),
        )
    ]
