"""`postkeep rebuild` brings back from the packs alone what was delivered."""

import asyncio
import random
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import apsw
import pytest
from postkeep.domain.errors import AlreadyExists, StorageFailed
from postkeep.domain.mailbox import Role
from postkeep.domain.message import FlagMode
from postkeep.storage.rebuild import rebuild
from postkeep.storage.records import Delivery, Trailer, encode_record
from postkeep.storage.store import MailStore, Target
from postkeep.storage.verify import verify

from tests.support.power import SimulatedDisk
from tests.support.storing import DELETED, FLAGGED, SEEN, contents, deliver, inbox, letter, open_store

ALICE, BOB = "alice@example.test", "bob@example.test"


async def fill(store: MailStore) -> None:
    alice, bob = await inbox(store, ALICE), await inbox(store, BOB, flags=SEEN, keywords=("$Work", "Later"))
    plans, _ = await store.create_mailbox(alice.account, "Pläne/2026/Q1")
    sent = store.mailbox(bob.account, "Sent")
    for number in range(8):
        targets = [alice, bob] if number % 2 else [alice]
        await deliver(store, letter(f"m{number}", 200 + number * 900, "m0"), targets, 1_700_000_000 - number)
    await deliver(store, letter("plan"), (Target(alice.account, plans.id, FLAGGED, ("Later",)),))
    await deliver(store, letter("sent"), (Target(bob.account, sent.id, SEEN),))
    await deliver(store, letter("big", 2_300_000), (alice, bob))


@pytest.fixture
async def folder(tmp_path: Path) -> Path:
    store = await open_store(tmp_path / "store", pack_limit=9_000)
    await fill(store)
    await store.close()
    return tmp_path / "store"


def lose_database(folder: Path) -> None:
    for path in folder.glob("postkeep.db*"):
        path.unlink()


async def everything(folder: Path) -> dict[str, object]:
    store = await open_store(folder)
    try:
        return {
            key: {name: sorted(found) for name, found in (await contents(store, key)).items()}
            for key in (ALICE, BOB)
        }
    finally:
        await store.close()


async def uidvalidities(folder: Path) -> dict[tuple[str, str], int]:
    store = await open_store(folder)
    found = {
        (key, mailbox.name): mailbox.uidvalidity
        for key in (ALICE, BOB)
        if (account := store.account_id(key)) is not None
        for mailbox in store.mailboxes(account)
    }
    await store.close()
    return found


async def test_accounts_folders_dates_flags_and_bodies_come_back(folder: Path) -> None:
    before = await everything(folder)
    lose_database(folder)
    told: list[tuple[int, int, str]] = []
    result = await rebuild(folder, lambda *step: told.append(step))
    assert (result.accounts, result.messages, result.records) == (2, 8 + 4 + 2 + 2, 11)
    assert result.damaged == ()
    assert result.kept is None
    assert await everything(folder) == before
    report = await verify(folder, rate=0)
    assert report.problems == ()
    assert report.notes == ()
    await asyncio.sleep(0)
    assert told


async def test_a_rebuilt_store_takes_mail_and_its_uids_follow_the_dates(folder: Path) -> None:
    lose_database(folder)
    await rebuild(folder)
    store = await open_store(folder)
    alice = await inbox(store, ALICE)
    rows = [row async for batch in store.rows(alice.account, alice.mailbox, ((1, 99),)) for row in batch]
    assert [row.date for row in rows] == sorted(row.date for row in rows)
    assert [row.uid for row in rows] == list(range(1, 10))
    assert len({row.thread for row in rows}) == 2  # eight refer to m0
    assert store.mailbox(alice.account, "Sent").role is Role.SENT
    assert store.mailbox(alice.account, "Pläne").subscribed
    counters = store.counters(alice.account, alice.mailbox)
    (appended,) = await deliver(store, letter("new"), (alice,))
    assert appended.rows[0].uid == counters.uidnext == 10
    assert appended.rows[0].modseq > counters.modseq
    assert appended.rows[0].pack > max(row.pack for row in rows)
    await store.close()
    assert (await verify(folder, rate=0)).clean


async def test_uidvalidity_is_greater_than_before_if_the_old_one_can_be_read(folder: Path) -> None:
    connection = apsw.Connection(str(folder / "postkeep.db"))
    connection.execute(
        "UPDATE account SET uidvalidity = 4000000000; UPDATE mailbox SET uidvalidity = 3999999999"
    )
    connection.close()
    before = await uidvalidities(folder)
    result = await rebuild(folder, force=True)
    after = await uidvalidities(folder)
    assert after.keys() == before.keys()
    assert all(after[name] > before[name] for name in before)
    assert result.kept is not None
    assert result.kept.name.startswith("postkeep.db.bad-")
    assert result.kept.exists()


async def test_a_sound_database_is_not_touched_without_force(folder: Path) -> None:
    before = (folder / "postkeep.db").read_bytes()
    with pytest.raises(AlreadyExists, match="--force"):
        await rebuild(folder)
    assert (folder / "postkeep.db").read_bytes() == before


async def test_not_beside_a_running_engine(folder: Path) -> None:
    store = await open_store(folder)
    with pytest.raises(StorageFailed, match="another engine"):
        await rebuild(folder, force=True)
    await store.close()


def garble(folder: Path) -> None:
    path = folder / "postkeep.db"
    size = path.stat().st_size
    lose_database(folder)  # its WAL alone would still hold every page
    path.write_bytes(random.Random(1).randbytes(size))


def empty(folder: Path) -> None:
    lose_database(folder)
    apsw.Connection(str(folder / "postkeep.db")).close()
    (folder / "postkeep.db").touch()


@pytest.mark.parametrize("harm", [garble, empty, lose_database])
async def test_a_damaged_or_empty_database_is_replaced_without_force(
    folder: Path, harm: Callable[[Path], None]
) -> None:
    before = await everything(folder)
    harm(folder)
    result = await rebuild(folder)
    assert (result.kept is not None) == (harm is not lose_database)
    assert await everything(folder) == before


async def test_an_engine_does_not_start_on_packs_without_their_database(folder: Path) -> None:
    lose_database(folder)
    with pytest.raises(StorageFailed, match="postkeep rebuild"):
        await open_store(folder)
    await rebuild(folder)  # what the failed start left does not count as sound
    await (await open_store(folder)).close()


async def records_of(folder: Path) -> list[tuple[Path, int, int]]:
    connection = apsw.Connection(str(folder / "postkeep.db"))
    found = connection.execute("SELECT DISTINCT pack, offset, length FROM message ORDER BY 1, 2").fetchall()
    connection.close()
    return [(folder / "mail" / f"{pack:08d}.pack", offset, length) for pack, offset, length in found]


@pytest.mark.parametrize("inside", [0, 5, 8, 30, 53, 60], ids=str)
async def test_a_damaged_record_is_left_out_and_reported_the_others_come_back(
    folder: Path, inside: int
) -> None:
    path, offset, _ = (await records_of(folder))[1]
    data = bytearray(path.read_bytes())
    data[offset + inside] ^= 0x10
    path.write_bytes(data)
    lose_database(folder)
    result = await rebuild(folder)
    assert result.records == 10
    assert len(result.damaged) == 1
    assert path.name in result.damaged[0]
    assert (await verify(folder, rate=0)).problems == ()


async def test_a_torn_tail_is_left_out(folder: Path) -> None:
    path, offset, length = (await records_of(folder))[-2]  # the last of its pack
    path.write_bytes(path.read_bytes()[: offset + length - 5])
    lose_database(folder)
    result = await rebuild(folder)
    assert result.records == 10
    assert len(result.damaged) == 1
    assert (await verify(folder, rate=0)).problems == ()


async def test_attack_a_record_inside_a_message_is_never_taken_for_one(tmp_path: Path) -> None:
    """Mail can hold bytes that look like a record for another account; damage before it must not free it."""
    body = b"From: boss@example.test\r\n\r\nYou are fired\r\n"
    trailer = Trailer(1, b"", (Delivery(BOB, "INBOX", 0, ()),), b"")
    head, tail = encode_record(body, 0, len(body), len(body), sha256(body).digest()[:16], trailer)
    forged = head + body + tail
    store = await open_store(tmp_path / "store")
    alice = await inbox(store, ALICE)
    noise = random.Random(3).randbytes(4000)
    await deliver(store, letter("first"), (alice,))
    await deliver(store, b"Subject: x\r\n\r\n" + noise + forged * 3 + noise, (alice,))
    await deliver(store, letter("last"), (alice,))
    await store.close()
    path, offset, _ = (await records_of(tmp_path / "store"))[1]
    data = bytearray(path.read_bytes())
    assert forged in data  # stored as it came
    data[offset + 1] ^= 1  # its header cannot be read any more
    path.write_bytes(data)
    lose_database(tmp_path / "store")
    result = await rebuild(tmp_path / "store")
    assert (result.accounts, result.messages) == (1, 2)


async def test_what_was_done_after_delivery_is_undone_as_told(folder: Path) -> None:
    """Flags as delivered; moved and expunged messages are where they were delivered."""
    before = await everything(folder)
    store = await open_store(folder)
    alice = await inbox(store, ALICE)
    await store.store_flags(alice.account, alice.mailbox, [1, 2], FlagMode.ADD, DELETED, ())
    await store.expunge(alice.account, alice.mailbox, None)
    await store.move(alice.account, alice.mailbox, [3], store.mailbox(alice.account, "Trash").id)
    await store.close()
    lose_database(folder)
    await rebuild(folder)
    assert await everything(folder) == before


async def test_too_many_keywords_are_left_out_not_fatal(tmp_path: Path) -> None:
    store = await open_store(tmp_path / "store")
    alice = await inbox(store, ALICE)
    for number in range(62):
        await deliver(store, letter(f"m{number}"), (alice._replace(keywords=(f"k{number}",)),))
    await store.close()
    path = tmp_path / "store/mail/00000001.pack"
    extra = Trailer(1, b"", (Delivery(ALICE, "INBOX", 0, ("k0", "one-too-many")),), b"\x01garbage")
    head, tail = encode_record(b"x", 0, 1, 1, sha256(b"x").digest()[:16], extra)
    path.write_bytes(path.read_bytes() + head + b"x" + tail)
    lose_database(tmp_path / "store")
    assert (await rebuild(tmp_path / "store")).messages == 63
    store = await open_store(tmp_path / "store")
    assert len(store.keywords(1)) == 62
    await store.close()


async def test_memory_does_not_grow_with_one_delivery_to_very_many(tmp_path: Path) -> None:
    store = await open_store(tmp_path / "store")
    keys = [f"user{number}@example.test" for number in range(300)]
    await store.create_accounts(keys)
    await deliver(store, letter("to all"), [await inbox(store, key) for key in keys])
    await store.close()
    lose_database(tmp_path / "store")
    result = await rebuild(tmp_path / "store")
    assert (result.accounts, result.messages, result.records) == (300, 300, 1)
    assert (await verify(tmp_path / "store", rate=0)).clean


async def test_a_power_cut_during_the_rebuild_leaves_old_or_new_or_asks_for_another(
    folder: Path, tmp_path: Path
) -> None:
    before = await everything(folder)
    garble(folder)
    disk = SimulatedDisk(folder)
    await rebuild(folder, files=disk.files, vfs=disk.vfs)
    rng = random.Random(5)
    outcomes = set()
    for number, at in enumerate(sorted(rng.sample(range(disk.count), 25)) + [disk.count] * 3):
        target = tmp_path / f"cut-{number}"
        disk.cut(rng, target, at)
        try:
            await (await open_store(target)).close()
            outcomes.add("new")
        except StorageFailed:
            outcomes.add("again")
            await rebuild(target)
        assert await everything(target) == before
    assert outcomes == {"new", "again"}
    disk.close()
