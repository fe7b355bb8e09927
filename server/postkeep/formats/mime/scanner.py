"""Finds, by offsets and in one pass, all that IMAP asks of a message (RFC 3501 §7.4.2, RFC 2045–2047, 2183).

Any octets are a message. Work is bounded: linear in the size for each of at most DEPTH_LIMIT levels, and
headers, addresses, parts and lines that only look like boundaries are counted; what lies beyond a bound is
an opaque part, never an error. RFC 2046 §5.1.2: an outer boundary also ends all that is open inside.
"""

import re

from postkeep.formats.mime.bodystructure import basic, extension, single_extension, transfer_encoding
from postkeep.formats.mime.charsets import guess_text
from postkeep.formats.mime.envelope import envelope
from postkeep.formats.mime.headers import message_ids, parse_date, unfold
from postkeep.formats.mime.parameters import (
    TEXT_PLAIN,
    ContentType,
    decode_params,
    parse_content_type,
    parse_disposition,
)
from postkeep.formats.mime.source import BytesSource, Source
from postkeep.formats.mime.structure import Part, Structure

DEPTH_LIMIT = 50
"""Multiparts and messages inside one another."""
PART_LIMIT = 1_000
HEADER_LIMIT = 256 * 1024
"""Octets of one header that are looked at."""
HEADERS_LIMIT = 2 * 1024 * 1024
"""Octets of all headers of a message that are looked at."""
FIELD_LIMIT = 64 * 1024
"""Octets of one field that are looked at."""
FIELDS_LIMIT = 5_000
"""Fields of one header that are looked at."""
ADDRESS_LIMIT = 20_000
"""Addresses in all envelopes of a message."""
LOOKALIKE_LIMIT = 10_000
"""Lines that begin like a boundary and are none, before the rest of a message is left undivided."""
BOUNDARY_LIMIT = 1_000
"""Octets of a boundary; RFC 2046 allows 70."""
WHOLE_LIMIT = 1024 * 1024
"""Messages up to this size are read at once."""

_HEADER_STEP = 4096
_BLANK_LINE = re.compile(rb"\n\r?\n")
_DELIMITER_TAIL = re.compile(rb"(--)?[ \t\r]*(\n|\Z)")
_DELIMITER_TAIL_LIMIT = 256
_ADDRESS_FIELDS = frozenset((b"from", b"sender", b"reply-to", b"to", b"cc", b"bcc"))
_WANTED = (
    "date",
    "subject",
    "from",
    "sender",
    "reply-to",
    "to",
    "cc",
    "bcc",
    "message-id",
    "in-reply-to",
    "references",
    "content-type",
    "content-transfer-encoding",
    "content-disposition",
    "content-id",
    "content-description",
    "content-language",
    "content-location",
    "content-md5",
)


def _field_pattern(names: tuple[str, ...]) -> re.Pattern[bytes]:
    """(name, folded body). The literal "\\n" in front lets the engine jump from line to line, the first
    letter (in both its cases; only the rest ignores case) from name to name."""
    rests: dict[str, list[str]] = {}
    for name in names:
        rests.setdefault(name[0], []).append(re.escape(name[1:]))
    choices = [f"[{first.upper()}{first}](?i:{'|'.join(rest)})" for first, rest in rests.items()]
    return re.compile(rf"\n({'|'.join(choices)})[ \t]*:([^\n]*(?:\n[ \t][^\n]*)*)".encode("ascii"))


_FIELD = _field_pattern(_WANTED)
_OPAQUE = ContentType("application", "octet-stream", {}, b"NIL", b"")
_MESSAGE = ContentType("message", "rfc822", {}, b"NIL", b"")

_Fields = dict[bytes, bytes]
_Path = tuple[int, ...]


def scan(source: Source) -> Structure:
    """The structure of a message. Raises nothing but what `source` raises (OSError of a file)."""
    size = source.size
    if size <= WHOLE_LIMIT and not isinstance(source, BytesSource):
        source = BytesSource(source.read(0, size))
    run = _Scan(source)
    fields, body_start = run.header(0, size)
    envelope_text = run.envelope(fields)
    run.entity(fields, 0, body_start, size, (), (1,), 0)
    bodystructure, extensions = run.bodystructure()
    message_id = fields.get(b"message-id")
    own = _first_id(message_id) or (guess_text(unfold(message_id))[:998] if message_id else "")
    date = fields.get(b"date")
    return Structure(
        envelope=envelope_text,
        bodystructure=bodystructure,
        extensions=extensions,
        message_id=own,
        thread_root=_first_id(fields.get(b"references")) or _first_id(fields.get(b"in-reply-to")) or own,
        date=None if date is None else parse_date(date),
        parts=tuple(run.parts),
    )


def _first_id(body: bytes | None) -> str:
    ids = message_ids(body[:4096]) if body else None
    return ids[0] if ids else ""


class _Scan:
    """One run. `out` gathers BODYSTRUCTURE; `marks` are the indices in it that hold extension data."""

    __slots__ = (
        "addresses_left",
        "headers_left",
        "lookalikes_left",
        "marks",
        "out",
        "parts",
        "parts_left",
        "source",
    )

    def __init__(self, source: Source) -> None:
        self.source = source
        self.out: list[bytes] = []
        self.marks: list[int] = []
        self.parts: list[Part] = []
        self.parts_left = PART_LIMIT
        self.headers_left = HEADERS_LIMIT
        self.addresses_left = ADDRESS_LIMIT
        self.lookalikes_left = LOOKALIKE_LIMIT

    # --- headers ------------------------------------------------------------------------------------

    def header(self, start: int, end: int) -> tuple[_Fields, int]:
        """The wanted fields, folded, and where the body starts (at `end` without a blank line)."""
        block, body_start = self._header_block(start, end)
        self.headers_left -= len(block)
        found: _Fields = {}
        if not block:
            return found, body_start
        for name, body in _FIELD.findall(b"\n" + block)[:FIELDS_LIMIT]:
            name = name.lower()
            body = body.strip()
            if len(body) > FIELD_LIMIT:
                body = body[:FIELD_LIMIT]
            if name not in found:
                found[name] = body
            elif name in _ADDRESS_FIELDS and len(found[name]) < FIELD_LIMIT:
                found[name] += b", " + body  # RFC 5322 §4.5.3: more than one destination field
        return found, body_start

    def _header_block(self, start: int, end: int) -> tuple[bytes, int]:
        limit = max(0, min(HEADER_LIMIT, self.headers_left))
        step = _HEADER_STEP
        block = self.source.read(start, min(end, start + step))
        if block[:1] == b"\n":
            return b"", start + 1
        if block[:2] == b"\r\n":
            return b"", start + 2
        blank = _BLANK_LINE.search(block)
        while blank is None:
            have = len(block)
            if start + have >= end:
                return block[:limit], end
            if have >= HEADER_LIMIT:
                return block[:limit], self._skip_header(start + have - 2, end)
            step *= 4
            block += self.source.read(start + have, min(end, start + step))
            blank = _BLANK_LINE.search(block, have - 2)
        return block[: min(blank.start() + 1, limit)], start + blank.end()

    def _skip_header(self, position: int, end: int) -> int:
        """The end of an endless header, in windows."""
        window = WHOLE_LIMIT
        while position < end:
            block = self.source.read(position, min(end, position + window))
            blank = _BLANK_LINE.search(block)
            if blank is not None:
                return position + blank.end()
            position += len(block) - 2 if position + len(block) < end else len(block)
        return end

    def envelope(self, fields: _Fields) -> bytes:
        text, count = envelope(fields, self.addresses_left)
        self.addresses_left -= count
        return text

    # --- bodies -------------------------------------------------------------------------------------

    def entity(
        self,
        fields: _Fields,
        start: int,
        body_start: int,
        end: int,
        multipart_path: _Path,
        leaf_path: _Path,
        depth: int,
        digest: bool = False,
    ) -> None:
        """An entity whose header has been read. Only for a whole message do the two paths differ."""
        self.parts_left -= 1
        value = fields.get(b"content-type")
        if value is not None:
            content_type = parse_content_type(unfold(value))
        else:
            content_type = _MESSAGE if digest else TEXT_PLAIN
        kind = content_type.type
        if kind == "multipart":
            if depth >= DEPTH_LIMIT or self.parts_left <= 0:
                content_type = _OPAQUE
            elif self._multipart(content_type, fields, start, body_start, end, multipart_path, depth):
                return
            else:  # cannot be divided: show people what is there
                content_type = TEXT_PLAIN
        elif kind == "message" and content_type.subtype == "rfc822":
            if depth < DEPTH_LIMIT and self.parts_left > 0:
                self._message(content_type, fields, start, body_start, end, leaf_path, depth)
                return
            content_type = _OPAQUE
        self._leaf(content_type, fields, start, body_start, end, leaf_path)

    def _leaf(
        self,
        content_type: ContentType,
        fields: _Fields,
        start: int,
        body_start: int,
        end: int,
        path: _Path,
    ) -> None:
        is_text = content_type.type == "text"
        lines = self.source.count(b"\n", body_start, end) if is_text else 0
        encoding = transfer_encoding(fields.get(b"content-transfer-encoding"))
        self.out.append(basic(content_type, fields, encoding, end - body_start))
        if is_text:
            self.out.append(b" %d" % lines)
        self._close(single_extension(fields))
        self._part(content_type, fields, start, body_start, end, path, encoding, lines)

    def _message(
        self,
        content_type: ContentType,
        fields: _Fields,
        start: int,
        body_start: int,
        end: int,
        path: _Path,
        depth: int,
    ) -> None:
        lines = self.source.count(b"\n", body_start, end)
        encoding = transfer_encoding(fields.get(b"content-transfer-encoding"))
        self.out.append(basic(content_type, fields, encoding, end - body_start))
        self._part(content_type, fields, start, body_start, end, path, encoding, lines)
        inner, inner_body = self.header(body_start, end)
        self.out.append(b" %b " % self.envelope(inner))
        self.entity(inner, body_start, inner_body, end, path, (*path, 1), depth + 1)
        self.out.append(b" %d" % lines)
        self._close(single_extension(fields))

    def _multipart(
        self,
        content_type: ContentType,
        fields: _Fields,
        start: int,
        body_start: int,
        end: int,
        path: _Path,
        depth: int,
    ) -> bool:
        """False, and nothing done, when there is no boundary or it opens no part."""
        boundary = content_type.boundary
        if not boundary or len(boundary) > BOUNDARY_LIMIT or body_start <= start:
            return False
        needle = b"\n--" + boundary
        # The octet before the body ends the header's blank line, so it serves a boundary without preamble.
        found = self._delimiter(needle, body_start - 1, end)
        if found is None or found[2]:
            return False
        self._part(content_type, fields, start, body_start, end, path, "7bit", 0)
        self.out.append(b"(")
        digest = content_type.subtype == "digest"
        number = 0
        while found is not None and not found[2]:
            position = found[1]
            found = self._delimiter(needle, position - 1, end) if self.parts_left > 1 else None
            number += 1
            child = (*path, number)
            stop = end if found is None else max(position, found[0])
            inner, inner_body = self.header(position, stop)
            self.entity(inner, position, inner_body, stop, child, child, depth + 1, digest)
        self.out.append(b' "%b"' % content_type.subtype.encode("ascii"))
        self._close(extension(fields, content_type.listed_params))
        return True

    def _delimiter(self, needle: bytes, start: int, end: int) -> tuple[int, int, bool] | None:
        """(end of what it ends, start of the next line, is it the closing one) of the next boundary line."""
        source = self.source
        while self.lookalikes_left > 0:
            at = source.find(needle, start, end)
            if at < 0:
                return None
            tail_start = at + len(needle)
            tail_end = min(end, tail_start + _DELIMITER_TAIL_LIMIT)
            tail = _DELIMITER_TAIL.match(source.read(tail_start, tail_end))
            if tail is not None and (tail[2] or tail_end == end):
                if at > 0 and source.read(at - 1, at) == b"\r":
                    at -= 1  # RFC 2046 §5.1.1: the line end before a boundary belongs to it
                return at, tail_start + tail.end(), tail[1] is not None
            self.lookalikes_left -= 1
            start = tail_start
        return None

    def _part(
        self,
        content_type: ContentType,
        fields: _Fields,
        start: int,
        body_start: int,
        end: int,
        path: _Path,
        encoding: str,
        lines: int,
    ) -> None:
        disposition = filename = ""
        value = fields.get(b"content-disposition")
        if value is not None:
            disposition, disposition_params = parse_disposition(unfold(value))
            if disposition_params:
                filename = decode_params(disposition_params).get("filename", "")
        content_id = fields.get(b"content-id")
        self.parts.append(
            Part(
                path,
                start,
                body_start,
                end,
                content_type.type,
                content_type.subtype,
                content_type.params,
                encoding,
                lines,
                disposition,
                filename or content_type.params.get("name", ""),
                guess_text(unfold(content_id)) if content_id else "",
            )
        )

    def _close(self, extension_data: bytes) -> None:
        self.marks.append(len(self.out))
        self.out += (extension_data, b")")

    def bodystructure(self) -> tuple[bytes, tuple[int, ...]]:
        ranges = []
        position = previous = 0
        out = self.out
        for mark in self.marks:
            for index in range(previous, mark):
                position += len(out[index])
            ranges.append(position)
            position += len(out[mark])
            ranges.append(position)
            previous = mark + 1
        return b"".join(out), tuple(ranges)
