"""The scanner against two other parsers where they agree, and on random and mutated octets."""

import email
import email.message
import random
from collections.abc import Iterator

import fast_mail_parser
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from postkeep.formats.mime import headers
from postkeep.formats.mime.decode import decode_transfer, part_text
from postkeep.formats.mime.scanner import scan
from postkeep.formats.mime.source import BytesSource, PreadSource
from postkeep.formats.mime.structure import Structure, decode_structure, encode_structure

from tests.unit.formats.imapvalue import check_body, check_envelope, read

FUZZ = settings(max_examples=300, derandomize=True, deadline=None)

# --- MIME trees that are well-formed ----------------------------------------------------------------------

_LINE = st.sampled_from(
    [b"", b"hello", b"--", b"-- ", b"--b", b"--b1x", b" --b1", b"From here", b"a: b", b"\xe4\xf6", b"."]
)
_TEXT_TYPES = st.sampled_from(
    [b"text/plain", b'TEXT/HTML; charset="utf-8"', b"text/plain; charset=iso-8859-1; format=flowed"]
)
_OTHER_TYPES = st.sampled_from(
    [b"image/png; name=a.png", b'application/pdf; name="a b.pdf"', b"application/octet-stream"]
)


@st.composite
def leaf(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """(Content-Type, body)."""
    kind = draw(st.one_of(_TEXT_TYPES, _OTHER_TYPES))
    return kind, b"\r\n".join(draw(st.lists(_LINE, max_size=5)))


@st.composite
def entity(draw: st.DrawFn, depth: int = 3) -> bytes:
    kind, body = draw(content(depth))
    extra = draw(st.sampled_from([b"", b"Content-ID: <x@y>\r\n", b"Content-Disposition: attachment; filename=x\r\n",
                                  b"X-Folded: a\r\n\tb\r\n"]))  # fmt: skip
    return extra + b"Content-Type: " + kind + b"\r\n\r\n" + body


@st.composite
def content(draw: st.DrawFn, depth: int) -> tuple[bytes, bytes]:
    choice = draw(st.integers(0, 3)) if depth else 0
    if choice <= 1:
        return draw(leaf())
    if choice == 2:
        return b"message/rfc822", b"Subject: in\r\nFrom: c@x.org\r\n" + draw(entity(depth - 1))
    boundary = b"b%d" % depth
    children = draw(st.lists(entity(depth - 1), min_size=1, max_size=3))
    body = b"".join(b"--" + boundary + b"\r\n" + child + b"\r\n" for child in children)
    preamble = draw(st.sampled_from([b"", b"This is MIME\r\n", b"\r\n"]))
    epilogue = draw(st.sampled_from([b"", b"\r\n", b"\r\nend\r\n"]))
    return b"multipart/mixed; boundary=" + boundary, preamble + body + b"--" + boundary + b"--" + epilogue


@st.composite
def messages(draw: st.DrawFn) -> bytes:
    head = draw(
        st.sampled_from(
            [
                b"",
                b"Subject: hi\r\nTo: bob@x.org\r\n",
                b"From: A <a@x.org>\r\nDate: Mon, 23 Nov 2026 10:00:00 +0100\r\n",
            ]
        )
    )
    return head + draw(entity())


# --- what must hold for any octets ------------------------------------------------------------------------


def check(data: bytes, structure: Structure) -> None:
    check_envelope(read(structure.envelope))
    check_body(read(structure.bodystructure), extended=True)
    check_body(read(structure.body()), extended=False)
    assert decode_structure(encode_structure(structure)) == structure
    root = structure.parts[0]
    assert (root.header_start, root.end) == (0, len(data))
    seen: dict[tuple[int, ...], int] = {}
    for index, part in enumerate(structure.parts):
        assert 0 <= part.header_start <= part.body_start <= part.end <= len(data)
        assert part.lines in (0, data.count(b"\n", part.body_start, part.end))
        if index and structure.parts[index - 1].is_message:
            outer = structure.parts[index - 1]
            assert (part.header_start, part.end) == (outer.body_start, outer.end)
        elif index:
            parent = next(p for p in reversed(structure.parts[:index]) if p.path == part.path[:-1])
            assert parent.is_multipart
            assert parent.body_start <= part.header_start
            assert part.end <= parent.end
            number = part.path[-1]
            previous_end = seen.get(part.path[:-1], parent.body_start)
            assert previous_end <= part.header_start
            assert number == 1 or (*part.path[:-1], number - 1) in {p.path for p in structure.parts[:index]}
            seen[part.path[:-1]] = part.end
        found = structure.section(part.path)
        assert found is not None
        text = part_text(data[part.body_start : part.end], part)
        text.encode("utf-8")  # no lone surrogates


def pread_twin(data: bytes) -> PreadSource:
    """Reads at most seven octets at a time."""
    return PreadSource(lambda length, offset: data[offset : offset + min(length, 7)], len(data))


@FUZZ
@given(st.binary(max_size=2000))
def test_fuzz_random_octets(data: bytes) -> None:
    check(data, scan(BytesSource(data)))


_SNIPPETS = st.sampled_from([
    b"\r\n", b"\n", b"\r", b"\0", b"--b3", b"--b2--", b"\r\n--b1\r\n", b"Content-Type: ", b"multipart/mixed", b"; boundary=b3",
    b"message/rfc822", b"Content-Type: multipart/mixed; boundary=b3\r\n\r\n--b3\r\n", b'"', b"(", b"<", b">", b"@", b",", b":", b";",
    b"To: ", b"From: ", b"Subject: ", b"Date: ", b"=?utf-8?q?", b"?=", b"*0*=utf-8''%", b" ", b"\t", b"\xff", b"\xe4\xb8",
    b"Content-Disposition: x; filename*1*=", b"Content-Transfer-Encoding: base64\r\n", b"Content-Language: ", b"\r\n\r\n",
])  # fmt: skip


@FUZZ
@given(st.lists(st.one_of(_SNIPPETS, st.binary(max_size=8)), max_size=60))
def test_fuzz_snippets(pieces: list[bytes]) -> None:
    data = b"".join(pieces)
    check(data, scan(BytesSource(data)))


@FUZZ
@given(messages(), st.randoms(use_true_random=False))
def test_fuzz_mutated_mime(data: bytes, rng: random.Random) -> None:
    mutated = bytearray(data)
    for _ in range(rng.randint(1, 8)):
        at = rng.randrange(len(mutated) + 1)
        choice = rng.randrange(4)
        if choice == 0:
            del mutated[at : at + rng.randint(1, 30)]
        elif choice == 1:
            mutated[at:at] = bytes(rng.randrange(256) for _ in range(rng.randint(1, 4)))
        elif choice == 2:
            mutated[at:at] = mutated[rng.randrange(len(mutated) + 1) :][:60]
        elif at < len(mutated):
            mutated[at] = rng.randrange(256)
    whole = bytes(mutated)
    structure = scan(BytesSource(whole))
    check(whole, structure)


@settings(FUZZ, max_examples=100)
@given(messages())
def test_file_and_memory_give_the_same(data: bytes) -> None:
    from unittest.mock import patch

    with (
        patch("postkeep.formats.mime.scanner.WHOLE_LIMIT", 16),
        patch("postkeep.formats.mime.source.WINDOW", 32),
    ):
        assert scan(pread_twin(data)) == scan(BytesSource(data))


@FUZZ
@given(
    st.binary(min_size=1, max_size=3),
    st.lists(st.sampled_from([b"a", b"b", b"\n", b"\r\n--b"]), max_size=60),
    st.data(),
)
def test_fuzz_sources_agree(pattern: bytes, pieces: list[bytes], draw: st.DataObject) -> None:
    data = b"".join(pieces)
    start = draw.draw(st.integers(0, len(data)))
    end = draw.draw(st.integers(start, len(data)))
    from unittest.mock import patch

    with patch("postkeep.formats.mime.source.WINDOW", 5):
        source = pread_twin(data)
        for needle in (pattern, b"\n", b"\r\n--b", b"aa"):
            assert source.find(needle, start, end) == data.find(needle, start, end)
            assert source.count(needle, start, end) == data.count(needle, start, end)
            assert source.read(start, end) == data[start:end]


def test_file_that_ends_early_is_an_error_of_the_source() -> None:
    with pytest.raises(OSError, match="ends at octet 5"):
        scan(PreadSource(lambda length, offset: b"12345"[offset : offset + length], 10))


# --- oracles ----------------------------------------------------------------------------------------------


def oracle_walk(
    message: email.message.Message, path: tuple[int, ...], top: bool
) -> Iterator[tuple[tuple[int, ...], email.message.Message]]:
    if message.get_content_maintype() == "multipart" and message.is_multipart():
        yield path, message
        for number, child in enumerate(message.get_payload(), 1):  # type: ignore[arg-type]
            yield from oracle_walk(child, (*path, number), False)  # type: ignore[arg-type]
    else:
        here = (*path, 1) if top else path
        yield here, message
        if message.get_content_type() == "message/rfc822" and message.is_multipart():
            yield from oracle_walk(message.get_payload()[0], here, True)  # type: ignore[arg-type, index]


@FUZZ
@given(messages())
def test_oracle_stdlib_email(data: bytes) -> None:
    structure = scan(BytesSource(data))
    check(data, structure)
    expected = list(oracle_walk(email.message_from_bytes(data), (), True))
    assert [part.path for part in structure.parts] == [path for path, _ in expected]
    for part, (_, message) in zip(structure.parts, expected, strict=True):
        assert f"{part.type}/{part.subtype}" == message.get_content_type()
        if part.type in ("multipart", "message"):
            continue
        payload = message._payload.encode("ascii", "surrogateescape")  # type: ignore[attr-defined]
        assert data[part.body_start : part.end] == payload
        assert part.params.get("charset", "us-ascii") == (message.get_content_charset() or "us-ascii").lower()
        assert part.filename == (message.get_filename() or "")


@FUZZ
@given(messages())
def test_oracle_fast_mail_parser(data: bytes) -> None:
    structure = scan(BytesSource(data))
    try:
        other = fast_mail_parser.parse_email(data)
    except fast_mail_parser.ParseError:
        return
    header = data[slice(*structure.section((), "HEADER"))]  # type: ignore[misc]
    assert headers.decode_header(headers.get(header, "subject") or b"") == other.subject
    if any(part.is_message for part in structure.parts):
        return  # it does not look into them the way IMAP does
    ours = [
        part_text(data[part.body_start : part.end], part).replace("\r\n", "\n").rstrip("\n")
        for part in structure.parts
        if (part.type, part.subtype) == ("text", "plain") and not part.disposition
    ]
    if data.isascii():
        theirs = [text.replace("\r\n", "\n").rstrip("\n") for text in other.text_plain]
        assert [text for text in ours if text] == [text for text in theirs if text]


# --- decoding ---------------------------------------------------------------------------------------------


@FUZZ
@given(st.binary(max_size=300), st.sampled_from(["base64", "quoted-printable", "8bit", "x-unknown"]))
def test_fuzz_decoding_never_raises(data: bytes, encoding: str) -> None:
    assert isinstance(decode_transfer(data, encoding), bytes)


@FUZZ
@given(st.text(max_size=80))
def test_fuzz_headers_never_raise(text: str) -> None:
    assert headers.decode_words(text).isprintable() or not text.isprintable() or "=?" in text
    raw = text.encode("utf-8", "replace")
    headers.parse_date(raw)
    assert all(name in raw for name, *_ in headers.fields(raw))
    headers.select(raw, ["to"])
