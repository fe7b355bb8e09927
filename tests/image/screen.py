"""Reading the console's screen: exact comparison of each cell with the glyphs of the console's own font."""

import gzip
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

UNKNOWN = "\N{REPLACEMENT CHARACTER}"
_REMEMBERED = 20_000
_PSF2 = struct.Struct("<4s7I")


@dataclass(frozen=True, slots=True)
class Picture:
    """RGB, eight bits each, row by row."""

    width: int
    height: int
    pixels: bytes

    @classmethod
    def from_ppm(cls, data: bytes) -> "Picture":
        """QEMU's screendump: binary PPM (P6) of 8 bits."""
        kind, width, height, rest = data.split(maxsplit=3)
        depth, _, pixels = rest.partition(b"\n")
        if kind != b"P6" or depth != b"255":
            raise ValueError("no 8-bit PPM")
        return cls(int(width), int(height), pixels)

    def png(self) -> bytes:
        """The same as PNG, for people."""
        stride = self.width * 3
        rows = (b"\0" + self.pixels[at : at + stride] for at in range(0, len(self.pixels), stride))
        head = struct.pack(">IIBBBBB", self.width, self.height, 8, 2, 0, 0, 0)
        parts = ((b"IHDR", head), (b"IDAT", zlib.compress(b"".join(rows), 6)), (b"IEND", b""))
        body = (struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in parts)
        return b"\x89PNG\r\n\x1a\n" + b"".join(body)


class Font:
    """Glyphs of a PC Screen Font (PSF 1 or 2), each as its rows of bits, to the character that it shows."""

    def __init__(self, data: bytes) -> None:
        if data[:2] == b"\x1f\x8b":
            data = gzip.decompress(data)
        if data[:4] == b"\x72\xb5\x4a\x86":
            _, _, offset, flags, count, size, height, width = _PSF2.unpack_from(data)
            table = data[offset + count * size :].split(b"\xff") if flags & 1 else []
            names = [entry.split(b"\xfe")[0].decode("utf-8")[:1] for entry in table]
        elif data[:2] == b"\x36\x04":
            mode, size = data[2], data[3]
            offset, width, height, count = 4, 8, size, 512 if mode & 1 else 256
            names = self._psf1_names(data[offset + count * size :]) if mode & 6 else []
        else:
            raise ValueError("no PC screen font")
        self.width, self.height = width, height
        self._glyphs: dict[bytes, str] = {}
        self._seen: dict[tuple[bytes, ...], str] = {}
        for index in range(count):
            name = names[index] if index < len(names) else chr(index)
            self._glyphs.setdefault(
                data[offset + index * size : offset + (index + 1) * size], name or UNKNOWN
            )
        self._glyphs[bytes(size)] = " "

    @staticmethod
    def _psf1_names(table: bytes) -> list[str]:
        names, first = [], ""
        fresh = True
        for (code,) in struct.iter_unpack("<H", table[: len(table) // 2 * 2]):
            if code == 0xFFFF:
                names.append(first)
                first, fresh = "", True
            elif fresh:
                first, fresh = chr(code), False
        return names

    def read(self, picture: Picture) -> list[str]:
        """The lines of the screen, without blanks at their ends. A cell in two colours is compared both ways
        round (reverse video); the cursor hides the cell it stands on when it is a block. In VGA's text mode
        (720 x 400) a cell has a ninth column, which is no part of the glyph."""
        cell = 9 if (picture.width, picture.height) == (720, 400) else self.width
        columns, lines = picture.width // cell, picture.height // self.height
        stride = picture.width * 3
        text = []
        for line in range(lines):
            cells = []
            for column in range(columns):
                at = line * self.height * stride + column * cell * 3
                cells.append(self._cell(self._rows(picture, at, stride)))
            text.append("".join(cells).rstrip())
        return text

    def marked(self, picture: Picture, ground: bytes, lines: range) -> str:
        """The text of the cells of `lines` whose background has the colour `ground` (RGB)."""
        cell = 9 if (picture.width, picture.height) == (720, 400) else self.width
        stride = picture.width * 3
        found = []
        for line in lines:
            for column in range(picture.width // cell):
                at = line * self.height * stride + column * cell * 3
                rows = self._rows(picture, at, stride)
                if b"".join(rows).count(ground) * 2 > self.width * self.height:
                    found.append(self._cell(rows))
        return "".join(found)

    def _rows(self, picture: Picture, at: int, stride: int) -> tuple[bytes, ...]:
        """The pixels of the cell whose first one is at offset `at`, line by line."""
        size = self.width * 3
        return tuple(picture.pixels[y : y + size] for y in range(at, at + self.height * stride, stride))

    def _cell(self, rows: tuple[bytes, ...]) -> str:
        found = self._seen.get(rows)
        if found is None:
            if len(self._seen) >= _REMEMBERED:
                self._seen.clear()
            found = self._seen[rows] = self._look_up(rows)
        return found

    def _look_up(self, rows: tuple[bytes, ...]) -> str:
        pixels = [row[x : x + 3] for row in rows for x in range(0, len(row), 3)]
        colours = set(pixels)
        if len(colours) == 1:
            return " "
        if len(colours) != 2:
            return UNKNOWN
        for ink in colours:
            bits = [pixel == ink for pixel in pixels]
            glyph = b"".join(
                self._row(bits[y * self.width : (y + 1) * self.width]) for y in range(self.height)
            )
            if glyph in self._glyphs:
                return self._glyphs[glyph]
        return UNKNOWN

    @staticmethod
    def _row(bits: list[bool]) -> bytes:
        size = -(-len(bits) // 8)
        value = int("".join("1" if bit else "0" for bit in bits).ljust(size * 8, "0"), 2)
        return value.to_bytes(size, "big")


def load_font(path: Path) -> Font:
    """From a .psf or .psf.gz file."""
    return Font(path.read_bytes())
