"""Clients that mean no good, and machines that fail: each attack a named test."""

import asyncio
import errno
import socket
import time
import tracemalloc
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from postkeep.protocols.imap.connection import ImapConnection
from postkeep.protocols.wire import WRITE_HIGH
from postkeep.runtime.files import SystemFiles

from tests.support.clock import FakeClock, until
from tests.support.imap import MESSAGE, ImapClient, ImapHouse, imap_house


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[ImapHouse]:
    async with imap_house(tmp_path, append_limit=1_000_000) as house:
        yield house


async def expect_alive(house: ImapHouse) -> None:
    """Others are served as before."""
    client = await house.client(select="INBOX")
    assert (await client.command("NOOP"))[-1] == b"OK NOOP completed"
    assert house.logs.error.lines == []


# --- literals ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("login", [True, False])
@pytest.mark.parametrize("command", ["LOGIN", "SELECT", "APPEND INBOX", "APPEND", "SEARCH BODY", "FOO"])
async def test_attack_literal_announced_as_4_gb(house: ImapHouse, command: str, login: bool) -> None:
    client = await house.client(login=login)
    replies = await client.command(f"{command} {{4294967296}}")
    assert replies[-1].startswith((b"NO [TOOBIG]", b"BAD"))
    assert not any(reply.startswith(b"+") for reply in replies)
    assert (await client.command("NOOP"))[-1] == b"OK NOOP completed"


@pytest.mark.parametrize("command", ["LOGIN", "APPEND INBOX", "FOO"])
async def test_attack_non_synchronizing_literal_of_4_gb(house: ImapHouse, command: str) -> None:
    client = await house.client()
    client.send(f"a {command} {{4294967296+}}\r\n".encode() + b"b DELETE Sent\r\n" * 10)
    assert b"* BYE" in await client.closed()
    assert house.store.mailbox(house.account, "Sent")


async def test_append_over_the_limit(house: ImapHouse) -> None:
    client = await house.client()
    assert (await client.append(b"x" * 1_000_001)) == [b"NO [TOOBIG] A message has at most 1000000 octets"]
    assert (await client.command("NOOP"))[-1] == b"OK NOOP completed"
    client.send(b"a APPEND INBOX {1000001+}\r\n")
    assert b"* BYE" in await client.closed()


async def test_attack_append_before_login_costs_nothing(house: ImapHouse) -> None:
    client = await house.client(login=False)
    assert (await client.command("APPEND INBOX {100000}"))[-1].startswith(b"BAD")
    assert (await client.append(b"x" * 1000, plus=True))[-1].startswith(b"BAD")
    assert (await client.command("NOOP"))[-1] == b"OK NOOP completed"
    client.send(b"a APPEND INBOX {100000+}\r\n" + b"b NOOP\r\n" * 100)
    assert b"OK" not in (await client.closed())


async def test_a_message_of_100_mb_is_never_whole_in_memory(tmp_path: Path) -> None:
    async with imap_house(tmp_path) as house:
        client = await house.client(limit=65_536)
        chunk = (b"0123456789abcdef" * 4095 + b"0123456789abcd\r\n") * 4
        count = 100_000_000 // len(chunk)
        client.send(b"a APPEND INBOX {%d}\r\n" % (count * len(chunk)))
        assert (await client.line()).startswith(b"+")
        tracemalloc.start()
        try:
            for _ in range(count):
                client.send(chunk)
                await client.writer.drain()
            client.send(b"\r\n")
            assert (await asyncio.wait_for(client.until(b"a"), 60))[-1].startswith(b"OK [APPENDUID")
            assert tracemalloc.get_traced_memory()[1] < 24_000_000
            tracemalloc.reset_peak()
            await client.command("SELECT INBOX")
            client.send(b"f FETCH 1 BODY.PEEK[]\r\n")
            left = count * len(chunk)
            while left > 0:
                data = await asyncio.wait_for(client.reader.read(262_144), 20)
                assert data
                left -= len(data)
            assert b"f OK" in data or (await client.until(b"f"))[-1].startswith(b"OK")
            assert tracemalloc.get_traced_memory()[1] < 24_000_000
        finally:
            tracemalloc.stop()


async def test_a_client_that_goes_away_in_the_middle_of_a_message_leaves_nothing(house: ImapHouse) -> None:
    client = await house.client()
    client.send(b"a APPEND INBOX {500000}\r\n")
    await client.line()
    client.send(b"x" * 250_000)
    await client.writer.drain()
    client.close()
    await until(lambda: house.server.connections == 0)
    assert house.store.usage(house.account) == (0, 0)
    await expect_alive(house)


# --- lines ------------------------------------------------------------------------------------------


async def test_attack_line_without_end(house: ImapHouse) -> None:
    client = await house.client()
    client.send(b"a " + b"x" * 200_000)
    assert await client.line() == b"a BAD Command line too long"
    client.send(b"\r\nb NOOP\r\n")
    assert (await client.until(b"b"))[-1] == b"OK NOOP completed"
    client.send(b"a " + b"x" * 3_000_000)
    assert b"* BYE Line too long" in await client.closed()
    await expect_alive(house)


@pytest.mark.parametrize(
    "line",
    [
        b"a LOGIN \"al\0ice\" secret",
        b"\0\0\0\0",
        b"a SELECT \"\xff\xfe\"",
        b"a SELECT {3+}\r\n\xff\0x",
        b"a FETCH \0 FLAGS",
        b"\xff\xff\xff NOOP",
        b"a NOOP\0",
        b"a FETCH 1 BODY[" + b"(" * 5000,
        b"a SEARCH " + b"(" * 20_000,
        b"a SEARCH " + b"NOT " * 15_000 + b"ALL",
        b"a STORE 1 FLAGS (" + b"k " * 20_000 + b")",
        b'a LIST "" (' + b"* " * 20_000 + b")",
        b"a UID FETCH " + b"1," * 30_000 + b" FLAGS",
        b"a FETCH 99999999999999999999 FLAGS",
    ],
)  # fmt: skip
async def test_attack_malformed_commands_get_bad(house: ImapHouse, line: bytes) -> None:
    client = await house.client(select="INBOX")
    client.send(line + b"\r\nz NOOP\r\n")
    replies = await client.until(b"z")
    assert replies[-1] == b"OK NOOP completed"
    assert any(b" BAD " in reply for reply in replies)
    assert house.logs.error.lines == []


async def test_attack_wildcard_bomb(house: ImapHouse) -> None:
    client = await house.client()
    await client.command("CREATE " + "a" * 900)
    started = time.process_time()
    assert await client.command('LIST "" ' + "*a" * 500 + "b") == [b"OK LIST completed"]
    assert time.process_time() - started < 2


async def test_attack_uid_set_of_many_elements(house: ImapHouse) -> None:
    for _ in range(3):
        await house.deliver()
    client = await house.client(select="INBOX")
    everything = ",".join(str(number) for number in range(1, 20_000, 2))
    started = time.process_time()
    assert (await client.command(f"UID FETCH {everything} UID"))[:-1] == [
        b"* 1 FETCH (UID 1)",
        b"* 3 FETCH (UID 3)",
    ]
    assert (await client.command(f"SEARCH NOT UID {everything}"))[0] == b"* SEARCH 2"
    assert time.process_time() - started < 2


async def test_attack_bad_commands_without_end_are_hung_up_on(house: ImapHouse) -> None:
    client = await house.client()
    client.send(b"\x16\x03\x01 junk\r\n" * 1000)
    text = await client.closed()
    assert text.count(b"* BAD") == 20
    assert text.endswith(b"* BYE Too many commands that are not IMAP\r\n")


async def test_attack_http_request(house: ImapHouse) -> None:
    client = await house.client(login=False)
    client.send(b"POST / HTTP/1.1\r\nHost: x\r\n\r\n" + b"a: b\r\n" * 30)
    assert b"* BYE" in await client.closed()


async def test_attack_command_flood_leaves_others_their_turn(house: ImapHouse) -> None:
    flood = await house.client()
    other = await house.client(select="INBOX")
    commands = b"n NOOP\r\n" * 50_000
    flood.send(commands)
    started = time.monotonic()
    assert (await other.command("NOOP"))[-1] == b"OK NOOP completed"
    assert time.monotonic() - started < 1
    answered = 0
    while answered < 50_000:
        answered += (await asyncio.wait_for(flood.reader.readuntil(b"\r\n"), 10)).count(b"OK NOOP")
    assert answered == 50_000


# --- time and numbers -------------------------------------------------------------------------------


async def test_a_client_that_does_not_log_in_is_hung_up_on(tmp_path: Path) -> None:
    clock = FakeClock()
    async with imap_house(tmp_path, clock=clock) as house:
        client = await house.client(login=False)
        await _advance(clock, 59)
        # Talking does not prolong it.
        assert (await client.command("NOOP"))[-1] == b"OK NOOP completed"
        await _advance(clock, 2)
        assert await client.closed() == b"* BYE Log in sooner\r\n"


async def test_autologout_after_thirty_minutes_even_in_idle(tmp_path: Path) -> None:
    clock = FakeClock()
    async with imap_house(tmp_path, clock=clock) as house:
        client = await house.client(select="INBOX")
        client.send(b"i IDLE\r\n")
        assert await client.line() == b"+ idling"
        await _advance(clock, 29 * 60 + 30)
        client.send(b"DONE\r\nj IDLE\r\n")
        assert (await client.until(b"i"))[-1] == b"OK IDLE completed"
        await client.line()
        await _advance(clock, 29 * 60 + 30)
        assert house.server.connections == 1
        await _advance(clock, 60)
        assert await client.closed() == b"* BYE Autologout; idle for too long\r\n"


async def test_a_message_that_stalls_is_hung_up_on(tmp_path: Path) -> None:
    clock = FakeClock()
    async with imap_house(tmp_path, clock=clock) as house:
        client = await house.client()
        client.send(b"a APPEND INBOX {500}\r\n")
        assert (await client.line()).startswith(b"+")
        await _advance(clock, 31 * 60)
        assert b"* BYE" in await client.closed()
        assert house.store.usage(house.account) == (0, 0)


async def test_a_client_that_does_not_read_is_bounded_and_hung_up_on(tmp_path: Path) -> None:
    clock = FakeClock()
    async with imap_house(tmp_path, clock=clock) as house:
        await house.deliver(b"a: b\r\n\r\n" + b"x" * 900_000)
        client = await house.client(select="INBOX")
        transport = client.writer.transport
        transport.pause_reading()
        client.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.send(b"f FETCH 1 BODY.PEEK[]\r\n" * 200)
        await asyncio.sleep(0.3)
        (connection,) = house.server._connections
        assert connection._transport is not None
        assert connection._transport.get_write_buffer_size() < WRITE_HIGH + (1 << 19)
        assert connection.codec.buffered <= ImapConnection.READ_HIGH + 65_536 * 4
        await _advance(clock, 301)
        await until(lambda: house.server.connections == 0)


async def test_connections_from_one_address_are_bounded(house: ImapHouse) -> None:
    house.limiter.total, house.limiter.per_address = 10, 2
    first, second = await house.client(), await house.client()
    third = await house.client(login=False)
    assert third.greeting == b"* BYE Too many connections"
    assert await third.closed() == b""
    first.close()
    await until(lambda: house.limiter.open == 1)
    assert (await house.client(login=False)).greeting.startswith(b"* OK")
    second.close()


async def test_shutdown_says_bye_to_all(house: ImapHouse) -> None:
    clients = [await house.client(select="INBOX") for _ in range(3)]
    clients[0].send(b"i IDLE\r\n")
    await clients[0].line()
    await house.server.shutdown()
    for client in clients:
        assert await client.closed() == b"* BYE Server is shutting down\r\n"


async def test_an_account_can_be_thrown_out(house: ImapHouse) -> None:
    client = await house.client()
    house.server.disconnect("bob@example.test", "Not you")
    assert (await client.command("NOOP"))[-1] == b"OK NOOP completed"
    house.server.disconnect("alice@example.test", "Account was disabled")
    assert await client.closed() == b"* BYE Account was disabled\r\n"


# --- failing machines -------------------------------------------------------------------------------


class FullDisk(SystemFiles):
    """Writes fail with ENOSPC while `full`."""

    full = False

    def write(self, fd: int, data: bytes | bytearray | memoryview) -> int:  # type: ignore[override]
        if FullDisk.full:
            raise OSError(errno.ENOSPC, "No space left on device")
        return SystemFiles.write(fd, data)

    def pwrite(self, fd: int, data: bytes | bytearray | memoryview, offset: int) -> int:  # type: ignore[override]
        if FullDisk.full:
            raise OSError(errno.ENOSPC, "No space left on device")
        return SystemFiles.pwrite(fd, data, offset)


@pytest.mark.parametrize("size", [100, 5_000_000])
@pytest.mark.parametrize("plus", [True, False])
async def test_full_disk_is_told_and_loses_nothing(tmp_path: Path, size: int, plus: bool) -> None:
    async with imap_house(tmp_path, files=FullDisk()) as house:
        client = await house.client(select="INBOX")
        await client.append(MESSAGE)
        FullDisk.full = True
        try:
            replies = await client.append(b"a: b\r\n\r\n" + b"x" * size, plus=plus)
            assert replies[-1].startswith(b"NO [LIMIT]")
        finally:
            FullDisk.full = False
        assert (await client.command("FETCH 1 RFC822.SIZE"))[0] == b"* 1 FETCH (RFC822.SIZE %d)" % len(
            MESSAGE
        )
        assert (await client.append(MESSAGE))[-1].startswith(b"OK")


async def test_a_damaged_record_is_named_and_the_others_are_served(tmp_path: Path) -> None:
    async with imap_house(tmp_path) as house:
        marker = b"Zq7" * 40
        for number in range(3):
            body = marker if number == 1 else b"fine"
            await house.deliver(b"Subject: %d\r\n\r\n%b\r\n" % (number, body))
        box = house.store.mailbox(house.account, "INBOX").id
        rows = [row async for batch in house.store.rows(house.account, box, [(1, 9)]) for row in batch]
        (pack,) = [path for path in (tmp_path / "store" / "mail").rglob("*") if path.is_file()]
        with pack.open("r+b") as file:
            file.seek(rows[1].offset + (rows[2].offset - rows[1].offset) // 2)
            octet = file.read(1)
            file.seek(-1, 1)
            file.write(bytes((octet[0] ^ 0xFF,)))
        client = await house.client(select="INBOX")
        replies = await client.command("FETCH 1:3 (UID BODY[])")
        assert [reply[:9] for reply in replies[:-1]] == [b"* 1 FETCH", b"* 3 FETCH"]
        assert replies[-1] == b"NO [CORRUPTION] Damaged in storage, others were sent: UID 2"
        assert (await client.command("SEARCH BODY fine"))[0] == b"* SEARCH 1 3"
        assert (await client.command("FETCH 2 (UID FLAGS)"))[0] == b"* 2 FETCH (UID 2 FLAGS (\\Recent))"


_WORDS = st.sampled_from(
    [b"a ", b"FETCH ", b"1:* ", b"BODY[]", b"(", b")", b"UID ", b"STORE ", b"SEARCH ", b"IDLE", b"DONE", b"\r\n", b"SELECT INBOX", b"APPEND INBOX {3}", b"{3+}\r\nabc", b'LIST "" *', b"\x00", b"\xff", b"CLOSE", b"NOOP", b"EXPUNGE", b"COPY 1 Sent", b"AUTHENTICATE PLAIN", b"STATUS INBOX (MESSAGES)", b"CREATE ", b"x", b"ENABLE QRESYNC"]
)  # fmt: skip


async def test_fuzz_no_bytes_break_the_server(tmp_path: Path) -> None:
    streams: list[bytes] = []

    @settings(max_examples=60, derandomize=True, deadline=None, database=None)
    @given(st.lists(st.one_of(_WORDS, _WORDS, st.binary(max_size=8)), max_size=80).map(b"".join))
    def collect(data: bytes) -> None:
        streams.append(data)

    collect()
    async with imap_house(tmp_path) as house:
        await house.deliver()
        for data in streams:
            client = await house.client(select="INBOX")
            client.send(data)
            client.writer.write_eof()
            await client.closed()
            client.close()
        await expect_alive(house)


async def _advance(clock: FakeClock, seconds: float) -> None:
    await asyncio.sleep(0.05)
    await clock.advance(seconds)
    await asyncio.sleep(0.05)


async def test_wrong_state(house: ImapHouse) -> None:
    client: ImapClient = await house.client(login=False)
    assert (await client.command("SELECT INBOX"))[-1] == b"BAD SELECT: log in first"
    await client.command("LOGIN alice secret")
    assert (await client.command("FETCH 1 FLAGS"))[-1] == b"BAD FETCH: no mailbox is selected"
    assert (await client.command("LOGIN alice secret"))[-1].startswith(b"BAD")
    assert (await client.command("SELECT Nothing"))[-1].startswith(b"NO [NONEXISTENT]")
