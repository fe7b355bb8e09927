"""DATA: only CRLF . CRLF ends a message, however the octets are cut; dots, sizes, lines, bare CR and LF."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from postkeep.domain.errors import StorageFailed, StorageFull
from postkeep.protocols.smtp import scanner as rooms
from postkeep.protocols.smtp.scanner import DataScanner

END = b"\r\n.\r\n"


class Run:
    """The scanner's answers to chunks."""

    def __init__(self, *chunks: bytes, **limits: object) -> None:
        self.written: list[bytes] = []
        self.scanner = DataScanner(self.written.append, **limits)  # type: ignore[arg-type]
        self.rest: bytes | None = None
        for chunk in chunks:
            if self.rest is not None:
                self.rest += chunk
            else:
                self.rest = self.scanner.feed(chunk)

    @property
    def message(self) -> bytes:
        return b"".join(self.written)


def reference(stream: bytes) -> tuple[bytes, bool, bytes] | None:
    """(message, has a bare CR or LF, rest), octet by octet as RFC 5321 §4.1.1.4 and §4.5.2 say it; None: no end."""
    message = bytearray()
    at = 0
    line_start = True
    bare = False
    while at < len(stream):
        if line_start and stream[at : at + 1] == b".":
            if stream[at : at + 3] == b".\r\n":
                return bytes(message), bare, stream[at + 3 :]
            at += 1
            line_start = False
            continue
        if stream[at : at + 2] == b"\r\n":
            message += b"\r\n"
            at += 2
            line_start = True
            continue
        if stream[at] in b"\r\n":
            bare = True
        message.append(stream[at])
        at += 1
        line_start = False
    return None


def cut(data: bytes, places: list[int]) -> list[bytes]:
    marks = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(marks)]


def test_a_plain_message() -> None:
    run = Run(b"Subject: a\r\n\r\nhello" + END + b"QUIT\r\n")
    assert run.message == b"Subject: a\r\n\r\nhello\r\n"
    assert run.rest == b"QUIT\r\n"
    assert run.scanner.size == len(run.message)
    assert run.scanner.fault is None


def test_an_empty_message() -> None:
    run = Run(b".\r\nNOOP\r\n")
    assert (run.message, run.rest) == (b"", b"NOOP\r\n")


def test_a_message_of_one_empty_line() -> None:
    assert Run(b"\r\n.\r\n").message == b"\r\n"


def test_dots_are_unstuffed_once() -> None:
    run = Run(b"..\r\n..a\r\n...\r\n.b\r\nc.d\r\n." + b".\r\n.\r\n")
    assert run.message == b".\r\n.a\r\n..\r\nb\r\nc.d\r\n.\r\n"


def test_dots_only() -> None:
    assert Run(b"..\r\n" * 1000 + b".\r\n").message == b".\r\n" * 1000


def test_every_single_cut_gives_the_same() -> None:
    data = b"..a\r\n\r\nb\r\n..\r\n." + b"c\r\n\r\n.\r\nRSET\r\n"
    whole = Run(data)
    assert whole.rest == b"RSET\r\n"
    for place in range(1, len(data)):
        run = Run(data[:place], data[place:])
        assert (run.message, run.rest) == (whole.message, whole.rest), place


def test_octet_by_octet() -> None:
    data = b"a\r\n..b\r\n.\r\n"
    run = Run(*(data[at : at + 1] for at in range(len(data))))
    assert (run.message, run.rest) == (b"a\r\n.b\r\n", b"")


FALSE_ENDS = {
    "lf-dot-lf": b"\n.\n",
    "lf-dot-crlf": b"\n.\r\n",
    "crlf-dot-lf": b"\r\n.\n",
    "cr-dot-cr": b"\r.\r",
    "cr-dot-crlf": b"\r.\r\n",
    "crlf-dot-cr": b"\r\n.\r",
    "crlf-nul-dot-crlf": b"\r\n\x00.\r\n",
    "crlf-dot-nul-crlf": b"\r\n.\x00\r\n",
    "crlf-dot-cr-nul-lf": b"\r\n.\r\x00\n",
    "cr-lf-split-by-nul": b"\r\x00\n.\r\n",
    "lf-cr-dot-lf-cr": b"\n\r.\n\r",
    "crcrlf-dot-crcrlf": b"\r\r\n.\r\r\n",
    "crlf-dot-space-crlf": b"\r\n. \r\n",
    "crlf-space-dot-crlf": b"\r\n .\r\n",
    "crlf-dot-dot-crlf": b"\r\n..\r\n",
    "vertical-tab": b"\x0b.\x0b",
    "form-feed": b"\x0c.\x0c",
    "next-line-c1": b"\x85.\x85",
    "unicode-line-separator": "\u2028.\u2028".encode(),
    "cr-lf-dot-end-of-chunk-lf": b"\r\n.\n\r",
}
SMUGGLED = b"MAIL FROM:<evil@outside.test>\r\nRCPT TO:<bob@example.test>\r\nDATA\r\nevil"


@pytest.mark.parametrize("name", FALSE_ENDS)
def test_smuggling_ending_never_splits_a_message(name: str) -> None:
    data = b"first" + FALSE_ENDS[name] + SMUGGLED + END + b"NOOP\r\n"
    expected = reference(data)
    assert expected is not None
    for place in range(len(data)):
        run = Run(data[:place], data[place:])
        assert run.rest == b"NOOP\r\n", place
        assert b"NOOP" not in run.message
        if expected[1]:
            assert run.scanner.fault is rooms.BARE_NEWLINE
        else:
            assert run.message == expected[0]
            assert run.scanner.fault is None


@pytest.mark.parametrize("name", FALSE_ENDS)
def test_smuggling_ending_repaired_is_still_one_message(name: str) -> None:
    data = b"first" + FALSE_ENDS[name] + SMUGGLED + END
    for place in range(len(data)):
        run = Run(data[:place], data[place:], repair=True)
        assert run.rest == b""
        message = run.message
        assert message.count(b"\n") == message.count(b"\r") == message.count(b"\r\n")
        assert b"RCPT TO:<bob" in message
        assert run.scanner.fault is None


@given(
    st.lists(
        st.sampled_from([b"\r\n", b".", b"\r", b"\n", b"a", b"\x00", b"\r\n.", b"\r\n.\r\n", b"xy"]),
        max_size=40,
    ),
    st.lists(st.integers(0, 10_000), max_size=12),
)
@settings(max_examples=400, derandomize=True, deadline=None)
def test_fuzz_any_octets_cut_anywhere_match_the_reference(pieces: list[bytes], places: list[int]) -> None:
    data = b"".join(pieces)
    expected = reference(data)
    run = Run(*cut(data, places))
    if expected is None:
        assert run.rest is None
        return
    message, bare, rest = expected
    assert run.rest == rest
    assert run.scanner.size == len(message)
    if bare:
        assert run.scanner.fault is rooms.BARE_NEWLINE
        assert message.startswith(run.message)
    else:
        assert run.scanner.fault is None
        assert run.message == message


@given(st.binary(max_size=300), st.lists(st.integers(0, 10_000), max_size=6))
@settings(max_examples=200, derandomize=True, deadline=None)
def test_fuzz_random_octets(data: bytes, places: list[int]) -> None:
    expected = reference(data + END)
    assert expected is not None
    run = Run(*cut(data + END, places))
    assert run.rest == expected[2]
    assert (run.scanner.fault is not None) == expected[1]


def test_too_big_is_swallowed_to_its_end() -> None:
    run = Run(b"a" * 60 + b"\r\n", b"b" * 60 + b"\r\n", b"c" * 1000 + END + b"NOOP\r\n", size_limit=100)
    assert run.scanner.fault is rooms.TOO_BIG
    assert run.message == b"a" * 60  # its line end was held back, being the possible beginning of an end
    assert run.rest == b"NOOP\r\n"
    assert run.scanner.size == 62 + 62 + 1002


def test_size_counts_without_stuffed_dots() -> None:
    # RFC 1870 §5: "not the doubled quoting dots"
    assert Run(b"..aa" + END, size_limit=5).scanner.fault is None
    assert Run(b"..aaa" + END, size_limit=5).scanner.fault is rooms.TOO_BIG


@pytest.mark.parametrize("step", [1, 7, 64, 5000])
def test_over_long_line_is_refused(step: int) -> None:
    data = b"x" * 999 + END  # with CRLF 1001
    chunks = [data[at : at + step] for at in range(0, len(data), step)]
    assert Run(*chunks, line_limit=1000).scanner.fault is rooms.LINE_TOO_LONG
    assert Run(*chunks, line_limit=1001).scanner.fault is None
    assert Run(*chunks, line_limit=1001).message == data[:-3]


@pytest.mark.parametrize("step", [100, 700, 3000, 100_000])
def test_over_long_line_in_the_middle_of_a_chunk(step: int) -> None:
    data = b"short\r\n" * 500 + b"y" * 1200 + b"\r\n" + b"short\r\n" * 500 + b".\r\n"
    chunks = [data[at : at + step] for at in range(0, len(data), step)]
    assert Run(*chunks, line_limit=1000).scanner.fault is rooms.LINE_TOO_LONG
    assert Run(*chunks, line_limit=1300).scanner.fault is None


def test_a_line_of_60_000_octets_is_kept_as_it_is() -> None:
    data = b"x" * 60_000 + b"\r\n"
    assert Run(data[:10_000], data[10_000:] + b".\r\n").message == data


def test_full_disk_is_told_at_the_end() -> None:
    def full(data: bytes) -> None:
        raise StorageFull("no room")

    scanner = DataScanner(full)
    assert scanner.feed(b"a\r\n") is None
    assert scanner.feed(b"b" + END + b"X") == b"X"
    assert scanner.fault is rooms.FULL
    assert scanner.fault.code == 452


def test_broken_disk_is_told_at_the_end() -> None:
    def broken(data: bytes) -> None:
        raise StorageFailed("EIO")

    scanner = DataScanner(broken)
    scanner.feed(b"a\r\n")
    assert scanner.feed(b".\r\n") == b""
    assert scanner.fault is rooms.FAILED
    assert isinstance(scanner.error, StorageFailed)


def test_nothing_is_held_of_a_refused_message() -> None:
    run = Run(b"a\nb\r\n", *[b"c" * 70 + b"\r\n"] * 100)
    assert run.message == b""
    assert len(run.scanner._held) <= 4
