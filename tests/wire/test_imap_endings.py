"""What must not be said or lost when a command meets an end: of IDLE, of the session, of the octets on disk."""

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from postkeep.storage.bodies import StoredMessage

from tests.support.clock import until
from tests.support.imap import MESSAGE, Held, ImapClient, ImapHouse, imap_house, rest


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[ImapHouse]:
    async with imap_house(tmp_path) as house:
        yield house


# --- IDLE -------------------------------------------------------------------------------------------


async def idle_behind_a_gap(house: ImapHouse, monkeypatch: pytest.MonkeyPatch) -> tuple[ImapClient, Held]:
    """An idling client with one message, whose next update must ask the store, which does not answer yet."""
    await house.deliver()
    await house.deliver()
    client = await house.client(select="INBOX")
    other = await house.client(select="INBOX")
    await other.command("STORE 2 +FLAGS.SILENT (\\Deleted)")
    await other.command("EXPUNGE")
    await client.command("NOOP")
    other.close()
    client.send(b"i IDLE\r\n")
    assert await client.line() == b"+ idling"
    held = Held(house.mailboxes.flags)
    monkeypatch.setattr(house.mailboxes, "flags", held)
    await house.deliver()
    await asyncio.wait_for(held.asked.wait(), 10)
    return client, held


async def test_what_comes_while_an_update_waits_for_the_store_is_told_too(
    house: ImapHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, held = await idle_behind_a_gap(house, monkeypatch)
    await house.deliver()
    held.release.set()
    assert [await client.line() for _ in range(4)] == [
        b"* 2 EXISTS", b"* 2 RECENT", b"* 3 EXISTS", b"* 3 RECENT",
    ]  # fmt: skip


async def test_a_mailbox_deleted_while_an_update_waits_is_left(
    house: ImapHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, held = await idle_behind_a_gap(house, monkeypatch)
    await house.mailboxes.rename_mailbox(house.account, "INBOX", "Old")
    held.release.set()
    assert (await client.closed()).endswith(b"* BYE Mailbox was deleted\r\n")


async def test_shutdown_while_an_update_waits_for_the_store_says_bye(
    house: ImapHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, held = await idle_behind_a_gap(house, monkeypatch)
    stopping = asyncio.create_task(house.server.shutdown(60))
    await asyncio.sleep(0.02)
    held.release.set()
    await asyncio.wait_for(stopping, 10)
    assert await client.closed() == b"* 2 EXISTS\r\n* 2 RECENT\r\n* BYE Server is shutting down\r\n"


async def test_an_idling_client_that_reads_again_is_told_what_it_missed(house: ImapHouse) -> None:
    await house.deliver(b"a: b\r\n\r\n" + b"0123456789abcdef" * 60_000)
    client = await house.narrow_client()
    (connection,) = house.server._connections
    client.send(b"f FETCH 1 BODY.PEEK[]\r\n" * 5 + b"i IDLE\r\n")
    await until(lambda: connection._write_paused)
    for _ in range(5):
        await client.until(b"f")
        if connection.session.idle_tag is not None and connection._write_paused:
            break
    await until(lambda: connection.session.idle_tag is not None and connection._task is None)
    connection.pause_writing()  # as the transport does when its buffer is over the mark
    await house.deliver()
    await asyncio.sleep(0.02)
    assert connection._task is None
    connection.resume_writing()
    seen: list[bytes] = []
    while not seen or seen[-1] != b"* 2 EXISTS":
        seen.append((await client.line())[:40])
    assert b"+ idling" in seen


# --- BYE --------------------------------------------------------------------------------------------


async def test_no_bye_is_written_into_a_literal(house: ImapHouse) -> None:
    await house.deliver(b"Subject: x\r\n\r\n" + b"0123456789abcdef\r\n" * (1 << 19))
    client = await house.narrow_client()
    client.send(b"z FETCH 1 BODY.PEEK[]\r\n")
    (connection,) = house.server._connections
    await until(lambda: connection._write_paused)
    house.server.disconnect("alice@example.test", "Account was disabled")
    await until(lambda: house.server.connections == 0)  # it need not read for that
    data = await rest(client)
    assert data.startswith(b"* 1 FETCH (BODY[] {")
    assert b"BYE" not in data
    assert len(data) < 9 << 20
    assert house.logs.error.lines == []


async def test_no_bye_is_written_into_a_literal_that_is_read(
    house: ImapHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    await house.deliver(b"Subject: x\r\n\r\n" + b"0123456789abcdef\r\n" * (1 << 17))
    asked, release = asyncio.Event(), asyncio.Event()
    read = StoredMessage.read

    async def slow(self: StoredMessage, start: int = 0, length: int | None = None) -> bytes:
        if start > 1 << 20:
            asked.set()
            await release.wait()
        return await read(self, start, length)

    monkeypatch.setattr(StoredMessage, "read", slow)
    client = await house.client(select="INBOX")
    client.send(b"z FETCH 1 BODY.PEEK[]\r\n")
    reading = asyncio.create_task(rest(client))
    await asyncio.wait_for(asked.wait(), 10)
    (connection,) = house.server._connections
    await until(lambda: connection._transport is None or not connection._transport.get_write_buffer_size())
    house.server.disconnect("alice@example.test", "Account was disabled")
    release.set()
    data = await reading
    assert data.startswith(b"* 1 FETCH (BODY[] {2359310}\r\n")
    assert b"BYE" not in data


async def test_a_long_command_ends_with_bye_between_two_replies(house: ImapHouse) -> None:
    for _ in range(40):
        await house.deliver(b"Subject: x\r\n\r\n" + b"0123456789abcdef\r\n" * 6000)
    client = await house.narrow_client()
    client.send(b"z FETCH 1:* BODY.PEEK[]\r\n")
    (connection,) = house.server._connections
    await until(lambda: connection._write_paused)
    house.server.disconnect("alice@example.test", "Account was disabled")
    data = await rest(client)
    assert data.endswith(b"0123456789abcdef\r\n)\r\n* BYE Account was disabled\r\n")
    assert 0 < data.count(b" FETCH (") < 40


async def test_shutdown_lets_the_command_under_way_finish(house: ImapHouse) -> None:
    for _ in range(60):
        await house.deliver(b"Subject: x\r\n\r\n" + b"0123456789abcdef\r\n" * 6000)
    client = await house.narrow_client()
    client.send(b"z FETCH 1:* BODY.PEEK[]\r\n")
    (connection,) = house.server._connections
    await until(lambda: connection._write_paused)
    stopping = asyncio.create_task(house.server.shutdown(60))
    data = await rest(client)
    await asyncio.wait_for(stopping, 10)
    assert data.count(b" FETCH (") == 60
    assert data.endswith(b"z OK FETCH completed\r\n* BYE Server is shutting down\r\n")


async def test_what_was_done_is_said_before_bye(house: ImapHouse) -> None:
    """A client that is not told of its APPEND does it again, and has the mail twice."""
    await house.mailboxes.create_mailbox(house.account, "x")
    client = await house.client(select="x")
    await house.mailboxes.delete_mailbox(house.account, "x")
    assert (await client.append(MESSAGE, plus=True))[-1].startswith(b"OK [APPENDUID ")
    assert await client.closed() == b"* BYE Mailbox was deleted\r\n"


async def test_what_was_done_is_said_when_updates_cannot_be_read(
    house: ImapHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, held = await idle_behind_a_gap(house, monkeypatch)
    held.release.set()
    client.send(b"DONE\r\n")
    await client.until(b"i")

    async def broken(*arguments: object, **named: object) -> AsyncIterator[list[object]]:
        raise OSError("the disk is gone")
        yield []

    monkeypatch.setattr(house.mailboxes, "flags", broken)
    (view,) = [connection.session.view for connection in house.server._connections if connection.session.view]
    view._tail = True
    assert (await client.append(MESSAGE))[-1].startswith(b"OK [APPENDUID ")
    assert await client.closed() == b"* BYE Mailbox cannot be read\r\n"


# --- damage -----------------------------------------------------------------------------------------


async def test_a_long_literal_that_turns_out_damaged_ends_the_connection(tmp_path: Path) -> None:
    """Its length was announced: anything written in place of the rest would be taken for the message."""
    async with imap_house(tmp_path) as house:
        noise = b"".join(b"%064x\r\n" % pow(7, number, (1 << 255) - 19) for number in range(1, 60_000))
        await house.deliver(b"Subject: long\r\n\r\n" + noise)
        await house.deliver()
        packs = [path for path in (tmp_path / "store" / "mail").rglob("*") if path.is_file()]
        pack = max(packs, key=lambda path: path.stat().st_size)
        with pack.open("r+b") as file:
            file.seek(pack.stat().st_size * 3 // 4)
            octet = file.read(1)
            file.seek(-1, 1)
            file.write(bytes((octet[0] ^ 0xFF,)))
        client = await house.client(select="INBOX")
        client.send(b"z FETCH 1:2 BODY.PEEK[]\r\n")
        data = await rest(client)
        announced = re.match(rb"\* 1 FETCH \(BODY\[\] \{(\d+)\}\r\n", data)
        assert announced is not None
        assert len(data) < int(announced[1])
        assert b"CORRUPTION" not in data
        other = await house.client(select="INBOX")
        assert (await other.command("FETCH 2 BODY.PEEK[]"))[-1] == b"OK FETCH completed"


async def test_an_error_in_the_middle_of_a_literal_ends_the_connection(
    house: ImapHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    await house.deliver(b"Subject: x\r\n\r\n" + b"0123456789abcdef\r\n" * (1 << 17))
    read = StoredMessage.read

    async def failing(self: StoredMessage, start: int = 0, length: int | None = None) -> bytes:
        if start > 1 << 20:
            raise OSError("input/output error")
        return await read(self, start, length)

    monkeypatch.setattr(StoredMessage, "read", failing)
    client = await house.client(select="INBOX")
    client.send(b"z FETCH 1 BODY.PEEK[]\r\n")
    data = await rest(client)
    assert data.startswith(b"* 1 FETCH (BODY[] {2359310}\r\n")
    assert b"z " not in data[-200:]


@pytest.mark.parametrize("plus", [True, False])
@pytest.mark.parametrize("where", ["incoming", "write"])
async def test_an_append_that_fails_in_an_unforeseen_way_is_answered(
    house: ImapHouse, monkeypatch: pytest.MonkeyPatch, where: str, plus: bool
) -> None:
    real = house.mailboxes.incoming

    def broken(*arguments: object) -> Any:
        raise OSError(24, "Too many open files")

    def incoming() -> Any:
        made = real()
        monkeypatch.setattr(type(made), "write", broken)
        return made

    monkeypatch.setattr(house.mailboxes, "incoming", broken if where == "incoming" else incoming)
    client = await house.client()
    long = MESSAGE + b"0123456789abcdef\r\n" * 50_000
    assert (await client.append(long, plus=plus)) == [b"NO [SERVERBUG] Internal error"]
    assert (await client.command("NOOP")) == [b"OK NOOP completed"]
    monkeypatch.undo()
    assert (await client.append(MESSAGE, plus=plus))[-1].startswith(b"OK [APPENDUID")
