"""Flags, keywords, copies, moves, expunges and what they leave behind."""

from pathlib import Path

import pytest
from postkeep.domain.change import Appended, Expunged
from postkeep.domain.errors import CorruptRecord, LimitReached, MailboxNotFound
from postkeep.domain.message import Flag, FlagMode, FlagsRow
from postkeep.formats.mime.structure import Structure
from postkeep.storage.bodies import structure_of
from postkeep.storage.packs import Packs, Record
from postkeep.storage.ranges import merge, ranges_of
from postkeep.storage.store import MailStore, Target

from tests.support.storing import all_rows, deliver, inbox, letter, open_store

SEEN, ANSWERED, DELETED = int(Flag.SEEN), int(Flag.ANSWERED), int(Flag.DELETED)


async def fill(store: MailStore, target: Target, count: int) -> None:
    for number in range(count):
        await deliver(store, letter(f"m{number}"), [target])


def dead(store: MailStore) -> dict[int, int]:
    return dict(store._connection.execute("SELECT number, dead FROM pack").fetchall())


def refs(store: MailStore) -> list[int]:
    return [row[0] for row in store._connection.execute("SELECT refs FROM shared ORDER BY pack, offset")]


def length(store: MailStore) -> int:
    return int(store._connection.execute("SELECT sum(length) FROM pack").get)


async def test_store_flags_in_all_modes(tmp_path: Path) -> None:
    store = await open_store(tmp_path)
    target = await inbox(store, "a@example.test")
    account, mailbox, _, _ = target
    await fill(store, target, 4)
    added = await store.store_flags(account, mailbox, [1, 2, 9], FlagMode.ADD, SEEN | DELETED, ["Work"])
    modseq = store.counters(account, mailbox).modseq
    assert added.change.rows == (FlagsRow(1, modseq, 9, 1), FlagsRow(2, modseq, 9, 1))
    assert added.rows == added.change.rows
    assert store.counters(account, mailbox)[3:5] == (2, 2)
    removed = await store.store_flags(account, mailbox, [2, 1], FlagMode.REMOVE, DELETED, ["work", "unknown"])
    assert [(row.uid, row.flags, row.keywords) for row in removed.rows] == [(1, 1, 0), (2, 1, 0)]
    replaced = await store.store_flags(account, mailbox, [1, 3], FlagMode.REPLACE, ANSWERED, ["Other"])
    assert [(row.uid, row.flags, row.keywords) for row in replaced.rows] == [(1, 2, 2), (3, 2, 2)]
    assert store.keywords(account) == ("Work", "Other")
    assert store.counters(account, mailbox)[3:5] == (3, 0)
    rows = await all_rows(store, account, mailbox)
    assert [(row.uid, row.flags, row.keywords) for row in rows] == [
        (1, 2, 2),
        (2, 1, 0),
        (3, 2, 2),
        (4, 0, 0),
    ]
    await store.close()


async def test_what_does_not_change_keeps_its_modseq(tmp_path: Path) -> None:
    store = await open_store(tmp_path)
    target = await inbox(store, "a@example.test")
    account, mailbox, _, _ = target
    await fill(store, target, 3)
    await store.store_flags(account, mailbox, [2], FlagMode.ADD, SEEN, [])
    before = store.counters(account, mailbox)
    again = await store.store_flags(account, mailbox, [2], FlagMode.ADD, SEEN, [])
    assert again.change.rows == ()
    assert again.rows == (FlagsRow(2, before.modseq, 1, 0),)
    assert store.counters(account, mailbox) == before
    mixed = await store.store_flags(account, mailbox, [1, 2, 3], FlagMode.ADD, SEEN, [])
    assert [row.uid for row in mixed.change.rows] == [1, 3]
    assert [(row.uid, row.modseq) for row in mixed.rows] == [
        (1, before.modseq + 1),
        (2, before.modseq),
        (3, before.modseq + 1),
    ]
    await store.close()


async def test_unchanged_since_holds_back(tmp_path: Path) -> None:
    store = await open_store(tmp_path)
    target = await inbox(store, "a@example.test")
    account, mailbox, _, _ = target
    await fill(store, target, 3)
    known = store.counters(account, mailbox).modseq
    await store.store_flags(account, mailbox, [2], FlagMode.ADD, SEEN, [])
    result = await store.store_flags(account, mailbox, [1, 2, 3], FlagMode.ADD, DELETED, [], known)
    assert result.modified == (2,)
    assert [row.uid for row in result.rows] == [1, 3]
    assert [row.flags for row in await all_rows(store, account, mailbox)] == [8, 1, 8]
    await store.close()


async def test_scattered_and_dense_uid_sets_agree(tmp_path: Path) -> None:
    """Ranges and lists are two ways to the same rows."""
    store = await open_store(tmp_path)
    target = await inbox(store, "a@example.test")
    account, mailbox, _, _ = target
    await fill(store, target, 60)
    odd = list(range(1, 60, 2))
    await store.store_flags(account, mailbox, odd, FlagMode.ADD, DELETED, [])
    await store.store_flags(account, mailbox, range(20, 41), FlagMode.REMOVE, DELETED, [])
    kept = [uid for uid in odd if not 20 <= uid <= 40]
    rows = await all_rows(store, account, mailbox)
    assert [row.uid for row in rows if row.flags == DELETED] == kept
    expunged = await store.expunge(account, mailbox, None)
    assert list(expunged.uids) == kept
    expunged = await store.expunge(account, mailbox, [*range(20, 30), *range(31, 41), 31, 99])
    assert list(expunged.uids) == [*range(20, 30), *range(31, 41)]
    assert store.counters(account, mailbox).messages == 60 - len(kept) - 20
    assert len(await all_rows(store, account, mailbox)) == 60 - len(kept) - 20
    await store.close()


async def test_keywords_are_limited_and_compare_without_case(tmp_path: Path) -> None:
    """Attack: endless new keywords."""
    store = await open_store(tmp_path)
    target = await inbox(store, "a@example.test")
    account, mailbox, _, _ = target
    await fill(store, target, 1)
    words = [f"Word{number}" for number in range(62)]
    await store.store_flags(account, mailbox, [1], FlagMode.ADD, 0, words)
    assert store.keywords(account) == tuple(words)
    with pytest.raises(LimitReached):
        await store.store_flags(account, mailbox, [1], FlagMode.ADD, SEEN, ["OneMore"])
    with pytest.raises(LimitReached):
        await deliver(store, letter("x"), [target._replace(keywords=("Another",))])
    await store.store_flags(account, mailbox, [1], FlagMode.REPLACE, 0, ["WORD61", "word0"])
    (row,) = await all_rows(store, account, mailbox)
    assert row.keywords == 1 << 61 | 1
    assert store.keywords(account) == tuple(words)
    assert store._intake.used == 0
    await store.close()
    store = await open_store(tmp_path)
    assert store.keywords(account) == tuple(words)
    await store.close()


async def test_delivery_with_keywords(tmp_path: Path) -> None:
    store = await open_store(tmp_path)
    first = await inbox(store, "a@example.test", flags=SEEN, keywords=("$Junk", "x"))
    second = await inbox(store, "b@example.test", keywords=("X",))
    one, two = await deliver(store, letter("m"), [first, second])
    assert (one.rows[0].flags, one.rows[0].keywords) == (1, 3)
    assert (two.rows[0].flags, two.rows[0].keywords) == (0, 1)
    assert (store.keywords(first.account), store.keywords(second.account)) == (("$Junk", "x"), ("X",))
    await store.close()


async def test_one_record_serves_all_and_dies_with_the_last(tmp_path: Path) -> None:
    store = await open_store(tmp_path)
    targets = [await inbox(store, f"u{number}@example.test") for number in range(3)]
    await deliver(store, letter("m"), targets)
    assert refs(store) == [3]
    total = length(store)
    await store.expunge(targets[0].account, targets[0].mailbox, [1])
    assert refs(store) == [2]
    await store.expunge(targets[1].account, targets[1].mailbox, [1])
    assert refs(store) == []
    assert dead(store) == {1: 0}
    await store.expunge(targets[2].account, targets[2].mailbox, [1])
    assert dead(store) == {1: total}
    await store.close()


async def test_copies_count_references_and_dead_octets_exactly(tmp_path: Path) -> None:
    store = await open_store(tmp_path)
    target = await inbox(store, "a@example.test")
    account, mailbox, _, _ = target
    await fill(store, target, 3)
    total = length(store)
    trash = store.mailbox(account, "Trash").id
    await store.store_flags(account, mailbox, [2], FlagMode.ADD, SEEN, [])
    copied = await store.copy(account, mailbox, [3, 1, 2, 77], trash)
    assert copied.copied.source_uids == (1, 2, 3)
    assert copied.copied.target_uids == (1, 2, 3)
    assert copied.copied.uidvalidity == store.mailbox(account, "Trash").uidvalidity
    assert store.counters(account, trash)[2:4] == (3, 2)
    await store.copy(account, mailbox, [1], mailbox)  # into itself
    assert refs(store) == [3, 2, 2]
    # Two rows of one record in one expunge.
    await store.expunge(account, mailbox, [1, 4])
    assert refs(store) == [2, 2]
    assert dead(store) == {1: 0}
    await store.expunge(account, mailbox, [2, 3])
    assert (refs(store), dead(store)) == ([], {1: 0})
    await store.expunge(account, trash, [1, 2, 3])
    assert dead(store) == {1: total}
    await store.close()


async def test_move_is_one_change_and_keeps_the_record_alive(tmp_path: Path) -> None:
    store = await open_store(tmp_path)
    target = await inbox(store, "a@example.test")
    account, mailbox, _, _ = target
    await fill(store, target, 4)
    trash = store.mailbox(account, "Trash").id
    before = store.counters(account, mailbox)
    result = await store.move(account, mailbox, [2, 3], trash)
    appended, expunged = result.changes
    assert isinstance(appended, Appended)
    assert isinstance(expunged, Expunged)
    assert [row.uid for row in appended.rows] == [1, 2]
    assert expunged.uids == (2, 3)
    assert expunged.modseq > before.modseq
    assert (await store.expunged_since(account, mailbox, before.modseq)).tolist() == [2, 3]
    assert (await store.expunged_since(account, mailbox, expunged.modseq)).tolist() == []
    assert (refs(store), dead(store)) == ([], {1: 0})
    assert store.usage(account)[1] == 4
    within = await store.move(account, trash, [1], trash)
    assert within.copied.target_uids == (3,)
    assert (await store.uids(account, trash)).tolist() == [2, 3]
    await store.close()


async def test_old_expunges_are_forgotten_and_then_told_generously(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Attack: endless deliver and expunge must not grow the database for ever."""
    monkeypatch.setattr("postkeep.storage.messages.TOMBSTONE_CHANGES", 10)
    store = await open_store(tmp_path)
    target = await inbox(store, "a@example.test")
    account, mailbox, _, _ = target
    await fill(store, target, 40)
    known = store.counters(account, mailbox).modseq
    for uid in range(1, 31):
        if uid != 7:
            await store.expunge(account, mailbox, [uid])
    assert store._connection.execute("SELECT count(*) FROM tombstone").get <= 11
    gone = [uid for uid in range(1, 31) if uid != 7]
    assert (await store.expunged_since(account, mailbox, known)).tolist() == gone
    recent = store.counters(account, mailbox).modseq - 3
    assert (await store.expunged_since(account, mailbox, recent)).tolist() == [28, 29, 30]
    await store.close()


async def test_copy_into_another_account_translates_keywords(tmp_path: Path) -> None:
    store = await open_store(tmp_path)
    first, second = await inbox(store, "a@example.test"), await inbox(store, "b@example.test")
    await fill(store, first, 2)
    await store.store_flags(first.account, first.mailbox, [1], FlagMode.ADD, 0, ["one", "two"])
    await fill(store, second, 1)
    await store.store_flags(second.account, second.mailbox, [1], FlagMode.ADD, 0, ["TWO"])
    await store.copy(first.account, first.mailbox, [1, 2], second.mailbox, second.account)
    assert store.keywords(second.account) == ("TWO", "one")
    assert [row.keywords for row in await all_rows(store, second.account, second.mailbox)] == [1, 3, 0]
    moved = await store.move(first.account, first.mailbox, [2], second.mailbox, second.account)
    assert moved.copied.target_uids == (4,)
    assert store.usage(first.account)[1] == 1
    assert store.usage(second.account)[1] == 4
    await store.close()


async def test_nothing_to_do_changes_nothing(tmp_path: Path) -> None:
    store = await open_store(tmp_path)
    target = await inbox(store, "a@example.test")
    account, mailbox, _, _ = target
    await fill(store, target, 1)
    before = store.counters(account, mailbox)
    assert (await store.expunge(account, mailbox, None)).uids == ()
    assert (await store.expunge(account, mailbox, [])).uids == ()
    assert (await store.expunge(account, mailbox, [5])).uids == ()
    assert (await store.copy(account, mailbox, [5], mailbox)).changes == ()
    assert (await store.move(account, mailbox, [], mailbox)).changes == ()
    assert (await store.store_flags(account, mailbox, [], FlagMode.ADD, 1, [])).rows == ()
    assert store.counters(account, mailbox) == before
    with pytest.raises(MailboxNotFound):
        await store.copy(account, mailbox, [1], 999)
    with pytest.raises(MailboxNotFound):
        await store.expunge(account + 1, mailbox, [1])  # another account's mailbox
    await store.close()


async def test_uids_run_out(tmp_path: Path) -> None:
    store = await open_store(tmp_path)
    target = await inbox(store, "a@example.test")
    await fill(store, target, 1)
    store.catalogue.states[target.mailbox].uidnext = 0xFFFFFFFE
    with pytest.raises(LimitReached):
        await deliver(store, letter("x"), [target])
    with pytest.raises(LimitReached):
        await store.copy(target.account, target.mailbox, [1], target.mailbox)
    store.catalogue.states[target.mailbox].uidnext = 2
    await store.close()


async def test_rows_in_batches_and_ranges(tmp_path: Path) -> None:
    store = await open_store(tmp_path)
    target = await inbox(store, "a@example.test")
    account, mailbox, _, _ = target
    await deliver(store, letter("m"), [target] * 2500)
    sizes = [len(batch) async for batch in store.rows(account, mailbox, [(1, 0xFFFFFFFF)])]
    assert sizes == [1000, 1000, 500]
    some = [(2, 5), (4, 9), *((uid, uid) for uid in range(100, 2500, 2)), (2400, 2499), (7000, 9000)]
    expected = sorted({uid for first, last in some for uid in range(first, min(last, 2500) + 1)})
    batches = [batch async for batch in store.rows(account, mailbox, some)]
    assert [row.uid for batch in batches for row in batch] == expected
    assert max(map(len, batches)) <= 1000
    assert [row async for row in store.rows(account, mailbox, [])] == []
    assert [row async for row in store.rows(account, mailbox, [(9, 3)])] == []
    tiny = [
        row.uid
        async for batch in store.rows(account, mailbox, [(7, 8), (3, 3), (2600, 2610)])
        for row in batch
    ]
    assert tiny == [3, 7, 8]
    await store.close()


async def test_rows_changed_since(tmp_path: Path) -> None:
    store = await open_store(tmp_path)
    target = await inbox(store, "a@example.test")
    account, mailbox, _, _ = target
    await fill(store, target, 50)
    known = store.counters(account, mailbox).modseq
    everything = [(1, 0xFFFFFFFF)]
    assert [b async for b in store.rows(account, mailbox, everything, changed_since=known)] == []
    change = await store.store_flags(account, mailbox, [3, 40], FlagMode.ADD, SEEN, [])
    rows = [r async for b in store.rows(account, mailbox, everything, changed_since=known) for r in b]
    flags = [r async for b in store.flags(account, mailbox, everything, changed_since=known) for r in b]
    assert [row.uid for row in rows] == [3, 40]
    assert tuple(flags) == change.change.rows
    await store.close()


async def test_structures_are_kept_after_the_first_reading(tmp_path: Path) -> None:
    store = await open_store(tmp_path)
    target = await inbox(store, "a@example.test")
    account, mailbox, _, _ = target
    await fill(store, target, 5)
    rows = await all_rows(store, account, mailbox)
    first = await store.structures(rows)
    assert [s.message_id for s in first if s] == [f"<m{number}@example.test>" for number in range(5)]
    while store._tasks:
        await store._tasks["structures"]
    assert store._connection.execute("SELECT count(*) FROM structure").get == 5
    for pack in (tmp_path / "mail").iterdir():
        pack.write_bytes(b"")  # what is kept needs no pack
    assert await store.structures(rows) == first
    await store.expunge(account, mailbox, [2, 3])
    assert store._connection.execute("SELECT count(*) FROM structure").get == 3
    await store.close()


async def test_threads_by_root_and_own_otherwise(tmp_path: Path) -> None:
    store = await open_store(tmp_path)
    target = await inbox(store, "a@example.test")
    await deliver(store, letter("root"), [target])
    await deliver(store, letter("reply", references="root"), [target])
    await deliver(store, b"Subject: no id\r\n\r\none", [target])
    await deliver(store, b"Subject: no id\r\n\r\ntwo", [target])
    root, reply, one, two = await all_rows(store, target.account, target.mailbox)
    assert root.thread == reply.thread == root.msgid
    assert reply.msgid != root.msgid
    assert one.msgid == two.msgid == 0
    assert len({root.thread, one.thread, two.thread}) == 3
    await store.close()


def test_ranges() -> None:
    assert ranges_of([]) == []
    assert ranges_of([3, 1, 2, 2]) == [(1, 3)]
    assert ranges_of([1, 3, 4, 9]) == [(1, 1), (3, 4), (9, 9)]
    assert merge([(5, 9), (1, 2), (3, 3), (8, 7), (6, 7)]) == [(1, 3), (5, 9)]


async def test_one_damaged_message_does_not_hide_the_structures_of_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its trailer is of another version, so the body is needed, and that is damaged."""
    store = await open_store(tmp_path)
    target = await inbox(store, "a@example.test")
    await fill(store, target, 3)
    rows = await all_rows(store, target.account, target.mailbox)

    def damaged(packs: Packs, pack: int, offset: int, record: Record) -> Structure:
        if offset == rows[1].offset:
            raise CorruptRecord("its body is damaged")
        return structure_of(packs, pack, offset, record)

    monkeypatch.setattr("postkeep.storage.structures.structure_of", damaged)
    assert [found is None for found in await store.structures(rows)] == [False, True, False]
    await store.close()
