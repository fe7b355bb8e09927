"""What a session is told of changes, and when; what is left of one that failed."""

import asyncio
import re
from array import array
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.clock import FakeClock
from tests.support.imap import Held, ImapClient, ImapHouse, imap_house


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[ImapHouse]:
    async with imap_house(tmp_path) as house:
        yield house


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
