"""What one record of a pack looks like: pure bytes ↔ values.

    header (56 octets) | body as stored | trailer

Header, little-endian: magic "PKr\\x1a", version, kind, flags, stored length (u64), raw length (u64), trailer
length as stored and raw (u32 each), first 16 octets of the body's SHA-256, CRC-32 of the body as stored,
CRC-32 of the trailer and the header before it (so that header and trailer can be read and checked without
the body). With `BLOCKS` the body's CRC is 0: the trailer holds one for each block of 1 MiB, so that a part
of a long body can be read and checked alone.

The message as served is the trailer's prefix (Return-Path, Received) followed by the body.
"""

import struct
import threading
from hashlib import blake2b
from typing import NamedTuple
from zlib import crc32

import msgspec
import zstandard

from postkeep.domain.errors import CorruptRecord

MAGIC = b"PKr\x1a"
VERSION = 1
MESSAGE = 1
"""The only kind of record so far."""

ZSTD = 1
"""The body is one zstd frame."""
BLOCKS = 2
"""The body is a row of blocks of BLOCK raw octets (the last shorter), each a zstd frame if that pays."""
ENCRYPTED = 4
"""Reserved: encryption at rest. A reader that does not know it must refuse the record."""
TRAILER_ZSTD = 8
_KNOWN = ZSTD | BLOCKS | TRAILER_ZSTD

BLOCK = 1 << 20
"""Raw octets of a block; a longer body is stored in blocks."""
_PAYS = 0.94
"""Compressed bytes are kept when they are at most this share of the raw ones."""
_TRAILER_WORTH = 256
_TRAILER_LIMIT = 64 << 20

_HEAD = struct.Struct("<4sBBHQQII16sI")
_CRC = struct.Struct("<I")
HEADER_SIZE = _HEAD.size + _CRC.size


class Header(NamedTuple):
    """The fixed front of a record. Lengths in octets; `length` is that of the whole record."""

    kind: int
    flags: int
    stored: int
    raw: int
    trailer: int
    trailer_raw: int
    digest: bytes
    body_crc: int
    crc: int

    @property
    def length(self) -> int:
        return HEADER_SIZE + self.stored + self.trailer


class Delivery(NamedTuple):
    """Where a message went when it came: enough to rebuild a lost database. Flags are domain Flag bits."""

    account: str
    mailbox: str
    flags: int
    keywords: tuple[str, ...]


class Trailer(msgspec.Struct, array_like=True, frozen=True):
    """What is known of a message beside its bytes. `date` is INTERNALDATE in seconds since 1970,
    `structure` an encoded formats.mime Structure, `blocks` (stored length, CRC-32) of each block,
    `item` the message's item id when a compaction has moved the record (0: it follows from its place)."""

    date: int
    prefix: bytes
    deliveries: tuple[Delivery, ...]
    structure: bytes
    blocks: tuple[tuple[int, int], ...] = ()
    item: int = 0


_encode_trailer = msgspec.msgpack.Encoder().encode
_decode_trailer = msgspec.msgpack.Decoder(Trailer).decode


class _Codecs(threading.local):
    """zstd contexts are costly to make and not to be shared between threads."""

    def __init__(self) -> None:
        self.compress = zstandard.ZstdCompressor(level=1).compress
        self.decompress = zstandard.ZstdDecompressor().decompress


_codecs = _Codecs()


def compress(data: bytes) -> bytes | None:
    """zstd level 1, or None when it does not pay."""
    packed: bytes = _codecs.compress(data)
    return packed if len(packed) <= len(data) * _PAYS else None


def decompress(data: bytes | memoryview, size: int) -> bytes:
    """The raw bytes of a zstd frame, which must be exactly `size` octets; CorruptRecord."""
    try:
        raw: bytes = _codecs.decompress(data, max_output_size=size)
    except zstandard.ZstdError as error:
        raise CorruptRecord(f"compressed data is damaged: {error}") from error
    if len(raw) != size:
        raise CorruptRecord("compressed data has another length than its record says")
    return raw


def hash64(text: str) -> int:
    """Signed 64-bit hash of a Message-ID; 0 stands for none."""
    if not text:
        return 0
    return int.from_bytes(
        blake2b(text.encode("utf-8", "surrogateescape"), digest_size=8).digest(), "little", signed=True
    )


def item_of(pack: int, offset: int) -> int:
    """A new message's item id. Pack numbers are never reused and offsets stay below 2^28, so it is unique."""
    return pack << 28 | offset


def encode_record(
    body: bytes, flags: int, stored: int, raw: int, digest: bytes, trailer: Trailer, kind: int = MESSAGE
) -> tuple[bytes, bytes]:
    """(header, trailer as stored). `body` as stored (not looked at with BLOCKS), `stored` its length."""
    tail = _encode_trailer(trailer)
    tail_raw = len(tail)
    if tail_raw >= _TRAILER_WORTH:
        packed = compress(tail)
        if packed is not None:
            tail = packed
            flags |= TRAILER_ZSTD
    body_crc = 0 if flags & BLOCKS else crc32(body)
    head = _HEAD.pack(MAGIC, VERSION, kind, flags, stored, raw, len(tail), tail_raw, digest, body_crc)
    return head + _CRC.pack(crc32(head, crc32(tail))), tail


def parse_header(data: bytes | memoryview) -> Header:
    """The header at the front of `data`; CorruptRecord when there is none that this version reads."""
    if len(data) < HEADER_SIZE:
        raise CorruptRecord("record is cut short")
    magic, version, kind, flags, stored, raw, trailer, trailer_raw, digest, body_crc = _HEAD.unpack_from(data)
    if magic != MAGIC:
        raise CorruptRecord("no record begins here")
    if version != VERSION or kind != MESSAGE or flags & ~_KNOWN:
        raise CorruptRecord("record is damaged or was written by a newer version")
    if trailer_raw > _TRAILER_LIMIT or trailer > _TRAILER_LIMIT:
        raise CorruptRecord("record's trailer has an impossible length")
    (crc,) = _CRC.unpack_from(data, _HEAD.size)
    return Header(kind, flags, stored, raw, trailer, trailer_raw, digest, body_crc, crc)


def parse_trailer(head: bytes | memoryview, header: Header, tail: bytes | memoryview) -> Trailer:
    """The trailer; CorruptRecord unless its and the header's checksum fits."""
    if len(tail) != header.trailer:
        raise CorruptRecord("record is cut short")
    if crc32(head[: _HEAD.size], crc32(tail)) != header.crc:
        raise CorruptRecord("checksum does not fit: the record is damaged")
    if header.flags & TRAILER_ZSTD:
        tail = decompress(tail, header.trailer_raw)
    try:
        return _decode_trailer(tail)
    except msgspec.MsgspecError as error:
        raise CorruptRecord(f"record's trailer cannot be read: {error}") from error


def raw_body(header: Header, body: bytes | memoryview) -> bytes | memoryview:
    """The body of a record without BLOCKS, checked and decompressed; CorruptRecord."""
    if crc32(body) != header.body_crc:
        raise CorruptRecord("checksum of the body does not fit: the record is damaged")
    return decompress(body, header.raw) if header.flags & ZSTD else body


def encode_block(raw: bytes | bytearray | memoryview) -> tuple[bytes, int]:
    """(as stored, CRC-32 of that) of one block."""
    data = bytes(raw)
    packed = compress(data)
    if packed is None:
        packed = data
    return packed, crc32(packed)


def decode_block(stored: bytes, crc: int, raw: int) -> bytes:
    """A block's raw octets (`raw` of them); CorruptRecord."""
    if crc32(stored) != crc:
        raise CorruptRecord("checksum of a block does not fit: the record is damaged")
    return stored if len(stored) == raw else decompress(stored, raw)
