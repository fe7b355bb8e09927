"""Callers that are cancelled: the writer's work is whole, and what follows a commit is done."""

import asyncio
import os
import threading
from pathlib import Path
from typing import Any

import pytest
from postkeep.domain.change import Appended
from postkeep.domain.errors import StorageFailed
from postkeep.domain.message import FlagMode
from postkeep.storage.verify import verify

from tests.support.faulty import FaultyFiles
from tests.support.storing import PREFIX, all_rows, deliver, inbox, letter, open_store


async def test_a_big_message_whose_sender_is_cut_off_while_it_is_stored(tmp_path: Path) -> None:
    """Attack: the connection ends while the writer has the file; its caller discards the body."""
    files = FaultyFiles()
    store = await open_store(tmp_path, files=files)
    target = await inbox(store, "a@example.test")
    content = os.urandom(3 << 20)
    incoming = store.incoming()
    incoming.write(content)
    body = await incoming.finish(PREFIX)
    at, go = threading.Event(), threading.Event()

    def before(name: str) -> None:
        if name == "sync_dir" and threading.current_thread().name == "postkeep-writer":
            at.set()
            assert go.wait(10)

    files.before = before
    told: list[tuple[Appended, ...]] = []

    async def receive() -> None:
        try:
            await store.deliver(body, [target], 1, told.append)
        finally:
            body.discard()

    task = asyncio.ensure_future(receive())
    await asyncio.to_thread(at.wait, 10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    files.before = None
    go.set()
    await store.writer.change(lambda tx: None)
    rows = await all_rows(store, target.account, target.mailbox)
    assert [appended[0].rows[0].uid for appended in told] == [row.uid for row in rows] == [1]
    (message,) = await store.messages(rows)
    assert not isinstance(message, Exception)
    assert await message.read() == PREFIX + content
    await store.close()
    assert (await verify(tmp_path, rate=0)).problems == ()


async def test_what_follows_a_commit_is_done_before_its_caller_goes_on(tmp_path: Path) -> None:
    store = await open_store(tmp_path)
    target = await inbox(store, "a@example.test")
    await deliver(store, letter("one"), [target])
    told: list[Any] = []
    result = await store.store_flags(
        target.account, target.mailbox, [1], FlagMode.ADD, 1, (), then=told.append
    )
    assert told == [result]

    def fails(_: object) -> None:
        raise RuntimeError("a bug")

    await store.expunge(target.account, target.mailbox, [1], fails)
    assert store.counters(target.account, target.mailbox).messages == 0
    await store.close()
    with pytest.raises(StorageFailed):
        await store.expunge(target.account, target.mailbox, [1], told.append)
    assert len(told) == 1
