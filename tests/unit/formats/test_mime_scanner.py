"""The offset scanner on messages written by hand: what IMAP clients get to see."""

import pytest
from postkeep.formats.mime.scanner import scan
from postkeep.formats.mime.source import BytesSource
from postkeep.formats.mime.structure import (
    Structure,
    StructureVersionError,
    decode_structure,
    encode_structure,
)

from tests.unit.formats.imapvalue import read


def crlf(text: str) -> bytes:
    return text.lstrip("\n").replace("\n", "\r\n").encode()


def scanned(data: bytes) -> Structure:
    return scan(BytesSource(data))


def cut(data: bytes, structure: Structure, path: tuple[int, ...], name: str = "") -> bytes | None:
    found = structure.section(path, name)  # type: ignore[arg-type]
    return None if found is None else data[found[0] : found[1]]


PLAIN = crlf("""
From: Alice <alice@example.org>
To: bob@example.net
Subject: "Hi" \\ there
Date: Mon, 23 Nov 2026 10:00:00 +0100
Message-ID: <1@example.org>

Hello
Bob
""")


def test_plain_message() -> None:
    structure = scanned(PLAIN)
    alice = b'(("Alice" NIL "alice" "example.org"))'
    assert structure.envelope == (
        b'("Mon, 23 Nov 2026 10:00:00 +0100" "\\"Hi\\" \\\\ there" '
        + b" ".join([alice] * 3)
        + b' ((NIL NIL "bob" "example.net")) NIL NIL NIL "<1@example.org>")'
    )
    assert structure.bodystructure == (
        b'("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 12 2 NIL NIL NIL NIL)'
    )
    assert structure.body() == b'("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 12 2)'
    assert structure.message_id == structure.thread_root == "<1@example.org>"
    assert structure.date == 1795424400
    assert cut(PLAIN, structure, ()) == PLAIN
    assert cut(PLAIN, structure, (), "TEXT") == cut(PLAIN, structure, (1,)) == b"Hello\r\nBob\r\n"
    assert cut(PLAIN, structure, (), "HEADER") == PLAIN[: -len(b"Hello\r\nBob\r\n")]
    assert cut(PLAIN, structure, (1,), "MIME") == cut(PLAIN, structure, (), "HEADER")
    assert structure.section((2,)) is None
    assert structure.section((1,), "HEADER") is None
    assert structure.section((1, 1)) is None
    assert structure.section((), "MIME") is None


NESTED = crlf("""
From: =?utf-8?q?J=C3=B6rg?= <joerg@example.org>
Reply-To: list@example.org
Subject: parts
In-Reply-To: <p@example.org>
References: <root@example.org>
 <p@example.org>
Content-Type: multipart/mixed;
 boundary="outer"
Content-Language: de, en

preamble, not a part
--outer
Content-Type: multipart/alternative; boundary=outer-inner

--outer-inner
Content-Type: text/plain; charset=utf-8
Content-Transfer-Encoding: Quoted-Printable
Content-ID: <text@example.org>
Content-Description: the text

Gr=C3=BC=C3=9Fe

--outer-inner
Content-Type: text/html

<p>Hi</p>
--outer-inner--
inner epilogue
--outer
Content-Type: message/rfc822
Content-Disposition: attachment; filename*=utf-8''%c3%a4.eml

From: carol@example.org
Subject: inside
Content-Type: multipart/mixed; boundary=deep

--deep

deep text
--deep
Content-Type: image/png; name=a.png
Content-Transfer-Encoding: base64
Content-Disposition: inline
Content-Location: http://x/
 a.png
Content-MD5: Q2hlY2sgSW50ZWdyaXR5IQ==

iVBO
--deep--
--outer
Content-Type: message/rfc822

Subject: flat

flat text
--outer--
epilogue
""")


def test_nested_bodystructure() -> None:
    structure = scanned(NESTED)
    inner_envelope = (
        b'(NIL "inside" ((NIL NIL "carol" "example.org")) ((NIL NIL "carol" "example.org")) '
        b'((NIL NIL "carol" "example.org")) NIL NIL NIL NIL NIL)'
    )
    message = cut(NESTED, structure, (2,))
    assert message is not None
    assert structure.bodystructure == b"".join([
        b'((("text" "plain" ("charset" "utf-8") "<text@example.org>" "the text" "quoted-printable" 17 1',
        b" NIL NIL NIL NIL)",
        b'("text" "html" NIL NIL NIL "7bit" 9 0 NIL NIL NIL NIL)',
        b' "alternative" ("boundary" "outer-inner") NIL NIL NIL)',
        b'("message" "rfc822" NIL NIL NIL "7bit" %d ' % len(message),
        inner_envelope,
        b' (("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 9 0 NIL NIL NIL NIL)',
        b'("image" "png" ("name" "a.png") NIL NIL "base64" 4 "Q2hlY2sgSW50ZWdyaXR5IQ==" ("inline" NIL)',
        b' NIL "http://x/a.png")',
        b' "mixed" ("boundary" "deep") NIL NIL NIL) %d' % message.count(b"\n"),
        b' NIL ("attachment" ("filename*" "utf-8\'\'%c3%a4.eml")) NIL NIL)',
        b'("message" "rfc822" NIL NIL NIL "7bit" 26 (NIL "flat" NIL NIL NIL NIL NIL NIL NIL NIL)',
        b' ("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 9 0 NIL NIL NIL NIL) 2 NIL NIL NIL NIL)',
        b' "mixed" ("boundary" "outer") NIL ("de" "en") NIL)',
    ])  # fmt: skip


def test_nested_body_leaves_out_extension_data() -> None:
    body = scanned(NESTED).body()
    assert b"boundary" not in body
    assert b"attachment" not in body
    assert b'"image" "png" ("name" "a.png") NIL NIL "base64" 4)' in body
    assert read(body)[-1] == b"mixed"  # type: ignore[index]


def test_nested_sections() -> None:
    structure = scanned(NESTED)
    assert [part.path for part in structure.parts] == [
        (), (1,), (1, 1), (1, 2), (2,), (2,), (2, 1), (2, 2), (3,), (3, 1)]  # fmt: skip
    assert cut(NESTED, structure, (1, 1)) == b"Gr=C3=BC=C3=9Fe\r\n"
    assert cut(NESTED, structure, (1, 2)) == b"<p>Hi</p>"
    assert cut(NESTED, structure, (1, 2), "MIME") == b"Content-Type: text/html\r\n\r\n"
    assert cut(NESTED, structure, (2, 1)) == b"deep text"
    assert cut(NESTED, structure, (2, 2)) == b"iVBO"
    inside = cut(NESTED, structure, (2,))
    assert inside is not None
    assert inside.startswith(b"From: carol@")
    assert inside.endswith(b"--deep--")
    header = cut(NESTED, structure, (2,), "HEADER")
    assert header is not None
    assert header.endswith(b"boundary=deep\r\n\r\n")
    assert header + (cut(NESTED, structure, (2,), "TEXT") or b"") == inside
    assert cut(NESTED, structure, (3, 1)) == cut(NESTED, structure, (3,), "TEXT") == b"flat text"
    assert cut(NESTED, structure, (3, 1), "MIME") == b"Subject: flat\r\n\r\n"
    assert structure.section((1,), "HEADER") is None
    assert structure.section((4,)) is None
    part = structure.part((2,))
    assert part is not None
    assert (part.disposition, part.filename) == ("attachment", "ä.eml")
    assert structure.thread_root == "<root@example.org>"


def test_nested_envelope_defaults() -> None:
    envelope = read(scanned(NESTED).envelope)
    assert isinstance(envelope, list)
    joerg = [[b"=?utf-8?q?J=C3=B6rg?=", None, b"joerg", b"example.org"]]
    assert envelope[2:5] == [joerg, joerg, [[None, None, b"list", b"example.org"]]]
    assert envelope[8] == b"<p@example.org>"


def test_8bit_header_becomes_a_literal() -> None:
    data = b"Subject: Gr\xc3\xbc\xdf\r\nFrom: J\xf6rg <j@x.org>\r\n\r\n"
    envelope = scanned(data).envelope
    assert b"{5}\r\nGr\xc3\xbc\xdf" in envelope
    assert b"{4}\r\nJ\xf6rg" in envelope


def test_nul_and_bare_cr_in_header() -> None:
    envelope = read(scanned(b"Subject: a\0b\rc\r\n\r\n").envelope)
    assert isinstance(envelope, list)
    assert envelope[1] == b"ab\rc"


def test_folded_subject_is_unfolded() -> None:
    envelope = read(scanned(b"Subject: a\r\n\tb\r\n  c\r\n\r\n").envelope)
    assert isinstance(envelope, list)
    assert envelope[1] == b"a\tb  c"


def test_first_subject_counts_and_recipients_add_up() -> None:
    envelope = read(scanned(b"Subject: one\r\nTo: a@x\r\nSubject: two\r\nTo: b@x\r\n\r\n").envelope)
    assert isinstance(envelope, list)
    assert envelope[1] == b"one"
    assert envelope[5] == [[None, None, b"a", b"x"], [None, None, b"b", b"x"]]


def test_group_in_envelope() -> None:
    envelope = read(scanned(b"To: Team: a@x.org;\r\n\r\n").envelope)
    assert isinstance(envelope, list)
    assert envelope[5] == [
        [None, None, b"Team", None],
        [None, None, b"a", b"x.org"],
        [None, None, None, None],
    ]


def test_empty_message() -> None:
    structure = scanned(b"")
    assert structure.envelope == b"(NIL NIL NIL NIL NIL NIL NIL NIL NIL NIL)"
    assert structure.bodystructure == (
        b'("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 0 0 NIL NIL NIL NIL)'
    )
    assert structure.section(()) == (0, 0)
    assert structure.message_id == structure.thread_root == ""
    assert structure.date is None


def test_no_blank_line_is_all_header() -> None:
    data = b"Subject: x\r\nTo: a@x\r\n"
    assert scanned(data).section((), "HEADER") == (0, len(data))
    assert scanned(data).section((), "TEXT") == (len(data), len(data))


@pytest.mark.parametrize("data", [b"\r\nbody", b"\nbody"])
def test_no_header(data: bytes) -> None:
    assert cut(data, scanned(data), (), "TEXT") == b"body"


def test_lf_only_message() -> None:
    data = NESTED.replace(b"\r\n", b"\n")
    structure = scanned(data)
    assert [part.path for part in structure.parts] == [part.path for part in scanned(NESTED).parts]
    assert cut(data, structure, (2, 1)) == b"deep text"
    assert cut(data, structure, (1, 1)) == b"Gr=C3=BC=C3=9Fe\n"


MULTIPART = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n"


@pytest.mark.parametrize(
    ("body", "parts"),
    [
        (b"--b\r\n\r\none\r\n--b\r\n\r\ntwo\r\n--b--\r\n", [b"one", b"two"]),
        (b"--b\r\n\r\none\r\n--b\r\n\r\ntwo", [b"one", b"two"]),  # unterminated
        (b"--b  \t\r\n\r\none\r\n--b--  \r\n", [b"one"]),  # transport padding
        (b"--bb\r\n\r\nno\r\n--b\r\n\r\none --b\r\n --b\r\n--b-\r\n--b--", [b"one --b\r\n --b\r\n--b-"]),
        (b"--b\r\n--b\r\n\r\ntwo\r\n--b--", [b"", b"two"]),
        (b"--b\r\n\r\n--b--", [b""]),
        (b"--b\r\nContent-Type: text/plain\r\n--b--", [b""]),  # a header and nothing else
        (b"--b\r\n\r\none\r\n--b--\r\n--b\r\n\r\nafter the end\r\n", [b"one"]),
        (b"--b\n\none\n--b--\n", [b"one"]),
        (b"--b\r\n\r\none\r\n\r\n--b--", [b"one\r\n"]),
    ],
)
def test_boundaries(body: bytes, parts: list[bytes]) -> None:
    data = MULTIPART + body
    structure = scanned(data)
    found = [data[part.body_start : part.end] for part in structure.parts[1:]]
    assert found == parts


@pytest.mark.parametrize(
    "data",
    [
        MULTIPART + b"no boundary at all\r\n",
        MULTIPART + b"--b--\r\n",
        MULTIPART,
        b"Content-Type: multipart/mixed\r\n\r\n--b\r\n\r\none\r\n--b--",
        b'Content-Type: multipart/mixed; boundary=""\r\n\r\n--\r\n\r\none\r\n----',
        b"Content-Type: multipart/mixed; boundary="
        + b"x" * 1001
        + b"\r\n\r\n--"
        + b"x" * 1001
        + b"\r\n\r\none",
    ],
)
def test_multipart_that_cannot_be_divided_is_shown_as_text(data: bytes) -> None:
    structure = scanned(data)
    assert len(structure.parts) == 1
    assert structure.bodystructure.startswith(b'("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" ')


def test_outer_boundary_ends_an_unterminated_inner_part() -> None:
    data = crlf("""
Content-Type: multipart/mixed; boundary=a

--a
Content-Type: multipart/mixed; boundary=b

--b

inner
--a

outer
--a--
""")
    structure = scanned(data)
    assert cut(data, structure, (1, 1)) == b"inner"
    assert cut(data, structure, (2,)) == b"outer"


def test_digest_children_are_messages() -> None:
    data = crlf("""
Content-Type: multipart/digest; boundary=a

--a

Subject: one

text
--a
Content-Type: text/plain

plain
--a--
""")
    structure = scanned(data)
    assert [(part.type, part.subtype) for part in structure.parts] == [
        ("multipart", "digest"), ("message", "rfc822"), ("text", "plain"), ("text", "plain")]  # fmt: skip
    assert cut(data, structure, (1,), "HEADER") == b"Subject: one\r\n\r\n"


def test_message_at_the_top() -> None:
    data = b"Content-Type: message/rfc822\r\n\r\nSubject: in\r\n\r\ntext"
    structure = scanned(data)
    assert cut(data, structure, (1,), "HEADER") == b"Subject: in\r\n\r\n"
    assert cut(data, structure, (1, 1)) == b"text"
    assert cut(data, structure, (), "HEADER") == b"Content-Type: message/rfc822\r\n\r\n"


@pytest.mark.parametrize(
    ("value", "expected"),
    [("BASE64", "base64"), ("7bit (comment)", "7bit"), ("", "7bit"), ('"x"', "7bit"), ("x-uuencode", "x-uuencode"),
     ("8bit; foo", "8bit"), ("ü", "7bit")],
)  # fmt: skip
def test_transfer_encoding(value: str, expected: str) -> None:
    data = f"Content-Transfer-Encoding: {value}\r\n\r\n".encode()
    assert scanned(data).parts[0].encoding == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [(b"en", b'"en"'), (b"en, de-AT (Austrian)", b'("en" "de-AT")'), (b"", b"NIL"), (b'"', b"NIL")],
)
def test_content_language(value: bytes, expected: bytes) -> None:
    assert (
        b" NIL NIL %b NIL)" % expected in scanned(b"Content-Language: " + value + b"\r\n\r\n").bodystructure
    )


def test_message_id_without_brackets_and_threads() -> None:
    assert scanned(b"Message-ID: broken id\r\n\r\n").message_id == "broken id"
    assert scanned(b"Message-ID: <a@x>\r\nIn-Reply-To: your mail <b@x>\r\n\r\n").thread_root == "<b@x>"
    assert scanned(b"Message-ID: <a@x>\r\nReferences: none\r\n\r\n").thread_root == "<a@x>"


# --- as stored ------------------------------------------------------------------------------------------


def test_structure_survives_encoding() -> None:
    for data in (b"", PLAIN, NESTED, b"Content-Type: a/b; name=\xff\r\nMessage-ID: \xff\r\n\r\n"):
        structure = scanned(data)
        assert decode_structure(encode_structure(structure)) == structure
        assert decode_structure(memoryview(encode_structure(structure))) == structure


@pytest.mark.parametrize(
    "data", [b"", b"\x00", b"\x63" + encode_structure(scanned(b""))[1:], b"\x01", b"\x01\xc1", b"\x01\x90"]
)
def test_unknown_version_or_damage_is_said(data: bytes) -> None:
    with pytest.raises(StructureVersionError):
        decode_structure(data)


def test_fields_added_later_are_passed_over() -> None:
    encoded = bytearray(encode_structure(scanned(b"")))
    assert encoded[1] == 0x97  # an array of seven
    encoded[1] = 0x98
    assert decode_structure(bytes(encoded + b"\xa3new")) == scanned(b"")
