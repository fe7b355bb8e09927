"""Big messages, which have a file of their own before the writer takes them."""

import asyncio
import errno
from pathlib import Path

import pytest
from postkeep.domain.errors import StorageFailed

from tests.support.faulty import FaultyFiles
from tests.support.storing import PREFIX, all_rows, deliver, inbox, letter, open_store, together


async def test_big_message_on_a_disk_that_fails(tmp_path: Path) -> None:
    files = FaultyFiles()
    store = await open_store(tmp_path, files=files)
    target = await inbox(store, "a@example.test")
    for fault in ("fdatasync", "rename", "sync_dir"):
        files.fail(fault, errno.EIO)
        with pytest.raises(StorageFailed):
            await deliver(store, letter("big", 3 << 20), [target])
        files.heal()
        assert list((tmp_path / "spool").iterdir()) == []
        assert not list((tmp_path / "mail").glob("*.arriving"))
    await deliver(store, letter("big", 3 << 20), [target])
    (row,) = await all_rows(store, target.account, target.mailbox)
    (message,) = await store.messages([row])
    assert not isinstance(message, Exception)
    assert await message.read() == PREFIX + letter("big", 3 << 20)
    await store.close()


async def test_a_failed_sync_of_a_big_message_is_not_tried_again(tmp_path: Path) -> None:
    """Attack: after a failed sync the next one succeeds, although the octets are lost."""
    files = FaultyFiles()
    store = await open_store(tmp_path, files=files)
    target = await inbox(store, "a@example.test")
    bodies = []
    for _ in range(2):
        incoming = store.incoming()
        incoming.write(letter("big", 3 << 20))
        bodies.append(await incoming.finish(PREFIX))
    files.fail("fdatasync", errno.EIO, times=1)
    results = await together(store, *[store.deliver(body, [target], 1) for body in bodies])
    assert [isinstance(result, StorageFailed) for result in results] == [True, False]
    assert store.counters(target.account, target.mailbox).messages == 1
    await store.close()


async def test_a_rename_that_fails_after_the_commit_delivers_once(tmp_path: Path) -> None:
    files = FaultyFiles()
    store = await open_store(tmp_path, files=files)
    target = await inbox(store, "a@example.test")
    real = files.rename

    def rename(source: Path, target: Path) -> None:
        if target.suffix == ".pack":
            raise OSError(errno.EIO, "no")
        real(source, target)

    files.rename = rename  # type: ignore[method-assign]
    big = letter("big", 3 << 20)
    await together(store, deliver(store, big, [target]), deliver(store, letter("small"), [target]))
    for _ in range(2):
        rows = await all_rows(store, target.account, target.mailbox)
        assert len(rows) == 2
        messages = [await message.read() for message in await store.messages(rows)]  # type: ignore[union-attr]
        assert sorted(messages, key=len) == [PREFIX + letter("small"), PREFIX + big]
        await store.close()
        store = await open_store(tmp_path)
    assert not list((tmp_path / "mail").glob("*.arriving"))
    await store.close()


async def test_a_caller_cancelled_while_a_big_message_is_scanned_leaves_no_file(tmp_path: Path) -> None:
    store = await open_store(tmp_path)
    for size in (500_000, 3 << 20):
        incoming = store.incoming()
        incoming.write(letter("big", size))
        task = asyncio.ensure_future(incoming.finish())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    used = store._intake.used
    await store.close()
    assert used == 0
    assert list((tmp_path / "spool").iterdir()) == []
