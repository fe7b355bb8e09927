"""The record format: bytes in, values out, and not one flipped bit unnoticed."""

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from postkeep.domain.errors import CorruptRecord
from postkeep.storage import records
from postkeep.storage.records import HEADER_SIZE, Delivery, Trailer

TRAILER = Trailer(
    1_700_000_000,
    b"Return-Path: <a@example.test>\r\n",
    (Delivery("alice@example.test", "INBOX", 1, ("$Junk",)), Delivery("bob@example.test", "Büro", 0, ())),
    b"\x01structure",
)


def build(raw: bytes, trailer: Trailer = TRAILER) -> bytes:
    packed = records.compress(raw)
    stored = raw if packed is None else packed
    digest = hashlib.sha256(raw).digest()[:16]
    header, tail = records.encode_record(
        stored, 0 if packed is None else records.ZSTD, len(stored), len(raw), digest, trailer
    )
    return header + stored + tail


def parse(data: bytes) -> tuple[Trailer, bytes]:
    header = records.parse_header(data)
    end = HEADER_SIZE + header.stored
    trailer = records.parse_trailer(data, header, data[end : header.length])
    return trailer, bytes(records.raw_body(header, data[HEADER_SIZE:end]))


@pytest.mark.parametrize("raw", [b"", b"x", b"hello world\r\n" * 1000, bytes(range(256)) * 3])
def test_round_trip(raw: bytes) -> None:
    assert parse(build(raw)) == (TRAILER, raw)


def test_compressible_body_is_stored_smaller_and_random_one_as_it_is() -> None:
    text, noise = b"the same line again\r\n" * 500, hashlib.shake_256(b"x").digest(5000)
    assert records.parse_header(build(text)).stored < len(text) // 10
    assert records.parse_header(build(noise)).stored == len(noise)


def test_every_flipped_bit_is_noticed() -> None:
    """Attack: a disk that flips one bit, anywhere in a record."""
    raw = b"Subject: x\r\n\r\n" + hashlib.shake_256(b"y").digest(60)
    good = build(raw)
    for position in range(len(good)):
        for bit in range(8):
            bad = bytearray(good)
            bad[position] ^= 1 << bit
            with pytest.raises(CorruptRecord):
                parse(bytes(bad))


@given(st.binary(max_size=200))
@settings(max_examples=300, derandomize=True, deadline=None)
def test_any_bytes_are_a_corrupt_record_never_another_error(data: bytes) -> None:
    with pytest.raises(CorruptRecord):
        parse(records.MAGIC + data)


def test_truncated_record_at_every_length() -> None:
    good = build(b"Subject: x\r\n\r\nbody")
    for length in range(len(good)):
        with pytest.raises(CorruptRecord):
            parse(good[:length])


def test_encrypted_and_newer_records_are_refused() -> None:
    for position, value in ((4, 2), (5, 9), (6, records.ENCRYPTED)):
        bad = bytearray(build(b"body"))
        bad[position] = value
        with pytest.raises(CorruptRecord, match="newer"):
            records.parse_header(bytes(bad))


def test_a_frame_that_claims_another_size_is_refused() -> None:
    """Attack: a compressed block that would unpack to more than the header says."""
    packed = records.compress(b"a" * 100_000)
    assert packed is not None
    with pytest.raises(CorruptRecord):
        records.decompress(packed, 100)


def test_blocks_are_checked_each_alone() -> None:
    stored, crc = records.encode_block(b"block of text\r\n" * 100)
    assert records.decode_block(stored, crc, 1500) == b"block of text\r\n" * 100
    with pytest.raises(CorruptRecord):
        records.decode_block(stored[:-1] + b"\0", crc, 1500)


def test_hash64_is_stable_signed_and_zero_for_none() -> None:
    assert records.hash64("") == 0
    assert records.hash64("<a@example.test>") == records.hash64("<a@example.test>")
    assert -(1 << 63) <= records.hash64("<b@example.test>") < 1 << 63
    assert records.hash64("<\udcff@example.test>") != 0
