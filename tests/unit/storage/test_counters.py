"""Lazy counters: exact after any crash; uid, uidvalidity and modseq never go back."""

import random
import shutil
from pathlib import Path

import pytest
from postkeep.domain.mailbox import Counters
from postkeep.domain.message import Flag, FlagMode
from postkeep.storage.store import MailStore

from tests.support.storing import all_rows, deliver, inbox, letter, open_store

DELETED = int(Flag.DELETED)


def crash(folder: Path, target: Path) -> Path:
    """What another machine would find if this one stopped now: the files as they are, the engine not closed."""
    shutil.copytree(folder, target)
    return target


async def check(store: MailStore, account: int) -> None:
    for mailbox in store.mailboxes(account):
        rows = await all_rows(store, account, mailbox.id)
        counters = store.counters(account, mailbox.id)
        assert counters.messages == len(rows)
        assert counters.unseen == sum(not row.flags & 1 for row in rows)
        assert counters.deleted == sum(bool(row.flags & 8) for row in rows)
        assert counters.size == sum(row.size for row in rows)
        assert counters.uidnext > max((row.uid for row in rows), default=0)
        assert counters.modseq >= max((row.modseq for row in rows), default=0)


async def test_deliveries_write_no_counters_and_are_recovered(tmp_path: Path) -> None:
    store = await open_store(tmp_path / "a")
    target = await inbox(store, "a@example.test")
    for number in range(10):
        await deliver(store, letter(f"m{number}"), [target._replace(flags=number % 2)])
    stored = store._connection.execute("SELECT uidnext FROM mailbox WHERE id = ?", (target.mailbox,)).get
    assert stored == 1
    expected = store.counters(target.account, target.mailbox), store.usage(target.account)
    again = await open_store(crash(tmp_path / "a", tmp_path / "b"))
    assert (again.counters(target.account, target.mailbox), again.usage(target.account)) == expected
    assert expected[0].unseen == 5
    await check(again, target.account)
    await again.close()
    await store.close()


async def test_clean_close_flushes(tmp_path: Path) -> None:
    store = await open_store(tmp_path)
    target = await inbox(store, "a@example.test")
    await deliver(store, letter("one"), [target])
    await store.close()
    store = await open_store(tmp_path)
    stored = store._connection.execute(
        "SELECT uidnext, messages FROM mailbox WHERE id = ?", (target.mailbox,)
    )
    assert stored.fetchall() == [(2, 1)]
    await store.close()


async def test_uid_and_modseq_of_the_newest_never_come_back_after_a_crash(tmp_path: Path) -> None:
    """The last message is expunged, then the machine stops: its UID must stay used."""
    store = await open_store(tmp_path / "a")
    target = await inbox(store, "a@example.test")
    for number in range(3):
        await deliver(store, letter(f"m{number}"), [target])
    expunged = await store.expunge(target.account, target.mailbox, [3])
    before = store.counters(target.account, target.mailbox)
    again = await open_store(crash(tmp_path / "a", tmp_path / "b"))
    assert again.counters(target.account, target.mailbox) == before
    (appended,) = await deliver(again, letter("next"), [target])
    assert appended.rows[0].uid == 4
    assert appended.rows[0].modseq > expunged.modseq
    await again.close()
    await store.close()


async def test_modseq_survives_the_deletion_of_the_mailbox_that_had_it(tmp_path: Path) -> None:
    store = await open_store(tmp_path)
    target = await inbox(store, "a@example.test")
    work, _ = await store.create_mailbox(target.account, "Work")
    for number in range(5):
        (appended,) = await deliver(store, letter(f"m{number}"), [target._replace(mailbox=work.id)])
    await store.delete_mailbox(target.account, "Work")
    await store.close()
    store = await open_store(tmp_path)
    (later,) = await deliver(store, letter("later"), [target])
    assert later.rows[0].modseq > appended.rows[0].modseq
    await store.close()


async def test_uidvalidity_rises_for_a_mailbox_made_again(tmp_path: Path) -> None:
    """The clock stands still; the name comes back; the UIDVALIDITY must not."""
    store = await open_store(tmp_path)
    account = (await inbox(store, "a@example.test")).account
    seen = []
    for round in range(4):
        mailbox, _ = await store.create_mailbox(account, "Work")
        seen.append(mailbox.uidvalidity)
        if round % 2:
            await store.delete_mailbox(account, "Work")
        else:
            await store.rename_mailbox(account, "Work", f"Old{round}")
        await store.close()
        store = await open_store(tmp_path)
    assert seen == sorted(set(seen))
    await store.close()


async def test_uidvalidity_rises_for_an_account_made_again(tmp_path: Path) -> None:
    store = await open_store(tmp_path)
    seen = []
    for _ in range(3):
        account = await store.create_account("a@example.test")
        seen += [mailbox.uidvalidity for mailbox in store.mailboxes(account)]
        await store.delete_account("a@example.test")
    assert len(set(seen)) == len(seen)
    assert min(seen[5:]) > max(seen[:5])
    await store.close()


async def test_item_ids_are_unique_and_go_along(tmp_path: Path) -> None:
    store = await open_store(tmp_path, pack_limit=2000)
    first, second = await inbox(store, "a@example.test"), await inbox(store, "b@example.test")
    items = []
    for number in range(20):
        one, two = await deliver(store, letter(f"m{number}", 500), [first, second])
        assert one.rows[0].item == two.rows[0].item
        items.append(one.rows[0].item)
    assert len(set(items)) == 20
    trash = store.mailbox(first.account, "Trash").id
    moved = await store.move(first.account, first.mailbox, [5], trash)
    assert moved.changes[0].rows[0].item == items[4]  # type: ignore[union-attr,index]
    await store.close()


@pytest.mark.parametrize("seed", range(6))
async def test_any_history_is_recovered_exactly(tmp_path: Path, seed: int) -> None:
    """Random work; crash copies at random moments; every copy must count right and go on from there."""
    rng = random.Random(seed)
    store = await open_store(tmp_path / "live", pack_limit=6000)
    target = await inbox(store, "a@example.test")
    account = target.account
    copies = 0
    highest: dict[int, Counters] = {}
    for step in range(80):
        names = [mailbox.name for mailbox in store.mailboxes(account)]
        mailbox = store.mailbox(account, rng.choice(names)).id
        uids = (await store.uids(account, mailbox)).tolist()
        some = rng.sample(uids, min(len(uids), rng.randint(1, 4)))
        match rng.randint(0, 9):
            case 0 | 1 | 2 | 3:
                flags = rng.choice([0, 1, 8, 9])
                await deliver(store, letter(f"s{step}"), [target._replace(mailbox=mailbox, flags=flags)])
            case 4:
                mode = rng.choice(list(FlagMode))
                await store.store_flags(account, mailbox, some, mode, rng.choice([0, 1, 8]), ["k"])
            case 5:
                await store.copy(account, mailbox, some, store.mailbox(account, rng.choice(names)).id)
            case 6:
                await store.move(account, mailbox, some, store.mailbox(account, rng.choice(names)).id)
            case 7:
                await store.expunge(account, mailbox, rng.choice([None, some]))
            case 8:
                await store.create_mailbox(account, f"f{step}")
            case 9:
                name = rng.choice(names)
                if name != "INBOX":
                    await store.delete_mailbox(account, name)
        for box in store.mailboxes(account):
            now, last = store.counters(account, box.id), highest.get(box.id)
            assert last is None or (now.uidnext >= last.uidnext and now.modseq >= last.modseq)
            highest[box.id] = now
        if rng.random() < 0.1:
            copies += 1
            again = await open_store(crash(tmp_path / "live", tmp_path / f"c{copies}"))
            assert again.mailboxes(account) == store.mailboxes(account)
            for box in again.mailboxes(account):
                assert again.counters(account, box.id) == store.counters(account, box.id)
            assert again.usage(account) == store.usage(account)
            await check(again, account)
            await again.close()
    await check(store, account)
    await store.close()
