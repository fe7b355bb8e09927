"""The POP3 engine over sockets, on a real store."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
from postkeep.domain.change import Expunged, FlagsChanged
from postkeep.domain.errors import StorageFull
from postkeep.domain.message import Flag

from tests.support.clock import FakeClock, until
from tests.support.pop3 import ONE, TWO, Pop3House, pop3_house

T = TypeVar("T")


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[Pop3House]:
    async with pop3_house(tmp_path) as house:
        yield house


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
