"""What one command may cost in memory and time, and what must not be said or lost in the middle of it."""

import asyncio
import threading
import time
import tracemalloc
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from postkeep.domain.mailbox import NAME_LIMIT
from postkeep.domain.message import MessageRow
from postkeep.protocols.imap.session import content

from tests.support.clock import until
from tests.support.imap import ImapHouse, imap_house

FLOWED = b"Subject: x\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[ImapHouse]:
    async with imap_house(tmp_path) as house:
        yield house


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
