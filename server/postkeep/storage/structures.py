"""Structures of stored messages: from the database once known there, else from the packs."""

import logging
from collections.abc import Sequence

import apsw
import orjson

from postkeep.domain.errors import CorruptRecord
from postkeep.domain.message import MessageRow
from postkeep.formats.mime.structure import Structure, StructureVersionError, decode_structure
from postkeep.storage import records
from postkeep.storage.bodies import structure_of
from postkeep.storage.packs import Packs
from postkeep.storage.transaction import Transaction

_log = logging.getLogger(__name__)

KEEP = 4096
"""Structures read from packs that wait to be written into the database; more are left out."""

Known = list[tuple[int, bytes]]
"""(item, encoded structure as the database keeps it)."""


def read_structures(
    connection: apsw.Connection, packs: Packs, rows: Sequence[MessageRow]
) -> tuple[list[Structure | None], Known]:
    """Those of `rows` in order (None: the record is damaged), and what the database does not have yet."""
    known = dict(
        connection.execute(
            "SELECT item, data FROM structure WHERE item IN (SELECT value FROM json_each(?))",
            (orjson.dumps([row.item for row in rows]).decode(),),
        )
    )
    found: list[Structure | None] = []
    new: Known = []
    for row in rows:
        data = known.get(row.item)
        if data is not None:
            structure = _decode(data)
            if structure is not None:
                found.append(structure)
                continue
        try:
            record = packs.read(row.pack, row.offset, row.size, body=False)
        except CorruptRecord as error:
            _log.error("message lost or damaged: %s", error)
            found.append(None)
            continue
        found.append(structure_of(packs, row.pack, row.offset, record))
        new.append((row.item, _encode(record.trailer.structure)))
    return found, new


def keep_structures(tx: Transaction, known: Known) -> None:
    """Write them for the next time; a message that was expunged meanwhile leaves no trace for long: the row
    is overwritten or dropped with its item, and the table may be emptied at will."""
    tx.connection.executemany("INSERT OR IGNORE INTO structure (item, data) VALUES (?, ?)", known)


def _encode(encoded: bytes) -> bytes:
    """One octet for the form, raw length, then the structure, compressed when it pays."""
    packed = records.compress(encoded)
    if packed is None:
        return b"\0" + encoded
    return b"\1" + len(encoded).to_bytes(4, "little") + packed


def _decode(data: bytes) -> Structure | None:
    """None: not of this version, or damaged; the pack has it."""
    try:
        if data[:1] == b"\1":
            return decode_structure(records.decompress(data[5:], int.from_bytes(data[1:5], "little")))
        return decode_structure(data[1:])
    except (StructureVersionError, CorruptRecord):
        return None
