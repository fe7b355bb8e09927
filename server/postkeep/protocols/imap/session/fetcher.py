"""FETCH replies: from rows alone in whole batches, from structures and messages in bounded ones."""

from collections.abc import AsyncIterator, Sequence
from typing import TypeVar

from postkeep.domain.errors import CorruptRecord
from postkeep.domain.message import Flag, FlagMode, FlagsRow, MessageRow
from postkeep.formats.mime import headers
from postkeep.formats.mime.structure import Structure
from postkeep.protocols.imap.encoding import internal_date
from postkeep.protocols.imap.fetch_syntax import ROW_ITEMS, FetchItems, Section
from postkeep.protocols.imap.session.session import Session
from postkeep.protocols.imap.session.view import View
from postkeep.protocols.wire import Disconnected
from postkeep.storage.bodies import StoredMessage

STRUCTURE_BATCH = 200
STRUCTURE_OCTETS = 1 << 17
"""Messages whose structures are held at a time: so many, of MESSAGE_BATCH_OCTETS together, where one counts
with at most so much. (An address list grows to several times its octets.)"""
MESSAGE_BATCH = 32
MESSAGE_BATCH_OCTETS = 1 << 20
"""Messages opened at a time: so many, of so much together (or one larger one)."""
WINDOW = 1 << 18
"""Octets of a body held at a time."""
HEADER_LIMIT = 1 << 18
"""Octets of a header of which fields are picked, as many as the scanner looks at."""

NumberedRow = tuple[int, MessageRow]
Row = TypeVar("Row", MessageRow, FlagsRow)
Column = tuple[bytes, Sequence[int | bytes]]
"""An item's format and its values, a message each."""


class Fetcher:
    """One FETCH. Afterwards `answered` counts the messages that are there, `damaged` has the UIDs of those
    that cannot be read."""

    def __init__(self, session: Session, view: View, items: FetchItems) -> None:
        self._session = session
        self._service = session.mailboxes
        self._view = view
        self._items = items
        self._columns = [name for name in items.simple if name in ROW_ITEMS]
        self._structural = [name for name in items.simple if name not in ROW_ITEMS]
        self.damaged: list[int] = []
        self.answered = 0

    @property
    def flags_only(self) -> bool:
        """Whether `run_flags` can answer it, from less than whole rows."""
        items = self._items
        return not items.sections and all(name in ("UID", "FLAGS", "MODSEQ") for name in items.simple)

    async def run_flags(self, batches: AsyncIterator[list[FlagsRow]]) -> None:
        async for rows in batches:
            numbers, rows = self._numbered(rows)
            self.answered += len(rows)
            if rows:
                columns = {
                    "UID": (b"UID %d", [row.uid for row in rows]),
                    "MODSEQ": (b"MODSEQ (%d)", [row.modseq for row in rows]),
                    "FLAGS": self._flags_column(rows),
                }
                self._session.write(_lines(numbers, [columns[name] for name in self._columns]))
            await self._session.wire.drain()

    async def run(self, batches: AsyncIterator[list[MessageRow]]) -> None:
        async for rows in batches:
            numbers, rows = self._numbered(rows)
            self.answered += len(rows)
            if not (self._items.sections or self._structural):
                self._session.write(self._rows_only(numbers, rows))
                await self._session.wire.drain()
                continue
            numbered = list(zip(numbers, rows, strict=True))
            if self._items.sections:
                for part in _by_size(numbered, MESSAGE_BATCH):
                    await self._with_messages(part)
            else:
                for part in _by_size(numbered, STRUCTURE_BATCH, STRUCTURE_OCTETS):
                    await self._with_structures(part)

    def _numbered(self, rows: list[Row]) -> tuple[Sequence[int], list[Row]]:
        """Sequence numbers and their rows; what the client has not been told of is left out."""
        if not rows:
            return (), rows
        view = self._view
        first, last = view.number(rows[0].uid), view.number(rows[-1].uid)
        if first is not None and last is not None and last - first + 1 == len(rows):
            # As many known UIDs between the two as there are rows: a run without gaps.
            return range(first, last + 1), rows
        pairs = [(number, row) for row in rows if (number := view.number(row.uid)) is not None]
        return [number for number, _ in pairs], [row for _, row in pairs]

    # --- from rows ----------------------------------------------------------------------------------

    def _rows_only(self, numbers: Sequence[int], rows: list[MessageRow]) -> bytes:
        if not rows:
            return b""
        return _lines(numbers, [self._column(name, rows) for name in self._columns])

    def _column(self, name: str, rows: list[MessageRow]) -> Column:
        match name:
            case "UID":
                return b"UID %d", [row.uid for row in rows]
            case "MODSEQ":
                return b"MODSEQ (%d)", [row.modseq for row in rows]
            case "RFC822.SIZE":
                return b"RFC822.SIZE %d", [row.size for row in rows]
            case "INTERNALDATE":
                return b"INTERNALDATE %b", [internal_date(row.date) for row in rows]
        return self._flags_column(rows)

    def _flags_column(self, rows: Sequence[MessageRow] | Sequence[FlagsRow]) -> Column:
        view = self._view
        if view.has_recent(rows[0].uid, rows[-1].uid):
            return b"FLAGS (%b)", [view.flags_text(row.uid, row.flags, row.keywords) for row in rows]
        names = view.flag_names()
        return b"FLAGS (%b)", [names[row.flags, row.keywords] for row in rows]

    def _row_parts(self, row: MessageRow) -> list[bytes]:
        parts = []
        for name in self._columns:
            text, column = self._column(name, [row])
            parts.append(text % column[0])
        return parts

    # --- from structures ----------------------------------------------------------------------------

    async def _with_structures(self, numbered: list[NumberedRow]) -> None:
        structures = await self._service.structures([row for _, row in numbered])
        held = 0
        for (number, row), structure in zip(numbered, structures, strict=True):
            if structure is None:
                self.damaged.append(row.uid)
                continue
            parts = self._row_parts(row) + self._structure_parts(structure)
            line = b"* %d FETCH (%b)\r\n" % (number, b" ".join(parts))
            self._session.write(line)
            held += len(line)
            if held >= WINDOW:
                held = 0
                await self._session.wire.drain()
        await self._session.wire.drain()

    def _structure_parts(self, structure: Structure) -> list[bytes]:
        parts = []
        for name in self._structural:
            if name == "ENVELOPE":
                parts.append(b"ENVELOPE " + structure.envelope)
            elif name == "BODYSTRUCTURE":
                parts.append(b"BODYSTRUCTURE " + structure.bodystructure)
            else:
                parts.append(b"BODY " + structure.body())
        return parts

    # --- from messages ------------------------------------------------------------------------------

    async def _with_messages(self, numbered: list[NumberedRow]) -> None:
        messages = await self._service.messages([row for _, row in numbered])
        opened: list[tuple[int, MessageRow, StoredMessage, Structure]] = []
        for (number, row), message in zip(numbered, messages, strict=True):
            if isinstance(message, CorruptRecord):
                self.damaged.append(row.uid)
                continue
            try:
                opened.append((number, row, message, message.structure))
            except CorruptRecord:
                self.damaged.append(row.uid)
        seen = await self._mark_seen([row for _, row, _, _ in opened])
        for number, row, message, structure in opened:
            changed = seen.get(row.uid)
            await self._message(number, changed or row, message, structure, show_flags=changed is not None)
            await self._session.wire.drain()

    async def _mark_seen(self, rows: list[MessageRow]) -> dict[int, MessageRow]:
        """Set \\Seen where BODY[…] implies it; the rows that changed, as they are now (RFC 3501 §6.4.5)."""
        view = self._view
        if view.read_only or not self._items.sets_seen:
            return {}
        unseen = {row.uid: row for row in rows if not row.flags & Flag.SEEN}
        if not unseen:
            return {}
        result = await self._service.store_flags(
            view.account, view.mailbox.id, list(unseen), FlagMode.ADD, Flag.SEEN, origin=self._session
        )
        return {
            now.uid: unseen[now.uid]._replace(flags=now.flags, keywords=now.keywords, modseq=now.modseq)
            for now in result.rows
        }

    async def _message(
        self, number: int, row: MessageRow, message: StoredMessage, structure: Structure, *, show_flags: bool
    ) -> None:
        parts = self._row_parts(row)
        if show_flags and "FLAGS" not in self._columns:
            parts.append(b"FLAGS (%b)" % self._view.flags_text(row.uid, row.flags, row.keywords))
            if self._session.extensions.condstore and "MODSEQ" not in self._columns:
                parts.append(b"MODSEQ (%d)" % row.modseq)
        parts += self._structure_parts(structure)
        output = _MessageOutput(self._session, b"* %d FETCH (" % number, b" ".join(parts))
        try:
            for section in self._items.sections:
                await output.section(section, message, structure)
                await output.flush()
        except Exception as error:
            if self._session.streaming:
                # A reply is begun that cannot be finished: nothing else keeps the stream honest.
                self._session.wire.abort()
                raise Disconnected from error
            if not isinstance(error, CorruptRecord):
                raise
            self.damaged.append(row.uid)
            return
        output.end()


class _MessageOutput:
    """Writes one FETCH reply and holds at most two windows of it. A reply that fits is known to be good as a
    whole before anything goes out; of a longer one the session is `streaming` from its first octets on."""

    def __init__(self, session: Session, head: bytes, parts: bytes) -> None:
        self._session = session
        self._held = [head, parts]
        self._held_size = 0
        self._separator = b" " if parts else b""

    async def section(self, section: Section, message: StoredMessage, structure: Structure) -> None:
        label = self._separator + section.label
        self._separator = b" "
        if section.text.startswith("HEADER.FIELDS"):
            await self._fields(label, section, message, structure)
            return
        found = structure.section(section.path, section.text)  # type: ignore[arg-type]
        if found is None:
            self._put(label + b" NIL")
            return
        start, end = _partial(section, *found)
        if end - start <= WINDOW:
            data = await message.read(start, end - start) if end > start else b""
            if len(data) != end - start:
                raise CorruptRecord("the message is shorter than its structure says")
            self._put(b"%b {%d}\r\n" % (label, end - start))
            self._put(data)
            return
        first = await message.read(start, WINDOW)
        self._put(b"%b {%d}\r\n" % (label, end - start))
        self._put(first)
        position = start + len(first)
        while position < end:
            await self.flush()
            data = await message.read(position, min(WINDOW, end - position))
            if not data:
                raise CorruptRecord("the message is shorter than its structure says")
            self._put(data)
            position += len(data)

    async def _fields(
        self, label: bytes, section: Section, message: StoredMessage, structure: Structure
    ) -> None:
        found = structure.section(section.path, "HEADER")
        if found is None:
            self._put(label + b" NIL")
            return
        start, end = found
        block = await message.read(start, min(end - start, HEADER_LIMIT))
        data = headers.select(block, section.fields, exclude=section.text.endswith("NOT"))
        first, last = _partial(section, 0, len(data))
        self._put(b"%b {%d}\r\n%b" % (label, last - first, data[first:last]))

    def end(self) -> None:
        self._put(b")\r\n")
        self._session.write(b"".join(self._held))
        self._session.streaming = False

    def _put(self, data: bytes) -> None:
        self._held.append(data)
        self._held_size += len(data)

    async def flush(self) -> None:
        """Between sections and pieces of them."""
        if self._held_size >= WINDOW:
            self._session.streaming = True
            self._session.write(b"".join(self._held))
            self._held = []
            self._held_size = 0
            await self._session.wire.drain()
        await self._session.breathe()


def _lines(numbers: Sequence[int], columns: list[Column]) -> bytes:
    """A batch of whole replies: a column an item, put together by one format."""
    line = b"* %d FETCH (" + b" ".join([text for text, _ in columns]) + b")\r\n"
    return b"".join(map(line.__mod__, zip(numbers, *[column for _, column in columns], strict=True)))


def _partial(section: Section, start: int, end: int) -> tuple[int, int]:
    if section.length is None:
        return start, end
    first = min(end, start + section.start)
    return first, min(end, first + section.length)


def _by_size(numbered: list[NumberedRow], most: int, largest: int = 1 << 62) -> list[list[NumberedRow]]:
    """Cut into parts of at most `most` messages that hold not too many octets together, where one counts with
    at most `largest`; one large message makes a part alone."""
    parts: list[list[NumberedRow]] = []
    octets = 0
    for item in numbered:
        size = min(item[1].size, largest)
        if not parts or len(parts[-1]) >= most or octets + size > MESSAGE_BATCH_OCTETS:
            parts.append([])
            octets = 0
        parts[-1].append(item)
        octets += size
    return parts
