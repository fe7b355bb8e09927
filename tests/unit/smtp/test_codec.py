"""Command lines and paths, good and hostile."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from postkeep.protocols.smtp.codec import Command, is_path, parse_command, parse_path
from postkeep.protocols.smtp.replies import with_enhanced


def test_verbs_are_upper_cased_and_arguments_stripped() -> None:
    assert parse_command(b"mail  FROM:<a@b> \r\n", extended=True) == Command("MAIL", "FROM:<a@b>")
    assert parse_command(b"NOOP\r\n", extended=True) == Command("NOOP", None)
    assert parse_command(b"NOOP \r\n", extended=True) == Command("NOOP", None)


@pytest.mark.parametrize(
    "line",
    [
        b"NOOP\n",  # bare LF ends no command
        b"NO\nOP\r\n",
        b"NOOP\r\r\n",
        b"NO\rOP\r\n",
        b"NOOP\x00\r\n",
        b"MAIL FROM:<a\x00@b>\r\n",
        b"RCPT TO:<a@b\x1b[2J>\r\n",
        b"\r\n",
        b" NOOP\r\n",
        b"N\xc3\x96\xc3\x96P\r\n",
        b"GET/ HTTP/1.1\r\n",
        b"\x16\x03\x01\x02\r\n",  # a TLS hello
    ],
)
def test_broken_lines_are_refused_with_500(line: bytes) -> None:
    answer = parse_command(line, extended=True)
    assert isinstance(answer, str)
    assert answer.startswith("500 5.5.2 ")


def test_length_limits_grow_with_the_extensions() -> None:
    def line(verb: bytes, length: int) -> bytes:
        return verb + b" " + b"x" * (length - len(verb) - 1) + b"\r\n"

    assert isinstance(parse_command(line(b"NOOP", 512), extended=True), Command)
    assert parse_command(line(b"NOOP", 513), extended=True) == "500 5.5.2 Command line too long"
    assert isinstance(parse_command(line(b"MAIL", 1200), extended=True), Command)
    assert isinstance(parse_command(line(b"MAIL", 1200), extended=False), str)
    assert isinstance(parse_command(line(b"AUTH", 12_000), extended=True), Command)
    assert isinstance(parse_command(line(b"RCPT", 1065), extended=True), str)


def test_octets_that_are_not_utf8_survive_as_surrogates() -> None:
    command = parse_command(b"RCPT TO:<\xff@b>\r\n", extended=True)
    assert isinstance(command, Command)
    assert command.argument is not None
    assert command.argument.encode("utf-8", "surrogateescape") == b"TO:<\xff@b>"


@given(st.binary(max_size=200))
@settings(max_examples=300, derandomize=True, deadline=None)
def test_fuzz_any_line_gives_a_command_or_a_refusal(line: bytes) -> None:
    answer = parse_command(line, extended=True)
    if isinstance(answer, Command):
        assert answer.verb.isascii()
        assert answer.verb == answer.verb.upper()
    else:
        assert answer[:4] == "500 "


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<a@b>", ("a@b", "")),
        ("<>", ("<>", "")),
        ("<a.b+c@d-e.example> SIZE=3 BODY=8BITMIME", ("a.b+c@d-e.example", "SIZE=3 BODY=8BITMIME")),
        ("a@b", None),
        ("<a@b>SIZE=3", None),
        ("<a..b@c>", None),
        ("<a@b", None),
        ("<@r:a@b>", None),
        ('<"a b"@c>', None),
        ("<a@[192.0.2.1]>", None),
        ("<postmaster>", None),
        ("<ü@b>", None),
        ("<a@-b>", None),
    ],
)
def test_ordinary_paths(text: str, expected: tuple[str, str] | None) -> None:
    assert parse_path(text) == expected


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ("250 OK", "250 2.0.0 OK"),
        ("503 Error: need MAIL command", "503 5.5.1 Error: need MAIL command"),
        ("550 5.1.1 No such user here", "550 5.1.1 No such user here"),
        ("354 End data", "354 End data"),
        ("250-SIZE 5", "250-SIZE 5"),
        ("334 abc", "334 abc"),
        ("252 Cannot", "252 2.1.5 Cannot"),
    ],
)
def test_replies_get_an_enhanced_code(status: str, expected: str) -> None:
    assert with_enhanced(status) == expected


@pytest.mark.parametrize(
    "text",
    [
        "<a@b.example>",
        " <a@b.example> SIZE=3",
        "a@b.example",
        '<"a b"@c.example> SIZE=3',
        r'<"a\"<>@ b"@c.example>',
        "<@relay.example,@other.example:a@b.example>",
        "<postmaster>",
        "<a@[192.0.2.1]>",
        "<a@[IPv6:2001:db8::1]>",
        "<ü@b.example>",
    ],
)
def test_paths_of_every_shape(text: str) -> None:
    assert is_path(text)


@pytest.mark.parametrize(
    "text",
    [
        "<a@b.example",
        "a@b.example>",
        "<a b@c.example>",
        "<a@b.example>x",
        '<"a@b.example>',
        "<<a@b.example>>",
        "<a@b.example>SIZE=3",
        "<a@b.example,c@d.example",
    ],
)
def test_attack_half_a_path_or_two_words_are_none(text: str) -> None:
    assert not is_path(text)
