"""What one command may cost in memory and time, and what must not be said or lost in the middle of it."""

import asyncio
import re
import threading
import time
import tracemalloc
from array import array
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from postkeep.domain.mailbox import NAME_LIMIT
from postkeep.domain.message import MessageRow
from postkeep.protocols.imap.session import content
from postkeep.storage.bodies import StoredMessage

from tests.support.clock import FakeClock, until
from tests.support.imap import MESSAGE, ImapClient, ImapHouse, imap_house

FLOWED = b"Subject: x\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[ImapHouse]:
    async with imap_house(tmp_path) as house:
        yield house


class Held:
    """Wraps a method of the service that gives batches: they come only once `release` is set."""

    def __init__(self, real: Any) -> None:
        self._real = real
        self.asked = asyncio.Event()
        self.release = asyncio.Event()

    async def __call__(self, *arguments: Any, **named: Any) -> AsyncIterator[Any]:
        batches = [batch async for batch in self._real(*arguments, **named)]
        self.asked.set()
        await self.release.wait()
        for batch in batches:
            yield batch


async def rest(client: ImapClient) -> bytes:
    """All that still comes, be it ended by a close or a reset."""
    data = b""
    try:
        while piece := await asyncio.wait_for(client.reader.read(1 << 16), 10):
            data += piece
    except ConnectionResetError:
        pass
    return data


# --- memory -----------------------------------------------------------------------------------------


async def peak(house: ImapHouse, command: str) -> int:
    """Octets that the command made the process hold at most while nobody reads its answer."""
    client = await house.narrow_client()
    (session,) = [other.session for other in house.server._connections]
    tracemalloc.start()
    try:
        client.send(f"z {command}\r\n".encode())
        await until(lambda: next(iter(house.server._connections))._write_paused)
        await asyncio.sleep(0.05)
        assert session.view is not None
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        client.writer.transport.abort()


async def test_attack_many_header_selections_in_one_fetch(house: ImapHouse) -> None:
    await house.deliver(b"X-A: " + (b"y" * 70 + b"\r\n ") * 3500 + b"z\r\nSubject: x\r\n\r\nhello\r\n")
    items = " ".join(f"BODY.PEEK[HEADER.FIELDS (X-A Y{number})]" for number in range(60))
    assert await peak(house, f"FETCH 1 ({items})") < 4_000_000


async def test_attack_many_partials_in_one_fetch(house: ImapHouse) -> None:
    await house.deliver(b"Subject: x\r\n\r\n" + b"0123456789abcdef" * (1 << 15) + b"\r\n")
    items = " ".join(f"BODY.PEEK[]<{number}.200000>" for number in range(60))
    assert await peak(house, f"FETCH 1 ({items})") < 4_000_000


async def test_sections_of_one_fetch_are_bounded(house: ImapHouse) -> None:
    await house.deliver()
    client = await house.client(select="INBOX")
    items = " ".join(f"BODY.PEEK[]<{number}.10>" for number in range(65))
    assert (await client.command(f"FETCH 1 ({items})"))[-1] == b"BAD Too many sections"
    items = " ".join(f"BODY.PEEK[]<{number}.1>" for number in range(64))
    assert (await client.command(f"FETCH 1 ({items})"))[-1] == b"OK FETCH completed"


async def test_a_long_answer_of_many_sections_is_whole(house: ImapHouse) -> None:
    message = b"Subject: x\r\n\r\n" + b"0123456789abcdef" * 40_000 + b"\r\n"
    await house.deliver(message)
    client = await house.client(select="INBOX")
    (reply, _) = await client.command(
        "FETCH 1 (UID BODY.PEEK[] BODY.PEEK[HEADER] BODY.PEEK[TEXT] BODY.PEEK[9])"
    )
    head, body = message[:14], message[14:]
    assert reply == (
        b"* 1 FETCH (UID 1 BODY[] {%d}\r\n%b BODY[HEADER] {14}\r\n%b BODY[TEXT] {%d}\r\n%b BODY[9] NIL)"
        % (len(message), message, head, len(body), body)
    )


async def test_envelopes_are_read_in_batches_by_size(house: ImapHouse) -> None:
    addresses = b", ".join(b"a%d@b" % number for number in range(6000))
    message = b"To: " + addresses + b"\r\nCc: " + addresses + b"\r\n\r\nhi\r\n"
    for _ in range(24):
        await house.deliver(message)
    asked: list[int] = []
    structures = house.mailboxes.structures

    async def watched(rows: list[MessageRow]) -> Any:
        asked.append(sum(row.size for row in rows))
        return await structures(rows)

    house.mailboxes.structures = watched  # type: ignore[method-assign,assignment]
    client = await house.client(select="INBOX")
    replies = await client.command("FETCH 1:* (UID ENVELOPE)")
    assert [reply.count(b'"a5999" "b"') for reply in replies[:-1]] == [2] * 24
    assert sum(asked) == 24 * len(message)
    assert max(asked) <= 1 << 20


# --- time -------------------------------------------------------------------------------------------


async def test_attack_search_with_many_texts_decodes_each_part_once(
    house: ImapHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    await house.deliver(FLOWED + (b"=C3=A4" * 12 + b"=\r\n") * 8000 + b" needle\r\n")
    client = await house.client(select="INBOX")
    decoded: list[threading.Thread] = []
    part_text = content.part_text

    def watched(*arguments: Any) -> str:
        decoded.append(threading.current_thread())
        return part_text(*arguments)

    monkeypatch.setattr(content, "part_text", watched)
    program = " ".join(f"NOT BODY q{number}" for number in range(30))
    assert (await client.command(f"SEARCH {program} BODY NEEDLE"))[0] == b"* SEARCH 1"
    assert len(decoded) == 1
    assert decoded[0] is not threading.main_thread()


async def test_search_programs_have_a_bounded_number_of_texts(house: ImapHouse) -> None:
    await house.deliver()
    client = await house.client(select="INBOX")
    assert (await client.command("SEARCH " + "BODY plan " * 32))[0] == b"* SEARCH 1"
    assert (await client.command("SEARCH " + "BODY plan " * 33)) == [
        b"BAD Search program with more than 32 texts"
    ]


async def test_texts_are_found_in_their_places_only(house: ImapHouse) -> None:
    """One look at the message answers all keys, each by its own rule."""
    await house.deliver()  # Subject: Grüße; body: … the quarterly plan.
    client = await house.client(select="INBOX")
    for program, found in [
        ("TEXT bob@example BODY quarterly", True),
        ("BODY bob@example", False),
        ("OR BODY bob@example TEXT bob@example", True),
        ("NOT BODY bob@example TEXT bob@example", True),
        ("NOT TEXT bob@example", False),
        ('BODY "" TEXT ""', True),
        ('BODY absent TEXT ""', False),
        ("OR BODY absent NOT TEXT absent", True),
        ("SUBJECT absent", False),
        ("HEADER Message-ID one@ TEXT plan", True),
    ]:
        assert (await client.command(f"SEARCH {program}"))[0] == (b"* SEARCH 1" if found else b"* SEARCH"), (
            program
        )


async def test_attack_long_search_leaves_others_their_turn(house: ImapHouse) -> None:
    for _ in range(1200):
        await house.deliver()
    client = await house.client(select="INBOX")
    other = await house.client()
    longest, started = 0.0, time.monotonic()
    client.send(b"s SEARCH" + b" NOT ANSWERED UNFLAGGED" * 330 + b"\r\n")
    search = asyncio.create_task(client.until(b"s"))
    while not search.done():
        started = time.monotonic()
        await other.command("NOOP")
        longest = max(longest, time.monotonic() - started)
    assert (await search)[0].count(b" ") == 1201
    assert longest < 0.4


async def test_attack_list_patterns_longer_than_any_name(house: ImapHouse) -> None:
    client = await house.client()
    await client.command("CREATE " + "x" * NAME_LIMIT)
    pattern = '"' + "*x" * NAME_LIMIT + '"'
    for command in ("LIST", "LSUB"):
        assert await client.command(f'{command} "" {"*x" * (NAME_LIMIT + 1)}') == [
            b"NO [LIMIT] Pattern too long"
        ]
        assert await client.command(f"{command} {pattern} *x") == [b"NO [LIMIT] Pattern too long"]
    assert len(await client.command(f'LIST "" {"*x" * NAME_LIMIT}')) == 2


async def test_attack_long_list_leaves_others_their_turn(house: ImapHouse) -> None:
    for number in range(150):
        await house.store.create_mailbox(house.account, f"{number:03d}" + "x" * 900)
    client, other = await house.client(), await house.client()
    pattern = "*x" * 900 + "y"
    client.send(f'l LIST "" ({" ".join([pattern] * 20)})\r\n'.encode())
    listing = asyncio.create_task(client.until(b"l"))
    longest = 0.0
    while not listing.done():
        started = time.monotonic()
        await other.command("NOOP")
        longest = max(longest, time.monotonic() - started)
    assert await listing == [b"OK LIST completed"]
    assert longest < 0.4


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


# --- expunges held back -----------------------------------------------------------------------------


async def resynchronizing(house: ImapHouse, modseq: int = 0) -> tuple[ImapClient, list[bytes]]:
    client = await house.client()
    await client.command("ENABLE QRESYNC")
    validity = house.store.mailbox(house.account, "INBOX").uidvalidity
    return client, await client.command(
        f"SELECT INBOX (QRESYNC ({validity} {modseq}))" if modseq else "SELECT INBOX"
    )


def highest(replies: list[bytes], found: int = 0) -> int:
    """The MODSEQ that a client may come back with after these replies (RFC 7162 §3.2.10)."""
    for reply in replies:
        if told := re.search(rb"MODSEQ \(?(\d+)", reply):
            number = int(told[1])
            found = number if b"HIGHESTMODSEQ" in reply else max(found, number)
    return found


@pytest.mark.parametrize(
    "command", ["FETCH 3 (FLAGS)", "FETCH 1:4 (FLAGS MODSEQ)", "STORE 4 +FLAGS (\\Seen)", "SEARCH MODSEQ 1"]
)
async def test_no_expunge_is_lost_to_a_client_that_was_told_later_flags(
    house: ImapHouse, command: str
) -> None:
    for _ in range(4):
        await house.deliver()
    client, replies = await resynchronizing(house)
    other = await house.client(select="INBOX")
    await other.command("STORE 2 +FLAGS.SILENT (\\Deleted)")
    known = highest(replies + await client.command("NOOP"))
    await other.command("EXPUNGE")
    await other.command("STORE 1 +FLAGS.SILENT (\\Flagged)")
    replies = await client.command(command)
    known = highest(replies, known)
    client.close()  # before anything could tell it of the expunge
    assert not any(b"VANISHED" in reply for reply in replies)
    _, replies = await resynchronizing(house, known)
    assert b"* VANISHED (EARLIER) 2" in replies
    assert any(reply.startswith(b"* 1 FETCH (UID 1 FLAGS (\\Flagged") for reply in replies)


async def test_flags_wait_for_the_expunges_before_them(house: ImapHouse) -> None:
    for _ in range(3):
        await house.deliver()
    client, _ = await resynchronizing(house)
    other = await house.client(select="INBOX")
    await other.command("STORE 2 +FLAGS.SILENT (\\Deleted)")
    await other.command("EXPUNGE")
    await other.command("STORE 1 +FLAGS.SILENT (\\Flagged)")
    replies = await client.command("FETCH 3 (UID)")
    assert [reply for reply in replies if b"FLAGS" in reply] == []
    replies = [reply for reply in await client.command("NOOP") if b"\\Deleted" not in reply]
    assert replies[0] == b"* VANISHED 2"
    assert replies[1].startswith(b"* 1 FETCH (UID 1 FLAGS (\\Flagged")
    assert not any(b"HIGHESTMODSEQ" in reply for reply in replies)


async def test_an_expunge_while_a_mailbox_is_opened_is_not_lost(
    house: ImapHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    await house.deliver()
    await house.deliver()
    uids = house.mailboxes.uids
    box = house.store.mailbox(house.account, "INBOX").id

    async def late(account: int, mailbox: int) -> "array[int]":
        found = await uids(account, mailbox)
        monkeypatch.undo()
        await house.mailboxes.expunge(account, box, [1])
        return found

    client = await house.client()
    await client.command("ENABLE QRESYNC")
    monkeypatch.setattr(house.mailboxes, "uids", late)
    client.send(b"s SELECT INBOX\r\n")
    opened: list[bytes] = []
    while not opened or b"HIGHESTMODSEQ" not in opened[-1]:
        opened.append(await client.line())
    client.close()
    assert b"* 2 EXISTS" in opened
    _, replies = await resynchronizing(house, highest(opened))
    assert b"* VANISHED (EARLIER) 1" in replies


# --- small things -----------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["DELETE INBOX", "RENAME INBOX Sent", "RENAME INBOX INBOX"])
async def test_a_failed_command_leaves_the_mailbox_selected(house: ImapHouse, command: str) -> None:
    await house.deliver()
    client = await house.client(select="INBOX")
    assert (await client.command(command))[-1].startswith(b"NO ")
    assert (await client.command("FETCH 1 UID")) == [b"* 1 FETCH (UID 1)", b"OK FETCH completed"]


async def test_deleting_the_selected_mailbox_unselects_it(house: ImapHouse) -> None:
    client = await house.client()
    await client.command("CREATE x")
    await client.command("SELECT x")
    assert await client.command("DELETE x") == [b"OK DELETE completed"]
    assert await client.command("FETCH 1 UID") == [b"BAD FETCH: no mailbox is selected"]
    assert await client.command("NOOP") == [b"OK NOOP completed"]
    await client.command("SELECT INBOX")
    assert await client.command("RENAME inbox/ Old") == [b"OK RENAME completed"]
    assert await client.command("FETCH 1 UID") == [b"BAD FETCH: no mailbox is selected"]


@pytest.mark.parametrize(
    "command",
    ["FETCH 1:* FULL ", "FETCH 1 UID  ", "EXAMINE INBOX ", "CREATE x ", 'LIST "" * ', "SUBSCRIBE INBOX "],
)
async def test_spaces_at_the_end_are_forgiven(house: ImapHouse, command: str) -> None:
    await house.deliver()
    client = await house.client(select="INBOX")
    assert (await client.command(command))[-1].startswith(b"OK ")


async def test_a_keyword_that_no_message_takes_takes_no_place(house: ImapHouse) -> None:
    await house.deliver()
    client = await house.client(select="INBOX")
    replies = await client.command("STORE 1 (UNCHANGEDSINCE 0) +FLAGS ($New)")
    assert replies[-1].startswith(b"OK [MODIFIED 1]")
    assert house.store.keywords(house.account) == ()
    await client.command("STORE 1 +FLAGS ($New)")
    assert house.store.keywords(house.account) == ("$New",)


async def test_a_disabled_account_does_not_wait_for_a_slow_search(tmp_path: Path) -> None:
    async with imap_house(tmp_path, clock=FakeClock()) as house:
        await house.deliver()
        client = await house.client(select="INBOX")
        held = Held(house.mailboxes.rows)
        house.mailboxes.rows = held  # type: ignore[method-assign,assignment]
        client.send(b"s SEARCH BODY plan\r\n")
        await asyncio.wait_for(held.asked.wait(), 10)
        house.server.disconnect("alice@example.test", "Account was disabled")
        held.release.set()
        data = await client.closed()
        assert data.endswith(b"* BYE Account was disabled\r\n")
