"""The writer: group commit, failures that stay where they belong, full and broken disks."""

import asyncio
import errno
import os
from pathlib import Path
from typing import Any

import apsw
import pytest
from postkeep.domain.errors import InvalidName, MailboxNotFound, StorageFailed, StorageFull
from postkeep.domain.message import FlagMode
from postkeep.storage import database
from postkeep.storage.store import Target
from postkeep.storage.transaction import Transaction

from tests.support.faulty import FaultyFiles
from tests.support.storing import PREFIX, all_rows, deliver, hold, inbox, letter, open_store, together


def count_syncs(files: FaultyFiles) -> int:
    return files.calls.count("fdatasync")


async def test_what_arrives_during_a_commit_shares_one_sync(tmp_path: Path) -> None:
    files = FaultyFiles()
    store = await open_store(tmp_path, files=files)
    target = await inbox(store, "a@example.test")
    await deliver(store, letter("first"), [target])
    before = count_syncs(files), files.calls.count("pwrite")
    results = await together(store, *[deliver(store, letter(f"m{n}"), [target]) for n in range(30)])
    assert [result[0].rows[0].uid for result in results] == list(range(2, 32))
    assert (count_syncs(files), files.calls.count("pwrite")) == (before[0] + 1, before[1] + 1)
    await store.close()


async def test_one_failing_operation_fails_alone(tmp_path: Path) -> None:
    store = await open_store(tmp_path)
    target = await inbox(store, "a@example.test")
    account = target.account
    results = await together(
        store,
        deliver(store, letter("good"), [target]),
        store.create_mailbox(account, "Work"),
        store.create_mailbox(account, "bad//name"),
        store.create_mailbox(account, "Work/Sub"),
        store.writer.change(lambda tx: tx.execute("INSERT INTO mailbox VALUES (1)")),
    )
    assert results[0][0].rows[0].uid == 1
    assert isinstance(results[2], InvalidName)
    assert isinstance(results[4], apsw.SQLError)
    assert [mailbox.name for mailbox in store.mailboxes(account) if mailbox.name.startswith("Work")] == [
        "Work",
        "Work/Sub",
    ]
    await store.close()


async def test_a_failing_operation_leaves_no_mark_in_memory(tmp_path: Path) -> None:
    store = await open_store(tmp_path)
    target = await inbox(store, "a@example.test")
    await deliver(store, letter("one"), [target])
    state = store.catalogue.state(target.account, target.mailbox)
    before = store.counters(target.account, target.mailbox), store.usage(target.account)

    def half_done(tx: Transaction) -> None:
        tx.touch(state)
        tx.next_modseq(state)
        state.messages += 7
        state.account.octets += 99
        tx.keyword_bits(state.account, ("New",))
        tx.flush(state)
        raise InvalidName("on purpose")

    with pytest.raises(InvalidName):
        await store.writer.change(half_done)
    assert (store.counters(target.account, target.mailbox), store.usage(target.account)) == before
    assert store.keywords(target.account) == ()
    await deliver(store, letter("two"), [target])
    assert store.counters(target.account, target.mailbox).messages == 2
    await store.close()
    store = await open_store(tmp_path)
    assert store.counters(target.account, target.mailbox).messages == 2
    assert store.keywords(target.account) == ()
    await store.close()


async def test_full_disk_fails_clearly_and_loses_nothing(tmp_path: Path) -> None:
    """Attack: the disk fills up (in the middle of a write), then has room again."""
    files = FaultyFiles()
    store = await open_store(tmp_path, files=files)
    target = await inbox(store, "a@example.test")
    await deliver(store, letter("before"), [target])
    files.fail("pwrite", errno.ENOSPC)
    for result in await together(store, *[deliver(store, letter(f"m{n}"), [target]) for n in range(5)]):
        assert isinstance(result, StorageFull)
    assert store.counters(target.account, target.mailbox).uidnext == 2
    files.heal()
    (appended,) = await deliver(store, letter("after"), [target])
    assert appended.rows[0].uid == 2
    rows = await all_rows(store, target.account, target.mailbox)
    assert [await m.read() for m in await store.messages(rows)] == [  # type: ignore[union-attr]
        PREFIX + letter("before"),
        PREFIX + letter("after"),
    ]
    assert store._intake.used == 0
    await store.close()


async def test_disk_that_is_full_for_big_ones_takes_small_ones(tmp_path: Path) -> None:
    """A batch that does not fit is tried one by one: only the guilty one fails."""
    files = FaultyFiles()
    store = await open_store(tmp_path, files=files)
    target = await inbox(store, "a@example.test")
    real = files.pwrite

    def pwrite(fd: int, data: Any, offset: int) -> int:
        if len(data) > 20_000:
            raise OSError(errno.ENOSPC, "no room")
        return real(fd, data, offset)

    files.pwrite = pwrite  # type: ignore[method-assign]
    small = [deliver(store, letter(f"s{n}"), [target]) for n in range(3)]
    results = await together(store, *small, deliver(store, letter("big", 200_000), [target]))
    assert [isinstance(result, StorageFull) for result in results] == [False, False, False, True]
    assert store.counters(target.account, target.mailbox).messages == 3
    await store.close()


async def test_database_that_is_full_fails_and_recovers(tmp_path: Path) -> None:
    """SQLITE_FULL rolls back, and the pack is cut to what was committed."""
    store = await open_store(tmp_path)
    target = await inbox(store, "a@example.test")
    await deliver(store, letter("before"), [target])
    (row,) = await all_rows(store, target.account, target.mailbox)
    path = tmp_path / "mail" / f"{row.pack:08d}.pack"
    length = path.stat().st_size
    pages = int(store._connection.pragma("page_count"))
    store._connection.pragma("max_page_count", pages)
    results = await together(
        store,
        *[deliver(store, letter(f"m{n}"), [target], 10) for n in range(200)],
        store.create_mailbox(target.account, "X"),
    )
    failed = [result for result in results if isinstance(result, Exception)]
    assert failed
    assert all(isinstance(result, StorageFull) for result in failed)
    delivered = len([result for result in results[:-1] if not isinstance(result, Exception)])
    assert store.counters(target.account, target.mailbox).messages == 1 + delivered
    if not delivered:
        assert path.stat().st_size == length
    store._connection.pragma("max_page_count", 1_000_000)
    await deliver(store, letter("after"), [target])
    assert len(await all_rows(store, target.account, target.mailbox)) == 2 + delivered
    await store.close()


async def test_after_a_failed_sync_the_pack_is_never_written_again(tmp_path: Path) -> None:
    """Attack: fdatasync fails once. The kernel may have dropped the pages: a new pack is begun."""
    files = FaultyFiles()
    store = await open_store(tmp_path, files=files)
    target = await inbox(store, "a@example.test")
    (first,) = await deliver(store, letter("before"), [target])
    files.fail("fdatasync", errno.EIO, times=1)
    with pytest.raises(StorageFailed):
        await deliver(store, letter("lost"), [target])
    (second,) = await deliver(store, letter("after"), [target])
    assert second.rows[0].pack > first.rows[0].pack
    assert second.rows[0].uid == 2
    lengths = dict(store._connection.execute("SELECT number, length FROM pack").fetchall())
    assert {number: store.packs.size(number) for number in lengths} == lengths  # a rebuild finds no more
    await store.close()
    store = await open_store(tmp_path)
    rows = await all_rows(store, target.account, target.mailbox)
    assert [await m.read() for m in await store.messages(rows)] == [  # type: ignore[union-attr]
        PREFIX + letter("before"),
        PREFIX + letter("after"),
    ]
    await store.close()


@pytest.mark.parametrize("fault", ["sync_dir", "open"])
async def test_a_new_pack_that_cannot_be_made_leaves_nothing(tmp_path: Path, fault: str) -> None:
    files = FaultyFiles()
    store = await open_store(tmp_path, files=files)
    target = await inbox(store, "a@example.test")
    files.fail(fault, errno.EIO)
    before = len(os.listdir("/proc/self/fd"))
    for number in range(10):
        with pytest.raises(StorageFailed):
            await deliver(store, letter(str(number)), [target])
    assert len(os.listdir("/proc/self/fd")) == before
    assert store._connection.execute("SELECT count(*) FROM pack").get == 1
    files.heal()
    await deliver(store, letter("after"), [target])
    assert store._connection.execute("SELECT count(*) FROM pack").get == 1
    await store.close()


async def test_a_pack_whose_file_was_not_yet_made_is_made_at_the_next_start(tmp_path: Path) -> None:
    files = FaultyFiles()
    store = await open_store(tmp_path, files=files)
    target = await inbox(store, "a@example.test")
    files.fail("open", errno.EIO)
    with pytest.raises(StorageFailed):
        await deliver(store, letter("lost"), [target])
    files.heal()
    await store.close()
    store = await open_store(tmp_path)
    await deliver(store, letter("after"), [target])
    assert store._connection.execute("SELECT number FROM pack").fetchall() == [(1,)]
    await store.close()


async def test_the_wal_shrinks_after_a_long_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "WAL_LIMIT", 200_000)
    store = await open_store(tmp_path)
    target = await inbox(store, "a@example.test")
    await deliver(store, letter("first"), [target])
    store.writer._checkpoint_at = 1
    wal = tmp_path / "postkeep.db-wal"
    reader = database.open_reader(tmp_path / "postkeep.db")
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM message").fetchall()
    for number in range(60):
        await deliver(store, letter(f"m{number}"), [target])
    assert wal.stat().st_size > 400_000
    reader.execute("COMMIT")
    reader.close()
    for number in range(3):
        store.writer._checkpoint_at = 1
        await deliver(store, letter(f"n{number}"), [target])
    assert wal.stat().st_size <= 200_000
    size = wal.stat().st_size
    await store.close()
    assert wal.stat().st_size == size  # kept: overwriting is cheaper than extending


async def test_delivery_to_a_mailbox_that_is_gone_hurts_no_other(tmp_path: Path) -> None:
    store = await open_store(tmp_path)
    target = await inbox(store, "a@example.test")
    work, _ = await store.create_mailbox(target.account, "Work")
    go = await hold(store)
    tasks: list[Any] = [
        asyncio.ensure_future(deliver(store, letter("x"), [target, Target(target.account, work.id)])),
        asyncio.ensure_future(deliver(store, letter("y"), [target])),
    ]
    for _ in range(20):
        await asyncio.sleep(0)
    store.catalogue.remove_mailbox(work.id)  # as a deletion does that is committed before them
    go()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(results[0], MailboxNotFound)
    assert store.counters(target.account, target.mailbox).messages == 1
    assert store._intake.used == 0
    await store.close()


async def test_a_cancelled_caller_disturbs_nothing(tmp_path: Path) -> None:
    store = await open_store(tmp_path)
    target = await inbox(store, "a@example.test")
    go = await hold(store)
    tasks = [asyncio.ensure_future(deliver(store, letter(f"m{n}"), [target])) for n in range(4)]
    for _ in range(20):
        await asyncio.sleep(0)
    tasks[1].cancel()
    await asyncio.sleep(0)
    go()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(results[1], asyncio.CancelledError)
    assert store.counters(target.account, target.mailbox).messages == 3
    assert store._intake.used == 0
    await store.close()


async def test_the_queue_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("postkeep.storage.jobqueue.QUEUE_JOBS", 3)
    store = await open_store(tmp_path)
    target = await inbox(store, "a@example.test")
    go = await hold(store)
    tasks = [asyncio.ensure_future(deliver(store, letter(f"m{n}"), [target])) for n in range(20)]
    for _ in range(20):
        await asyncio.sleep(0)
    assert store.writer.queue.jobs == 3
    go()
    await asyncio.gather(*tasks)
    assert store.counters(target.account, target.mailbox).messages == 20
    assert store.writer.queue.jobs == store.writer.queue.octets == 0
    await store.close()


async def test_a_closed_store_refuses_work_and_frees_the_body(tmp_path: Path) -> None:
    store = await open_store(tmp_path)
    target = await inbox(store, "a@example.test")
    waiting = [asyncio.ensure_future(deliver(store, letter(f"m{n}"), [target])) for n in range(10)]
    await asyncio.sleep(0)
    await store.close()
    await store.close()
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert all(isinstance(result, (tuple, StorageFailed)) for result in results)
    with pytest.raises(StorageFailed):
        await deliver(store, letter("late"), [target])
    with pytest.raises(StorageFailed):
        await store.store_flags(target.account, target.mailbox, [1], FlagMode.ADD, 1, ())
    with pytest.raises(StorageFailed):
        await store.uids(target.account, target.mailbox)
    assert store._intake.used == 0
    store = await open_store(tmp_path)
    assert store.counters(target.account, target.mailbox).messages == sum(
        isinstance(result, tuple) for result in results
    )
    await store.close()


async def test_many_concurrent_callers_of_every_kind(tmp_path: Path) -> None:
    store = await open_store(tmp_path, pack_limit=50_000)
    targets = [await inbox(store, f"u{n}@example.test") for n in range(4)]

    async def work(number: int) -> None:
        target = targets[number % 4]
        trash = store.mailbox(target.account, "Trash").id
        for step in range(15):
            (appended,) = await deliver(store, letter(f"w{number}.{step}"), [target])
            uid = appended.rows[0].uid
            await store.store_flags(target.account, target.mailbox, [uid], FlagMode.ADD, 1, [f"k{number}"])
            if step % 3 == 0:
                moved = await store.move(target.account, target.mailbox, [uid], trash)
                assert moved.copied.source_uids == (uid,)
            elif step % 3 == 1:
                await store.expunge(target.account, target.mailbox, [uid])

    await asyncio.gather(*[work(number) for number in range(16)])
    for target in targets:
        for name in ("INBOX", "Trash"):
            mailbox = store.mailbox(target.account, name).id
            counters = store.counters(target.account, mailbox)
            rows = await all_rows(store, target.account, mailbox)
            assert counters.messages == len(rows) == 20
            assert counters.size == sum(row.size for row in rows)
            assert counters.unseen == 0
            assert counters.modseq >= max(row.modseq for row in rows)
            for message in await store.messages(rows):
                assert not isinstance(message, Exception)
    await store.close()
