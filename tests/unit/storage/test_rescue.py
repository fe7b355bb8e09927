"""`postkeep rebuild` on a database with damaged pages: what can be read is kept, the rest comes from the packs."""

import asyncio
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
from postkeep.storage import database
from postkeep.storage.rebuild import rebuild
from postkeep.storage.rebuilt import Rebuilt
from postkeep.storage.verify import verify

from tests.support.power import SimulatedDisk
from tests.support.storing import all_rows, deliver, inbox, letter, open_store
from tests.unit.storage.test_flipped_bits import KEYS, Reads, fill, flip, forget_wal, pages, read

CLASSES = (
    "message leaf",
    "message internal",
    "tombstone leaf",
    "mailbox leaf",
    "account leaf",
    "pack leaf",
    "structure leaf",
    "meta leaf",
)


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rescue") / "store"
    asyncio.run(fill(folder))
    return folder


@pytest.fixture
def folder(filled: Path, tmp_path: Path) -> Path:
    shutil.copytree(filled, tmp_path / "store")
    forget_wal(tmp_path / "store")
    return tmp_path / "store"


def bodies(found: Reads) -> set[tuple[int, bytes]]:
    return {(key[0], body) for key, body in found.items() if isinstance(body, bytes)}


def rows(found: Reads) -> dict[tuple[Any, ...], list[Any]]:
    return {key[:2]: answer for key, answer in found.items() if key[2:] == ("rows",) and answer != "refused"}


async def check(folder: Path, truth: Reads, served: Reads) -> Rebuilt:
    """Rebuild: every body is there, every row that was still served is as it was, nothing is wrong."""
    result = await rebuild(folder)
    report = await verify(folder, rate=0)
    assert report.problems == ()
    found = await read(folder)
    assert bodies(found) >= bodies(truth)
    after = rows(found)
    for mailbox, there in rows(served).items():
        assert set(there) <= set(after[mailbox]), mailbox
    for key in KEYS:
        if served and served[key,] is not None:
            assert found[key, "mailboxes"] == truth[key, "mailboxes"]  # with uidvalidity and subscription
            assert found[key, "keywords"] == truth[key, "keywords"]
    for mailbox, there in after.items():  # no uid means another message
        known = {row.uid: row.item for row in rows(truth).get(mailbox, ())}
        assert all(known.get(row.uid, row.item) == row.item for row in there)
    return result


@pytest.mark.parametrize("name", CLASSES)
async def test_each_class_of_page(folder: Path, name: str) -> None:
    truth = await read(folder)
    for page in pages(folder)[name][:4]:
        shutil.copytree(folder, folder.parent / f"page-{page}")
        damaged = folder.parent / f"page-{page}"
        flip(damaged / database.NAME, (page - 1) * 4096 + 2000, 3)
        served = await read(damaged)
        result = await check(damaged, truth, served)
        assert result.kept_rows
        if name == "message leaf":
            assert 1 <= sum(one.recovered + one.lost for one in result.rescued) < 150
            assert all("recovered from the packs" in str(one) for one in result.rescued)


async def test_flags_survive_the_loss_of_accounts_and_mailboxes(folder: Path) -> None:
    truth = await read(folder)
    found = pages(folder)
    for name in ("mailbox leaf", "account leaf"):
        flip(folder / database.NAME, (found[name][0] - 1) * 4096 + 2000, 3)
    result = await rebuild(folder)
    assert (await verify(folder, rate=0)).problems == ()
    after = await read(folder)
    assert bodies(after) == bodies(truth)
    assert {(where, row.uid, row.flags) for where, there in rows(after).items() for row in there} >= {
        (where, row.uid, row.flags) for where, there in rows(truth).items() for row in there
    }
    assert all(one.renewed for one in result.rescued)
    for key in KEYS:
        before = {mailbox.uidvalidity for mailbox in truth[key, "mailboxes"]}
        assert before.isdisjoint(mailbox.uidvalidity for mailbox in after[key, "mailboxes"])


async def test_random_flips(folder: Path) -> None:
    truth = await read(folder)
    rng = random.Random(19)
    size = (folder / database.NAME).stat().st_size
    kept = 0
    for number in range(25):
        damaged = folder.parent / f"flip-{number}"
        shutil.copytree(folder, damaged)
        hit = []
        for _ in range(1 + number % 3):
            place = rng.randrange(size if number % 2 else 16 * 4096)
            hit.append(place // 4096 + 1)
            flip(damaged / database.NAME, place, rng.randrange(8))
        served = await read(damaged)
        if (await verify(damaged, rate=0)).problems:
            print(f"flip {number}: pages {hit}")
            result = await check(damaged, truth, served)
            print(*result.rescued, result, sep="\n")
            kept += result.kept_rows
        shutil.rmtree(damaged)
    assert kept > 10


async def test_a_scan_that_ends_at_the_damaged_page_would_be_noticed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The proof that the tests here can fail."""
    truth = await read(folder)
    flip(folder / database.NAME, (pages(folder)["message leaf"][1] - 1) * 4096 + 2000, 3)
    served = await read(folder)
    monkeypatch.setattr("postkeep.storage.seams.Pages.behind", lambda *_: None)
    with pytest.raises(AssertionError):
        await check(folder, truth, served)


async def test_what_was_expunged_or_moved_on_sound_pages_does_not_come_back(folder: Path) -> None:
    truth = await read(folder)
    page = pages(folder)["message leaf"][0]  # of user0's INBOX, which has expunged messages
    flip(folder / database.NAME, (page - 1) * 4096 + 2000, 3)
    await check(folder, truth, await read(folder))
    assert bodies(await read(folder)) == bodies(truth)


async def test_messages_moved_into_a_damaged_page_come_back(tmp_path: Path) -> None:
    """Their trailers name the first folder, and they are gone from there: the count of the second tells."""
    folder = tmp_path / "store"
    store = await open_store(folder)
    target = await inbox(store, KEYS[0])
    for number in range(150):
        await deliver(store, letter(f"m{number}"), [target])
    archive = store.mailbox(target.account, "Trash").id
    await store.move(target.account, target.mailbox, range(1, 140), archive)
    assert len(await all_rows(store, target.account, archive)) == 139
    await store.close()
    truth = await read(folder)
    page = pages(folder)["message leaf"][1]
    flip(folder / database.NAME, (page - 1) * 4096 + 2000, 3)
    result = await check(folder, truth, await read(folder))
    assert [(one.mailbox, one.lost) for one in result.rescued] == [("Trash", 0)]
    assert bodies(await read(folder)) == bodies(truth)


async def test_a_rescued_store_takes_mail_behind_all_uids_that_were_given(folder: Path) -> None:
    truth = await read(folder)
    for page in pages(folder)["message leaf"]:
        flip(folder / database.NAME, (page - 1) * 4096 + 2000, 3)
    await rebuild(folder)
    store = await open_store(folder)
    for key in KEYS:
        target = await inbox(store, key)
        (appended,) = await deliver(store, letter("new"), [target])
        before = truth[target.account, target.mailbox, "counters"]
        assert appended.rows[0].uid >= before.uidnext
        assert appended.rows[0].modseq > before.modseq
        uids = [row.uid for row in await all_rows(store, target.account, target.mailbox)]
        assert len(set(uids)) == len(uids)
    await store.close()
    assert (await verify(folder, rate=0)).problems == ()


async def test_a_power_cut_leaves_the_damaged_database_or_the_new_one(folder: Path, tmp_path: Path) -> None:
    truth = await read(folder)
    flip(folder / database.NAME, (pages(folder)["message leaf"][2] - 1) * 4096 + 2000, 3)
    served = await read(folder)
    disk = SimulatedDisk(folder)
    assert (await rebuild(folder, files=disk.files, vfs=disk.vfs)).kept_rows
    rng = random.Random(5)
    for number, at in enumerate([*sorted(rng.sample(range(disk.count), 12)), disk.count]):
        target = tmp_path / f"cut-{number}"
        disk.cut(rng, target, at)
        if not (target / database.NAME).exists() or (await verify(target, rate=0)).problems:
            if not (target / database.NAME).exists():
                (kept,) = target.glob("postkeep.db.bad-*Z")
                kept.rename(target / database.NAME)
            await rebuild(target)
        found = await read(target)
        assert bodies(found) >= bodies(truth)
        assert all(set(there) <= set(rows(found)[where]) for where, there in rows(served).items())
    disk.close()
