"""Packs on disk: reading by many threads, torn tails, bounded open files."""

import asyncio
import os
from pathlib import Path

import pytest
from postkeep.domain.errors import CorruptRecord, StorageFailed
from postkeep.runtime.files import SystemFiles
from postkeep.storage import database
from postkeep.storage.packs import Packs
from postkeep.storage.store import MailStore

from tests.support.clock import FakeClock
from tests.support.storing import PREFIX, all_rows, deliver, inbox, letter, open_store


async def test_flipped_bits_lose_that_message_and_no_other(tmp_path: Path) -> None:
    """Attack: a bit flips in a pack; the message is reported, its neighbours are served."""
    store = await open_store(tmp_path)
    target = await inbox(store, "a@example.test")
    for number in range(5):
        await deliver(store, letter(f"m{number}"), [target])
    rows = await all_rows(store, target.account, target.mailbox)
    with (tmp_path / "mail" / f"{rows[2].pack:08d}.pack").open("r+b") as file:
        file.seek(rows[2].offset + 100)
        octet = file.read(1)[0]
        file.seek(rows[2].offset + 100)
        file.write(bytes([octet ^ 0x10]))
    found = await store.messages(rows)
    assert [isinstance(message, CorruptRecord) for message in found] == [False, False, True, False, False]
    for number, message in enumerate(found):
        if not isinstance(message, CorruptRecord):
            assert await message.read() == PREFIX + letter(f"m{number}")
    # The structure lies in the trailer with a checksum of its own: still there.
    assert [structure is None for structure in await store.structures(rows)] == [False] * 5
    await store.close()


async def test_damaged_trailer_gives_no_structure(tmp_path: Path) -> None:
    store = await open_store(tmp_path)
    target = await inbox(store, "a@example.test")
    for number in range(3):
        await deliver(store, letter(f"m{number}"), [target])
    rows = await all_rows(store, target.account, target.mailbox)
    with (tmp_path / "mail" / f"{rows[0].pack:08d}.pack").open("r+b") as file:
        file.seek(rows[1].offset - 3)  # the end of the first record
        file.write(b"\0\0\0")
    structures = await store.structures(rows)
    assert [structure is None for structure in structures] == [True, False, False]
    await store.close()


async def test_a_missing_pack_loses_its_messages_only(tmp_path: Path) -> None:
    store = await open_store(tmp_path, pack_limit=4096)
    target = await inbox(store, "a@example.test")
    for _ in range(12):
        await deliver(store, os.urandom(1000), [target])
    rows = await all_rows(store, target.account, target.mailbox)
    packs = sorted({row.pack for row in rows})
    assert len(packs) >= 3
    await store.close()
    (tmp_path / "mail" / f"{packs[1]:08d}.pack").unlink()
    store = await open_store(tmp_path)
    found = await store.messages(rows)
    assert [isinstance(message, CorruptRecord) for message in found] == [row.pack == packs[1] for row in rows]
    await store.close()


async def test_what_lies_past_the_last_commit_is_cut_at_start(tmp_path: Path) -> None:
    store = await open_store(tmp_path)
    target = await inbox(store, "a@example.test")
    await deliver(store, letter("one"), [target])
    (row,) = await all_rows(store, target.account, target.mailbox)
    await store.close()
    path = tmp_path / "mail" / f"{row.pack:08d}.pack"
    length = path.stat().st_size
    with path.open("ab") as file:
        file.write(path.read_bytes()[: length // 2])  # a torn record
    store = await open_store(tmp_path)
    assert path.stat().st_size == length
    await deliver(store, letter("two"), [target])
    rows = await all_rows(store, target.account, target.mailbox)
    assert rows[1].offset == length
    assert [await message.read() for message in await store.messages(rows)] == [  # type: ignore[union-attr]
        PREFIX + letter("one"),
        PREFIX + letter("two"),
    ]
    await store.close()


async def test_a_tail_too_long_for_a_crash_is_not_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An older database over newer packs: nothing is destroyed, a new pack is begun."""
    monkeypatch.setattr("postkeep.storage.opening.TAIL_LIMIT", 1000)
    store = await open_store(tmp_path)
    target = await inbox(store, "a@example.test")
    await deliver(store, letter("one"), [target])
    (row,) = await all_rows(store, target.account, target.mailbox)
    await store.close()
    path = tmp_path / "mail" / f"{row.pack:08d}.pack"
    with path.open("ab") as file:
        file.write(b"x" * 2000)
    size = path.stat().st_size
    store = await open_store(tmp_path)
    (new,) = (await deliver(store, letter("two"), [target]))[0].rows
    assert path.stat().st_size == size
    assert new.pack != row.pack
    await store.close()


async def test_a_pack_cut_short_is_not_appended_to(tmp_path: Path) -> None:
    store = await open_store(tmp_path)
    target = await inbox(store, "a@example.test")
    await deliver(store, letter("one"), [target])
    await deliver(store, letter("two"), [target])
    rows = await all_rows(store, target.account, target.mailbox)
    await store.close()
    os.truncate(tmp_path / "mail" / f"{rows[0].pack:08d}.pack", rows[1].offset + 20)
    store = await open_store(tmp_path)
    (new,) = (await deliver(store, letter("three"), [target]))[0].rows
    assert new.pack != rows[0].pack
    found = await store.messages([*rows, new])
    assert [isinstance(message, CorruptRecord) for message in found] == [False, True, False]
    await store.close()


async def test_packs_without_a_database_are_not_mistaken_for_a_new_store(tmp_path: Path) -> None:
    store = await open_store(tmp_path)
    await deliver(store, letter("one"), [await inbox(store, "a@example.test")])
    await store.close()
    for name in (database.NAME, database.NAME + "-wal", database.NAME + "-shm"):
        (tmp_path / name).unlink(missing_ok=True)
    with pytest.raises(StorageFailed, match="postkeep rebuild"):
        await MailStore.open(tmp_path, FakeClock())


async def test_pack_numbers_are_never_used_twice(tmp_path: Path) -> None:
    store = await open_store(tmp_path, pack_limit=2048)
    target = await inbox(store, "a@example.test")
    seen: list[int] = []
    for _ in range(3):
        for _ in range(4):
            (appended,) = await deliver(store, os.urandom(1500), [target])
            seen.append(appended.rows[0].pack)
        await store.close()
        store = await open_store(tmp_path, pack_limit=2048)
    assert seen == sorted(set(seen))
    await store.close()


async def test_open_packs_are_bounded_and_reading_goes_on_while_they_are_closed(tmp_path: Path) -> None:
    store = await open_store(tmp_path, pack_limit=2048)
    store.packs._bound = 2
    target = await inbox(store, "a@example.test")
    for _ in range(30):
        await deliver(store, os.urandom(1500), [target])
    rows = await all_rows(store, target.account, target.mailbox)
    assert len({row.pack for row in rows}) == 30
    for found in await asyncio.gather(*[store.messages(rows[start::3]) for start in range(3)]):
        assert not any(isinstance(message, CorruptRecord) for message in found)
    assert len(store.packs._open) <= 5
    await store.close()
    assert not store.packs._open


def test_a_forgotten_pack_is_closed_by_its_last_reader(tmp_path: Path) -> None:
    class Counting(SystemFiles):
        closed = 0

        def close(self, fd: int) -> None:  # type: ignore[override]
            Counting.closed += 1
            os.close(fd)

    (tmp_path / "00000001.pack").write_bytes(b"x" * 100)
    packs = Packs(Counting(), tmp_path)
    first, second = packs._acquire(1), packs._acquire(1)
    packs.forget(1)
    assert os.pread(first.fd, 1, 0) == b"x"
    packs._release(first)
    assert Counting.closed == 0
    packs._release(second)
    assert Counting.closed == 1
