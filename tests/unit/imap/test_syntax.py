"""Arguments, SEARCH programs and FETCH items, and what is refused."""

import datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from postkeep.domain.message import Flag
from postkeep.protocols.imap import encoding
from postkeep.protocols.imap import search_syntax as s
from postkeep.protocols.imap.fetch_syntax import parse_items
from postkeep.protocols.imap.search_syntax import BadCharset, parse_search
from postkeep.protocols.imap.syntax import BadSyntax, Cursor, FlagList


def test_strings() -> None:
    cursor = Cursor(b'atom] "a \\"q\\" \\\\" {4}\r\nx\r\ny {0+}\r\n NIL')
    found = []
    for _ in range(4):
        found.append(cursor.astring())
        cursor.space()
    assert found == [b"atom]", b'a "q" \\', b"x\r\ny", b""]
    assert cursor.nstring() is None
    cursor.end()


@pytest.mark.parametrize(
    "data",
    [b'"open', b'"a\\x"', b'"a\0"', b"{3}\r\nab", b"{3}\r\na\0b", b"{9}", b"(", b"", b'"a\r\nb"', b"\0"],
)
def test_what_is_no_string_is_refused(data: bytes) -> None:
    with pytest.raises(BadSyntax):
        Cursor(data).astring()


def test_mailbox_names_in_utf7_and_utf8() -> None:
    assert Cursor(b"Entw&APw-rfe").mailbox() == "Entwürfe"
    assert Cursor('"Entwürfe"'.encode()).mailbox() == "Entwürfe"
    with pytest.raises(BadSyntax):
        Cursor(b'"\xff"').mailbox()


def test_flags() -> None:
    expected = FlagList(Flag.SEEN | Flag.DELETED, ("$Junk",))
    assert Cursor(b"(\\seen \\Deleted $Junk $junk \\Recent)").flags() == expected
    assert Cursor(b"\\seen \\Deleted $Junk").flags() == expected
    assert Cursor(b"()").flags() == FlagList(0, ())


@pytest.mark.parametrize(
    "data", [b"(\\Foo)", b"(a", b"", b"(a(b))", b"(" + b"k" * 129 + b")", b"(" + b"k " * 300 + b")"]
)
def test_bad_flags_are_refused(data: bytes) -> None:
    with pytest.raises(BadSyntax):
        Cursor(data).flags()


def test_dates() -> None:
    assert Cursor(b'"17-Jul-1996 02:44:25 -0700"').date_time() == 837596665
    assert Cursor(b'" 1-jan-1970 00:00:00 +0000"').date_time() == 0
    assert encoding.internal_date(837596665) == b'"17-Jul-1996 09:44:25 +0000"'
    assert Cursor(b"1-Feb-2024").date() == Cursor(b'"01-Feb-2024"').date() == datetime.date(2024, 2, 1)


@pytest.mark.parametrize(
    "data",
    [
        b'"31-Feb-2024 00:00:00 +0000"',
        b'"01-Foo-2024 00:00:00 +0000"',
        b'"01-Feb-2024 25:00:00 +0000"',
        b'"01-Feb-2024 00:00:00 +9900"',
        b'"01-Feb-0000 00:00:00 +0000"',
        b'"01-Feb-2024"',
    ],
)
def test_bad_date_times_are_refused(data: bytes) -> None:
    with pytest.raises(BadSyntax):
        Cursor(data).date_time()


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"plain", b"plain"),
        (b"a b", b'"a b"'),
        (b'a"b\\', b'"a\\"b\\\\"'),
        (b"", b'""'),
        (b"NIL", b'"NIL"'),
        (b"\xc3\xbc", b"{2}\r\n\xc3\xbc"),
        (b"a\nb", b"{3}\r\na\nb"),
    ],
)
def test_strings_are_written_so_that_they_can_be_read(value: bytes, expected: bytes) -> None:
    assert encoding.astring(value) == expected
    assert Cursor(expected).astring() == value


def key(text: str) -> s.Key:
    return parse_search(Cursor(text.encode())).key


def test_search_keys() -> None:
    assert key("ALL") == s.Everything()
    assert key("1:3,7 UNSEEN") == s.And((s.Numbers(((1, 3), (7, 7)), False), s.Not(s.HasFlag(Flag.SEEN))))
    assert key("OR FROM a (NOT TO b UID 5)") == s.Or(
        s.Header(b"from", "a"), s.And((s.Not(s.Header(b"to", "b")), s.Numbers(((5, 5),), True)))
    )
    day = datetime.date(2026, 11, 24)
    assert key("SENTON 24-Nov-2026") == s.Dated(day, datetime.date(2026, 11, 25), True)
    assert key('MODSEQ "/flags/\\\\Seen" all 7') == s.ModSeq(7)
    assert key('HEADER X-A ""') == s.Header(b"x-a", "")
    assert key("CHARSET UTF-8 SUBJECT Grüße") == s.Header(b"subject", "grüsse")


def test_search_returns() -> None:
    assert parse_search(Cursor(b"RETURN () ALL")).returns == {"ALL"}
    assert parse_search(Cursor(b"RETURN (MIN COUNT) ALL")).returns == {"MIN", "COUNT"}
    with pytest.raises(BadSyntax):
        parse_search(Cursor(b"RETURN (SAVE) ALL"))


def test_an_unknown_charset_is_told_apart() -> None:
    with pytest.raises(BadCharset):
        key("CHARSET KOI8-R SUBJECT a")
    with pytest.raises(BadCharset):
        parse_search(Cursor(b'SUBJECT "\xff"'))


@pytest.mark.parametrize(
    "text",
    ["", "FOO", "NOT", "OR ALL", "(ALL", "ALL)", "SINCE x", "ALL ALL x", "UID", "0", "LARGER -1", "()"],
)
def test_bad_programs_are_refused(text: str) -> None:
    with pytest.raises(BadSyntax):
        key(text)


@pytest.mark.parametrize(
    "text", ["(" * 5000 + "ALL" + ")" * 5000, "NOT " * 5000 + "ALL", "OR ALL " * 3000 + "ALL"]
)
def test_attack_nesting_bomb_is_refused(text: str) -> None:
    with pytest.raises(BadSyntax, match="too complex"):
        key(text)


def test_fetch_items() -> None:
    assert parse_items(Cursor(b"FULL")).simple == ["FLAGS", "INTERNALDATE", "RFC822.SIZE", "ENVELOPE", "BODY"]
    items = parse_items(Cursor(b"(UID body.peek[1.2.HEADER.FIELDS (From {2}\r\nTo)]<0.10> RFC822.TEXT BODY)"))
    assert items.simple == ["UID", "BODY"]
    peek, text = items.sections
    assert peek == (
        b"BODY[1.2.HEADER.FIELDS (From To)]<0>",
        (1, 2),
        "HEADER.FIELDS",
        ("From", "To"),
        0,
        10,
        False,
    )
    assert (text.label, text.text, text.seen) == (b"RFC822.TEXT", "TEXT", True)
    assert not parse_items(Cursor(b"RFC822.HEADER")).sets_seen
    assert parse_items(Cursor(b"BODY[]")).sets_seen


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"FOO",
        b"(FLAGS",
        b"()",
        b"BODY[MIME]",
        b"BODY[0]",
        b"BODY[1.]",
        b"BODY[]<1>",
        b"BODY[]<0.0>",
        b"BODY[1",
        b"BODY[HEADER.FIELDS]",
        b"BODY[HEADER.FIELDS ()]",
        b"(FULL)",
        b"BODY[" + b"1." * 100 + b"1]",
        b"RFC822[]",
    ],
)
def test_bad_items_are_refused(data: bytes) -> None:
    cursor = Cursor(data)

    def parse() -> None:
        parse_items(cursor)
        cursor.end()

    with pytest.raises(BadSyntax):
        parse()


_WORD = st.sampled_from(
    [
        b"ALL",
        b"NOT",
        b"OR",
        b"(",
        b")",
        b" ",
        b"1:*",
        b"FROM",
        b'"x"',
        b"{1}\r\nx",
        b"BODY[",
        b"]",
        b"<0.1>",
        b"SINCE",
        b"1-Jan-2020",
        b"HEADER",
        b"UID",
        b"FLAGS",
        b"CHARSET",
        b"\xff",
        b"\x00",
        b"RETURN",
        b"HEADER.FIELDS",
    ]
)


@settings(max_examples=400, derandomize=True, deadline=None)
@given(st.lists(st.one_of(_WORD, st.binary(max_size=6)), max_size=30).map(b"".join))
def test_fuzz_parsers_raise_their_own_errors_only(data: bytes) -> None:
    for parse in (parse_search, parse_items, Cursor.flags, Cursor.date_time, Cursor.list_mailbox):
        try:
            parse(Cursor(data))
        except Exception as error:
            assert isinstance(error, BadSyntax | BadCharset)  # noqa: PT017
