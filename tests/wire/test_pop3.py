"""The POP3 engine over sockets, on a real store."""

import asyncio
import base64
import contextlib
import poplib
import socket
import struct
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from postkeep.domain.change import Expunged, FlagsChanged
from postkeep.domain.errors import StorageFull, Throttled
from postkeep.domain.message import Flag

from tests.support.clock import FakeClock, settle, until
from tests.support.mailhouse import trusting_context
from tests.support.pop3 import Pop3House, pop3_house

T = TypeVar("T")

ONE = b"Subject: one\r\nFrom: a@example.org\r\n\r\nfirst\r\n.second\r\n..\r\nthird\r\n"
TWO = b"Subject: two\r\n\r\nno end of line"


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[Pop3House]:
    async with pop3_house(tmp_path) as house:
        yield house


# --- log-in -----------------------------------------------------------------------------------------------


async def test_greeting_and_capabilities(house: Pop3House) -> None:
    client = await house.client(login=False)
    assert client.greeting == b"+OK Postkeep ready"
    expected = {b"TOP", b"UIDL", b"RESP-CODES", b"AUTH-RESP-CODE", b"PIPELINING", b"EXPIRE NEVER", b"USER",
                b"SASL PLAIN LOGIN", b"STLS", b"IMPLEMENTATION Postkeep"}  # fmt: skip
    assert set((await client.fetch("CAPA")).split(b"\r\n")) == expected | {b""}
    secure = await house.client(tls=True)
    assert set((await secure.fetch("capa")).split(b"\r\n")) == (expected - {b"STLS"}) | {b""}


async def test_user_and_pass(house: Pop3House) -> None:
    await house.deliver(ONE)
    client = await house.client(login=False)
    assert await client.command("USER alice") == b"+OK"
    assert await client.command("PASS secret") == b"+OK 1 messages (%d octets)" % len(ONE)
    assert house.authenticator.tried == [("alice", "secret", "127.0.0.1", "POP3")]
    assert (await client.command("USER alice")).startswith(b"-ERR")
    assert await client.command("QUIT") == b"+OK Bye"
    assert await client.closed() == b""


async def test_pass_keeps_spaces(house: Pop3House) -> None:
    client = await house.client(login=False)
    await client.command("USER alice")
    await client.command("PASS  two  words ")
    assert house.authenticator.tried[0][1] == " two  words "


async def test_pass_without_user(house: Pop3House) -> None:
    client = await house.client(login=False)
    assert (await client.command("PASS secret")).startswith(b"-ERR")
    assert house.authenticator.tried == []


async def test_user_is_forgotten_after_a_failed_pass(house: Pop3House) -> None:
    client = await house.client(login=False)
    await client.command("USER alice")
    assert await client.command("PASS wrong") == b"-ERR [AUTH] Wrong name or password"
    assert (await client.command("PASS secret")).startswith(b"-ERR USER")


async def test_unknown_user_looks_like_a_wrong_password(house: Pop3House) -> None:
    client = await house.client(login=False)
    assert await client.command("USER nobody") == b"+OK"
    assert await client.command("PASS secret") == b"-ERR [AUTH] Wrong name or password"


async def test_auth_plain(house: Pop3House) -> None:
    message = base64.b64encode(b"\0alice\0secret").decode()
    client = await house.client(login=False)
    assert (await client.command(f"AUTH PLAIN {message}")).startswith(b"+OK")
    assert (await client.command("QUIT")).startswith(b"+OK")
    client = await house.client(login=False)
    assert await client.command("AUTH plain") == b"+ "
    assert (await client.command(message)).startswith(b"+OK")


async def test_auth_login(house: Pop3House) -> None:
    client = await house.client(login=False)
    assert await client.command("AUTH LOGIN") == b"+ VXNlcm5hbWU6"
    assert await client.command(base64.b64encode(b"alice")) == b"+ UGFzc3dvcmQ6"
    assert (await client.command(base64.b64encode(b"secret"))).startswith(b"+OK")


@pytest.mark.parametrize(
    ("command", "answer"),
    [
        ("AUTH PLAIN !!!", b"-ERR Invalid base64"),
        ("AUTH PLAIN " + base64.b64encode(b"alice").decode(), b"-ERR Invalid SASL message"),
        ("AUTH PLAIN " + base64.b64encode(b"bob\0alice\0secret").decode(), b"-ERR [AUTH]"),
        ("AUTH PLAIN " + base64.b64encode(b"\0alice\0wrong").decode(), b"-ERR [AUTH]"),
        ("AUTH PLAIN =", b"-ERR Invalid SASL message"),
        ("AUTH CRAM-MD5", b"-ERR Unknown mechanism"),
        ("AUTH PLAIN a b", b"-ERR"),
    ],
)
async def test_auth_refusals(house: Pop3House, command: str, answer: bytes) -> None:
    client = await house.client(login=False)
    assert (await client.command(command)).startswith(answer)
    assert (await client.command("CAPA")).startswith(b"+OK")


async def test_auth_cancelled(house: Pop3House) -> None:
    client = await house.client(login=False)
    await client.command("AUTH PLAIN")
    assert await client.command("*") == b"-ERR Authentication cancelled"


async def test_auth_alone_lists_mechanisms(house: Pop3House) -> None:
    client = await house.client(login=False)
    assert await client.fetch("AUTH") == b"PLAIN\r\nLOGIN\r\n"


async def test_attack_sasl_line_without_end(house: Pop3House) -> None:
    client = await house.client(login=False)
    await client.command("AUTH PLAIN")
    assert await client.command(b"A" * 20_000) == b"-ERR Line too long"
    assert (await client.command("CAPA")).startswith(b"+OK")


async def test_clear_text_is_refused_without_tls(tmp_path: Path) -> None:
    async with pop3_house(tmp_path, plaintext_login=False) as house:
        client = await house.client(login=False)
        capabilities = await client.fetch("CAPA")
        assert b"USER" not in capabilities
        assert b"SASL" not in capabilities
        assert b"STLS" in capabilities
        for command in ("USER alice", "PASS secret", "AUTH PLAIN AGFsaWNlAHNlY3JldA=="):
            assert b"STLS" in await client.command(command)
        assert await client.fetch("AUTH") == b""
        assert house.authenticator.tried == []
        secure = await house.client(tls=True)
        assert (await secure.command("STAT")).startswith(b"+OK")


async def test_second_session_is_refused(house: Pop3House) -> None:
    first = await house.client()
    second = await house.client(login=False)
    await second.command("USER alice")
    assert (await second.command("PASS secret")).startswith(b"-ERR [IN-USE]")
    assert (await second.command("USER bob")).startswith(b"+OK")
    assert (await second.command("PASS secret")).startswith(b"+OK")
    await first.command("QUIT")
    third = await house.client()
    third.close()
    await third.closed()
    await until(lambda: house.server.connections == 1)
    await house.client()


async def test_wrong_passwords_are_throttled_and_end_the_connection(tmp_path: Path) -> None:
    clock = FakeClock()
    async with pop3_house(tmp_path, clock=clock, login_delay=1.0, failed_logins=2) as house:
        client = await house.client(login=False)
        for attempt in (1, 2):
            await client.command("USER alice")
            client.send(b"PASS wrong\r\n")
            await until(lambda wanted=attempt: len(house.authenticator.tried) == wanted)
            await settle()
            assert not client.reader._buffer  # type: ignore[attr-defined]
            await clock.advance(1.0)
            assert (await client.line()).startswith(b"-ERR [AUTH]")
        assert await client.closed() == b""


async def test_throttled_says_so(house: Pop3House) -> None:
    house.authenticator.error = Throttled("Too many failed logins, try again later")
    client = await house.client(login=False)
    await client.command("USER alice")
    assert await client.command("PASS secret") == b"-ERR [SYS/TEMP] Too many failed logins, try again later"


async def test_disabled_account_is_disconnected(house: Pop3House) -> None:
    client = await house.client()
    other = await house.client(login=False)
    house.server.disconnect("alice@example.test", "The account is disabled")
    assert await client.closed() == b"-ERR [SYS/TEMP] The account is disabled\r\n"
    assert (await other.command("CAPA")).startswith(b"+OK")


# --- transactions -----------------------------------------------------------------------------------------


async def test_stat_list_uidl(house: Pop3House) -> None:
    await house.deliver(ONE)
    await house.deliver(TWO)
    client = await house.client()
    assert await client.command("STAT") == b"+OK 2 %d" % (len(ONE) + len(TWO))
    assert await client.fetch("LIST") == b"1 %d\r\n2 %d\r\n" % (len(ONE), len(TWO))
    assert await client.command("LIST 2") == b"+OK 2 %d" % len(TWO)
    uidls = [line.split() for line in (await client.fetch("UIDL")).splitlines()]
    assert [number for number, _ in uidls] == [b"1", b"2"]
    assert len({uidl for _, uidl in uidls}) == 2
    assert await client.command("UIDL 1") == b"+OK 1 " + uidls[0][1]
    assert await client.command("DELE 1") == b"+OK Message 1 is deleted"
    assert await client.command("STAT") == b"+OK 1 %d" % len(TWO)
    assert await client.fetch("LIST") == b"2 %d\r\n" % len(TWO)
    assert (await client.fetch("UIDL")).startswith(b"2 ")
    await client.command("QUIT")
    again = await house.client()
    assert await again.command("UIDL 1") == b"+OK 1 " + uidls[1][1]


async def test_blanks_behind_a_command_are_forgiven(house: Pop3House) -> None:
    await house.deliver(ONE)
    client = await house.client()
    assert await client.command("STAT  ") == b"+OK 1 %d" % len(ONE)
    assert await client.command("LIST 1 ") == b"+OK 1 %d" % len(ONE)
    assert (await client.command("UIDL 1\t")).startswith(b"+OK 1 ")
    assert await client.fetch("RETR 1  ") == ONE
    assert await client.fetch("TOP 1 0 ") == ONE[: ONE.index(b"\r\n\r\n") + 4]
    assert await client.command("DELE 1 ") == b"+OK Message 1 is deleted"
    assert (await client.command("RSET ")).startswith(b"+OK 1 ")
    assert await client.command("QUIT ") == b"+OK Bye"


async def test_totals_do_not_walk_through_what_is_deleted(house: Pop3House) -> None:
    for _ in range(3):
        await house.deliver(ONE)
    await house.deliver(TWO)
    client = await house.client()
    (session,) = [connection.session for connection in house.server._connections]
    maildrop = session.opened()
    await client.command("DELE 4")
    await client.command("DELE 1")
    assert (await client.command("DELE 1")).startswith(b"-ERR")
    maildrop.mark_deleted(1)  # twice counts once
    assert await client.command("STAT") == b"+OK 2 %d" % (2 * len(ONE))

    class Unwalked(set[int]):
        def __iter__(self) -> Iterator[int]:
            raise AssertionError("every STAT would cost as much as messages are deleted")

    maildrop._deleted = Unwalked(maildrop._deleted)
    assert await client.command("STAT") == b"+OK 2 %d" % (2 * len(ONE))
    assert await client.command("RSET") == b"+OK 4 messages (%d octets)" % (3 * len(ONE) + len(TWO))
    await client.command("DELE 2")
    assert await client.command("STAT") == b"+OK 3 %d" % (2 * len(ONE) + len(TWO))


async def test_empty_maildrop(house: Pop3House) -> None:
    client = await house.client()
    assert await client.command("STAT") == b"+OK 0 0"
    assert await client.fetch("LIST") == b""
    assert await client.fetch("UIDL") == b""
    assert (await client.command("RETR 1")).startswith(b"-ERR")


@pytest.mark.parametrize("command", ["RETR", "LIST", "DELE", "UIDL", "TOP"])
@pytest.mark.parametrize("number", ["0", "3", "-1", "x", "1 2 3", "99999999999", "4294967296", "²"])
async def test_wrong_numbers(house: Pop3House, command: str, number: str) -> None:
    await house.deliver(ONE)
    client = await house.client()
    text = f"{command} {number} 1" if command == "TOP" else f"{command} {number}"
    assert (await client.command(text)).startswith(b"-ERR")
    assert await client.command("NOOP") == b"+OK"


async def test_retr_gives_the_octets_as_they_came(house: Pop3House) -> None:
    prefix = b"Return-Path: <a@example.org>\r\n"
    await house.deliver(ONE, prefix=prefix)
    await house.deliver(TWO)
    client = await house.client()
    assert await client.command("LIST 1") == b"+OK 1 %d" % len(prefix + ONE)
    assert await client.fetch("RETR 1") == prefix + ONE
    assert await client.fetch("RETR 2") == TWO + b"\r\n"


async def test_retr_of_a_big_message_is_streamed(house: Pop3House) -> None:
    line = b".0123456789" * 6 + b"\r\n"
    big = b"Subject: big\r\n\r\n" + line * 100_000
    await house.deliver(big)
    await house.deliver(ONE)
    client = await house.client()
    assert await client.fetch("RETR 1") == big
    assert await client.fetch("RETR 2") == ONE
    assert await client.fetch("TOP 1 90000") == b"Subject: big\r\n\r\n" + line * 90_000


async def test_slow_reader_holds_little_memory(tmp_path: Path) -> None:
    clock = FakeClock()
    async with pop3_house(tmp_path, clock=clock) as house:
        await house.deliver(b"Subject: big\r\n\r\n" + b"0123456789\r\n" * 2_000_000)
        client = await house.client()
        client.reader._limit = 1024  # type: ignore[attr-defined]
        client.send(b"RETR 1\r\n" * 5)
        (connection,) = house.server._connections
        await until(lambda: connection._write_paused)
        transport = connection._transport
        assert transport is not None
        assert transport.get_write_buffer_size() < 1 << 20
        await clock.advance(301)
        await until(lambda: not house.server.connections)


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (0, b""),
        (1, b"first\r\n"),
        (2, b"first\r\n.second\r\n"),
        (3, b"first\r\n.second\r\n..\r\n"),
        (99, ONE.partition(b"\r\n\r\n")[2]),
    ],
)
async def test_top(house: Pop3House, lines: int, expected: bytes) -> None:
    await house.deliver(ONE)
    client = await house.client()
    assert await client.fetch(f"TOP 1 {lines}") == ONE.partition(b"\r\n\r\n")[0] + b"\r\n\r\n" + expected


@pytest.mark.parametrize(
    "message",
    [b"", b"Subject: no body\r\n", b"\r\nno header", b"Subject: x\n\nlf\nonly\n", b"\xff\0\r\n.\r\n"],
)
async def test_odd_messages(house: Pop3House, message: bytes) -> None:
    await house.deliver(message)
    client = await house.client()
    ended = message if message.endswith(b"\r\n") or not message else message + b"\r\n"
    assert await client.fetch("RETR 1") == ended
    assert ended.startswith((await client.fetch("TOP 1 0")).rstrip(b"\r\n"))
    assert await client.fetch("TOP 1 1000") == ended


async def test_top_needs_two_numbers(house: Pop3House) -> None:
    await house.deliver(ONE)
    client = await house.client()
    for command in ("TOP", "TOP 1", "TOP 1 x", "TOP 1 -1", "TOP x 1"):
        assert (await client.command(command)).startswith(b"-ERR")


async def test_deleted_message_cannot_be_used_until_rset(house: Pop3House) -> None:
    await house.deliver(ONE)
    client = await house.client()
    await client.command("DELE 1")
    for command in ("RETR 1", "DELE 1", "LIST 1", "UIDL 1", "TOP 1 1"):
        assert await client.command(command) == b"-ERR Message 1 is deleted"
    assert await client.command("RSET") == b"+OK 1 messages (%d octets)" % len(ONE)
    assert await client.fetch("RETR 1") == ONE
    await client.command("QUIT")
    assert len(await house.rows()) == 1


async def test_quit_removes_durably_before_it_answers(house: Pop3House) -> None:
    uids = [await house.deliver(ONE) for _ in range(3)]
    changes: list[object] = []
    house.bus.subscribe(house.account, changes.append)
    client = await house.client()
    await client.fetch("RETR 1")
    await client.fetch("RETR 2")
    await client.command("DELE 2")
    await client.command("DELE 3")
    assert await client.command("QUIT") == b"+OK Bye (2 messages removed)"
    (row,) = await house.rows()
    assert (row.uid, row.flags) == (uids[0], Flag.SEEN)
    assert [type(change) for change in changes] == [FlagsChanged, Expunged]
    assert changes[1].uids == tuple(uids[1:])  # type: ignore[attr-defined]


async def test_mark_seen_is_a_setting(tmp_path: Path) -> None:
    async with pop3_house(tmp_path, mark_seen=False) as house:
        await house.deliver(ONE)
        client = await house.client()
        await client.fetch("RETR 1")
        await client.command("QUIT")
        assert (await house.rows())[0].flags == 0


async def test_lost_connection_removes_nothing(house: Pop3House) -> None:
    await house.deliver(ONE)
    client = await house.client()
    await client.command("DELE 1")
    client.close()
    await until(lambda: not house.server.connections)
    assert len(await house.rows()) == 1
    await house.client()  # and the lock is free


async def test_maildrop_stays_locked_while_a_lost_session_removes(
    house: Pop3House, monkeypatch: pytest.MonkeyPatch
) -> None:
    await house.deliver(ONE)
    gate, entered = asyncio.Event(), asyncio.Event()
    expunge = house.store.expunge

    async def slowly(*args: Any, **more: Any) -> Expunged:
        entered.set()
        await gate.wait()
        return await expunge(*args, **more)

    monkeypatch.setattr(house.store, "expunge", slowly)
    client = await house.client()
    await client.command("DELE 1")
    client.send(b"QUIT\r\n")
    await asyncio.wait_for(entered.wait(), 10)
    raw = client.writer.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # RST: not a half-close
    client.writer.transport.abort()
    await until(lambda: house.limiter.open == 0)
    other = await house.client(login=False)
    await other.command("USER alice")
    assert (await other.command("PASS secret")).startswith(b"-ERR [IN-USE]")
    gate.set()
    await until(lambda: house.server.connections == 1)
    await other.command("USER alice")
    assert await other.command("PASS secret") == b"+OK 0 messages (0 octets)"


async def test_quit_that_fails_says_so(house: Pop3House, monkeypatch: pytest.MonkeyPatch) -> None:
    async def full(*args: object, **more: object) -> None:
        raise StorageFull("the disk is full")

    await house.deliver(ONE)
    client = await house.client()
    await client.command("DELE 1")
    monkeypatch.setattr(house.store, "expunge", full)
    assert (await client.command("QUIT")).startswith(b"-ERR [SYS/TEMP]")
    assert await client.closed() == b""
    monkeypatch.undo()
    assert len(await house.rows()) == 1
    await house.client()


async def test_snapshot_does_not_show_new_mail(house: Pop3House) -> None:
    await house.deliver(ONE)
    client = await house.client()
    await house.deliver(TWO)
    assert (await client.command("STAT")).startswith(b"+OK 1 ")
    assert (await client.command("RETR 2")).startswith(b"-ERR")


async def test_message_removed_by_another_protocol(house: Pop3House) -> None:
    uid = await house.deliver(ONE)
    await house.deliver(TWO)
    client = await house.client()
    inbox = house.store.mailbox(house.account, "INBOX").id
    await house.store.expunge(house.account, inbox, [uid])
    assert await client.command("RETR 1") == b"-ERR This message was removed meanwhile"
    assert await client.fetch("RETR 2") == TWO + b"\r\n"
    await client.command("DELE 1")
    assert (await client.command("QUIT")).startswith(b"+OK")


@pytest.mark.parametrize("size", [100, 5_000_000])
async def test_attack_flipped_bits_hurt_one_message_only(house: Pop3House, tmp_path: Path, size: int) -> None:
    text = b"Subject: hurt\r\n\r\n" + b"".join(b"%d marked\r\n" % (n * 7919) for n in range(size // 14))
    await house.deliver(text)
    await house.deliver(ONE)
    row = (await house.rows())[0]
    path = next(
        p
        for p in (tmp_path / "store" / "mail").iterdir()
        if str(row.pack) in p.name or int("0" + "".join(filter(str.isdigit, p.stem))) == row.pack
    )
    data = bytearray(path.read_bytes())
    at = row.offset + (150 if size == 100 else len(data) // 2)
    data[at] ^= 0x40
    with path.open("r+b") as file:
        file.seek(at)
        file.write(data[at : at + 1])
    client = await house.client()
    assert (await client.command("RETR 1")).startswith(b"-ERR [SYS/PERM]")
    assert any("RETR of alice@example.test" in line for line in house.logs.error.lines)
    assert await client.fetch("RETR 2") == ONE
    assert await client.command("DELE 1") == b"+OK Message 1 is deleted"
    assert (await client.command("QUIT")).startswith(b"+OK")
    assert len(await house.rows()) == 1


async def test_attack_message_damaged_behind_its_first_slice_ends_top(
    house: Pop3House, tmp_path: Path
) -> None:
    """+OK is out when it shows: the connection breaks, and no end passes for that of a whole message."""
    text = b"Subject: hurt\r\n\r\n" + b"".join(b"%d marked\r\n" % (n * 7919) for n in range(100_000))
    await house.deliver(text)
    (row,) = await house.rows()
    path = next(path for path in (tmp_path / "store" / "mail").iterdir() if f"{row.pack}" in path.name)
    at = path.stat().st_size * 3 // 4
    with path.open("r+b") as file:
        file.seek(at)
        octet = file.read(1)[0]
        file.seek(at)
        file.write(bytes([octet ^ 0x40]))
    client = await house.client()
    assert (await client.command("TOP 1 5")).startswith(b"+OK")
    assert await client.data() == text[: text.index(b"31676 marked") + 14]
    assert (await client.command("TOP 1 99999")).startswith(b"+OK")
    with pytest.raises(ConnectionError):
        await client.data()
    assert any("TOP of alice@example.test" in line for line in house.logs.error.lines)
    await until(lambda: house.server.connections == 0)
    await house.client()


# --- pipelining and abuse ---------------------------------------------------------------------------------


async def test_pipelining(house: Pop3House) -> None:
    await house.deliver(ONE)
    client = await house.client(login=False)
    client.send(b"USER alice\r\nPASS secret\r\nSTAT\r\nRETR 1\r\nDELE 1\r\nQUIT\r\nNOOP\r\n")
    answers = await client.closed()
    assert answers.count(b"+OK") == 6
    assert answers.endswith(b"+OK Message 1 is deleted\r\n+OK Bye (1 messages removed)\r\n")
    assert await house.rows() == []


async def test_half_closed_connection_gets_its_answers(house: Pop3House) -> None:
    await house.deliver(ONE)
    client = await house.client(login=False)
    client.send(b"USER alice\r\nPASS secret\r\nSTAT\r\nDELE 1\r\nQUIT\r\n")
    client.writer.write_eof()
    answers = (await client.closed()).splitlines()
    assert answers[2] == b"+OK 1 %d" % len(ONE)
    assert answers[-1] == b"+OK Bye (1 messages removed)"
    assert await house.rows() == []


@pytest.mark.parametrize(
    ("sent", "last"),
    [
        (b"DELE 1\r\nSTAT\r\nQU", b"+OK 0 0"),  # no QUIT: nothing is removed
        (b"DELE 1\r\n", b"+OK Message 1 is deleted"),
        (b"NOOP\r\n" * 3000, b"+OK"),
    ],
)
async def test_half_close_without_quit_removes_nothing(house: Pop3House, sent: bytes, last: bytes) -> None:
    await house.deliver(ONE)
    client = await house.client()
    client.send(sent)
    client.writer.write_eof()
    answers = (await client.closed()).splitlines()
    assert len(answers) == sent.count(b"\n")
    assert answers[-1] == last
    await until(lambda: house.server.connections == 0)
    assert len(await house.rows()) == 1
    assert house.logs.error.lines == []
    await house.client()


@pytest.mark.parametrize(
    "sent", [b"AUTH PLAIN\r\n", b"AUTH LOGIN\r\nYWxpY2U=\r\n", b"STLS\r\n", b"USER al", b""]
)
async def test_half_close_where_more_was_to_come_ends_the_connection(house: Pop3House, sent: bytes) -> None:
    client = await house.client(login=False)
    client.send(sent)
    client.writer.write_eof()
    await client.closed()
    await until(lambda: house.server.connections == 0)
    assert house.limiter.open == 0
    assert house.logs.error.lines == []


COMMANDS = st.sampled_from([b"USER ", b"PASS ", b"AUTH ", b"AUTH PLAIN ", b"AUTH LOGIN ", b"STAT ", b"LIST ", b"UIDL ", b"RETR ",
    b"TOP ", b"DELE ", b"NOOP ", b"RSET ", b"CAPA ", b"STLS x", b""])  # fmt: skip
ODD = st.one_of(
    st.binary(max_size=40),
    st.text(max_size=20).map(lambda text: text.encode("utf-8", "surrogatepass")),
    st.sampled_from(
        [
            b"1",
            b"1 1",
            "\u00b2".encode(),
            "1 \u0661".encode(),
            "\u00a0".encode(),
            b"\xff",
            b"\x1c",
            b"=",
            b"-1",
            b"1\x0b",
        ]
    ),
)


@given(st.booleans(), st.lists(st.tuples(COMMANDS, ODD), max_size=12))
@settings(max_examples=100, derandomize=True, deadline=None)
def test_fuzz_no_input_is_an_error_of_the_server(login: bool, commands: list[tuple[bytes, bytes]]) -> None:
    async def throw() -> None:
        with tempfile.TemporaryDirectory() as folder:
            async with pop3_house(Path(folder), bad_commands=1000, failed_logins=1000) as house:
                await house.deliver(ONE)
                client = await house.client(login=login)
                for verb, argument in commands:
                    client.send(verb + argument.replace(b"\n", b"") + b"\r\n")
                client.send(b"*\r\n*\r\nQUIT\r\n")
                client.writer.write_eof()
                assert b"+OK Bye" in (await client.closed()).splitlines()[-1]
                assert house.logs.error.lines == []

    asyncio.run(throw())


async def test_commands_in_the_wrong_state(house: Pop3House) -> None:
    client = await house.client(login=False)
    for command in ("STAT", "LIST", "RETR 1", "DELE 1", "NOOP", "RSET", "TOP 1 1", "UIDL"):
        assert await client.command(command) == b"-ERR Log in first"
    client = await house.client()
    for command in ("USER alice", "PASS x", "AUTH", "STLS"):
        assert (await client.command(command)).startswith(b"-ERR")


async def test_attack_many_errors_end_the_connection(tmp_path: Path) -> None:
    async with pop3_house(tmp_path, bad_commands=3) as house:
        client = await house.client(login=False)
        client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\nCAPA\r\n")
        answers = await client.closed()
        assert answers.count(b"-ERR") == 4
        assert answers.endswith(b"-ERR Too many errors\r\n")


async def test_attack_over_long_line_and_nul(house: Pop3House) -> None:
    client = await house.client(login=False)
    assert await client.command(b"USER " + b"x" * 100_000) == b"-ERR Line too long"
    assert await client.command(b"USER a\0b") == b"-ERR NUL is not allowed"
    assert (await client.command("USER alice")).startswith(b"+OK")


async def test_attack_flood_of_commands(house: Pop3House) -> None:
    client = await house.client()
    client.send(b"NOOP\r\n" * 50_000 + b"QUIT\r\n")
    answers = await client.closed()
    assert answers == b"+OK\r\n" * 50_000 + b"+OK Bye\r\n"


async def test_attack_line_that_never_ends_takes_no_memory(house: Pop3House) -> None:
    client = await house.client(login=False)
    (connection,) = house.server._connections
    for _ in range(200):
        client.send(b"x" * 65536)
        await client.writer.drain()
    assert connection.codec.buffered < 100_000
    client.close()


async def test_attack_slow_sender_before_login(tmp_path: Path) -> None:
    clock = FakeClock()
    async with pop3_house(tmp_path, clock=clock) as house:
        client = await house.client(login=False)
        await clock.advance(30)
        await client.command("CAPA")  # moves nothing
        await client.data()
        client.send(b"US")
        await clock.advance(29)
        assert house.server.connections == 1
        await clock.advance(1.5)
        assert await client.closed() == b""


async def test_idle_session_is_closed_and_removes_nothing(tmp_path: Path) -> None:
    clock = FakeClock()
    async with pop3_house(tmp_path, clock=clock) as house:
        await house.deliver(ONE)
        client = await house.client()
        await client.command("DELE 1")
        await clock.advance(599)
        assert (await client.command("NOOP")) == b"+OK"
        await clock.advance(599)
        assert house.server.connections == 1
        await clock.advance(2)
        assert await client.closed() == b""  # RFC 1939 §3: no response
        await until(lambda: not house.server.connections)
        assert len(await house.rows()) == 1


async def test_attack_too_many_connections(house: Pop3House) -> None:
    house.limiter.per_address = 2
    first = await house.client(login=False)
    second = await house.client(login=False)
    third = await house.client(login=False)
    assert third.greeting == b"-ERR [SYS/TEMP] Too many connections"
    assert await third.closed() == b""
    await second.command("QUIT")
    await second.closed()
    await until(lambda: house.limiter.open == 1)
    assert (await house.client(login=False)).greeting.startswith(b"+OK")
    first.close()


async def test_shutdown_finishes_quit(house: Pop3House) -> None:
    await house.deliver(ONE)
    client = await house.client()
    idle = await house.client(login=False)
    await client.command("DELE 1")
    client.send(b"QUIT\r\n")
    await until(lambda: any(connection._task for connection in house.server._connections))
    await house.server.shutdown()
    assert await client.closed() == b"+OK Bye (1 messages removed)\r\n"
    assert await idle.closed() == b"-ERR [SYS/TEMP] Server is shutting down\r\n"
    assert await house.rows() == []
    late = await house.client(login=False)
    assert late.greeting.startswith(b"-ERR")


# --- TLS --------------------------------------------------------------------------------------------------


async def test_stls(tmp_path: Path) -> None:
    async with pop3_house(tmp_path, plaintext_login=False) as house:
        await house.deliver(ONE)
        client = await house.client(login=False)
        assert (await client.command("STLS x")).startswith(b"-ERR")
        assert await client.command("STLS") == b"+OK Begin TLS"
        await client.writer.start_tls(trusting_context())
        assert b"STLS" not in await client.fetch("CAPA")
        assert (await client.command("STLS")).startswith(b"-ERR")
        assert (await client.command("USER alice")).startswith(b"+OK")
        assert (await client.command("PASS secret")).startswith(b"+OK")
        assert await client.fetch("RETR 1") == ONE


async def test_attack_commands_pipelined_before_tls_are_discarded(house: Pop3House) -> None:
    client = await house.client(login=False)
    client.send(b"USER eve\r\nSTLS\r\nUSER mallory\r\nPASS secret\r\nUS")
    assert await client.line() == b"+OK"
    assert await client.line() == b"+OK Begin TLS"
    await client.writer.start_tls(trusting_context())
    # Nothing said in the clear counts: not the USER before STLS, nor what came with it.
    assert (await client.command("PASS secret")) == b"-ERR USER comes first"
    assert house.authenticator.tried == []


# --- another implementation --------------------------------------------------------------------------------


async def in_thread(work: Callable[[], T]) -> T:
    return await asyncio.wait_for(asyncio.to_thread(work), 30)


async def test_poplib(house: Pop3House) -> None:
    await house.deliver(ONE)
    await house.deliver(TWO)

    def work() -> None:
        pop = poplib.POP3("127.0.0.1", house.port, timeout=10)
        pop.stls(trusting_context())
        assert pop.capa()["SASL"] == ["PLAIN", "LOGIN"]
        pop.user("alice")
        pop.pass_("secret")
        assert pop.stat() == (2, len(ONE) + len(TWO))
        assert pop.list()[1] == [b"1 %d" % len(ONE), b"2 %d" % len(TWO)]
        assert b"\r\n".join(pop.retr(1)[1]) + b"\r\n" == ONE
        assert pop.top(1, 1)[1][-1] == b"first"
        assert len(pop.uidl()[1]) == 2
        pop.dele(1)
        pop.rset()
        pop.dele(2)
        pop.noop()
        pop.quit()
        with contextlib.closing(
            poplib.POP3_SSL("127.0.0.1", house.tls_port, timeout=10, context=trusting_context())
        ) as pop:
            pop.user("alice")
            with pytest.raises(poplib.error_proto, match=r"\[AUTH\]"):
                pop.pass_("wrong")

    await in_thread(work)
    assert [row.size for row in await house.rows()] == [len(ONE)]
