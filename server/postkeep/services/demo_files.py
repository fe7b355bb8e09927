"""Attachments of the demo mail, made in code: small, valid, and the same at every run."""

import struct
import zlib
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

Colour = tuple[int, int, int]


def png(width: int, height: int, colour: Callable[[int, int], Colour]) -> bytes:
    """A true-colour PNG; `colour(x, y)` is each pixel's red, green, blue."""
    rows = b"".join(b"\0" + b"".join(bytes(colour(x, y)) for x in range(width)) for y in range(height))
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(rows, 9)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


def harbour(width: int = 160, height: int = 96) -> bytes:
    """A sunset over water."""
    horizon = height * 3 // 5

    def colour(x: int, y: int) -> Colour:
        sun = (x - width // 2) ** 2 + (y - horizon + 8) ** 2 < 18**2
        if y < horizon:
            if sun:
                return 255, 226, 120
            return 250 - y, 130 + y, 90 + 2 * y
        wave = (x * 7 + y * 13) % 11 < 3
        return (60, 100, 150) if wave else (30, 70, 120)

    return png(width, height, colour)


def logo(size: int = 48) -> bytes:
    """Two wheels."""

    def colour(x: int, y: int) -> Colour:
        for centre in (size // 4, size * 3 // 4):
            distance = (x - centre) ** 2 + (y - size * 5 // 8) ** 2
            if (size // 5 - 3) ** 2 < distance < (size // 5) ** 2:
                return 20, 90, 140
        return (20, 90, 140) if abs(y - size // 3) < 2 and size // 4 < x < size * 3 // 4 else (245, 248, 250)

    return png(size, size, colour)


def pdf(lines: Sequence[str]) -> bytes:
    """One page A4 with lines of ASCII text (PDF 1.4, ISO 32000-1 §7.5)."""
    shown = [line.replace("\\", "\\\\").replace("(", "\\(").replace(")", "\\)") for line in lines]
    text = "BT /F1 12 Tf 72 770 Td 16 TL\n" + "".join(f"({line}) Tj T*\n" for line in shown) + "ET\n"
    stream = text.encode("ascii")
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 4 0 R"
        b" /Resources << /Font << /F1 5 0 R >> >> >>",
        b"<< /Length %d >>\nstream\n%bendstream" % (len(stream), stream),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    out = bytearray(b"%PDF-1.4\n")
    offsets = []
    for number, content in enumerate(objects, 1):
        offsets.append(len(out))
        out += b"%d 0 obj\n%b\nendobj\n" % (number, content)
    start = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    out += b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    out += b"trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, start)
    return bytes(out)


def csv(rows: Sequence[Sequence[object]]) -> bytes:
    """RFC 4180; no field needs quotes here."""
    return "".join(",".join(str(field) for field in row) + "\r\n" for row in rows).encode("utf-8")


def invitation(uid: str, start: float, minutes: int, summary: str, organizer: str, attendee: str) -> bytes:
    """An iTIP REQUEST (RFC 5545, RFC 5546)."""
    lines = [
        "BEGIN:VCALENDAR",
        "VERSION:2.0",
        "PRODID:-//Postkeep//Demo//EN",
        "METHOD:REQUEST",
        "BEGIN:VEVENT",
        f"UID:{uid}",
        f"DTSTAMP:{_utc(start - 5 * 86400)}",
        f"DTSTART:{_utc(start)}",
        f"DTEND:{_utc(start + minutes * 60)}",
        f"SUMMARY:{summary}",
        "LOCATION:Harbour office\\, first floor",
        f"ORGANIZER:mailto:{organizer}",
        f"ATTENDEE;ROLE=REQ-PARTICIPANT;PARTSTAT=NEEDS-ACTION;RSVP=TRUE:mailto:{attendee}",
        "SEQUENCE:0",
        "STATUS:CONFIRMED",
        "END:VEVENT",
        "END:VCALENDAR",
        "",
    ]
    return "\r\n".join(
        line if len(line) <= 75 else line[:75] + "\r\n " + line[75:] for line in lines
    ).encode()


def vcard(name: str, family: str, given: str, address: str, phone: str) -> bytes:
    """vCard 3.0 (RFC 2426)."""
    lines = [
        "BEGIN:VCARD",
        "VERSION:3.0",
        f"FN:{name}",
        f"N:{family};{given};;;",
        "ORG:Harbour Authority",
        f"EMAIL;TYPE=INTERNET:{address}",
        f"TEL;TYPE=WORK,VOICE:{phone}",
        "END:VCARD",
        "",
    ]
    return "\r\n".join(lines).encode()


def _utc(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y%m%dT%H%M%SZ")
