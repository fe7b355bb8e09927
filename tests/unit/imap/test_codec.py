"""The codec: framing, literals, bounds, and that no bytes in any chunks disturb it."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from postkeep.protocols.imap import codec as c
from postkeep.protocols.imap.codec import Codec


def events(codec: Codec) -> list[object]:
    found = []
    while (event := codec.next()) is not None:
        found.append(event)
        if isinstance(event, c.AppendLiteral):
            codec.accept_literal()
            while codec.literal_left and (piece := codec.take_literal()):
                found.append(piece)
            if not event.size:
                codec.take_literal()
    return found


def fed(data: bytes, **more: int) -> list[object]:
    codec = Codec(**more)
    codec.feed(data)
    return events(codec)


def test_commands_come_in_order_and_without_their_line_ends() -> None:
    assert fed(b"a1 noop\r\nA2 Uid  fetch 1 (FLAGS)\nx") == [
        c.Command(b"a1", "NOOP", b""),
        c.Command(b"A2", "UID FETCH", b" 1 (FLAGS)"),
    ]


def test_a_synchronizing_literal_asks_and_is_kept_inline() -> None:
    codec = Codec()
    codec.feed(b"a LOGIN {5}\r\n")
    assert events(codec) == [c.Continuation()]
    codec.feed(b"al\r\ne {6+}\r\nsecret\r\n")
    assert events(codec) == [c.Command(b"a", "LOGIN", b" {5}\r\nal\r\ne {6+}\r\nsecret")]


def test_a_drip_of_single_octets_gives_the_same_events() -> None:
    data = b"a LOGIN {5+}\r\nalice {0+}\r\n\r\nb NOOP\r\n"
    codec = Codec()
    found = []
    for octet in data:
        codec.feed(bytes((octet,)))
        found += events(codec)
    assert found == fed(data)
    assert len(found) == 2


def test_append_streams_its_message() -> None:
    codec = Codec()
    codec.feed(b"a APPEND INBOX (\\Seen) {6}\r\n")
    assert codec.next() == c.AppendLiteral(b"a", b" INBOX (\\Seen) ", 6, True)
    assert codec.next() is None
    codec.accept_literal()
    codec.feed(b"abc")
    assert codec.take_literal() == b"abc"
    assert codec.literal_left == 3
    codec.feed(b"\r\nd\r\nb NOOP\r\n")
    assert codec.take_literal() == b"\r\nd"
    assert codec.next() == c.Line(b"")
    assert codec.next() == c.Command(b"b", "NOOP", b"")


def test_append_with_its_mailbox_as_literal() -> None:
    codec = Codec()
    codec.feed(b"a APPEND {5+}\r\nINBOX {3+}\r\nabc\r\n")
    assert codec.next() == c.AppendLiteral(b"a", b" {5+}\r\nINBOX ", 3, False)


def test_a_refused_synchronizing_append_leaves_the_stream_in_step() -> None:
    codec = Codec()
    codec.feed(b"a APPEND INBOX {4000000000}\r\nb NOOP\r\n")
    announced = codec.next()
    assert isinstance(announced, c.AppendLiteral)
    assert codec.refuse_literal(announced)
    assert codec.next() == c.Command(b"b", "NOOP", b"")


def test_a_refused_non_synchronizing_append_is_swallowed_within_the_bound() -> None:
    codec = Codec()
    codec.feed(b"a APPEND INBOX {10+}\r\n01234")
    announced = codec.next()
    assert isinstance(announced, c.AppendLiteral)
    assert codec.refuse_literal(announced, 100)
    assert codec.next() is None
    codec.feed(b"\nb NO\r\nb NOOP\r\n")
    assert codec.next() == c.Command(b"b", "NOOP", b"")


def test_a_refused_non_synchronizing_append_over_the_bound_ends_the_stream() -> None:
    codec = Codec()
    codec.feed(b"a APPEND INBOX {4000000000+}\r\nb NOOP\r\n")
    announced = codec.next()
    assert isinstance(announced, c.AppendLiteral)
    assert not codec.refuse_literal(announced, 100)
    assert codec.next() is None


def test_an_abandoned_message_is_dropped_to_the_end_of_its_line() -> None:
    codec = Codec()
    codec.feed(b"a APPEND INBOX {10}\r\n")
    codec.next()
    codec.accept_literal()
    codec.feed(b"0123")
    codec.take_literal()
    codec.abandon_literal()
    codec.feed(b"456789\r\nb NOOP\r\n")
    assert codec.next() == c.Command(b"b", "NOOP", b"")


@pytest.mark.parametrize("size", [b"70000", b"4294967295", b"99999999999999999999"])
def test_attack_huge_literal_is_refused_before_the_continuation(size: bytes) -> None:
    assert fed(b"a LOGIN {" + size + b"}\r\nb NOOP\r\n") == [
        c.Problem(b"a", b"NO", b"[TOOBIG] Literal too long"),
        c.Command(b"b", "NOOP", b""),
    ]


def test_attack_huge_non_synchronizing_literal_ends_the_stream() -> None:
    found = fed(b"a LOGIN {4294967295+}\r\nb NOOP\r\n")
    assert [type(event) for event in found] == [c.Fatal]


def test_attack_line_without_end_is_refused_and_not_kept() -> None:
    codec = Codec()
    found = []
    for _ in range(12):
        codec.feed(b"a" + b"x" * 65_535)
        found += events(codec)
        assert codec.buffered <= 65_537
    assert found == [c.Problem(b"*", b"BAD", b"Command line too long")]
    codec.feed(b"\r\nb NOOP\r\n")
    assert events(codec) == [c.Command(b"b", "NOOP", b"")]


def test_attack_endless_line_ends_the_stream() -> None:
    codec = Codec()
    found = []
    for _ in range(30):
        codec.feed(b"a " + b"x" * 65_536)
        found += events(codec)
    assert [type(event) for event in found] == [c.Problem, c.Fatal]
    assert codec.buffered == 0


def test_attack_command_smuggled_in_the_literal_of_an_overlong_line_is_not_obeyed() -> None:
    evil = b"z DELETE INBOX\r\n"
    data = b"a SEARCH " + b"x" * 70_000 + b" {%d+}\r\n" % len(evil) + evil + b"\r\nb NOOP\r\n"
    assert fed(data) == [
        c.Problem(b"a", b"BAD", b"Command line too long"),
        c.Command(b"b", "NOOP", b""),
    ]


def test_attack_command_smuggled_in_a_refused_literal_is_not_obeyed() -> None:
    evil = b"z DELETE INBOX\r\n"
    data = b"a LOGIN x {%d+}\r\n" % len(evil) + evil + b" {3+}\r\nabc\r\nb NOOP\r\n"
    found = fed(data, command_limit=20)
    assert found == [c.Problem(b"a", b"NO", b"[TOOBIG] Literal too long"), c.Command(b"b", "NOOP", b"")]


def test_literal_minus_takes_4096_octets_only() -> None:
    assert isinstance(fed(b"a LOGIN {4096+}\r\n" + b"x" * 4096 + b"\r\n", nonsync_limit=4096)[0], c.Command)
    assert isinstance(fed(b"a LOGIN {4097+}\r\n", nonsync_limit=4096)[0], c.Fatal)
    assert isinstance(fed(b"a APPEND x {4097+}\r\n", nonsync_limit=4096)[0], c.Fatal)
    assert isinstance(fed(b"a APPEND x {4097}\r\n", nonsync_limit=4096)[0], c.AppendLiteral)


@pytest.mark.parametrize("line", [b"", b" NOOP", b"(x NOOP", b"+ NOOP", b"\xff NOOP", b"a\x00b NOOP"])
def test_a_line_without_tag_is_a_problem(line: bytes) -> None:
    assert fed(line + b"\r\nb NOOP\r\n") == [
        c.Problem(b"*", b"BAD", b"Missing or invalid tag"),
        c.Command(b"b", "NOOP", b""),
    ]


@pytest.mark.parametrize("line", [b"a", b"a ", b"a \x00", b"a {x"])
def test_a_line_without_command_is_a_problem(line: bytes) -> None:
    assert fed(line + b"\r\n") == [c.Problem(b"a", b"BAD", b"Missing or invalid command")]


def test_binary_literals_are_refused() -> None:
    assert fed(b"a APPEND x ~{3}\r\nb NOOP\r\n")[0] == c.Problem(
        b"a", b"BAD", b"Binary literals are not supported"
    )


def test_expected_line_and_clear() -> None:
    codec = Codec()
    codec.expect_line()
    codec.feed(b"dGVzdA==\r\na NOOP\r\n")
    assert codec.next() == c.Line(b"dGVzdA==")
    codec.clear()
    assert codec.next() is None
    assert codec.buffered == 0


_WORDS = st.sampled_from(
    [
        b"a ",
        b"b ",
        b"LOGIN ",
        b"APPEND INBOX ",
        b"UID FETCH 1:* ",
        b"{3}\r\n",
        b"{3+}\r\n",
        b"{0}\r\n",
        b"{99999}\r\n",
        b"{99999+}\r\n",
        b"~{3}\r\n",
        b"abc",
        b"\r\n",
        b"\n",
        b"\r",
        b'"',
        b"\\",
        b"\x00",
        b"\xff",
    ]
)
_STREAM = st.lists(st.one_of(_WORDS, st.binary(max_size=20)), max_size=60).map(b"".join)


@settings(max_examples=300, derandomize=True, deadline=None)
@given(data=_STREAM, cuts=st.lists(st.integers(1, 40), max_size=60))
def test_fuzz_any_bytes_in_any_chunks_give_the_same_events(data: bytes, cuts: list[int]) -> None:
    whole = Codec(command_limit=200)
    whole.feed(data)
    expected = events(whole)
    pieces = Codec(command_limit=200)
    found: list[object] = []
    position = 0
    for cut in [*cuts, len(data)]:
        pieces.feed(data[position : position + cut])
        position += cut
        found += events(pieces)
        assert pieces.buffered <= 202
    assert _joined(found) == _joined(expected)


def _joined(found: list[object]) -> list[object]:
    """Message octets may come in other pieces."""
    joined: list[object] = []
    for event in found:
        if isinstance(event, bytes) and joined and isinstance(joined[-1], bytes):
            joined[-1] += event
        else:
            joined.append(event)
    return joined
