"""Header fields: split, unfold, select, decode."""

import time

import pytest
from postkeep.formats.mime import headers
from postkeep.formats.mime.parameters import TEXT_PLAIN, decode_params, parse_content_type, parse_disposition

BLOCK = (
    b"Received: one\r\n\tfolded\r\nReceived: two\r\nSubject : Hello\r\n  World\r\nno field here\r\n"
    b"X-Empty:\r\nTo: a@x.org\r\n\r\nBody: not a field\r\n"
)


def test_fields_keep_order_and_folds() -> None:
    header = BLOCK[: BLOCK.index(b"\r\n\r\n") + 4]
    assert list(headers.fields(header)) == [
        (b"received", b"one\r\n\tfolded"),
        (b"received", b"two"),
        (b"subject", b"Hello\r\n  World"),
        (b"x-empty", b""),
        (b"to", b"a@x.org"),
    ]


def test_get_unfolds() -> None:
    assert headers.get(BLOCK, "SUBJECT") == b"Hello  World"
    assert headers.get(BLOCK, "cc") is None
    assert headers.get_all(BLOCK, "Received") == [b"one\tfolded", b"two"]


def test_lf_only() -> None:
    assert headers.get(b"A: 1\nB: 2\n 3\n\n", "b") == b"2 3"


def test_select_gives_raw_lines_and_a_blank_one() -> None:
    assert headers.select(BLOCK, ["to", "received"]) == (
        b"Received: one\r\n\tfolded\r\nReceived: two\r\nTo: a@x.org\r\n\r\n"
    )
    assert headers.select(BLOCK, ["received"], exclude=True) == (
        b"Subject : Hello\r\n  World\r\nno field here\r\nX-Empty:\r\nTo: a@x.org\r\n\r\n"
    )
    assert headers.select(b"To: x", ["to"]) == b"To: x\r\n\r\n"
    assert headers.select(b"", ["to"]) == b"\r\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"),
        ("=?utf-8?q?Gr=C3=BC=C3=9Fe?=", "Grüße"),
        ("=?UTF-8?B?R3LDvMOfZQ==?=", "Grüße"),
        ("=?iso-8859-1?Q?caf=E9_au_lait?=", "café au lait"),
        ("=?ISO-2022-JP?B?GyRCRnxLXBsoQg==?=", "日本"),
        ("=?koi8-r?b?8NLJ18XU?=", "Привет"),
        ("=?utf-8?q?a?= =?utf-8?q?b?=", "ab"),
        ("=?utf-8?q?a?=\r\n =?iso-8859-1?q?=E9?=", "aé"),
        ("=?utf-8?q?a?= b =?utf-8?q?c?=", "a b c"),
        ("=?utf-8?b?w6Q=?= =?utf-8?b?w7Y=?=", "äö"),
        ("=?utf-8?b?4oI=?= =?utf-8?b?rA==?=", "€"),  # one character split between two words
        ("=?utf-8*en?q?hello?=", "hello"),
        ("=?nonsense?q?caf=E9?=", "café"),
        ("=?utf-8?b?R3LDvMOfZQ?=", "Grüße"),  # padding missing
        ("=?utf-8?q?=E9?=", "é"),  # not UTF-8 at all
        ('"=?utf-8?q?quoted?="', '"quoted"'),
        ("=?utf-8?x?what?=", "=?utf-8?x?what?="),
        ("=?utf-8?q?unterminated", "=?utf-8?q?unterminated"),
        ("=?utf-8?b?x?=", "=?utf-8?b?x?="),
    ],
)
def test_encoded_words(text: str, expected: str) -> None:
    assert headers.decode_words(text) == expected


def test_decode_header_guesses_raw_8bit() -> None:
    assert headers.decode_header("Grüße".encode()) == "Grüße"
    assert headers.decode_header(b"Gr\xfc\xdfe") == "Grüße"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"Thu, 01 Jan 1970 00:00:10 +0000", 10),
        (b"Mon, 23 Nov 2026 10:00:00 +0100", 1795424400),
        (b"23 Nov 2026 10:00:00 +0100 (CET)", 1795424400),
        (b"Mon,  23 Nov 26 09:00 GMT", 1795424400),
        (b"Mon, 23 Nov 2026 04:00:00 EST", 1795424400),
        (b"Monday, 23 November 2026 10:00:00 +01:00", 1795424400),
        (b"Mon Nov 23 09:00:00 2026", 1795424400),
        (b"Mon Nov 23 09:00:00 UTC 2026", 1795424400),
        (b"23-Nov-2026 10:00:00 +0100", 1795424400),
        (b"Fri, 31 Dec 1999 23:59:60 GMT", 946684800),
        (b"Mon, 31 Feb 2026 10:00:00 +0100", None),
        (b"Mon, 23 Foo 2026 10:00:00 +0100", None),
        (b"Mon, 23 Nov 2026 25:00:00 +0100", None),
        (b"yesterday", None),
        (b"", None),
        (b"\xff\x00", None),
    ],
)
def test_dates(text: bytes, expected: int | None) -> None:
    assert headers.parse_date(text) == expected


def test_message_ids() -> None:
    assert headers.message_ids(b"<a@x> (comment)\r\n <b@y>junk <c d> <e@z") == ["<a@x>", "<b@y>"]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"text/plain", ("text", "plain", {})),
        (b"Text/HTML; CharSet=UTF-8", ("text", "html", {"charset": "UTF-8"})),
        (
            b'text/plain; charset="us-ascii"; format=flowed',
            ("text", "plain", {"charset": "us-ascii", "format": "flowed"}),
        ),
        (b"text/plain; charset=us-ascii (Plain text)", ("text", "plain", {"charset": "us-ascii"})),
        (b"image/png; name=My Photo (1).png", ("image", "png", {"name": "My Photo (1).png"})),
        (b'image/png; name="a\\"b;c.png"', ("image", "png", {"name": 'a"b;c.png'})),
        (b"text/plain;; ; charset=x;", ("text", "plain", {"charset": "x"})),
        (b"text/plain; charset", ("text", "plain", {})),
        (b'text/plain; charset="open', ("text", "plain", {"charset": "open"})),
        (b"text/plain; a=1; a=2", ("text", "plain", {"a": "1"})),
        (b"application/pdf; name*=utf-8''%c3%a4.pdf", ("application", "pdf", {"name": "ä.pdf"})),
        (b"application/pdf; name*0=a; name*1=b; name*2*=%20c", ("application", "pdf", {"name": "ab c"})),
        (b"application/pdf; name*1=b; name*0*=iso-8859-1'de'%E4", ("application", "pdf", {"name": "äb"})),
        (b'application/pdf; name="=?utf-8?q?=C3=A4.pdf?="', ("application", "pdf", {"name": "ä.pdf"})),
    ],
)
def test_content_types(value: bytes, expected: tuple[str, str, dict[str, str]]) -> None:
    found = parse_content_type(value)
    assert (found.type, found.subtype, found.params) == expected


@pytest.mark.parametrize(
    "value", [b"", b"text", b"text/", b"/plain", b"; charset=x", b"\xff/\xff", b"text plain"]
)
def test_broken_content_type_is_text(value: bytes) -> None:
    assert parse_content_type(value) == TEXT_PLAIN


def test_raw_parameters_stay_raw_for_imap() -> None:
    assert parse_content_type(b"a/b; name*0*=utf-8''%41; name*1=b").listed_params == (
        b'("name*0*" "utf-8\'\'%41" "name*1" "b")'
    )


def test_disposition() -> None:
    assert parse_disposition(b"ATTACHMENT; filename=a.txt") == ("attachment", ((b"filename", b"a.txt"),))
    assert parse_disposition(b"") == ("", ())


def test_attack_many_parameters_are_bounded() -> None:
    value = b"text/plain" + b"".join(b";a%d=1" % i for i in range(20000))
    assert len(parse_content_type(value).params) == 100


@pytest.mark.parametrize(
    "piece", [b";", b"; ", b";a", b";a=", b'"', b';a="', b";a*0=", b"=", b" ", b"\\", b';a="\\']
)
def test_attack_parameters_take_linear_time(piece: bytes) -> None:
    value = b"text/plain" + (piece * 65536)[:65536]
    start = time.process_time()
    parse_content_type(value)
    assert time.process_time() - start < 1.0


@pytest.mark.parametrize(
    "piece", ["=?", "=?x?q?", "=?x?q??=", "=?x?b?!?= ", "?= ", " ", "=?utf-8?q?=", "=?x?q?a?=\r\n "]
)
def test_attack_encoded_words_take_linear_time(piece: str) -> None:
    start = time.process_time()
    headers.decode_words((piece * 65536)[:65536])
    headers.message_ids((piece * 65536)[:65536].encode())
    assert time.process_time() - start < 1.0


def test_attack_huge_section_number() -> None:
    assert decode_params([(b"a*99999999999999999999", b"x"), (b"a*1*2", b"y"), (b"*", b"z")])
