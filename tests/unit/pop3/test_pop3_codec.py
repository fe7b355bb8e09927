"""POP3's octets, without I/O."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from postkeep.protocols.pop3.codec import COMMAND_LIMIT, Codec, Fault, Stuffer, err, ok, parse
from postkeep.protocols.pop3.commands import HANDLERS
from postkeep.protocols.pop3.state import LEGAL

FUZZ = settings(max_examples=300, derandomize=True, deadline=None)


def lines(*data: bytes, limit: int = COMMAND_LIMIT) -> list[bytes | Fault]:
    codec = Codec()
    found: list[bytes | Fault] = []
    for piece in data:
        codec.feed(piece)
        while (line := codec.next(limit)) is not None:
            found.append(line)
    return found


def test_lines_in_any_pieces() -> None:
    data = b"USER alice\r\nPASS x y \r\nnoop\nQUIT\r\n"
    expected = [b"USER alice", b"PASS x y ", b"noop", b"QUIT"]
    assert lines(data) == expected
    assert lines(*(data[i : i + 1] for i in range(len(data)))) == expected


def test_incomplete_line_waits() -> None:
    assert lines(b"QUI") == []


def test_attack_line_too_long_is_one_fault_and_keeps_no_memory() -> None:
    codec = Codec()
    for _ in range(100):
        codec.feed(b"x" * 10_000)
        assert codec.next() is None
        assert codec.buffered <= COMMAND_LIMIT
    codec.feed(b"x\r\nNOOP\r\n")
    assert codec.next() is Fault.TOO_LONG
    assert codec.next() == b"NOOP"


def test_longest_line() -> None:
    assert lines(b"x" * (COMMAND_LIMIT - 2) + b"\r\n") == [b"x" * (COMMAND_LIMIT - 2)]
    assert lines(b"x" * (COMMAND_LIMIT - 1) + b"\r\n") == [Fault.TOO_LONG]


def test_attack_nul() -> None:
    assert lines(b"US\0ER\r\nNOOP\r\n") == [Fault.NUL, b"NOOP"]


def test_clear_forgets_everything() -> None:
    codec = Codec()
    codec.feed(b"x" * 600)
    codec.next()
    codec.feed(b"\r\nUSER eve\r\n")
    codec.clear()
    assert codec.next() is None
    codec.feed(b"CAPA\r\n")
    assert codec.next() == b"CAPA"


@FUZZ
@given(st.lists(st.binary(max_size=40)))
def test_fuzz_codec_depends_on_octets_only(pieces: list[bytes]) -> None:
    data = b"".join(pieces)
    assert lines(*pieces, limit=20) == lines(data, limit=20)
    assert len(lines(data, limit=20)) == data.count(b"\n")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"RETR 1", ("RETR", b"1")),
        (b"retr  1", ("RETR", b" 1")),
        (b"PASS a b", ("PASS", b"a b")),
        (b"", ("", b"")),
        (b" USER", ("", b"USER")),
        (b"GET / HTTP/1.1", ("GET", b"/ HTTP/1.1")),
        (b"\xff\xfe", ("", b"")),
        (b"A" * 17, ("", b"")),
    ],
)
def test_parse(line: bytes, expected: tuple[str, bytes]) -> None:
    assert parse(line) == expected


def test_replies() -> None:
    assert ok() == b"+OK\r\n"
    assert ok("Hi") == b"+OK Hi\r\n"
    assert err("No", "IN-USE") == b"-ERR [IN-USE] No\r\n"
    assert err("bad\r\n+OK injected \u2603") == b"-ERR bad??+OK injected ?\r\n"
    assert err("no mailbox “x’s…”") == b'-ERR no mailbox "x\'s..."\r\n'


def stuffed(*pieces: bytes) -> bytes:
    stuffer = Stuffer()
    return b"".join(stuffer.feed(piece) for piece in pieces) + stuffer.finish()


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", b".\r\n"),
        (b"a\r\n", b"a\r\n.\r\n"),
        (b"a", b"a\r\n.\r\n"),
        (b"a\r", b"a\r\r\n.\r\n"),
        (b".\r\n", b"..\r\n.\r\n"),
        (b"a\r\n.\r\n.b\r\n", b"a\r\n..\r\n..b\r\n.\r\n"),
        (b"a\n.\nb", b"a\n..\nb\r\n.\r\n"),
    ],
)
def test_stuffing(data: bytes, expected: bytes) -> None:
    assert stuffed(data) == expected
    assert stuffed(*(data[i : i + 1] for i in range(len(data)))) == expected


@FUZZ
@given(st.lists(st.lists(st.sampled_from([b".", b"\r\n", b"\n", b"\r", b"a"])).map(b"".join)))
def test_fuzz_stuffing_round_trips(pieces: list[bytes]) -> None:
    data = b"".join(pieces)
    wire = stuffed(*pieces)
    assert wire == stuffed(data)
    assert wire.endswith(b".\r\n")
    body = wire[:-3]
    assert b"\n.\r\n" not in b"\n" + body
    assert b"\n.\n" not in b"\n" + body
    plain = (b"\n" + body).replace(b"\n..", b"\n.")[1:]
    assert plain in (data, data + b"\r\n")


def test_every_command_has_a_handler_and_a_state() -> None:
    assert HANDLERS.keys() == LEGAL.keys()
