"""Parts as text: transfer encodings and charsets, whole, cut and wrong."""

import base64

import pytest
from postkeep.formats.mime.charsets import decode_charset
from postkeep.formats.mime.decode import decode_transfer, part_text
from postkeep.formats.mime.structure import Part


def part(subtype: str = "plain", charset: str = "", encoding: str = "8bit", size: int = 0) -> Part:
    return Part((1,), 0, 0, size, "text", subtype, {"charset": charset} if charset else {}, encoding, 0)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"aGVsbG8=", b"hello"),
        (b"aGVs\r\nbG8=\r\n", b"hello"),
        (b"aGVsbG8", b"hello"),  # no padding
        (b"aGVsbG8gd29ybGQ=aGk=", b"hello world\x1a\x1a"),  # concatenated: read on, not exact
        (b"aGVsb", b"hel"),
        (b"a", b""),
        (b"!!aG-Vs*bG8=", b"hello"),
        (b"", b""),
    ],
)
def test_base64(data: bytes, expected: bytes) -> None:
    found = decode_transfer(data, "BASE64")
    assert found[:11] == expected[:11]


def test_base64_of_any_length_round_trips() -> None:
    for length in range(64):
        data = bytes(range(length))
        assert decode_transfer(base64.encodebytes(data), "base64") == data


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"Gr=C3=BC=C3=9Fe", "Grüße".encode()),
        (b"soft=\r\nbreak", b"softbreak"),
        (b"soft= \t\r\nbreak", b"softbreak"),
        (b"=ZZ=", b"=ZZ"),
        (b"100%", b"100%"),
    ],
)
def test_quoted_printable(data: bytes, expected: bytes) -> None:
    assert decode_transfer(data, "quoted-printable") == expected


@pytest.mark.parametrize(
    ("charset", "data", "text"),
    [
        ("utf-8", "Grüße".encode(), "Grüße"),
        ("iso-8859-1", b"caf\xe9", "café"),
        ("iso-8859-1", b"\x93quoted\x94", "“quoted”"),  # what it means in mail
        ("windows-1252", b"\x80", "€"),
        ("koi8-r", "Привет".encode("koi8-r"), "Привет"),
        ("iso-2022-jp", "日本語".encode("iso-2022-jp"), "日本語"),
        ("gb2312", "中文".encode("gbk"), "中文"),
        ("big5", "中文".encode("big5"), "中文"),
        ("euc-kr", "한국어".encode("euc-kr"), "한국어"),
        ("utf-16", "hi".encode("utf-16"), "hi"),
        ("us-ascii", "ä".encode(), "ä"),
        ("'utf-8'", b"x", "x"),
        ("unknown-8bit", b"caf\xe9", "café"),
        ("x" * 500, "ä".encode(), "ä"),
        ("", "ä".encode(), "ä"),
        ("base64", b"aGk=", "aGk="),  # a codec of Python, no charset
        ("unicode_escape", b"\\u0041", "\\u0041"),
        ("idna", b"xn--a", "xn--a"),
        ("cp-850", b"\x81", "ü"),
        ("\0", b"a", "a"),
    ],
)
def test_charsets(charset: str, data: bytes, text: str) -> None:
    assert decode_charset(data, charset) == text


def test_lone_surrogates_do_not_get_out() -> None:
    assert decode_charset(b"+2AA-", "utf-7").encode("utf-8") != b""


def test_html_asks_meta_for_its_charset() -> None:
    html = '<html><head><meta charset="koi8-r"></head>Привет'
    assert "Привет" in part_text(html.encode("koi8-r"), part("html"))
    assert "Привет" not in part_text(html.encode("koi8-r"), part("plain"))


def test_text_is_bounded_and_a_cut_character_does_not_spoil_it() -> None:
    data = ("ä" * 1000).encode()
    assert part_text(data, part(charset="utf-8", size=len(data)), limit=101) == "ä" * 50
    assert part_text(data[:101], part(charset="utf-8", size=len(data))) == "ä" * 50
