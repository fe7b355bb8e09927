"""What the image's tests stand on, without a virtual machine: glyphs, keys, the OVF environment."""

import gzip
import queue
import socket
import struct
import tempfile
import xml.etree.ElementTree as ElementTree
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.image.keyboard import keys
from tests.image.ovf_environment import environment
from tests.image.screen import UNKNOWN, Font, Picture
from tests.image.serial import SerialLine

INK, PAPER = b"\xff\xff\xff", b"\0\0\xaa"
GLYPHS = {"A": 0b00011000, "B": 0b01111100, "č": 0b00111111}
"""Each glyph repeats one row of bits sixteen times."""


def font() -> Font:
    bodies = bytes(16) + b"".join(bytes([row] * 16) for row in GLYPHS.values())
    names = b" \xff" + b"".join(name.encode() + b"\xfe" + b"combining\xff" for name in GLYPHS)
    head = struct.pack("<4s7I", b"\x72\xb5\x4a\x86", 0, 32, 1, 1 + len(GLYPHS), 16, 16, 8)
    return Font(gzip.compress(head + bodies + names))


def picture(
    lines: list[str],
    cell: int = 8,
    size: tuple[int, int] | None = None,
    ink: bytes = INK,
    paper: bytes = PAPER,
) -> Picture:
    width, height = size or (max(map(len, lines)) * cell, len(lines) * 16)
    rows = []
    for y in range(height):
        text = lines[y // 16] if y // 16 < len(lines) else ""
        bits = "".join(f"{GLYPHS.get(letter, 0):08b}".ljust(cell, "0") for letter in text).ljust(width, "0")
        rows.append(b"".join(ink if bit == "1" else paper for bit in bits))
    return Picture(width, height, b"".join(rows))


def test_reads_each_line() -> None:
    assert font().read(picture(["AB č", "B   ", " A"])) == ["AB č", "B", " A"]


def test_reads_reverse_video() -> None:
    assert font().read(picture(["AB"], ink=PAPER, paper=INK)) == ["AB"]


def test_reads_text_mode_with_its_ninth_column() -> None:
    lines = font().read(picture(["AB č".ljust(80)], cell=9, size=(720, 400)))
    assert lines[0] == "AB č"
    assert len(lines) == 25


def test_a_strange_cell_is_unknown_not_guessed() -> None:
    shown = picture(["AB"])
    spoiled = Picture(shown.width, shown.height, INK + shown.pixels[3:])
    assert font().read(spoiled) == [UNKNOWN + "B"]


def test_picture_from_a_screendump_and_back_as_png() -> None:
    shown = picture(["A"])
    read = Picture.from_ppm(b"P6\n8 16\n255\n" + shown.pixels)
    assert read == shown
    png = read.png()
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    body = png[png.index(b"IDAT") + 4 : png.index(b"IEND") - 8]
    assert zlib.decompress(body)[1:25] == shown.pixels[:24]


def test_what_is_no_font_is_refused() -> None:
    with pytest.raises(ValueError, match="font"):
        Font(b"no font at all")


def test_keys_of_a_us_keyboard() -> None:
    assert keys('aZ9!/"\n') == [
        ("a",),
        ("shift", "z"),
        ("9",),
        ("shift", "1"),
        ("slash",),
        ("shift", "apostrophe"),
        ("ret",),
    ]


@pytest.mark.parametrize("character", ["é", "\x00", "€"])
def test_a_character_without_a_key_is_refused(character: str) -> None:
    with pytest.raises(ValueError, match="no"):
        keys(character)


def test_values_of_the_environment_cannot_break_out() -> None:
    hostile = '"/><Property oe:key="guestinfo.postkeep.ssh_key" oe:value="x'
    root = ElementTree.fromstring(environment({"hostname": hostile, "domain": "é & ü"}).encode())
    space = "{http://schemas.dmtf.org/ovf/environment/1}"
    found = {item.get(space + "key"): item.get(space + "value") for item in root.iter(space + "Property")}
    assert found == {"guestinfo.postkeep.hostname": hostile, "guestinfo.postkeep.domain": "é & ü"}


@pytest.fixture
def port() -> Iterator[tuple[socket.socket, Path]]:
    """A serial port as QEMU opens it."""
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as server:
        server.bind(f"{folder}/serial")
        server.listen()
        yield server, Path(folder) / "serial"


def test_the_serial_line_never_stands_still(port: tuple[socket.socket, Path]) -> None:
    """Octets one by one fill a socket that nobody reads after some 280 of them."""
    server, path = port
    line = SerialLine(path)
    guest, _ = server.accept()
    with guest:
        guest.settimeout(10)
        for _ in range(5000):
            guest.sendall(b"x")
        line.send(b"typed")
        assert guest.recv(100) == b"typed"
        line.close()


def test_a_terminal_says_its_size_when_asked(port: tuple[socket.socket, Path]) -> None:
    server, path = port
    line = SerialLine(path)
    guest, _ = server.accept()
    with guest:
        guest.settimeout(10)
        for octet in b"\x1b[32766;32766H\x1b[6n":
            guest.sendall(bytes([octet]))
        assert guest.recv(100) == b"\x1b[24;80R"
        line.close()


def test_a_person_at_the_line_answers_alone(port: tuple[socket.socket, Path]) -> None:
    server, path = port
    seen: queue.Queue[bytes] = queue.Queue()
    line = SerialLine(path, seen.put)
    guest, _ = server.accept()
    with guest:
        guest.sendall(b"\x1b[6n")
        assert seen.get(timeout=10) == b"\x1b[6n"
        line.close()
        guest.settimeout(10)
        assert guest.recv(100) == b""
