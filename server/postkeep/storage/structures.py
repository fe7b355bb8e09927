"""Structures of stored messages: from the database once known there, else from the packs."""

import itertools
import logging
from collections.abc import Sequence
from functools import partial

import apsw
import orjson

from postkeep.domain.errors import CorruptRecord, DatabaseDamaged, PostkeepError
from postkeep.domain.message import MessageRow
from postkeep.formats.mime.structure import Structure, StructureVersionError, decode_structure
from postkeep.storage import records
from postkeep.storage.bodies import structure_of
from postkeep.storage.checksums import is_damage
from postkeep.storage.packs import Packs
from postkeep.storage.reading import Readers
from postkeep.storage.transaction import Transaction
from postkeep.storage.writer import Writer

_log = logging.getLogger(__name__)

KEEP = 4 << 20
"""Octets of structures read from packs that wait to be written into the database; more are left out."""
_STEP = 512

Known = list[tuple[int, bytes]]
"""(item, encoded structure as the database keeps it)."""


def read_structures(
    connection: apsw.Connection, packs: Packs, rows: Sequence[MessageRow]
) -> tuple[list[Structure | None], Known]:
    """Those of `rows` in order (None: the record is damaged), and what the database does not have yet."""
    known = _known(connection, rows)
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
            structure = structure_of(packs, row.pack, row.offset, record)
        except CorruptRecord as error:
            _log.error("message lost or damaged: %s", error)
            found.append(None)
            continue
        found.append(structure)
        new.append((row.item, _encode(record.trailer.structure)))
    return found, new


def _known(connection: apsw.Connection, rows: Sequence[MessageRow]) -> dict[int, bytes]:
    try:
        return dict(
            connection.execute(
                "SELECT item, data FROM structure WHERE item IN (SELECT value FROM json_each(?))",
                (orjson.dumps([row.item for row in rows]).decode(),),
            )
        )
    except apsw.Error as error:
        if not is_damage(error):
            raise
        return {}  # the packs have them all


def keep_structures(tx: Transaction, known: Known) -> None:
    """Write them for the next time. A message that was expunged meanwhile leaves its row behind, which the
    Compactor finds (walk.orphans)."""
    tx.connection.executemany("INSERT OR IGNORE INTO structure (item, data) VALUES (?, ?)", known)


def drop_structures(tx: Transaction, items: Sequence[int]) -> None:
    """They can be read from the packs again."""
    tx.connection.executemany("DELETE FROM structure WHERE item = ?", [(item,) for item in items])


class StructureKeeper:
    """Reads structures for the store, and has those that came from packs written into the database."""

    def __init__(self, readers: Readers, writer: Writer, packs: Packs) -> None:
        self._readers = readers
        self._writer = writer
        self._packs = packs
        self._new: dict[int, bytes] = {}
        self._octets = 0
        """Of what is in _new."""
        self._damaged = False
        """The table lies in a damaged page: nothing is kept any more."""

    async def read(self, rows: Sequence[MessageRow]) -> tuple[list[Structure | None], bool]:
        """Those of `rows` in order, None for a damaged record; is there something to be kept."""
        found, new = await self._readers.run(read_structures, self._packs, rows)
        if self._damaged:
            return found, False
        for item, data in new:
            if self._octets + len(data) > KEEP:
                break
            if item not in self._new:
                self._new[item] = data
                self._octets += len(data)
        return found, bool(new)

    async def keep(self) -> None:
        """Write what is new, a bounded number at a time."""
        while self._new:
            batch = list(itertools.islice(self._new.items(), _STEP))
            for item, data in batch:
                del self._new[item]
                self._octets -= len(data)
            try:
                await self._writer.change(partial(keep_structures, known=batch))
            except DatabaseDamaged:  # told by checksums.py
                self._damaged = True
                self._new.clear()
                self._octets = 0
                return
            except PostkeepError as error:  # they can be read again
                _log.warning("structures not kept: %s", error)
                return


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
