"""Filling a store in tests, and looking at all that is in it."""

import asyncio
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from postkeep.domain.change import Appended
from postkeep.domain.message import Flag, MessageRow
from postkeep.runtime.files import Files, SystemFiles
from postkeep.storage.store import MailStore, Target
from postkeep.storage.transaction import Transaction

from tests.support.clock import FakeClock

ALL = ((1, 0xFFFFFFFF),)
PREFIX = b"Return-Path: <sender@example.test>\r\n"


class HastyClock(FakeClock):
    """Sleeping takes no real time: the clock just shows a later one."""

    async def sleep(self, delay: float) -> None:
        self._elapsed += delay


async def open_store(
    folder: Path, *, files: Files | None = None, vfs: str | None = None, pack_limit: int | None = None
) -> MailStore:
    """A store whose packs are sealed at `pack_limit` octets."""
    store = await MailStore.open(folder, FakeClock(), files=files or SystemFiles(), vfs=vfs)
    if pack_limit is not None:
        store.writer._pack_limit = pack_limit
    return store


def letter(mark: str, size: int = 300, references: str = "") -> bytes:
    """A message of about `size` octets whose text does not compress away."""
    head = (
        f"From: Sender <sender@example.test>\r\nTo: someone@example.test\r\nSubject: letter {mark}\r\n"
        f"Message-ID: <{mark}@example.test>\r\nX-Load-Mark: {mark}\r\n"
    )
    if references:
        head += f"References: <{references}@example.test>\r\n"
    lines = [
        f"{mark} {number * 2654435761 % 4294967296:08x}" for number in range(max(1, size // (len(mark) + 11)))
    ]
    return head.encode() + b"\r\n" + "\r\n".join(lines).encode() + b"\r\n"


async def deliver(
    store: MailStore, content: bytes, targets: Sequence[Target], date: int = 1_700_000_000
) -> tuple[Appended, ...]:
    incoming = store.incoming()
    for start in range(0, len(content), 100_000):
        incoming.write(content[start : start + 100_000])
    return await store.deliver(await incoming.finish(PREFIX), targets, date)


async def inbox(store: MailStore, key: str, *, flags: int = 0, keywords: tuple[str, ...] = ()) -> Target:
    """The INBOX of an account, which is made if need be."""
    account = await store.create_account(key)
    return Target(account, store.mailbox(account, "INBOX").id, flags, keywords)


async def contents(store: MailStore, key: str) -> dict[str, list[tuple[bytes, int, frozenset[str], int]]]:
    """{mailbox: [(content, flags, keywords, date), …]} of an account; empty mailboxes left out."""
    account = store.account_id(key)
    assert account is not None
    names = store.keywords(account)
    found: dict[str, list[tuple[bytes, int, frozenset[str], int]]] = {}
    for mailbox in store.mailboxes(account):
        for row in await all_rows(store, account, mailbox.id):
            (message,) = await store.messages([row])
            assert not isinstance(message, Exception), message
            words = frozenset(word for bit, word in enumerate(names) if row.keywords >> bit & 1)
            found.setdefault(mailbox.name, []).append((await message.read(), row.flags, words, row.date))
    return found


async def all_rows(store: MailStore, account: int, mailbox: int) -> list[MessageRow]:
    return [row async for batch in store.rows(account, mailbox, ALL) for row in batch]


SEEN, DELETED, FLAGGED = int(Flag.SEEN), int(Flag.DELETED), int(Flag.FLAGGED)


async def hold(store: MailStore) -> Callable[[], None]:
    """Keep the writer busy, so that what comes now waits and shares the next batch; call the result to go on."""
    go, started = threading.Event(), threading.Event()

    def wait(_: Transaction) -> None:
        started.set()
        assert go.wait(10)

    task = asyncio.get_running_loop().create_task(store.writer.change(wait))
    await asyncio.to_thread(started.wait)

    def release() -> None:
        assert not task.done()
        go.set()

    return release


async def together(store: MailStore, *work: Any) -> list[Any]:
    """Run coroutines so that their jobs share one batch."""
    go = await hold(store)
    tasks = [asyncio.ensure_future(item) for item in work]
    for _ in range(20):
        await asyncio.sleep(0)
    go()
    return await asyncio.gather(*tasks, return_exceptions=True)
