"""The XML of mailserver.cfg and users.cfg (row SET-2): bytes ↔ a small tree, nothing known of its meaning.

    <config>
      <table name="SMTP">
        <variable name="MaxRecipients">100</variable>
        <list name="RelayNetworks"><listitem>192.0.2.0/24</listitem></list>
      </table>
      <list name="Domain">
        <listitem><variable name="Name">example.com</variable></listitem>
      </list>
    </config>

A document type, entities and anything else is refused: a configuration file needs none of it.
"""

from dataclasses import dataclass, field
from xml.parsers import expat

from postkeep.domain.errors import ConfigError

SIZE_LIMIT = 256 << 20
"""Octets; half a million accounts fit."""
DEPTH_LIMIT = 16
# A newline in an attribute would come back as a blank (XML 1.0 §3.3.3), a bare CR in text as LF (§2.11).
_ESCAPES = {ord("&"): "&amp;", ord("<"): "&lt;", ord(">"): "&gt;", ord('"'): "&quot;", ord("\r"): "&#13;"}
_ATTRIBUTE_ESCAPES = _ESCAPES | {ord("\n"): "&#10;", ord("\t"): "&#9;"}
_FORBIDDEN = dict.fromkeys((*range(9), 11, 12, *range(14, 32), 65534, 65535), "�")
"""What XML 1.0 §2.2 cannot hold, even escaped."""


@dataclass(slots=True)
class Item:
    """One <listitem>: either a text or a table."""

    text: str = ""
    table: "Table | None" = None
    line: int = 0


@dataclass(slots=True)
class Table:
    """Named variables, lists and tables. `lines` gives the line of each variable or list in the file."""

    variables: dict[str, str] = field(default_factory=dict)
    lists: dict[str, list[Item]] = field(default_factory=dict)
    tables: dict[str, "Table"] = field(default_factory=dict)
    lines: dict[str, int] = field(default_factory=dict)
    line: int = 0

    @property
    def empty(self) -> bool:
        return not (self.variables or self.lists or self.tables)


class _Reader:
    def __init__(self, name: str) -> None:
        self._name = name
        self.root = Table(line=1)
        # What is open: (element, its name, the Table that its children go to).
        self._open: list[tuple[str, str, Table]] = []
        self._text: list[str] = []
        self._items: list[list[Item]] = []
        self.parser = expat.ParserCreate("UTF-8")
        self.parser.buffer_text = True
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.CharacterDataHandler = self._text.append
        self.parser.StartDoctypeDeclHandler = self._doctype

    def fail(self, reason: str) -> ConfigError:
        return ConfigError(f"{self._name}, line {self.parser.CurrentLineNumber}: {reason}")

    def _doctype(self, *_: object) -> None:
        raise self.fail("a document type (<!DOCTYPE …>) is not allowed")

    def _start(self, element: str, attributes: dict[str, str]) -> None:
        line = self.parser.CurrentLineNumber
        parent = self._open[-1][0] if self._open else ""
        allowed = {"": ("config",), "config": _CHILDREN, "table": _CHILDREN, "listitem": _CHILDREN}
        if len(self._open) >= DEPTH_LIMIT:
            raise self.fail("the elements are nested too deeply")
        if element not in allowed.get(parent, ("listitem",) if parent == "list" else ()):
            raise self.fail(f"<{element[:80]}> is not allowed {f'in <{parent}>' if parent else 'here'}")
        if "".join(self._text).strip():
            raise self.fail(f"text and <{element}> side by side")
        self._text.clear()
        name = attributes.get("name", "")
        if element in _CHILDREN and not name:
            raise self.fail(f"<{element}> without a name")
        into = self._open[-1][2] if self._open else self.root
        if element == "table":
            child = Table(line=line)
            if into.tables.setdefault(name, child) is not child:
                raise self.fail(f"a second table “{name[:80]}”")
            into = child
        elif element == "list":
            items: list[Item] = []
            if into.lists.setdefault(name, items) is not items:
                raise self.fail(f"a second list “{name[:80]}”")
            into.lines[name] = line
            self._items.append(items)
        elif element == "listitem":
            item = Item(table=Table(line=line), line=line)
            self._items[-1].append(item)
            assert item.table is not None
            into = item.table
        elif element == "variable":
            if name in into.variables:
                raise self.fail(f"a second variable “{name[:80]}”")
            into.lines[name] = line
        self._open.append((element, name, into))

    def _end(self, element: str) -> None:
        text = "".join(self._text)
        self._text.clear()
        _, name, into = self._open.pop()
        if element == "variable":
            into.variables[name] = text
        elif element == "listitem":
            item = self._items[-1][-1]
            if into.empty:
                item.text, item.table = text, None
            elif text.strip():
                raise self.fail("text and variables side by side in <listitem>")
        elif text.strip():
            raise self.fail(f"“{text.strip()[:40]}” stands outside of a <variable>")
        if element == "list":
            self._items.pop()


_CHILDREN = ("variable", "list", "table")


def parse_document(data: bytes, name: str) -> Table:
    """Raises ConfigError with `name` (of the file), line and reason."""
    if len(data) > SIZE_LIMIT:
        raise ConfigError(f"{name}: the file is larger than {SIZE_LIMIT >> 20} MB")
    reader = _Reader(name)
    try:
        reader.parser.Parse(data, True)
    except expat.ExpatError as error:
        reason = expat.ErrorString(error.code)
        raise ConfigError(f"{name}, line {error.lineno}: this is not XML: {reason}") from error
    except UnicodeError as error:
        raise reader.fail("this is not UTF-8") from error
    return reader.root


def escape(text: str) -> str:
    """`text` as element content. Characters that XML cannot hold become U+FFFD."""
    if text.isalnum():
        return text
    return text.translate(_FORBIDDEN).translate(_ESCAPES).encode("utf-8", "replace").decode("utf-8")


def write_document(root: Table) -> bytes:
    """The whole file. parse_document gives the same tree back (but for the lines)."""
    parts = ['<?xml version="1.0" encoding="UTF-8"?>\n<config>\n']
    write_table(parts, root, "  ")
    parts.append("</config>\n")
    return "".join(parts).encode("utf-8", "replace")


def write_table(parts: list[str], table: Table, indent: str) -> None:
    """Append what is in `table`, not its own element."""
    for name, value in table.variables.items():
        parts.append(f"{indent}<variable name={_quoted(name)}>{escape(value)}</variable>\n")
    for name, items in table.lists.items():
        if not items:
            parts.append(f"{indent}<list name={_quoted(name)}></list>\n")
            continue
        parts.append(f"{indent}<list name={_quoted(name)}>\n")
        for item in items:
            if item.table is None:
                parts.append(f"{indent}  <listitem>{escape(item.text)}</listitem>\n")
            else:
                parts.append(f"{indent}  <listitem>\n")
                write_table(parts, item.table, indent + "    ")
                parts.append(f"{indent}  </listitem>\n")
        parts.append(f"{indent}</list>\n")
    for name, child in table.tables.items():
        parts.append(f"{indent}<table name={_quoted(name)}>\n")
        write_table(parts, child, indent + "  ")
        parts.append(f"{indent}</table>\n")


def _quoted(name: str) -> str:
    if name.isalnum():
        return f'"{name}"'
    text = name.translate(_FORBIDDEN).translate(_ATTRIBUTE_ESCAPES)
    return f'"{text.encode("utf-8", "replace").decode("utf-8")}"'
