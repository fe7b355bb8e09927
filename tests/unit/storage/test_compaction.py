"""Compaction gives dead space back and never touches a live message, whatever happens meanwhile."""

import asyncio
import errno
import random
from pathlib import Path
from typing import Any

import pytest
from postkeep.domain.errors import StorageFull
from postkeep.domain.message import FlagMode
from postkeep.storage import compaction, walk
from postkeep.storage.compaction import Compactor
from postkeep.storage.rebuild import rebuild
from postkeep.storage.store import MailStore, Target
from postkeep.storage.verify import verify

from tests.support.clock import FakeClock, settle
from tests.support.power import SimulatedDisk
from tests.support.storing import (
    SEEN,
    HastyClock,
    all_rows,
    contents,
    deliver,
    inbox,
    letter,
    open_store,
)

ALICE, BOB = "alice@example.test", "bob@example.test"
LIMIT = 5_000


def compactor(
    store: MailStore, clock: FakeClock | None = None, *, grace: float = 0.0, ratio: float = 0.4
) -> Compactor:
    return Compactor(store, clock or HastyClock(), grace=grace, dead_ratio=ratio)


def packs(folder: Path) -> set[int]:
    return {int(path.stem) for path in (folder / "mail").glob("*.pack")}


async def fill(store: MailStore, count: int = 40) -> tuple[Target, Target]:
    """`count` letters of about 1 KB for alice (every fourth for bob too), some six to a pack."""
    alice, bob = await inbox(store, ALICE), await inbox(store, BOB)
    for number in range(count):
        await deliver(store, letter(f"m{number}", 1000), (alice, bob) if number % 4 == 0 else (alice,))
    return alice, bob


async def expunge_all_but(store: MailStore, target: Target, keep: int) -> None:
    """Leaves every `keep`-th message."""
    uids = [uid for uid in await store.uids(target.account, target.mailbox) if uid % keep]
    await store.expunge(target.account, target.mailbox, uids)


async def clean(folder: Path) -> bool:
    report = await verify(folder, rate=0)
    assert report.problems == ()
    return True


async def test_mostly_dead_packs_are_rewritten_and_removed(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    store = await open_store(folder, pack_limit=LIMIT)
    alice, bob = await fill(store)
    await expunge_all_but(store, alice, 8)
    before = {key: await contents(store, key) for key in (ALICE, BOB)}
    rows = await all_rows(store, bob.account, bob.mailbox)
    old, size = packs(folder), sum(path.stat().st_size for path in (folder / "mail").iterdir())
    assert len(old) >= 4
    done = await compactor(store).run_once()
    assert done.moved > 5
    assert done.removed >= 3
    assert done.damaged == 0
    assert len(packs(folder) & old) <= 1  # the active one
    assert sum(path.stat().st_size for path in (folder / "mail").iterdir()) < size / 1.5
    assert {key: await contents(store, key) for key in (ALICE, BOB)} == before
    after = await all_rows(store, bob.account, bob.mailbox)
    assert [row[:7] + row[9:] for row in after] == [row[:7] + row[9:] for row in rows]  # but for the place
    assert await clean(folder)
    assert (await compactor(store).run_once()).moved == 0
    await store.close()
    assert await clean(folder)


async def test_packs_below_the_ratio_and_the_active_one_are_left_alone(tmp_path: Path) -> None:
    store = await open_store(tmp_path / "store", pack_limit=LIMIT)
    alice, _ = await fill(store)
    await expunge_all_but(store, alice, 2)
    old = packs(tmp_path / "store")
    assert await compactor(store, ratio=0.9).run_once() == (0, 0, 0, 0)
    assert packs(tmp_path / "store") == old
    await store.close()


async def test_a_dead_pack_stays_for_the_grace_time_of_its_readers(tmp_path: Path) -> None:
    clock = HastyClock()
    store = await open_store(tmp_path / "store", pack_limit=LIMIT)
    alice, _ = await fill(store, 30)
    rows = await all_rows(store, alice.account, alice.mailbox)  # a session holds these
    await expunge_all_but(store, alice, 8)
    work = compactor(store, clock, grace=900)
    assert (await work.run_once()).removed == 0
    found = await store.messages(rows)
    assert not any(isinstance(message, Exception) for message in found)
    await clock.advance(901)
    assert (await work.run_once()).removed >= 2
    await store.close()


async def test_a_pack_of_one_big_message_goes_when_the_message_does(tmp_path: Path) -> None:
    store = await open_store(tmp_path / "store")
    alice, bob = await inbox(store, ALICE), await inbox(store, BOB)
    await deliver(store, letter("big", 2_500_000), (alice, bob))
    (pack,) = packs(tmp_path / "store")
    await store.expunge(alice.account, alice.mailbox, [1])
    assert (await compactor(store).run_once()).removed == 0
    await store.expunge(bob.account, bob.mailbox, [1])
    assert (await compactor(store).run_once()).removed == 1
    assert packs(tmp_path / "store") == set()
    (appended,) = await deliver(store, letter("next"), (alice,))
    assert appended.rows[0].pack > pack
    await store.close()
    assert await clean(tmp_path / "store")


async def test_messages_in_blocks_are_moved_whole(tmp_path: Path) -> None:
    store = await open_store(tmp_path / "store", pack_limit=2 << 20)
    alice = await inbox(store, ALICE)
    for number in range(6):
        await deliver(store, letter(f"m{number}", 1_500_000), (alice,))
    await store.expunge(alice.account, alice.mailbox, [1, 2, 4, 6])
    before = await contents(store, ALICE)
    await compactor(store, ratio=0.3).run_once()
    assert await contents(store, ALICE) == before
    await store.close()
    assert await clean(tmp_path / "store")


async def test_changes_while_records_are_copied_are_kept(tmp_path: Path) -> None:
    """Copies, moves, flags and expunges between reading a record and pointing to its new place."""
    folder = tmp_path / "store"
    store = await open_store(folder, pack_limit=LIMIT)
    alice, bob = await fill(store, 60)
    await expunge_all_but(store, alice, 4)
    archive, _ = await store.create_mailbox(alice.account, "Archive")
    rng = random.Random(2)
    running = asyncio.create_task(_compact_until_done(store))
    while not running.done():
        uids = list(await store.uids(alice.account, alice.mailbox))
        if len(uids) > 3:
            first, second, third = rng.sample(uids, 3)
            await store.copy(alice.account, alice.mailbox, [first], archive.id)
            await store.move(alice.account, alice.mailbox, [second], archive.id)
            await store.expunge(alice.account, alice.mailbox, [third])
        await store.store_flags(bob.account, bob.mailbox, [1, 2], FlagMode.ADD, SEEN, ())
        await deliver(store, letter(f"later{rng.random()}", 900), (bob,))
    await running
    assert await contents(store, ALICE)
    await store.close()
    assert await clean(folder)


async def _compact_until_done(store: MailStore) -> None:
    for _ in range(6):
        await compactor(store, ratio=0.2).run_once()


async def test_a_damaged_record_stays_where_it_is_and_the_others_move(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    store = await open_store(folder, pack_limit=LIMIT)
    alice, _ = await fill(store, 20)
    await expunge_all_but(store, alice, 4)
    rows = await all_rows(store, alice.account, alice.mailbox)
    path = folder / "mail" / f"{rows[0].pack:08d}.pack"
    data = bytearray(path.read_bytes())
    data[rows[0].offset + 70] ^= 1
    path.write_bytes(data)
    work = compactor(store)
    done = await work.run_once()
    assert done.damaged == 1
    assert done.moved >= 1
    assert path.exists()
    assert (await work.run_once()).damaged == 0  # not tried at each look
    (row, *_) = await all_rows(store, alice.account, alice.mailbox)
    assert (row.pack, row.offset) == (rows[0].pack, rows[0].offset)
    await store.close()
    assert [problem.kind for problem in (await verify(folder, rate=0)).problems] == ["record"]


async def test_a_rebuild_finds_moved_messages_where_they_are_once(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    store = await open_store(folder, pack_limit=LIMIT)
    alice, _ = await fill(store, 20)
    await store.store_flags(alice.account, alice.mailbox, [4, 8], FlagMode.ADD, SEEN, ("$Kept",))
    await store.move(alice.account, alice.mailbox, [4], store.mailbox(alice.account, "Trash").id)
    await expunge_all_but(store, alice, 4)
    await compactor(store, grace=900).run_once()  # the old packs are still there, too
    await store.close()
    for path in folder.glob("postkeep.db*"):
        path.unlink()
    await rebuild(folder)
    store = await open_store(folder)
    found = await contents(store, ALICE)
    assert [(flags, words) for _, flags, words, _ in found["Trash"]] == [(SEEN, {"$Kept"})]
    marks = [content for mailbox in found.values() for content, *_ in mailbox]
    assert len(marks) == len(set(marks))
    assert any(flags == SEEN for _, flags, _, _ in found["INBOX"])
    await store.close()
    assert await clean(folder)


async def test_a_full_disk_stops_the_look_and_nothing_else(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    folder.mkdir()
    disk = SimulatedDisk(folder)
    store = await open_store(folder, files=disk.files, vfs=disk.vfs, pack_limit=LIMIT)
    alice, _ = await fill(store, 20)
    await expunge_all_but(store, alice, 4)
    before = await contents(store, ALICE)
    disk.refuse = lambda kind, path: errno.ENOSPC if kind == "write" and path.suffix == ".pack" else 0
    with pytest.raises(StorageFull):
        await compactor(store).run_once()
    disk.refuse = None
    assert await contents(store, ALICE) == before
    assert (await compactor(store).run_once()).moved > 0
    assert await contents(store, ALICE) == before
    await store.close()
    assert await clean(folder)
    disk.close()


async def test_it_is_slow_on_purpose(tmp_path: Path) -> None:
    clock = HastyClock()
    store = await open_store(tmp_path / "store", pack_limit=LIMIT)
    alice, _ = await fill(store, 30)
    await expunge_all_but(store, alice, 4)
    begun = clock.monotonic()
    done = await Compactor(store, clock, rate=1000, grace=0).run_once()
    assert clock.monotonic() - begun == pytest.approx(done.octets / 1000)
    await store.close()


async def test_it_looks_at_every_interval_and_stops_at_once(tmp_path: Path) -> None:
    clock = FakeClock()
    store = await open_store(tmp_path / "store", pack_limit=LIMIT)
    alice, _ = await fill(store, 30)
    await store.expunge(alice.account, alice.mailbox, list(range(1, 31)))
    work = Compactor(store, clock, interval=60, grace=0)
    work.start()
    await settle()
    old = packs(tmp_path / "store")
    await clock.advance(61)
    while packs(tmp_path / "store") == old:  # its reading threads need real time
        await asyncio.sleep(0)
        await clock.advance(1)
    await work.stop()
    await work.stop()
    await store.close()
    assert await clean(tmp_path / "store")


async def test_the_power_may_go_at_any_step(tmp_path: Path) -> None:
    """At every fifth operation of a compaction: all is there, the accounts are right, and it can go on."""
    folder = tmp_path / "store"
    store = await open_store(folder, pack_limit=LIMIT)
    alice, _ = await fill(store)
    await expunge_all_but(store, alice, 8)
    before = {key: await contents(store, key) for key in (ALICE, BOB)}
    await store.close()
    disk = SimulatedDisk(folder)
    store = await open_store(folder, files=disk.files, vfs=disk.vfs, pack_limit=LIMIT)
    start = disk.count
    done = await compactor(store).run_once()
    assert done.removed >= 3
    rng = random.Random(11)
    points = range(start, disk.count, 5)
    assert len(points) > 10
    for at in points:
        target = tmp_path / f"cut-{at}"
        disk.cut(rng, target, at)
        other = await open_store(target, pack_limit=LIMIT)
        assert {key: await contents(other, key) for key in (ALICE, BOB)} == before
        await compactor(other).run_once()
        assert {key: await contents(other, key) for key in (ALICE, BOB)} == before
        await other.close()
        assert await clean(target)
    await store.close()
    disk.close()


async def test_an_unforeseen_error_is_not_the_end_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    clock = FakeClock()
    store = await open_store(tmp_path / "store")
    work = Compactor(store, clock, interval=60, grace=0)
    looks = 0

    async def fails() -> None:
        nonlocal looks
        looks += 1
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(work, "run_once", fails)
    work.start()
    await settle()
    await clock.advance(200)
    assert looks == 3
    assert "a bug" in caplog.text
    await work.stop()
    await store.close()


async def test_all_packs_due_are_found_in_one_walk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walk, "STEP", 7)
    store = await open_store(tmp_path / "store", pack_limit=LIMIT)
    alice, bob = await fill(store)
    await expunge_all_but(store, alice, 4)
    expected: dict[int, list[tuple[int, int, int, int]]] = {}
    for target in (alice, bob):
        for row in await all_rows(store, target.account, target.mailbox):
            expected.setdefault(row.pack, []).append((row.offset, target.account, target.mailbox, row.uid))
    found = await walk.live_rows(store.readers, sorted(expected))
    assert {pack: sorted(zip(*[iter(rows)] * 4, strict=True)) for pack, rows in found.items()} == {
        pack: sorted(rows) for pack, rows in expected.items()
    }
    assert all(list(rows[::4]) == sorted(rows[::4]) for rows in found.values())
    walks = 0
    real = compaction.live_rows

    async def counted(*args: Any) -> Any:
        nonlocal walks
        walks += 1
        return await real(*args)

    monkeypatch.setattr(compaction, "live_rows", counted)
    assert (await compactor(store).run_once()).removed >= 3
    assert walks <= 2  # one more for the pack that was the active one
    await store.close()
    assert await clean(tmp_path / "store")


async def test_more_rows_than_memory_holds_take_more_walks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(walk, "STEP", 5)
    monkeypatch.setattr(walk, "ROWS", 3)
    store = await open_store(tmp_path / "store", pack_limit=LIMIT)
    alice, _ = await fill(store)
    await expunge_all_but(store, alice, 4)
    before = {key: await contents(store, key) for key in (ALICE, BOB)}
    assert (await compactor(store).run_once()).removed >= 3
    assert {key: await contents(store, key) for key in (ALICE, BOB)} == before
    await store.close()
    assert await clean(tmp_path / "store")


async def test_structures_of_messages_that_are_gone_are_trimmed_daily(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A message expunged between the reading of its structure and the writing of it."""
    monkeypatch.setattr(walk, "STEP", 3)
    clock = HastyClock()
    store = await open_store(tmp_path / "store")
    alice, _ = await fill(store, 10)
    rows = await all_rows(store, alice.account, alice.mailbox)
    await store.expunge(alice.account, alice.mailbox, [2, 3])
    await store.structures(rows)  # as a session does that read the rows before
    while store._tasks:
        await asyncio.gather(*store._tasks.values())
    assert store._connection.execute("SELECT count(*) FROM structure").get == 10
    work = compactor(store, clock)
    await work._trim_structures()
    left = {item for (item,) in store._connection.execute("SELECT item FROM structure")}
    assert left == {row.item for row in rows if row.uid not in (2, 3)}
    await store.expunge(alice.account, alice.mailbox, [4])
    await store.structures(rows[3:4])
    while store._tasks:
        await asyncio.gather(*store._tasks.values())
    await work._trim_structures()
    assert store._connection.execute("SELECT count(*) FROM structure").get == 8
    await clock.advance(90_000)
    await work._trim_structures()
    assert store._connection.execute("SELECT count(*) FROM structure").get == 7
    await store.close()
