"""The XML of the configuration files: round trips, and everything that must be refused with a line."""

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from postkeep.config.document import DEPTH_LIMIT, Item, Table, parse_document, write_document
from postkeep.domain.errors import ConfigError

NAMES = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Cn"]), min_size=1, max_size=12)
# What XML can hold; a lone text of blanks in a listitem means "empty", as a person would write it.
TEXTS = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Cn"]) | st.sampled_from("\n\r\t")
)


def tables(depth: int = 2) -> st.SearchStrategy[Table]:
    variables = st.dictionaries(NAMES, TEXTS, max_size=4)
    inner: st.SearchStrategy[Table] = st.nothing() if depth == 0 else tables(depth - 1)
    nonempty = inner.filter(lambda table: not table.empty)
    items = st.builds(Item, text=TEXTS)
    if depth:
        items = items | st.builds(Item, table=nonempty)
    lists = st.dictionaries(NAMES, st.lists(items, max_size=3), max_size=2)
    return st.builds(Table, variables, lists, st.dictionaries(NAMES, inner, max_size=2))


def bare(table: Table) -> object:
    """A tree without its line numbers."""
    lists = {
        name: [item.text if item.table is None else bare(item.table) for item in items]
        for name, items in table.lists.items()
    }
    return table.variables, lists, {name: bare(child) for name, child in table.tables.items()}


@settings(max_examples=300, derandomize=True, deadline=None)
@given(tables())
def test_what_is_written_is_read(table: Table) -> None:
    assert bare(parse_document(write_document(table), "x.cfg")) == bare(table)


@settings(max_examples=300, derandomize=True, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused_with_a_line(data: bytes) -> None:
    with pytest.raises(ConfigError, match=r"x\.cfg, line \d+: "):
        parse_document(data, "x.cfg")


@settings(max_examples=300, derandomize=True, deadline=None)
@given(tables(), st.data())
def test_a_file_damaged_anywhere_is_read_or_refused(table: Table, data: st.DataObject) -> None:
    raw = bytearray(write_document(table))
    at = data.draw(st.integers(0, len(raw) - 1))
    raw[at] = data.draw(st.integers(0, 255))
    with contextlib.suppress(ConfigError):  # nothing else is raised
        assert write_document(parse_document(bytes(raw), "x.cfg"))


HEAD = '<?xml version="1.0" encoding="UTF-8"?>\n<config>\n'


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ('<variable name="A">1</variable>\n<variable name="A">2</variable></config>', 4, "a second variable"),
        ("<variable>1</variable></config>", 3, "without a name"),
        ('<list name="A"/><list name="A"/></config>', 3, "a second list"),
        ('<table name="A"/>\n<table name="A"/></config>', 4, "a second table"),
        ("<wrong/></config>", 3, "is not allowed"),
        ('<list name="A"><variable name="B"/></list></config>', 3, "is not allowed in <list>"),
        ('<variable name="A"><variable name="B"/></variable></config>', 3, "is not allowed in <variable>"),
        ("stray words</config>", 3, "stands outside"),
        ('<list name="A"><listitem>x<variable name="B"/></listitem></list></config>', 3, "side by side"),
        ('<list name="A"><listitem><variable name="B"/>x</listitem></list></config>', 3, "side by side"),
        ('<variable name="A">1</variable>\n', 4, "not XML"),
        ('<variable name="A">&undefined;</variable></config>', 3, "not XML"),
        ('<variable name="A">\x01</variable></config>', 3, "not XML"),
    ],
)
def test_refused_with_line_and_reason(text: str, line: int, reason: str) -> None:
    with pytest.raises(ConfigError, match=rf"^x\.cfg, line {line}: .*{reason}"):
        parse_document((HEAD + text).encode(), "x.cfg")


def test_a_billion_laughs_are_refused() -> None:
    bomb = '<!DOCTYPE c [<!ENTITY a "ha"><!ENTITY b "&a;&a;">]><config><variable name="A">&b;</variable></config>'
    with pytest.raises(ConfigError, match="document type"):
        parse_document(bomb.encode(), "x.cfg")


def test_no_file_is_opened_for_an_external_entity() -> None:
    spy = '<!DOCTYPE c [<!ENTITY a SYSTEM "file:///etc/passwd">]><config><variable name="A">&a;</variable></config>'
    with pytest.raises(ConfigError, match="document type"):
        parse_document(spy.encode(), "x.cfg")


def test_depth_is_bounded() -> None:
    deep = "".join(f'<table name="T{n}">' for n in range(DEPTH_LIMIT + 1))
    with pytest.raises(ConfigError, match="nested too deeply"):
        parse_document(f"<config>{deep}".encode(), "x.cfg")


def test_another_encoding_than_utf8_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"line \d"):
        parse_document('<config><variable name="A">é</variable></config>'.encode("latin-1"), "x.cfg")
