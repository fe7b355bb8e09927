"""The items of FETCH (RFC 3501 §6.4.5, RFC 7162 §3.1.4)."""

import re
from dataclasses import dataclass
from typing import NamedTuple

from postkeep.protocols.imap.encoding import astring
from postkeep.protocols.imap.syntax import BadSyntax, Cursor

ITEM_LIMIT = 256
SECTION_LIMIT = 64
"""Sections of one FETCH: each message is read once for every one of them."""
FIELD_LIMIT = 512
PATH_LIMIT = 64

_PATH = re.compile(rb"[1-9][0-9]{0,8}(?:\.[1-9][0-9]{0,8})*")
_PARTIAL = re.compile(rb"<(\d{1,10})\.(\d{1,10})>")
_NAME = re.compile(rb"[A-Za-z0-9.]+")

MACROS = {
    "ALL": ("FLAGS", "INTERNALDATE", "RFC822.SIZE", "ENVELOPE"),
    "FAST": ("FLAGS", "INTERNALDATE", "RFC822.SIZE"),
    "FULL": ("FLAGS", "INTERNALDATE", "RFC822.SIZE", "ENVELOPE", "BODY"),
}
ROW_ITEMS = frozenset({"UID", "FLAGS", "INTERNALDATE", "RFC822.SIZE", "MODSEQ"})
"""Answered from a row alone."""
STRUCTURE_ITEMS = frozenset({"ENVELOPE", "BODY", "BODYSTRUCTURE"})
"""Answered from the stored Structure."""


class Section(NamedTuple):
    """BODY[path.text]<start.length>. `label` is what the reply calls it; `seen` sets \\Seen."""

    label: bytes
    path: tuple[int, ...]
    text: str
    """"", HEADER, TEXT, MIME, HEADER.FIELDS or HEADER.FIELDS.NOT."""
    fields: tuple[str, ...] = ()
    start: int = 0
    length: int | None = None
    seen: bool = True


@dataclass(slots=True)
class FetchItems:
    """`simple` are names of ROW_ITEMS and STRUCTURE_ITEMS in the order asked, each once."""

    simple: list[str]
    sections: list[Section]

    @property
    def sets_seen(self) -> bool:
        return any(section.seen for section in self.sections)

    def add(self, name: str) -> None:
        if name not in self.simple:
            self.simple.append(name)


_RFC822 = {
    "RFC822": Section(b"RFC822", (), ""),
    "RFC822.HEADER": Section(b"RFC822.HEADER", (), "HEADER", seen=False),
    "RFC822.TEXT": Section(b"RFC822.TEXT", (), "TEXT"),
}


def parse_items(cursor: Cursor) -> FetchItems:
    """A macro, one item, or a list of items."""
    items = FetchItems([], [])
    if cursor.take(b"("):
        while True:
            _item(cursor, items)
            if cursor.take(b")"):
                break
            cursor.space()
            if cursor.take(b")"):
                break
            if len(items.simple) + len(items.sections) > ITEM_LIMIT:
                raise BadSyntax("Too many items")
        return items
    for macro, names in MACROS.items():
        start = cursor.position
        if cursor.take(macro.encode()) and cursor.peek() in (b"", b" "):
            for name in names:
                items.add(name)
            return items
        cursor.position = start
    _item(cursor, items)
    return items


def _item(cursor: Cursor, items: FetchItems) -> None:
    name = cursor.match(_NAME, "a FETCH item")[0].decode("ascii").upper()
    if cursor.peek() == b"[" and name in ("BODY", "BODY.PEEK"):
        section = _section(cursor, seen=name == "BODY")
        if section not in items.sections:
            items.sections.append(section)
            if len(items.sections) > SECTION_LIMIT:
                raise BadSyntax("Too many sections")
    elif name in _RFC822:
        if _RFC822[name] not in items.sections:
            items.sections.append(_RFC822[name])
    elif name in ROW_ITEMS or name in STRUCTURE_ITEMS:
        items.add(name)
    else:
        raise BadSyntax(f"Unknown FETCH item {name[:32]}")


def _section(cursor: Cursor, *, seen: bool) -> Section:
    cursor.expect(b"[")
    path: tuple[int, ...] = ()
    text = ""
    fields: tuple[str, ...] = ()
    label = b""
    found = _PATH.match(cursor.data, cursor.position)
    if found is not None:
        cursor.position = found.end()
        path = tuple(map(int, found[0].split(b".")))
        if len(path) > PATH_LIMIT:
            raise BadSyntax("Section too deep")
        label = found[0]
    if cursor.peek() != b"]":
        if path:
            cursor.expect(b".")
            label += b"."
        text = cursor.match(_NAME, "a section")[0].decode("ascii").upper()
        label += text.encode()
        if text in ("HEADER.FIELDS", "HEADER.FIELDS.NOT"):
            cursor.space()
            fields, shown = _field_list(cursor)
            label += b" (" + shown + b")"
        elif text not in ("HEADER", "TEXT", "MIME") or (text == "MIME" and not path):
            raise BadSyntax("Unknown section")
    cursor.expect(b"]")
    label = b"BODY[" + label + b"]"
    partial = _PARTIAL.match(cursor.data, cursor.position)
    if partial is None:
        return Section(label, path, text, fields, seen=seen)
    cursor.position = partial.end()
    start, length = int(partial[1]), int(partial[2])
    if length == 0 or start > 0xFFFF_FFFF or length > 0xFFFF_FFFF:
        raise BadSyntax("Invalid partial")
    # RFC 3501 §7.4.2: the reply names the origin octet only.
    return Section(b"%b<%d>" % (label, start), path, text, fields, start, length, seen)


def _field_list(cursor: Cursor) -> tuple[tuple[str, ...], bytes]:
    cursor.expect(b"(")
    names = [cursor.astring()]
    while not cursor.take(b")"):
        cursor.space()
        if cursor.take(b")"):
            break
        names.append(cursor.astring())
        if len(names) > FIELD_LIMIT:
            raise BadSyntax("Too many fields")
    return tuple(name.decode("latin-1") for name in names), b" ".join(map(astring, names))
