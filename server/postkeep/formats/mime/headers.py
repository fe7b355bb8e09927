"""Header fields as they lie in a message: split, unfold, pick, decode. Nothing here raises on any bytes.

A *block* is a whole header, with or without the blank line that ends it. Names compare in lower case.
"""

import base64
import binascii
import datetime
import re
from collections.abc import Iterable, Iterator

from postkeep.formats.mime.charsets import decode_charset, guess_text

_FIELD = re.compile(rb"^([!-9;-~]+)[ \t]*:([^\n]*(?:\n[ \t][^\n]*)*)", re.MULTILINE)
_LINE_WITH_FOLDS = re.compile(rb"[^\n]*(?:\n[ \t][^\n]*)*\n?")
_NAME = re.compile(rb"([!-9;-~]+)[ \t]*:")
_MESSAGE_ID = re.compile(rb"<[^<>\s]+>")
_ENCODED_WORD = re.compile(r"=\?([^?*\s]{1,64})(?:\*[^?\s]{0,32})?\?([BbQq])\?([^?]*)\?=")
_ENCODED_GAP = re.compile(r"(\?=)[ \t\r\n]+(?==\?[^?\s]{1,97}\?[BbQq]\?)")
_Q_ESCAPE = re.compile(rb"=([0-9A-Fa-f]{2})")
_DATE = re.compile(
    r"(\d{1,2})[\s-]{1,4}([A-Za-z]{3})[a-z]{0,6}[\s-]{1,4}(\d{2,4})[\s,]{1,4}(\d{1,2}):(\d{1,2})(?::(\d{1,2}))?"
    r"(?:\.\d{1,9})?\s{0,4}([+-]\d{4}|[+-]\d\d:\d\d|[A-Za-z]{1,5})?"
)
_DATE_ASCTIME = re.compile(
    r"([A-Za-z]{3})\s{1,4}(\d{1,2})\s{1,4}(\d{1,2}):(\d{1,2}):(\d{1,2})\s{1,4}(?:([A-Z]{1,5}|[+-]\d{4})\s{1,4})?(\d{4})"
)
_MONTH_NAMES = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MONTHS = {name: number for number, name in enumerate(_MONTH_NAMES, 1)}
# RFC 5322 §4.3; military and unknown zones count as -0000
_ZONES = {"edt": -4, "est": -5, "cdt": -5, "cst": -6, "mdt": -6, "mst": -7, "pdt": -7, "pst": -8}
_EPOCH = datetime.date(1970, 1, 1).toordinal()


def fields(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(name in lower case, field body still folded) in order; lines that are no fields are passed over.

    >>> list(fields(b"Subject: a\\r\\n b\\r\\nTo: c\\r\\n"))
    [(b'subject', b'a\\r\\n b'), (b'to', b'c')]
    """
    for match in _FIELD.finditer(block):
        yield match[1].lower(), match[2].strip()


def get(block: bytes, name: str) -> bytes | None:
    """The unfolded body of the first field of this name."""
    wanted = name.lower().encode("latin-1", "replace")
    for field, body in fields(block):
        if field == wanted:
            return unfold(body)
    return None


def get_all(block: bytes, name: str) -> list[bytes]:
    """The unfolded bodies of all fields of this name."""
    wanted = name.lower().encode("latin-1", "replace")
    return [unfold(body) for field, body in fields(block) if field == wanted]


def select(block: bytes, names: Iterable[str], *, exclude: bool = False) -> bytes:
    """The fields as they stand, and a blank line (RFC 3501 §6.4.5: HEADER.FIELDS, HEADER.FIELDS.NOT)."""
    wanted = {name.lower().encode("latin-1", "replace") for name in names}
    pieces = []
    position = 0
    while position < len(block):
        line = _LINE_WITH_FOLDS.match(block, position)
        if line is None or line.end() == position:
            break
        raw = line.group()
        position = line.end()
        if raw in (b"\r\n", b"\n"):
            break
        name = _NAME.match(raw)
        found = name is not None and name[1].lower() in wanted
        if found is not exclude:
            pieces.append(raw if raw.endswith(b"\n") else raw + b"\r\n")
    pieces.append(b"\r\n")
    return b"".join(pieces)


def unfold(body: bytes) -> bytes:
    """Without line ends; the white space of folds stays (RFC 5322 §2.2.3)."""
    if b"\n" in body:
        body = body.replace(b"\r\n", b"").replace(b"\n", b"")
    return body.strip()


def message_ids(body: bytes) -> list[str]:
    """The ids in Message-ID, In-Reply-To or References, with their angle brackets."""
    return [guess_text(match) for match in _MESSAGE_ID.findall(body)]


def decode_header(body: bytes) -> str:
    """A field body as text: unfolded, raw 8-bit guessed (UTF-8, else ISO-8859-1), encoded words decoded."""
    return decode_words(guess_text(unfold(body)))


def decode_words(text: str) -> str:
    """RFC 2047, tolerant: words inside quotes or glued to text count; a word that cannot be decoded stays.

    >>> decode_words("=?utf-8?q?Gr=C3=BC=C3=9Fe?= =?utf-8?q?_an_alle?=")
    'Grüße an alle'
    """
    if "=?" not in text:
        return text
    # White space between two encoded words is not shown (RFC 2047 §6.2).
    text = _ENCODED_GAP.sub(r"\1", text)
    pieces: list[str] = []
    pending: list[bytes] = []  # neighbours of one charset: a character may be split between them
    pending_charset = ""
    position = 0
    for match in _ENCODED_WORD.finditer(text):
        octets = _word_octets(match[2], match[3])
        charset = match[1].lower()
        if match.start() != position or charset != pending_charset or octets is None:
            if pending:
                pieces.append(decode_charset(b"".join(pending), pending_charset))
                pending = []
            pieces.append(text[position : match.start()])
        if octets is None:
            pieces.append(match.group())
        else:
            pending.append(octets)
            pending_charset = charset
        position = match.end()
    if pending:
        pieces.append(decode_charset(b"".join(pending), pending_charset))
    pieces.append(text[position:])
    return "".join(pieces)


def _word_octets(encoding: str, text: str) -> bytes | None:
    raw = text.encode("utf-8", "replace")
    if encoding in "qQ":
        return _Q_ESCAPE.sub(lambda escape: bytes((int(escape[1], 16),)), raw.replace(b"_", b" "))
    try:
        return base64.b64decode(raw + b"=" * (-len(raw) % 4))
    except (binascii.Error, ValueError):
        return None


def parse_date(body: bytes) -> int | None:
    """Seconds since 1970 of a Date field (RFC 5322 §3.3, §4.3, and asctime's order), None when it is none."""
    text = body[:200].decode("latin-1")
    match = _DATE.search(text)
    if match is not None:
        day, month, year, hour, minute, second, zone = match.groups()
    else:
        match = _DATE_ASCTIME.search(text)
        if match is None:
            return None
        month, day, hour, minute, second, zone, year = match.groups()
    month_number = _MONTHS.get(month.lower())
    if month_number is None:
        return None
    full_year = int(year)
    if len(year) < 4:  # obs-year
        full_year += 2000 if full_year < 50 and len(year) == 2 else 1900
    try:
        days = datetime.date(full_year, month_number, int(day)).toordinal() - _EPOCH
    except ValueError:
        return None
    hours, minutes, seconds = int(hour), int(minute), int(second or 0)
    if hours > 23 or minutes > 59 or seconds > 60:
        return None
    return days * 86400 + hours * 3600 + minutes * 60 + seconds - _zone_offset(zone)


def _zone_offset(zone: str | None) -> int:
    if not zone:
        return 0
    if zone[0] in "+-":
        digits = zone[1:].replace(":", "")
        offset = int(digits[:2]) * 3600 + int(digits[2:]) * 60
        return -offset if zone[0] == "-" else offset
    return _ZONES.get(zone.lower(), 0) * 3600
