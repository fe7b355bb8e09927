"""`postkeep verify` says what is wrong, all of it, and nothing else."""

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path

import apsw
import pytest
from postkeep.domain.message import FlagMode
from postkeep.storage.store import MailStore
from postkeep.storage.verify import Kind, Report, verify

from tests.support.storing import DELETED, SEEN, all_rows, deliver, inbox, letter, open_store

KEYS = ("alice@example.test", "bob@example.test")


async def fill(store: MailStore) -> None:
    """Ten messages for two, some copied, moved, expunged, big, kept in the structure cache."""
    alice, bob = [await inbox(store, key) for key in KEYS]
    for number in range(9):
        await deliver(store, letter(f"m{number}", 200 + number * 700), (alice, bob))
    await deliver(store, letter("big", 2_500_000), (alice,))
    archive, _ = await store.create_mailbox(alice.account, "Archive/2026")
    await store.store_flags(alice.account, alice.mailbox, [1, 2], FlagMode.ADD, SEEN, ("$Label1",))
    await store.copy(alice.account, alice.mailbox, [1, 3], archive.id)
    await store.move(alice.account, alice.mailbox, [2], archive.id)
    await store.store_flags(bob.account, bob.mailbox, [4, 5], FlagMode.ADD, DELETED, ())
    await store.expunge(bob.account, bob.mailbox, None)
    await store.expunge(alice.account, alice.mailbox, [5])
    await store.structures(await all_rows(store, bob.account, bob.mailbox))
    await asyncio.gather(*asyncio.all_tasks() - {asyncio.current_task()})  # it keeps them in the background


@pytest.fixture
async def folder(tmp_path: Path) -> Path:
    store = await open_store(tmp_path / "store", pack_limit=9_000)
    await fill(store)
    await store.close()
    return tmp_path / "store"


def kinds(report: Report) -> set[Kind]:
    return {problem.kind for problem in report.problems}


def change(folder: Path, sql: str) -> None:
    connection = apsw.Connection(str(folder / "postkeep.db"))
    connection.execute(sql)
    assert connection.total_changes() > 0
    connection.close()


def place(folder: Path, where: str) -> tuple[Path, int, int]:
    """(pack file, offset, length) of the first message that `where` names."""
    connection = apsw.Connection(str(folder / "postkeep.db"))
    pack, offset, length = connection.execute(
        f"SELECT pack, offset, length FROM message WHERE {where}"
    ).fetchone()
    connection.close()
    return folder / "mail" / f"{pack:08d}.pack", offset, length


def flip(path: Path, offset: int) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(data)


async def test_a_sound_store_is_clean_and_everything_is_counted(folder: Path) -> None:
    told: list[tuple[int, int, str]] = []
    report = await verify(folder, lambda *step: told.append(step), rate=0)
    assert report.problems == ()
    assert report.notes == ()
    assert (report.accounts, report.mailboxes) == (2, 12)
    assert report.messages == 19 + 2 - 1 - 2
    assert report.records == 10  # each once, whoever has it
    assert report.packs > 2
    await asyncio.sleep(0)
    assert told[-1][0] == told[-1][1] == report.octets > 0
    assert str(report).endswith(": clean")


async def test_nothing_is_changed_by_looking(folder: Path) -> None:
    def state() -> dict[str, bytes]:
        return {
            str(path): path.read_bytes()
            for path in folder.rglob("*")
            if path.is_file() and not path.name.endswith(("-shm", "-wal"))
        }

    before = state()
    await verify(folder, rate=0)
    assert state() == before


async def test_a_running_engine_is_checked_beside_its_writes(tmp_path: Path) -> None:
    store = await open_store(tmp_path / "store", pack_limit=9_000)
    await fill(store)

    async def go_on() -> None:
        target = await inbox(store, KEYS[0])
        for number in range(30):
            await deliver(store, letter(f"later{number}"), (target,))
            await store.expunge(target.account, target.mailbox, [number + 1])

    writing = asyncio.create_task(go_on())
    reports = [await verify(tmp_path / "store", rate=0) for _ in range(5)]
    await writing
    assert [report.problems for report in reports] == [()] * 5
    await store.close()
    assert (await verify(tmp_path / "store", rate=0)).clean


async def test_lazy_counters_are_not_taken_for_wrong_ones(tmp_path: Path) -> None:
    store = await open_store(tmp_path / "store")
    target = await inbox(store, KEYS[0])
    await deliver(store, letter("m"), (target,))
    shutil.copytree(tmp_path / "store", tmp_path / "crashed")  # uncounted yet in the database
    await store.close()
    assert (await verify(tmp_path / "crashed", rate=0)).clean


@pytest.mark.parametrize("inside", [20, 60, -3], ids=["header", "body", "trailer"])
async def test_a_flipped_bit_is_told_for_each_message_that_it_damages_and_no_other(
    folder: Path, inside: int
) -> None:
    path, offset, length = place(folder, "uid = 7")
    flip(path, offset + (inside if inside > 0 else length + inside))
    report = await verify(folder, rate=0)
    assert kinds(report) == {Kind.RECORD}
    texts = [problem.text for problem in report.problems]
    assert len(texts) == 2
    assert any("alice@example.test, mailbox INBOX, uid 7" in text for text in texts)
    assert any("bob@example.test, mailbox INBOX, uid 7" in text for text in texts)
    assert all(problem.advice for problem in report.problems)
    assert report.records == 9


async def test_a_flipped_bit_in_a_block_of_a_big_message_is_found(folder: Path) -> None:
    path, _, length = place(folder, "size > 2000000")
    flip(path, length * 3 // 4)
    report = await verify(folder, rate=0)
    assert [problem.kind for problem in report.problems] == [Kind.RECORD]


async def test_damage_where_no_message_lies_is_a_note(folder: Path) -> None:
    path, offset, _ = place(folder, "uid = 6")
    change(folder, "DELETE FROM message WHERE uid = 6")
    flip(path, offset + 70)
    report = await verify(folder, rate=0)
    assert Kind.RECORD not in kinds(report)
    assert any("no message lies" in note for note in report.notes)


@pytest.mark.parametrize(
    ("sql", "kind"),
    [
        ("UPDATE message SET offset = offset + 1 WHERE uid = 8", Kind.REFERENCE),
        ("UPDATE message SET pack = 99 WHERE uid = 8 AND account = 1", Kind.REFERENCE),
        ("UPDATE message SET size = size + 1 WHERE uid = 8 AND account = 1", Kind.REFERENCE),
        ("UPDATE message SET length = length + 1 WHERE uid = 8 AND account = 1", Kind.REFERENCE),
        ("UPDATE message SET msgid = 1 WHERE uid = 8 AND account = 1", Kind.REFERENCE),
        ("UPDATE message SET thread = 1 WHERE uid = 8 AND account = 1", Kind.REFERENCE),
        ("UPDATE message SET item = 1 WHERE uid = 8 AND account = 1", Kind.REFERENCE),
        ("UPDATE mailbox SET messages = messages + 1 WHERE account = 2 AND name = 'INBOX'", Kind.COUNTER),
        ("UPDATE mailbox SET unseen = unseen - 1 WHERE account = 2 AND name = 'INBOX'", Kind.COUNTER),
        ("UPDATE mailbox SET deleted = 1 WHERE account = 2 AND name = 'INBOX'", Kind.COUNTER),
        ("UPDATE mailbox SET size = 5 WHERE account = 2 AND name = 'INBOX'", Kind.COUNTER),
        ("UPDATE mailbox SET modseq = 2 WHERE account = 2 AND name = 'INBOX'", Kind.COUNTER),
        ("UPDATE mailbox SET uidnext = 3 WHERE account = 2 AND name = 'INBOX'", Kind.COUNTER),
        ("UPDATE mailbox SET uidvalidity = uidvalidity + 1000 WHERE id = 1", Kind.COUNTER),
        ("UPDATE message SET created = modseq + 1 WHERE uid = 8 AND account = 1", Kind.COUNTER),
        ("INSERT INTO tombstone VALUES (1, 1, 1, 8, 0)", Kind.COUNTER),
        ("INSERT INTO tombstone VALUES (1, 1, 1, 999, 0)", Kind.COUNTER),
        ("UPDATE shared SET refs = refs + 1", Kind.ACCOUNTING),
        ("DELETE FROM shared", Kind.ACCOUNTING),
        ("UPDATE pack SET dead = dead + 1 WHERE number = 1", Kind.ACCOUNTING),
        ("UPDATE structure SET data = x'0001'", Kind.STRUCTURE),
        ("UPDATE message SET mailbox = 77 WHERE uid = 8 AND account = 1", Kind.DATABASE),
        ("DELETE FROM account WHERE id = 2", Kind.DATABASE),
    ],
)
async def test_each_wrong_reference_and_number_is_found(folder: Path, sql: str, kind: Kind) -> None:
    change(folder, sql)
    assert kind in kinds(await verify(folder, rate=0))


def cut_off(folder: Path) -> None:
    path, _, _ = place(folder, "uid = 9")
    path.write_bytes(path.read_bytes()[:-10])


def remove_pack(folder: Path) -> None:
    place(folder, "uid = 9")[0].unlink()


def garble_database(folder: Path) -> None:
    path = folder / "postkeep.db"
    data = bytearray(path.read_bytes())
    for page in range(4096, len(data), 4096):
        data[page] = 0x77
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("harm", "kind"),
    [
        (cut_off, Kind.PACK),
        (remove_pack, Kind.PACK),
        (garble_database, Kind.PAGE),
        (lambda folder: (folder / "postkeep.db").write_bytes(b"not a database" * 1000), Kind.DATABASE),
        (lambda folder: (folder / "postkeep.db").unlink(), Kind.DATABASE),
    ],
    ids=["cut short", "missing pack", "garbled pages", "no database", "missing database"],
)
async def test_harmed_files_are_told_not_raised(
    folder: Path, harm: Callable[[Path], object], kind: Kind
) -> None:
    for leftover in folder.glob("postkeep.db-*"):
        leftover.unlink()
    harm(folder)
    report = await verify(folder, rate=0)
    assert kind in kinds(report)
    assert not report.clean


async def test_a_pack_that_nobody_knows_is_a_note(folder: Path) -> None:
    (folder / "mail/00000099.pack").write_bytes(b"x")
    report = await verify(folder, rate=0)
    assert report.clean
    assert any("00000099.pack" in note for note in report.notes)


async def test_a_pack_without_messages_is_a_note(tmp_path: Path) -> None:
    store = await open_store(tmp_path / "store")
    target = await inbox(store, KEYS[0])
    await deliver(store, letter("big", 2_500_000), (target,))
    await store.expunge(target.account, target.mailbox, [1])
    await store.close()
    report = await verify(tmp_path / "store", rate=0)
    assert report.clean
    assert report.notes == ("pack 1 holds no message any more: compaction will remove it",)


async def test_queue_files_without_their_pair(folder: Path, tmp_path: Path) -> None:
    queue = tmp_path / "queue"
    queue.mkdir()
    for name in ("a.env", "b.eml", "c.eml", "c.env"):
        (queue / name).write_bytes(b"")
    report = await verify(folder, queue=queue, rate=0)
    assert report.clean
    assert any("a.env has no message" in note for note in report.notes)
    assert any("b.eml" in note for note in report.notes)
    assert report.queued == 2


async def test_a_wholly_broken_store_gives_a_bounded_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("postkeep.storage.verify.PROBLEM_LIMIT", 5)
    store = await open_store(tmp_path / "store")
    target = await inbox(store, KEYS[0])
    for number in range(12):
        await deliver(store, letter(f"m{number}"), (target,))
    await store.close()
    change(tmp_path / "store", "UPDATE message SET size = size + 1")
    report = await verify(tmp_path / "store", rate=0)
    assert len(report.problems) == 5
    assert report.more == 8  # and the mailbox's size does not fit
    assert str(report).endswith("13 problems")


async def test_it_reads_no_faster_than_told_and_can_be_called_off(folder: Path) -> None:
    begun = asyncio.Event()
    work = asyncio.create_task(verify(folder, lambda *_: begun.set(), rate=1))  # an octet a second
    await begun.wait()
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    await asyncio.get_running_loop().shutdown_default_executor()  # hangs if the thread goes on
