"""What SEARCH reads in one message: its fields and its texts, decoded once and within bounds."""

import asyncio
import datetime
import re
from collections.abc import Callable, Iterable
from typing import TypeVar

from postkeep.formats.mime import headers
from postkeep.formats.mime.charsets import guess_text
from postkeep.formats.mime.decode import part_text
from postkeep.formats.mime.structure import Part, Structure
from postkeep.protocols.imap import search_syntax as keys
from postkeep.protocols.imap.syntax import MONTHS
from postkeep.storage.bodies import StoredMessage

HEADER_LIMIT = 1 << 18
"""Octets of a header that are searched."""
PART_LIMIT = 1 << 20
"""Octets of one encoded text part that are searched."""
MESSAGE_TEXT_LIMIT = 1 << 23
"""Octets of encoded text parts, and for TEXT of headers, that are searched in one message."""
WORKER_OCTETS = 1 << 15
"""Octets from which on decoding is left to a thread."""

_DATE = re.compile(rb"(\d{1,2})[\s-]{1,4}([A-Za-z]{3})[a-z]{0,6}[\s-]{1,4}(\d{2,4})")
_MONTH_NUMBER = {name.lower(): number for number, name in enumerate(MONTHS, 1)}

Result = TypeVar("Result")


class Content:
    """One opened message. It is read once for all `texts` of the program: what was decoded is not kept."""

    def __init__(self, message: StoredMessage, texts: frozenset[keys.Text]) -> None:
        self._message = message
        self._structure: Structure = message.structure
        self._texts = texts
        self._found: set[keys.Text] | None = None
        self._fields: dict[bytes, list[str]] | None = None

    @property
    def sent(self) -> datetime.date | None:
        """The day in the Date field, whatever its time and zone (RFC 3501 §6.4.4)."""
        found = _DATE.search(self._structure.envelope[:80])
        if found is None:
            return None
        year = int(found[3])
        if year < 100:
            year += 2000 if year < 50 else 1900  # RFC 5322 §4.3
        try:
            return datetime.date(year, _MONTH_NUMBER.get(found[2].lower(), 0), int(found[1]))
        except ValueError:
            return None

    async def has_field(self, name: bytes, needle: str) -> bool:
        if self._fields is None:
            start, end = self._structure.section((), "HEADER") or (0, 0)
            block = await self._message.read(start, min(end - start, HEADER_LIMIT))
            self._fields = await _worked(len(block), lambda: _decoded_fields(block))
        return any(needle in body for body in self._fields.get(name, ()))

    async def has_text(self, key: keys.Text) -> bool:
        """In the decoded text parts, and for TEXT in all headers of the message and its parts."""
        if self._found is None:
            self._found = await self._search()
        return key in self._found

    async def _search(self) -> set[keys.Text]:
        """Those of the program's texts that are there."""
        found = {key for key in self._texts if not key.needle}
        missing = self._texts - found
        left = MESSAGE_TEXT_LIMIT
        for part in self._structure.parts:
            if not missing or left <= 0:
                break
            sought = [key for key in missing if key.header]
            length = min(part.body_start - part.header_start, HEADER_LIMIT, left)
            if sought and length > 0:
                left -= length
                found |= await self._in_header(part, length, sought)
                missing -= found
            length = min(part.size, PART_LIMIT, left)
            if part.type == "text" and missing and length > 0:
                left -= length
                found |= await self._in_body(part, length, missing)
                missing -= found
        return found

    async def _in_header(self, part: Part, length: int, sought: Iterable[keys.Text]) -> set[keys.Text]:
        block = await self._message.read(part.header_start, length)

        def work() -> set[keys.Text]:
            whole = headers.decode_words(guess_text(headers.unfold(block))).casefold()
            bodies = [headers.decode_header(body).casefold() for _, body in headers.fields(block)]
            return {
                key for key in sought if key.needle in whole or any(key.needle in body for body in bodies)
            }

        return await _worked(length, work)

    async def _in_body(self, part: Part, length: int, sought: Iterable[keys.Text]) -> set[keys.Text]:
        data = await self._message.read(part.body_start, length)

        def work() -> set[keys.Text]:
            text = part_text(data, part, PART_LIMIT).casefold()
            return {key for key in sought if key.needle in text}

        return await _worked(length, work)


async def _worked(octets: int, work: Callable[[], Result]) -> Result:
    """On the loop when it is short, else in a thread."""
    return work() if octets < WORKER_OCTETS else await asyncio.to_thread(work)


def _decoded_fields(block: bytes) -> dict[bytes, list[str]]:
    found: dict[bytes, list[str]] = {}
    for name, body in headers.fields(block):
        found.setdefault(name, []).append(headers.decode_header(body).casefold())
    return found
