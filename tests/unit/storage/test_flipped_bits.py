"""Attack: a bit of postkeep.db flips on the disk. What lies in its page is refused, all else is as it was; at
no time is another date, flag, offset or counter given out than the one that was stored."""

import asyncio
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
from postkeep.domain.errors import DatabaseDamaged
from postkeep.domain.message import FlagMode
from postkeep.storage import database
from postkeep.storage.rebuild import rebuild
from postkeep.storage.store import MailStore
from postkeep.storage.verify import Kind, verify

from tests.support.clock import FakeClock
from tests.support.storing import ALL, DELETED, SEEN, all_rows, deliver, inbox, letter, open_store

KEYS = tuple(f"user{number}@example.test" for number in range(5))
MESSAGES = 500
FLIPS = 200
REFUSED = "refused"

Reads = dict[tuple[Any, ...], Any]


async def fill(folder: Path, vfs: str | None = None) -> None:
    """500 messages of five users in two mailboxes each, and all that makes tables and free pages."""
    store = await open_store(folder, vfs=vfs)
    boxes = [await inbox(store, key) for key in KEYS]
    others = [(await store.create_mailbox(box.account, "Lists"))[0] for box in boxes]
    gone, _ = await store.create_mailbox(boxes[0].account, "Gone")
    for number in range(MESSAGES // 5):
        await deliver(store, letter(f"m{number}", 400), boxes)
    for box, other in zip(boxes, others, strict=True):
        await store.copy(box.account, box.mailbox, range(1, 60), other.id)
        await store.copy(box.account, box.mailbox, range(1, 90), gone.id, boxes[0].account)
        await store.store_flags(box.account, box.mailbox, range(10, 30), FlagMode.ADD, SEEN, ("$Label1",))
        await store.store_flags(box.account, box.mailbox, range(40, 50), FlagMode.ADD, DELETED, ())
        await store.expunge(box.account, box.mailbox, None)
        await store.structures(await all_rows(store, box.account, box.mailbox))
    await store.delete_mailbox(boxes[0].account, "Gone")
    while store._tasks:
        await next(iter(store._tasks.values()))
    await store.close()


async def read(folder: Path, vfs: str | None = None) -> Reads:
    """Everything a client can ask for, each question answered or REFUSED; at start all may be."""
    forget_wal(folder)
    try:
        store = await open_store(folder, vfs=vfs)
    except DatabaseDamaged:
        return {}
    found: Reads = {}
    try:
        for key in KEYS:
            account = store.account_id(key)
            found[key,] = account
            if account is None:
                continue
            found[key, "keywords"] = store.keywords(account)
            found[key, "mailboxes"] = store.mailboxes(account)
            for mailbox in store.mailboxes(account):
                await read_mailbox(store, found, account, mailbox.id)
    finally:
        await store.close()
    return found


async def read_mailbox(store: MailStore, found: Reads, account: int, mailbox: int) -> None:
    async def flags() -> list[Any]:
        return [row async for batch in store.flags(account, mailbox, ALL) for row in batch]

    async def counters() -> Any:
        return store.counters(account, mailbox)

    for name, question in (
        ("counters", counters()),
        ("uids", store.uids(account, mailbox)),
        ("rows", all_rows(store, account, mailbox)),
        ("flags", flags()),
        ("expunged", store.expunged_since(account, mailbox, 1)),
    ):
        try:
            answer = await question
        except DatabaseDamaged:
            answer = REFUSED
        found[account, mailbox, name] = answer
    rows = found[account, mailbox, "rows"]
    if rows == REFUSED:
        return
    structures = await store.structures(rows)
    found[account, mailbox, "structures"] = {
        row.uid: repr(one) for row, one in zip(rows, structures, strict=True)
    }
    for row, message in zip(rows, await store.messages(rows), strict=True):
        assert not isinstance(message, Exception)
        found[account, mailbox, row.uid] = await message.read()


def forget_wal(folder: Path) -> None:
    """After a clean end all is in postkeep.db; what the WAL still holds would be read instead."""
    for path in folder.glob(f"{database.NAME}-*"):
        path.unlink()


def different(truth: Reads, found: Reads) -> list[tuple[Any, ...]]:
    """Questions that got another answer: not the true one, no part of it, and no refusal."""
    wrong = [key for key in found if found[key] != REFUSED and not agrees(key, truth.get(key), found[key])]
    return wrong + ([key for key in truth if key not in found and len(key) < 3] if found else [])


def agrees(key: tuple[Any, ...], true: Any, found: Any) -> bool:
    if len(key) < 3 or not isinstance(key[2], str) or key[2] == "counters":
        return bool(found == true)
    if key[2] == "expunged":  # more than was expunged may be told
        return set(true) <= set(found)
    true = set(true.items()) if isinstance(true, dict) else set(true)
    return (
        len(set(found)) == len(found)
        and (set(found.items()) if isinstance(found, dict) else set(found)) <= true
    )


def missing(truth: Reads, found: Reads) -> int:
    """Rows that are not given out, refused questions aside."""
    return sum(
        len(true) - len(found[key])
        for key, true in truth.items()
        if key[2:] == ("rows",) and key in found and found[key] != REFUSED
    )


def flip(path: Path, offset: int, bit: int) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        octet = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([octet ^ 1 << bit]))


def pages(folder: Path) -> dict[str, list[int]]:
    """Page numbers by what is in them: "message leaf", "message internal", "structure leaf", "free", …"""
    connection = database.open_reader(folder / database.NAME)
    found: dict[str, list[int]] = {}
    for name, page, kind in connection.execute("SELECT name, pageno, pagetype FROM dbstat"):
        found.setdefault(f"{name} {kind}", []).append(page)
    used = {page for numbers in found.values() for page in numbers}
    count = int(connection.pragma("page_count"))
    data = (folder / database.NAME).read_bytes()
    trunk = int.from_bytes(data[32:36], "big")
    found["free trunk"] = [trunk] if trunk else []
    found["free leaf"] = [page for page in range(1, count + 1) if page not in used and page != trunk]
    connection.close()
    return found


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("flips") / "store"
    asyncio.run(fill(folder))
    return folder


@pytest.fixture
def folder(filled: Path, tmp_path: Path) -> Path:
    shutil.copytree(filled, tmp_path / "store")
    forget_wal(tmp_path / "store")
    return tmp_path / "store"


async def test_two_hundred_flips_never_change_what_is_read(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    truth = await read(folder)
    assert len(truth) > MESSAGES
    path = folder / database.NAME
    rng = random.Random(9)
    size = path.stat().st_size
    noticed = 0
    for number in range(FLIPS):
        # Half of them anywhere, half in the pages that hold the fewest octets and the most harm.
        place = rng.randrange(size) if number % 2 else rng.randrange(16 * 4096)
        bit = rng.randrange(8)
        flip(path, place, bit)
        found = await read(folder)
        assert different(truth, found) == [], f"octet {place}, bit {bit}"
        noticed += not found or REFUSED in found.values() or missing(truth, found) > 0
        flip(path, place, bit)
    print(f"{noticed} of {FLIPS} flips noticed by a reader")
    assert await read(folder) == truth
    assert noticed > FLIPS // 3


async def test_without_checksums_flips_change_what_is_read(tmp_path: Path) -> None:
    """The proof that the test above can fail."""
    await fill(tmp_path / "store", vfs="unix")
    truth = await read(tmp_path / "store", "unix")
    path = tmp_path / "store" / database.NAME
    size, rng = path.stat().st_size, random.Random(9)
    silent = 0
    for _ in range(40):
        place, bit = rng.randrange(size), rng.randrange(8)
        flip(path, place, bit)
        try:
            silent += bool(different(truth, await read(tmp_path / "store", "unix")))
        except Exception:  # a crash is no better
            silent += 1
        flip(path, place, bit)
    assert silent > 0


async def damage(folder: Path, name: str, which: int = -1) -> None:
    """Flip a bit in the middle of one of the pages `name`."""
    flip(folder / database.NAME, (pages(folder)[name][which] - 1) * 4096 + 2000, 3)


async def test_a_message_page_costs_its_messages_and_no_other(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    truth = await read(folder)
    for page in pages(folder)["message leaf"]:
        caplog.clear()
        cells = cells_of(folder, page)
        flip(folder / database.NAME, (page - 1) * 4096 + 2000, 3)
        found = await read(folder)
        assert different(truth, found) == []
        assert REFUSED not in [answer for key, answer in found.items() if key[2:] != ("expunged",)]
        assert cells <= missing(truth, found) <= cells + 2, f"page {page}"
        told = [one.getMessage() for one in caplog.records if one.name.endswith("checksums")]
        assert len(told) == 1
        assert f"page {page} of " in told[0]
        assert any("postkeep rebuild" in one.getMessage() for one in caplog.records)
        flip(folder / database.NAME, (page - 1) * 4096 + 2000, 3)


async def test_pages_side_by_side_and_with_a_sound_one_between(folder: Path) -> None:
    truth = await read(folder)
    leaves = pages(folder)["message leaf"]
    chosen = [1, 2, 4]
    lost = sum(cells_of(folder, leaves[which]) for which in chosen)
    for which in chosen:
        flip(folder / database.NAME, (leaves[which] - 1) * 4096 + 2000, 3)
    found = await read(folder)
    assert different(truth, found) == []
    assert lost <= missing(truth, found) <= lost + 2 * len(chosen)


async def test_two_damaged_pages_in_one_mailbox_do_not_hide_the_page_between(tmp_path: Path) -> None:
    store = await open_store(tmp_path / "store")
    target = await inbox(store, KEYS[0])
    for number in range(3):
        await deliver(store, letter(f"m{number}"), [target] * 150)
    truth = await all_rows(store, target.account, target.mailbox)
    await store.close()
    forget_wal(tmp_path / "store")
    leaves = pages(tmp_path / "store")["message leaf"]
    assert len(leaves) > 6
    for which in (1, 3, 4):
        flip(tmp_path / "store" / database.NAME, (leaves[which] - 1) * 4096 + 2000, 3)
    lost = sum(cells_of(tmp_path / "store", leaves[which]) for which in (1, 3, 4))
    store = await open_store(tmp_path / "store")
    rows = await all_rows(store, target.account, target.mailbox)
    assert set(rows) < set(truth)
    assert lost <= len(truth) - len(rows) <= lost + 3
    assert list(await store.uids(target.account, target.mailbox)) == [row.uid for row in rows]
    await store.close()


def cells_of(folder: Path, page: int) -> int:
    """Messages in a leaf that clients see (not of the mailbox that was removed)."""
    return int.from_bytes((folder / database.NAME).read_bytes()[(page - 1) * 4096 + 3 :][:2], "big")


async def test_a_mailbox_with_a_damaged_page_is_only_read_but_takes_mail(folder: Path) -> None:
    await damage(folder, "message leaf", 0)
    store = await open_store(folder)
    target = await inbox(store, KEYS[0])
    before = store.counters(target.account, target.mailbox)
    assert not store.is_damaged(target.account, target.mailbox)
    rows = await all_rows(store, target.account, target.mailbox)
    assert store.is_damaged(target.account, target.mailbox)
    assert len(rows) < before.messages
    with pytest.raises(DatabaseDamaged, match="read-only until `postkeep rebuild`"):
        await store.store_flags(target.account, target.mailbox, [rows[0].uid], FlagMode.ADD, SEEN, ())
    with pytest.raises(DatabaseDamaged, match="read-only until `postkeep rebuild`"):
        await store.expunge(target.account, target.mailbox, [rows[0].uid])
    (appended,) = await deliver(store, letter("new"), [target])
    assert appended.rows[0].uid == before.uidnext
    assert (await store.uids(target.account, target.mailbox))[-1] == before.uidnext
    after = store.counters(target.account, target.mailbox)
    assert (after.messages, after.uidnext) == (before.messages + 1, before.uidnext + 1)
    await store.close()


async def test_nothing_is_delivered_where_it_cannot_be_counted(folder: Path) -> None:
    """A mailbox whose end is damaged takes nothing, so no uid is given twice; its neighbours do."""
    await damage(folder, "message leaf")
    store = await open_store(folder)
    took = []
    for key in KEYS:
        target = await inbox(store, key)
        for mailbox in store.mailboxes(target.account):
            place = target._replace(mailbox=mailbox.id)
            try:
                await deliver(store, letter("new"), [place])
            except DatabaseDamaged:
                assert store.is_damaged(place.account, place.mailbox)
                with pytest.raises(DatabaseDamaged):
                    await store.expunge(place.account, place.mailbox, [1])
            else:
                took.append(mailbox.name)
    assert "INBOX" in took
    assert len(took) < len(KEYS) * 6
    assert store._intake.used == 0
    await store.close()


@pytest.mark.parametrize("name", ["account leaf", "mailbox leaf", "sqlite_schema leaf", "pack leaf"])
async def test_a_damaged_catalogue_says_what_to_do(folder: Path, name: str) -> None:
    await damage(folder, name, 0)
    with pytest.raises(DatabaseDamaged, match="damaged"):
        await MailStore.open(folder, FakeClock())
    report = await verify(folder, rate=0)
    assert Kind.PAGE in {problem.kind for problem in report.problems}
    assert "postkeep rebuild" in report.problems[0].advice


@pytest.mark.parametrize("place", [16, 18, 19, 20, 21, 24, 28, 44, 56, 60, 68, 95, 100, 4095])
@pytest.mark.parametrize("bit", [0, 3])
async def test_a_flip_in_the_header_is_refused(folder: Path, place: int, bit: int) -> None:
    """Octet 20 says whether there are checksums at all: to deny them is damage too."""
    flip(folder / database.NAME, place, bit)
    assert await read(folder) == {}
    assert not (await verify(folder, rate=0)).clean


async def test_damaged_structures_are_read_from_the_packs(folder: Path) -> None:
    truth = await read(folder)
    found = pages(folder)
    for page in found["structure leaf"]:
        flip(folder / database.NAME, (page - 1) * 4096 + 2000, 0)
    assert await read(folder) == truth
    report = await verify(folder, rate=0)
    assert {problem.kind for problem in report.problems} == {Kind.PAGE}
    assert all("table structure" in problem.text for problem in report.problems)


async def test_free_pages_hold_nothing(folder: Path) -> None:
    truth = await read(folder)
    assert pages(folder)["free leaf"]
    await damage(folder, "free leaf")
    assert await read(folder) == truth


async def test_verify_names_page_and_mailbox_and_checks_all_else(folder: Path) -> None:
    (page,) = pages(folder)["message leaf"][4:5]
    await damage(folder, "message leaf", 4)
    report = await verify(folder, rate=0)
    texts = [problem.text for problem in report.problems]
    assert {problem.kind for problem in report.problems} == {Kind.PAGE}
    assert f"page {page} of the database, table message: its checksum does not fit" in texts
    assert any("@example.test, mailbox" in text for text in texts)
    assert report.records == MESSAGES // 5
    assert MESSAGES // 2 < report.messages < MESSAGES + 200


async def test_verify_names_what_an_interior_page_hides(folder: Path) -> None:
    await damage(folder, "message internal", 0)
    report = await verify(folder, rate=0)
    assert {problem.kind for problem in report.problems} == {Kind.PAGE}
    assert sum("mailbox" in problem.text for problem in report.problems) > 5


async def test_a_rebuild_makes_it_whole_again(folder: Path) -> None:
    await damage(folder, "message leaf", 4)
    await rebuild(folder)
    assert (await verify(folder, rate=0)).problems == ()
    assert (await read(folder))[KEYS[0],] is not None


async def test_damage_in_free_space_costs_a_rebuild_nothing(folder: Path) -> None:
    """A trunk of the free list hinders writing; all that is stored can be copied."""
    truth = await read(folder)
    assert pages(folder)["free trunk"]
    await damage(folder, "free trunk")
    assert await read(folder) == truth
    report = await verify(folder, rate=0)
    assert {problem.kind for problem in report.problems} == {Kind.PAGE}
    assert (await rebuild(folder)).copied
    assert await read(folder) == truth
    assert (await verify(folder, rate=0)).problems == ()
