"""SMTP into the real store: what was answered with 250 is there, octet for octet; memory stays flat."""

import asyncio
import os
from pathlib import Path

import pytest
from postkeep.runtime.clock import SystemClock
from postkeep.services.changes import ChangeBus
from postkeep.storage.store import MailStore

from tests.support.clock import until
from tests.support.smtp import SmtpWorld


async def _world(folder: Path) -> tuple[SmtpWorld, MailStore]:
    store = await MailStore.open(folder / "store", SystemClock())
    return SmtpWorld(store=store, bus=ChangeBus()), store


async def _inbox(store: MailStore, key: str) -> list[bytes]:
    account = store.account_id(key)
    assert account is not None
    mailbox = store.mailbox(account, "INBOX")
    found = []
    async for rows in store.rows(account, mailbox.id, [(1, 2**32 - 1)]):
        for message in await store.messages(rows):
            assert not isinstance(message, Exception)
            found.append(await message.read())
    return found


def _resident() -> int:
    """Octets of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize(
    "content",
    [
        b"Subject: plain\r\n\r\nhello\r\n",
        b"",
        b"no header at all\r\n",
        b"Subject: \xff\xfe 8-bit\r\n\r\n\x00\x01\xff" + b"x" * 5000 + b"\r\n",
        b"Content-Type: multipart/mixed; boundary=a\r\n\r\n--a\r\n\r\nbroken\r\n",
        b"Subject: big\r\n\r\n" + (b"y" * 70 + b"\r\n") * 60_000,
    ],
    ids=["plain", "empty", "no-header", "octets", "broken-mime", "4-mib"],
)
async def test_what_was_sent_is_stored(tmp_path: Path, content: bytes) -> None:
    world, store = await _world(tmp_path)
    try:
        client = await world.connect()
        await client.hello()
        assert (await client.begin("sales@example.test")).startswith(b"354")
        client.send(content.replace(b"\r\n.", b"\r\n..") + b".\r\n")
        assert (await client.reply()).startswith(b"250 ")
        for key in ("alice@example.test", "bob@example.test"):
            (stored,) = await _inbox(store, key)
            assert stored.endswith(content)
            assert stored.startswith(b"Return-Path: <sender@outside.test>\r\nReceived: from client.example ")
    finally:
        await world.close()
        await store.close()


async def test_sessions_side_by_side_lose_and_double_nothing(tmp_path: Path) -> None:
    world, store = await _world(tmp_path)

    async def session(number: int) -> None:
        client = await world.connect()
        await client.hello()
        for message in range(20):
            reply = await client.message(b"Subject: %d-%d\r\n\r\nx" % (number, message), "alice@example.test")
            assert reply.startswith(b"250 ")

    try:
        await asyncio.gather(*(session(number) for number in range(8)))
        subjects = sorted(
            line
            for stored in await _inbox(store, "alice@example.test")
            for line in stored.split(b"\r\n")
            if line[:8] == b"Subject:"
        )
        assert subjects == sorted(b"Subject: %d-%d" % (n, m) for n in range(8) for m in range(20))
    finally:
        await world.close()
        await store.close()


async def test_a_message_of_100_mb_does_not_raise_memory_by_it(tmp_path: Path) -> None:
    world, store = await _world(tmp_path)
    try:
        client = await world.connect()
        await client.hello()
        await client.begin("alice@example.test")
        block = (b"z" * 70 + b"\r\n") * 1000
        before = highest = _resident()
        sent = 0
        while sent < 100_000_000:
            client.send(block)
            await client.writer.drain()
            sent += len(block)
            highest = max(highest, _resident())
        client.send(b".\r\n")
        assert (await asyncio.wait_for(client.reader.readline(), 60)).startswith(b"250 ")
        grown = max(highest, _resident()) - before
        assert grown < 30_000_000, f"{grown} octets more"
        account = store.account_id("alice@example.test")
        assert account is not None
        assert store.usage(account)[0] > sent
    finally:
        await world.close()
        await store.close()


async def test_message_given_up_in_the_middle_leaves_no_spool(tmp_path: Path) -> None:
    world, store = await _world(tmp_path)
    try:
        client = await world.connect()
        await client.hello()
        await client.begin("alice@example.test")
        client.send((b"z" * 70 + b"\r\n") * 60_000)
        await client.writer.drain()
        client.writer.write_eof()
        assert await client.at_end() == b""
        # The worker that writes a block removes the file behind it.
        await until(lambda: not list((tmp_path / "store" / "spool").iterdir()))
        assert store.account_id("alice@example.test") is None
    finally:
        await world.close()
        await store.close()
