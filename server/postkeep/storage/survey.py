"""Walking a pack from end to end, saying where it is damaged: for verify and rebuild."""

import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

from postkeep.domain.errors import CorruptRecord
from postkeep.storage import records
from postkeep.storage.packs import Packs, Record
from postkeep.storage.records import HEADER_SIZE

_WINDOW = 1 << 20

Progress = Callable[[int, int, str], None]
"""(octets done, octets in all, what is being done)."""


class Damage(NamedTuple):
    """Octets of a pack that are no sound record."""

    start: int
    end: int
    reason: str


class Found(NamedTuple):
    """A record whose checksum and hash fit."""

    offset: int
    record: Record


class Interrupted(Exception):
    """The work was called off."""


class Pace:
    """Reads no faster than `rate` octets a second (0: as fast as it goes); for a thread, not the loop."""

    def __init__(self, rate: int = 0) -> None:
        self._rate = rate
        self._stop = threading.Event()
        self._begun = time.monotonic()
        self._octets = 0

    def stop(self) -> None:
        """Make the next `spent` raise Interrupted."""
        self._stop.set()

    def spent(self, octets: int) -> None:
        self._octets += octets
        ahead = 0.0
        if self._rate:
            ahead = self._octets / self._rate - (time.monotonic() - self._begun)
        if self._stop.wait(ahead) if ahead > 0 else self._stop.is_set():
            raise Interrupted


def survey(
    packs: Packs, pack: int, end: int, resume: Callable[[int], int | None]
) -> Iterator[Found | Damage]:
    """Each record of a pack up to `end`, checked to the last octet, and the damaged stretches between them.

    `resume(after)` answers where the next record behind a stretch with an unreadable header begins."""
    place = 0
    while place < end:
        following = end
        try:
            header = records.parse_header(packs.pread(pack, HEADER_SIZE, place))
            if place + header.length > end:
                raise CorruptRecord("record is cut short")
            following = place + header.length
            record = packs.read(pack, place, header.raw)
            check_digest(packs, pack, place, record)
        except (CorruptRecord, OSError) as error:
            # A length inside a damaged record may be wrong: it is believed when another record begins there.
            if following == end or not _begins_record(packs, pack, following):
                following = resume(place) or end
            yield Damage(place, following, str(error))
        else:
            yield Found(place, record)
        place = following


def check_digest(packs: Packs, pack: int, offset: int, record: Record) -> None:
    """CorruptRecord unless the body's SHA-256 begins with what the header says. A body in blocks is read
    block by block."""
    if not record.header.flags & records.BLOCKS:
        digest = hashlib.sha256(record.body).digest()
    else:
        hashing = hashlib.sha256()
        for index in range(len(record.trailer.blocks)):
            hashing.update(packs.read_block(pack, offset, record, index))
        digest = hashing.digest()
    if digest[:16] != record.header.digest:
        raise CorruptRecord(f"pack {pack} offset {offset}: the message has another hash than its record says")


def search(packs: Packs, pack: int, end: int, after: int) -> int | None:
    """The next place behind `after` from where records follow one another exactly to `end`.

    A stored message may itself contain what looks like a record (an attached pack, or an attack): a place
    is only believed if the chain that begins there ends where the pack ends, which an embedded one cannot,
    because the real record's trailer follows it."""
    place = after + 1
    while place + HEADER_SIZE <= end:
        window = packs.pread(pack, _WINDOW, place)
        at = window.find(records.MAGIC)
        while at >= 0:
            if _leads_to(packs, pack, place + at, end):
                return place + at
            at = window.find(records.MAGIC, at + 1)
        if len(window) < _WINDOW:
            return None
        place += _WINDOW - len(records.MAGIC) + 1
    return None


def _leads_to(packs: Packs, pack: int, place: int, end: int) -> bool:
    first = True
    while place < end:
        try:
            header = records.parse_header(packs.pread(pack, HEADER_SIZE, place))
            if first:
                packs.read(pack, place, header.raw)
                first = False
        except (CorruptRecord, OSError):
            return False
        place += header.length
    return place == end


def _begins_record(packs: Packs, pack: int, place: int) -> bool:
    try:
        records.parse_header(packs.pread(pack, HEADER_SIZE, place))
    except (CorruptRecord, OSError):
        return False
    return True
