"""COMMIT fails: was it written or not? Whatever a start finds then is whole."""

import errno
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from postkeep.domain.errors import StorageFailed, StorageFull
from postkeep.storage.store import MailStore
from postkeep.storage.verify import verify

from tests.support.power import SimulatedDisk, cut_points
from tests.support.storing import PREFIX, all_rows, contents, deliver, inbox, letter, open_store

ALICE = "alice@example.test"
BIG = 2_200_000


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SimulatedDisk]:
    folder = tmp_path / "store"
    folder.mkdir()
    disk = SimulatedDisk(folder)
    yield disk
    disk.close()


def fail_commits(disk: SimulatedDisk, number: int = errno.EIO, kind: str = "sync") -> None:
    disk.refuse = lambda what, path: number if what == kind and path.name.endswith("-wal") else 0


async def letters(store: MailStore) -> list[bytes]:
    return [content for content, *_ in (await contents(store, ALICE)).get("INBOX", [])]


async def open_on(disk: SimulatedDisk) -> MailStore:
    return await open_store(disk.folder, files=disk.files, vfs=disk.vfs)


@pytest.mark.parametrize("size", [3000, BIG])
async def test_then_the_engine_dies(disk: SimulatedDisk, tmp_path: Path, size: int) -> None:
    """Attack: the transaction is in the WAL all the same, and its record was cut off."""
    store = await open_on(disk)
    target = await inbox(store, ALICE)
    await deliver(store, letter("one"), [target])
    fail_commits(disk)
    with pytest.raises(StorageFailed):
        await deliver(store, letter("two", size), [target])
    with pytest.raises(StorageFailed):
        await deliver(store, letter("three", size), [target])
    shutil.copytree(disk.folder, tmp_path / "killed")
    disk.refuse = None
    await store.close()
    store = await open_store(tmp_path / "killed")
    assert await letters(store) in (
        [PREFIX + letter("one")],
        [PREFIX + letter("one"), PREFIX + letter("two", size)],
    )
    await deliver(store, letter("four"), [await inbox(store, ALICE)])
    assert (await letters(store))[-1] == PREFIX + letter("four")
    await store.close()
    assert (await verify(tmp_path / "killed", rate=0)).problems == ()


@pytest.mark.parametrize("size", [3000, BIG])
async def test_then_the_disk_works_again(disk: SimulatedDisk, tmp_path: Path, size: int) -> None:
    store = await open_on(disk)
    target = await inbox(store, ALICE)
    await deliver(store, letter("one"), [target])
    fail_commits(disk)
    for _ in range(2):
        with pytest.raises(StorageFailed):
            await deliver(store, letter("two", size), [target])
    assert store._intake.used == 0
    disk.refuse = None
    (appended,) = await deliver(store, letter("three"), [target])
    assert appended.rows[0].uid == 2
    assert sum(path.stat().st_size for path in (disk.folder / "mail").iterdir()) == sum(
        length for (length,) in store._connection.execute("SELECT length FROM pack")
    )  # what the failed ones had written is gone
    shutil.copytree(disk.folder, tmp_path / "killed")
    await store.close()
    for folder in (disk.folder, tmp_path / "killed"):
        store = await open_store(folder)
        assert await letters(store) == [PREFIX + letter("one"), PREFIX + letter("three")]
        await store.close()
        assert (await verify(folder, rate=0)).problems == ()


async def test_a_disk_that_is_full_leaves_no_doubt(disk: SimulatedDisk) -> None:
    store = await open_on(disk)
    target = await inbox(store, ALICE)
    await deliver(store, letter("one"), [target])
    (row,) = await all_rows(store, target.account, target.mailbox)
    pack = store.packs.path(row.pack)
    length = pack.stat().st_size
    fail_commits(disk, errno.ENOSPC, "write")
    with pytest.raises(StorageFull):
        await deliver(store, letter("two"), [target])
    assert pack.stat().st_size == length
    disk.refuse = None
    await deliver(store, letter("three"), [target])
    assert len(await letters(store)) == 2
    await store.close()


async def test_the_power_goes_anywhere_between_commits_that_fail(disk: SimulatedDisk, tmp_path: Path) -> None:
    """Every third COMMIT fails. What was acknowledged is there, and whatever is there is whole."""
    store = await open_on(disk)
    target = await inbox(store, ALICE)
    start = disk.count
    sent: dict[bytes, int] = {}
    for number in range(24):
        content = letter(str(number), BIG if number % 8 == 3 else 2000)
        if number % 3 == 0 or number == 11:
            fail_commits(disk)
            with pytest.raises(StorageFailed):
                await deliver(store, content, [target])
            disk.refuse = None
            sent[PREFIX + content] = 1 << 62
        else:
            await deliver(store, content, [target])
            sent[PREFIX + content] = disk.count
    rng = random.Random(5)
    for at in cut_points(rng, start, disk.count, 25):
        folder = tmp_path / f"cut-{at}"
        disk.cut(rng, folder, at)
        other = await open_store(folder)
        found = await letters(other)
        assert len(set(found)) == len(found)
        assert {content for content, end in sent.items() if end <= at} <= set(found) <= set(sent)
        await deliver(other, letter("next"), [await inbox(other, ALICE)])
        await other.close()
        assert (await verify(folder, rate=0)).problems == ()
        shutil.rmtree(folder)
    await store.close()
