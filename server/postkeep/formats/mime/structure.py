"""What is known of a message without opening it: ready IMAP answers and where each part lies."""

from typing import Literal

import msgspec

VERSION = 1
"""First octet of an encoded Structure. New fields go at the end, with a default, and need no new version."""

Section = Literal["", "HEADER", "TEXT", "MIME"]


class StructureVersionError(ValueError):
    """An encoded Structure that this release cannot read; scan the message again."""


class Part(msgspec.Struct, array_like=True, frozen=True):
    """One MIME entity. Offsets are octets from the start of the whole message.

    header_start ≤ body_start ≤ end; the blank line belongs to the header. `lines` counts LF in the body of
    text/* and message/rfc822 parts and is 0 for others. Types, encoding and disposition are lower-case;
    `params` are those of Content-Type, decoded (RFC 2231) and with lower-case names.
    """

    path: tuple[int, ...]
    """Section number (RFC 3501 §6.4.5); () is a multipart at the top."""
    header_start: int
    body_start: int
    end: int
    type: str
    subtype: str
    params: dict[str, str]
    encoding: str
    lines: int
    disposition: str = ""
    filename: str = ""
    content_id: str = ""
    """With its angle brackets."""

    @property
    def size(self) -> int:
        """Octets of the body in its transfer encoding."""
        return self.end - self.body_start

    @property
    def is_multipart(self) -> bool:
        return self.type == "multipart"

    @property
    def is_message(self) -> bool:
        return self.type == "message" and self.subtype == "rfc822"


class Structure(msgspec.Struct, array_like=True, frozen=True):
    """Made once, at delivery, by scanner.scan(); stored beside the message."""

    envelope: bytes
    """IMAP ENVELOPE (RFC 3501 §7.4.2), ready to send; 8-bit strings are literals in it."""
    bodystructure: bytes
    """IMAP BODYSTRUCTURE, ready to send."""
    extensions: tuple[int, ...]
    """start, end, start, end, …: the extension data inside `bodystructure`, which BODY leaves out."""
    message_id: str
    """With angle brackets; "" when there is none."""
    thread_root: str
    """The first id of References, else In-Reply-To's, else `message_id`."""
    date: int | None
    """The Date field in seconds since 1970."""
    parts: tuple[Part, ...]
    """Preorder. parts[0] is the message; a message/rfc822 part is followed by the message in it."""

    def body(self) -> bytes:
        """IMAP BODY: BODYSTRUCTURE without extension data (RFC 3501 §7.4.2)."""
        pieces = []
        position = 0
        for start, end in zip(self.extensions[::2], self.extensions[1::2], strict=True):
            pieces.append(self.bodystructure[position:start])
            position = end
        pieces.append(self.bodystructure[position:])
        return b"".join(pieces)

    def part(self, path: tuple[int, ...]) -> Part | None:
        """The part that BODY[path] names; () is the message itself. A message without parts has part 1."""
        if not path:
            return self.parts[0]
        for part in self.parts:
            if part.path == path:
                return part
        return None

    def message(self, path: tuple[int, ...]) -> Part | None:
        """Header and body of the message in the message/rfc822 part `path`; () is the message itself."""
        if not path:
            return self.parts[0]
        for index, part in enumerate(self.parts):
            if part.path == path:
                return self.parts[index + 1] if part.is_message else None
        return None

    def section(self, path: tuple[int, ...], name: Section = "") -> tuple[int, int] | None:
        """(start, end) of BODY[path.name] in the message, None when there is no such section.

        section(()) is the whole message, section((), "TEXT") its body, section((2,), "MIME") the MIME
        header of part 2, section((2,), "HEADER") the header of the message in part 2.
        """
        if name in ("HEADER", "TEXT"):
            message = self.message(path)
            if message is None:
                return None
            if name == "HEADER":
                return message.header_start, message.body_start
            return message.body_start, message.end
        part = self.part(path)
        if part is None or (name == "MIME" and not path):
            return None
        if name == "MIME" or not path:
            return part.header_start, part.body_start if name == "MIME" else part.end
        return part.body_start, part.end


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Structure)
_VERSION_OCTET = bytes((VERSION,))


def encode_structure(structure: Structure) -> bytes:
    """Compact octets for the store."""
    return _VERSION_OCTET + _encoder.encode(structure)


def decode_structure(data: bytes | memoryview) -> Structure:
    """The inverse. Raises StructureVersionError for a version or content that this release does not know."""
    if len(data) == 0 or data[0] != VERSION:
        raise StructureVersionError(f"structure of version {data[0] if len(data) else 'none'}")
    try:
        return _decoder.decode(memoryview(data)[1:])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise StructureVersionError(f"structure cannot be read: {error}") from error
