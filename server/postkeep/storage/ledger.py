"""What must agree inside the database: the checks of `postkeep verify` that open no pack.

All run in one snapshot and read temp.reference, the copy of all rows by pack and offset (see verify.py).
"""

from collections.abc import Iterator
from enum import StrEnum

import apsw


class Kind(StrEnum):
    PAGE = "page"
    DATABASE = "database"
    RECORD = "record"
    REFERENCE = "reference"
    COUNTER = "counter"
    ACCOUNTING = "accounting"
    STRUCTURE = "structure"
    PACK = "pack"


Finding = tuple[Kind, str]


def _orphans(connection: apsw.Connection) -> Iterator[Finding]:
    for account, mailbox, count in connection.execute(
        "SELECT r.account, r.mailbox, count(*) FROM reference r LEFT JOIN mailbox b"
        " ON b.id = r.mailbox AND b.account = r.account WHERE b.id IS NULL GROUP BY r.account, r.mailbox"
    ):
        yield (
            Kind.DATABASE,
            f"{count} messages belong to mailbox {mailbox} of account {account}, which is unknown",
        )
    for mailbox, account in connection.execute(
        "SELECT b.id, b.account FROM mailbox b LEFT JOIN account a ON a.id = b.account WHERE a.id IS NULL"
    ):
        yield Kind.DATABASE, f"mailbox {mailbox} belongs to account {account}, which is unknown"


def _counters(connection: apsw.Connection) -> Iterator[Finding]:
    """Lazy counters: all messages below uidnext are counted, none from there on."""
    for key, name, *numbers in connection.execute(
        "SELECT a.key, b.name, b.messages, b.unseen, b.deleted, b.size, count(m.uid),"
        " ifnull(sum(m.flags & 1 = 0), 0), ifnull(sum(m.flags & 8 <> 0), 0), ifnull(sum(m.size), 0)"
        " FROM mailbox b JOIN account a ON a.id = b.account LEFT JOIN message m"
        " ON m.account = b.account AND m.mailbox = b.id AND m.uid < b.uidnext"
        " WHERE b.name IS NOT NULL AND a.key IS NOT NULL GROUP BY b.id"
    ):
        for what, stored, real in zip(
            ("messages", "unseen", "deleted", "octets"), numbers[:4], numbers[4:], strict=True
        ):
            if stored != real:
                yield Kind.COUNTER, f"{key}, mailbox {name}: counts {stored} {what}, there are {real}"


def _modseqs(connection: apsw.Connection) -> Iterator[Finding]:
    for key, name, stored, real in connection.execute(
        "SELECT a.key, b.name, b.modseq, max(m.modseq) AS newest FROM mailbox b"
        " JOIN account a ON a.id = b.account JOIN message m"
        " ON m.account = b.account AND m.mailbox = b.id AND m.uid < b.uidnext"
        " WHERE b.name IS NOT NULL AND a.key IS NOT NULL GROUP BY b.id HAVING newest > b.modseq"
    ):
        yield Kind.COUNTER, f"{key}, mailbox {name}: modseq is {stored}, a message has {real}"
    for key, name, uid in connection.execute(
        "SELECT a.key, b.name, m.uid FROM message m JOIN mailbox b ON b.id = m.mailbox"
        " JOIN account a ON a.id = m.account WHERE m.created > m.modseq OR m.uid < 1 LIMIT 100"
    ):
        yield Kind.COUNTER, f"{key}, mailbox {name}, uid {uid}: impossible uid or modseq"
    for key, given, found in connection.execute(
        "SELECT a.key, a.uidvalidity, max(b.uidvalidity) AS newest FROM account a JOIN mailbox b"
        " ON b.account = a.id WHERE a.key IS NOT NULL GROUP BY a.id HAVING newest > a.uidvalidity"
    ):
        yield Kind.COUNTER, f"{key}: uidvalidity {given} was given last, a mailbox has {found}"


def _tombstones(connection: apsw.Connection) -> Iterator[Finding]:
    for key, name, uid in connection.execute(
        "SELECT a.key, b.name, t.uid FROM tombstone t JOIN mailbox b ON b.id = t.mailbox"
        " JOIN account a ON a.id = t.account JOIN message m"
        " ON m.account = t.account AND m.mailbox = t.mailbox AND m.uid = t.uid LIMIT 100"
    ):
        yield Kind.COUNTER, f"{key}, mailbox {name}, uid {uid}: is there and is said to be expunged"
    for key, name, uid in connection.execute(
        "SELECT a.key, b.name, t.uid FROM tombstone t JOIN mailbox b ON b.id = t.mailbox"
        " JOIN account a ON a.id = t.account WHERE b.name IS NOT NULL AND"
        " (t.uid >= b.uidnext OR t.modseq > b.modseq) LIMIT 100"
    ):
        yield Kind.COUNTER, f"{key}, mailbox {name}: uid {uid} was expunged, yet uidnext or modseq is lower"


def _shares(connection: apsw.Connection) -> Iterator[Finding]:
    for pack, offset, refs in connection.execute(
        "SELECT pack, offset, refs FROM (SELECT pack, offset, count(*) AS refs FROM reference"
        " GROUP BY pack, offset HAVING refs > 1) EXCEPT SELECT pack, offset, refs FROM shared LIMIT 100"
    ):
        yield Kind.ACCOUNTING, f"pack {pack} offset {offset} has {refs} references, another number is noted"
    for pack, offset, refs in connection.execute(
        "SELECT pack, offset, refs FROM shared WHERE refs > 1 EXCEPT"
        " SELECT pack, offset, count(*) FROM reference GROUP BY pack, offset LIMIT 100"
    ):
        yield Kind.ACCOUNTING, f"pack {pack} offset {offset}: {refs} references are noted, that is not so"


def _dead_octets(connection: apsw.Connection) -> Iterator[Finding]:
    for pack, length, dead, live in connection.execute(
        "SELECT p.number, p.length, p.dead, ifnull(l.live, 0) FROM pack p LEFT JOIN"
        " (SELECT pack, sum(length) AS live FROM (SELECT DISTINCT pack, offset, length FROM reference)"
        " GROUP BY pack) l ON l.pack = p.number WHERE p.dead <> p.length - ifnull(l.live, 0)"
    ):
        text = f"pack {pack}: {dead} of {length} octets are noted as dead, {length - live} are"
        yield Kind.ACCOUNTING, text


CHECKS = (_orphans, _counters, _modseqs, _tombstones, _shares, _dead_octets)
