"""Messages made to hurt: the scanner's time and memory stay bounded, its answers well-formed."""

import os
import time
import tracemalloc
from pathlib import Path

import pytest
from postkeep.formats.mime import scanner
from postkeep.formats.mime.scanner import scan
from postkeep.formats.mime.source import WINDOW, BytesSource, PreadSource
from postkeep.formats.mime.structure import Structure, encode_structure

from tests.unit.formats.imapvalue import check_body, check_envelope, read

MEGABYTE = 1024 * 1024


def expect_scanned_within(data: bytes, seconds: float) -> Structure:
    """Scanned in so many seconds of CPU, into well-formed answers."""
    start = time.process_time()
    structure = scan(BytesSource(data))
    assert time.process_time() - start < seconds
    check_body(read(structure.bodystructure), extended=True)
    check_body(read(structure.body()), extended=False)
    check_envelope(read(structure.envelope))
    return structure


def pread_source(path: Path) -> PreadSource:
    fd = os.open(path, os.O_RDONLY)
    return PreadSource(lambda length, offset: os.pread(fd, length, offset), path.stat().st_size)


def test_attack_one_megabyte_of_boundary_lookalikes() -> None:
    head = b"Content-Type: multipart/mixed; boundary=bbb\r\n\r\n--bbb\r\n\r\n"
    for line in (b"\r\n--bbbx", b"\r\n--bb", b"\n--", b"--bbb", b"\n--bbb ", b"\n-", b"\n--bbb--x"):
        expect_scanned_within(head + line * (MEGABYTE // len(line)), 1.0)


def test_attack_lookalikes_are_counted() -> None:
    head = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\n"
    for lines, parts in ((scanner.LOOKALIKE_LIMIT - 1, 2), (scanner.LOOKALIKE_LIMIT, 1)):
        structure = expect_scanned_within(head + b"\r\n--bx" * lines + b"\r\n--b\r\n\r\nlast\r\n--b--", 1.0)
        assert len(structure.parts) == 1 + parts


def test_attack_boundaries_that_are_prefixes_of_one_another() -> None:
    data = b"".join(
        b"Content-Type: multipart/mixed; boundary=%b\r\n\r\n--%b\r\n" % (b"a" * n, b"a" * n)
        for n in range(60, 0, -1)
    )
    expect_scanned_within(data + b"\r\n\r\n" + (b"\r\n--" + b"a" * 80) * 12000, 2.0)


def test_attack_true_boundaries_without_end() -> None:
    structure = expect_scanned_within(
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + b"--b\r\n\r\n" * 100_000, 1.0
    )
    assert len(structure.parts) <= scanner.PART_LIMIT + 1


def test_attack_nested_multiparts() -> None:
    data = b"".join(
        b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (n, n) for n in range(5000)
    )
    structure = expect_scanned_within(data, 1.0)
    assert max(len(part.path) for part in structure.parts) <= scanner.DEPTH_LIMIT + 1
    assert structure.parts[-1].type == "application"


def test_attack_nested_messages() -> None:
    structure = expect_scanned_within(b"Content-Type: message/rfc822\r\n\r\n" * 20_000, 1.0)
    assert len(structure.parts) == scanner.DEPTH_LIMIT + 1


def test_attack_digest_of_messages_with_large_address_lists() -> None:
    member = b"--b\r\n\r\nTo: " + b"a," * 30_000 + b"\r\n\r\n\r\n"
    structure = expect_scanned_within(
        b"Content-Type: multipart/digest; boundary=b\r\n\r\n" + member * 100, 3.0
    )
    assert len(structure.bodystructure) < 4 * MEGABYTE


def test_attack_header_line_of_ten_megabytes(tmp_path: Path) -> None:
    data = b"Subject: first\r\nX-Long: " + b"x" * (10 * MEGABYTE) + b"\r\nTo: a@x.org\r\n\r\nbody"
    structure = expect_scanned_within(data, 0.5)
    assert data[slice(*structure.section((), "TEXT"))] == b"body"  # type: ignore[misc]
    assert b'"first"' in structure.envelope
    path = tmp_path / "long"
    path.write_bytes(data)
    assert scan(pread_source(path)) == structure


def test_attack_subject_of_ten_megabytes_is_cut() -> None:
    structure = expect_scanned_within(b"Subject: " + b"x" * (10 * MEGABYTE) + b"\r\n\r\n", 0.5)
    assert len(structure.envelope) < scanner.FIELD_LIMIT + 200


def test_attack_blank_line_across_the_header_limit() -> None:
    for pad in range(-4, 5):
        head = b"X: " + b"x" * (scanner.HEADER_LIMIT - 3 + pad)
        data = head + b"\r\n\r\nbody"
        assert scan(BytesSource(data)).section((), "TEXT") == (len(head) + 4, len(data))


@pytest.mark.parametrize(
    "piece",
    [b"\n", b"\r\n", b"\r", b"\0", b"a:\n", b"To:\r\n", b"To: a@b\r\n", b"Subject: x\r\n\t", b" \n", b"Content-Type: a/b;",
     b"Content-Type: multipart/mixed; boundary=\r\n", b"Content-Language: a,\r\n", b"(", b'"', b"\xff", b"=?", b"To: (\n",
     b"Content-Type: message/rfc822\n\n", b"Date: 1 Jan 1\n "],
)  # fmt: skip
def test_attack_one_megabyte_of_pieces(piece: bytes) -> None:
    expect_scanned_within((piece * (MEGABYTE // len(piece) + 1))[:MEGABYTE], 2.0)


@pytest.mark.parametrize("name", ["From", "To", "Content-Type", "Content-Disposition", "Subject", "Date", "References",
                                  "Content-Language", "Content-Location", "Content-Transfer-Encoding"])  # fmt: skip
@pytest.mark.parametrize(
    "piece", [b"a", b'"', b"(", b"<", b"@", b";", b"a=", b"\\", b" ", b"\r\n ", b"=?a?q?", b"\xe4", b"\0"]
)
def test_attack_every_field_of_every_piece(name: str, piece: bytes) -> None:
    expect_scanned_within(name.encode() + b": " + (piece * 70_000)[:70_000] + b"\r\n\r\n", 1.0)


def big_message(path: Path, size: int) -> None:
    line = b"0123456789" * 7 + b"\r\n"
    with path.open("wb") as file:
        file.write(
            b"Subject: big\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nhello\r\n--b\r\n"
        )
        file.write(b"Content-Type: application/pdf\r\nContent-Transfer-Encoding: base64\r\n\r\n")
        for _ in range(size // len(line) // 1000):
            file.write(line * 1000)
        file.write(b"\r\n--b\r\nContent-Type: text/plain\r\n\r\nlast\r\nlines\r\n--b--\r\n")


def test_hundred_megabytes_from_a_file_take_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "big"
    big_message(path, 100 * MEGABYTE)
    source = pread_source(path)
    tracemalloc.start()
    start = time.process_time()
    structure = scan(source)
    elapsed = time.process_time() - start
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert elapsed < 3.0
    assert peak < 4 * WINDOW + MEGABYTE
    assert [part.type for part in structure.parts] == ["multipart", "text", "application", "text"]
    last = structure.parts[-1]
    assert source.read(last.body_start, last.end) == b"last\r\nlines"
    assert last.lines == 1
    path.unlink()


def test_encoded_structure_is_small_for_ordinary_mail() -> None:
    data = b"From: a@x.org\r\nTo: b@x.org\r\nSubject: x\r\n\r\nhello\r\n"
    assert len(encode_structure(scan(BytesSource(data)))) < 400
