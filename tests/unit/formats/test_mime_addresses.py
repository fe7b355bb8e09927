"""Address lists as they are written in the wild (RFC 5322 §3.4, §4.4)."""

import time

import pytest
from postkeep.formats.mime.addresses import MailAddress, parse_addresses


def people(value: bytes) -> list[tuple[bytes, bytes | None, bytes | None]]:
    return [(entry.name, entry.local, entry.domain) for entry in parse_addresses(value)]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"bob@example.org", [(b"", b"bob", b"example.org")]),
        (b"<bob@example.org>", [(b"", b"bob", b"example.org")]),
        (b"Bob Builder <bob@example.org>", [(b"Bob Builder", b"bob", b"example.org")]),
        (b'"Builder, Bob" <bob@example.org>', [(b"Builder, Bob", b"bob", b"example.org")]),
        (b'"Bob \\"B\\" \\\\" <bob@example.org>', [(b'Bob "B" \\', b"bob", b"example.org")]),
        (b"John Q. Public <j@x.org>", [(b"John Q. Public", b"j", b"x.org")]),
        (
            b"a@x.org, B <b@y.org>,c@z.org",
            [(b"", b"a", b"x.org"), (b"B", b"b", b"y.org"), (b"", b"c", b"z.org")],
        ),
        (b"a@x.org,, ,b@y.org,", [(b"", b"a", b"x.org"), (b"", b"b", b"y.org")]),
        (b"bob@example.org (Bob B.)", [(b"Bob B.", b"bob", b"example.org")]),
        (b"(one (nested\\) two)) bob (x) @ (y) example.org", [(b"y", b"bob", b"example.org")]),
        (b'"john doe"@example.org', [(b"", b"john doe", b"example.org")]),
        (b"john . doe @ example . org", [(b"", b"john.doe", b"example.org")]),
        (b"bob@[192.0.2.1]", [(b"", b"bob", b"[192.0.2.1]")]),
        (b"root", [(b"", b"root", b"")]),
        (b"Alice Smith alice@example.org", [(b"Alice Smith", b"alice", b"example.org")]),
        (b"bob@example.org <bob@example.org>", [(b"bob@example.org", b"bob", b"example.org")]),
        (b"Bob <bob@example.org, carol@x.org", [(b"Bob", b"bob", b"example.org"), (b"", b"carol", b"x.org")]),
        (b"Bob <bob@example.org <carol@x.org>", [(b"Bob", b"bob", b"example.org")]),
        (b"a@b@c.org", [(b"", b"a@b", b"c.org")]),
        (b"<>", [(b"", b"", b"")]),
        (b"", []),
        (b" \t ", []),
        (b"=?utf-8?q?J=C3=B6rg?= <j@x.org>", [(b"=?utf-8?q?J=C3=B6rg?=", b"j", b"x.org")]),
        (
            "Jörg <jörg@bücher.example>".encode(),
            [("Jörg".encode(), "jörg".encode(), "bücher.example".encode())],
        ),
        (b'"unterminated <a@b.org>', [(b"", b"unterminated <a@b.org>", b"")]),
        (b"(unterminated", []),
        (b'"trailing\\', [(b"", b"trailing", b"")]),
    ],
)
def test_forms(value: bytes, expected: list[tuple[bytes, bytes, bytes]]) -> None:
    assert people(value) == expected


def test_group() -> None:
    assert parse_addresses(b"Team: a@x.org, Bee <b@y.org>;, c@z.org") == [
        MailAddress(b"", b"", b"Team", None),
        MailAddress(b"", b"", b"a", b"x.org"),
        MailAddress(b"Bee", b"", b"b", b"y.org"),
        MailAddress(b"", b"", None, None),
        MailAddress(b"", b"", b"c", b"z.org"),
    ]


def test_empty_group() -> None:
    assert people(b"undisclosed-recipients:;") == [(b"", b"undisclosed-recipients", None), (b"", None, None)]


def test_group_without_end_is_closed() -> None:
    assert people(b"Team: a@x.org") == [(b"", b"Team", None), (b"", b"a", b"x.org"), (b"", None, None)]


def test_source_route() -> None:
    assert parse_addresses(b"Bob <@relay.org,@next.org:bob@example.org>") == [
        MailAddress(b"Bob", b"@relay.org,@next.org", b"bob", b"example.org")
    ]


def test_limit() -> None:
    assert len(parse_addresses(b"a@b.org," * 50, limit=7)) == 7
    assert len(parse_addresses(b'"a"@b.org,' * 50, limit=7)) == 7


@pytest.mark.parametrize(
    "piece",
    [b"a", b"a,", b'"a"', b"@", b"a@", b"<", b"<a@", b"<@", b"(", b")", b"()", b"[", b":", b";", b"a:", b"\\", b'"', b"a ",
     b" ", b"a .", b". ", b"<a,", b"<@a,", b"(a", b'"\\', b"\x00", b"\xff", b">", b"a<", b"a@b <"],
)  # fmt: skip
def test_attack_repeated_pieces_take_linear_time(piece: bytes) -> None:
    value = (piece * 65536)[:65536]
    start = time.process_time()
    parse_addresses(value)
    assert time.process_time() - start < 1.0
