"""`postkeep upgrade`: a copy is migrated and checked, then put in place; whatever happens, one whole database."""

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import apsw
import pytest
from postkeep.domain.errors import DatabaseDamaged, NotFound, StorageFailed, StorageFull, StoreTooNew
from postkeep.storage import database
from postkeep.storage.migrations import MIGRATIONS
from postkeep.storage.store import MailStore
from postkeep.storage.upgrade import BEFORE, COPY, Upgraded, forget_before, go_back, needs_upgrade, upgrade

from tests.support.clock import FakeClock
from tests.support.power import Create, SimulatedDisk, SimulatedFiles
from tests.support.storing import deliver, inbox, letter, open_store

NOW = len(MIGRATIONS)
LATER = (*MIGRATIONS, "ALTER TABLE mailbox ADD COLUMN colour TEXT NOT NULL DEFAULT 'blue'")
LETTERS = 5


class LinkingFiles(SimulatedFiles):
    """SimulatedFiles with second names."""

    def link(self, source: Path, target: Path) -> None:
        with self._disk.lock:
            inode = self._disk.inode(source)
            os.link(source, target)
            self._disk.inodes[target] = inode
            self._disk.note(Create(target, inode))


async def filled(folder: Path) -> Path:
    store = await open_store(folder)
    target = await inbox(store, "a@example.test")
    for number in range(LETTERS):
        await deliver(store, letter(f"kept{number}", size=2000), [target])
    await store.close()
    return folder


async def old_store(folder: Path) -> Path:
    """As the version before left it."""
    await filled(folder)
    connection = database.open_writer(folder / database.NAME)
    connection.execute("ALTER TABLE mailbox DROP COLUMN forgotten")
    connection.pragma("user_version", 1)
    connection.close()
    return folder


def look(folder: Path, sql: str, name: str = database.NAME) -> object:
    connection = database.open_reader(folder / name)
    try:
        return connection.execute(sql).get
    finally:
        connection.close()


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.is_file() and path.name != "lock"}


async def test_an_old_store_becomes_a_new_one(tmp_path: Path) -> None:
    folder = await old_store(tmp_path)
    assert needs_upgrade(folder)
    told: list[str] = []
    done = await upgrade(folder, lambda _, __, text: told.append(text))
    assert done == Upgraded(1, NOW, True, LETTERS, folder / BEFORE)
    assert {"copying the database", "migrating to schema 2", "checking the new database"} <= set(told)
    assert (folder / "version").read_text().startswith(f"schema={NOW}\nversion=")
    assert look(folder, "PRAGMA user_version") == NOW
    assert look(folder, "PRAGMA user_version", BEFORE) == 1
    assert not needs_upgrade(folder)
    store = await MailStore.open(folder, FakeClock())
    account = store.account_id("a@example.test")
    assert account is not None
    assert store.usage(account)[1] == LETTERS
    await store.close()


async def test_a_store_of_this_version_is_left_alone(tmp_path: Path) -> None:
    folder = await filled(tmp_path)
    before = (folder / database.NAME).read_bytes()
    assert not needs_upgrade(folder)
    assert not (await upgrade(folder)).changed
    assert not (folder / BEFORE).exists()
    assert (folder / database.NAME).read_bytes() == before


async def test_no_store_is_no_failure(tmp_path: Path) -> None:
    assert not needs_upgrade(tmp_path)
    assert not (await upgrade(tmp_path)).changed
    assert list(tmp_path.iterdir()) == []


async def test_a_newer_store_is_refused_and_left_alone(tmp_path: Path) -> None:
    folder = await filled(tmp_path)
    await upgrade(folder, migrations=LATER)
    before = (folder / database.NAME).read_bytes()
    with pytest.raises(StoreTooNew, match=f"schema {NOW + 1}, this one knows {NOW}"):
        await upgrade(folder)
    assert (folder / database.NAME).read_bytes() == before
    assert f"schema={NOW + 1}\n" in (folder / "version").read_text()


FAILING = {
    "sql": "ALTER TABLE nowhere ADD COLUMN x",
    "loses mail": "DELETE FROM message WHERE uid = 3",
    "loses mail and its count": "DELETE FROM message WHERE uid = 5; UPDATE mailbox SET messages = messages - 1",
    "forgets packs": "UPDATE pack SET length = 10",
    "wrong counters": "UPDATE mailbox SET unseen = unseen + 1",
}
CHANGES_MAIL = {
    "loses a mailbox without mail": "DELETE FROM mailbox WHERE id = (SELECT max(id) FROM mailbox)",
    "sets changes back": "UPDATE mailbox SET modseq = modseq - 1 WHERE modseq > 1",
}


@pytest.mark.parametrize("kind", FAILING)
async def test_a_migration_that_goes_wrong_changes_nothing(tmp_path: Path, kind: str) -> None:
    folder = await filled(tmp_path)
    before, files = (folder / database.NAME).read_bytes(), names(folder)
    with pytest.raises((StorageFailed, apsw.Error)):
        await upgrade(folder, migrations=(*MIGRATIONS, FAILING[kind]))
    assert (folder / database.NAME).read_bytes() == before
    assert names(folder) - {"postkeep.db-wal", "postkeep.db-shm"} <= files
    assert not (folder / COPY).exists()
    store = await MailStore.open(folder, FakeClock())
    await store.close()


@pytest.mark.parametrize("kind", CHANGES_MAIL)
async def test_a_migration_that_changes_the_mail_itself_is_refused(tmp_path: Path, kind: str) -> None:
    """Though what comes out agrees in itself."""
    folder = await filled(tmp_path)
    before = (folder / database.NAME).read_bytes()
    with pytest.raises(StorageFailed, match="changed the mail itself"):
        await upgrade(folder, migrations=(*MIGRATIONS, CHANGES_MAIL[kind]))
    assert (folder / database.NAME).read_bytes() == before


async def test_a_wal_damaged_in_the_middle_is_refused_and_kept(tmp_path: Path) -> None:
    folder = tmp_path / "crashed"
    (tmp_path / "old").mkdir()
    writer = database.open_writer(await old_store(tmp_path / "old") / database.NAME)
    writer.pragma("wal_autocheckpoint", 0)
    for number in range(6):
        writer.execute("INSERT INTO meta (key, value) VALUES (?, 1)", (f"acknowledged{number}",))
    shutil.copytree(tmp_path / "old", folder, ignore=shutil.ignore_patterns("*-shm", "lock"))
    writer.close()
    log = folder / f"{database.NAME}-wal"
    octets = bytearray(log.read_bytes())
    octets[32 + (24 + 4096) + 24 + 100] ^= 1  # in the second frame
    log.write_bytes(octets)
    with pytest.raises(DatabaseDamaged, match="frame 2"):
        await upgrade(folder)
    assert log.read_bytes() == bytes(octets)


async def test_without_room_nothing_is_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = await old_store(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 9, 1 << 20))
    with pytest.raises(StorageFull, match=r"needs \d+ MB free"):
        await upgrade(folder)
    assert look(folder, "PRAGMA user_version") == 1
    assert not (folder / COPY).exists()


@pytest.mark.parametrize("damage", ["pack", "counter"])
async def test_old_damage_does_not_keep_a_store_from_a_new_version(tmp_path: Path, damage: str) -> None:
    folder = await old_store(tmp_path)
    if damage == "pack":
        (pack,) = (folder / "mail").glob("*.pack")
        os.truncate(pack, 100)
    else:
        connection = database.open_writer(folder / database.NAME)
        connection.execute("UPDATE mailbox SET unseen = unseen + 1 WHERE id = 1")
        connection.close()
    done = await upgrade(folder)
    assert done.changed
    assert done.older > 0
    assert "problems that it had before are left" in str(done)
    assert look(folder, "PRAGMA user_version") == NOW


async def test_an_engine_on_the_store_keeps_it(tmp_path: Path) -> None:
    folder = await filled(tmp_path)
    store = await MailStore.open(folder, FakeClock())
    with pytest.raises(StorageFailed, match="another engine"):
        await upgrade(folder, migrations=LATER)
    await store.close()


async def test_a_program_that_reads_the_database_keeps_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "_BUSY_MS", 10)
    folder = await old_store(tmp_path)
    reader = database.open_reader(folder / database.NAME)
    reader.execute("BEGIN; SELECT count(*) FROM message").fetchall()
    writer = database.open_writer(folder / database.NAME)
    writer.execute("UPDATE mailbox SET subscribed = 1 - subscribed")
    with pytest.raises(StorageFailed):
        await upgrade(folder)
    writer.close()
    reader.close()
    assert (await upgrade(folder)).changed


async def test_what_a_killed_run_left_is_thrown_away(tmp_path: Path) -> None:
    folder = await old_store(tmp_path)
    for suffix in ("", "-wal", "-shm"):
        (folder / (COPY + suffix)).write_bytes(b"half a copy")
    assert (await upgrade(folder)).messages == LETTERS


# --- going back ---------------------------------------------------------------------------------------


async def test_back_while_nothing_happened(tmp_path: Path) -> None:
    folder = await old_store(tmp_path)
    await upgrade(folder)
    assert await go_back(folder) == 1
    assert look(folder, "PRAGMA user_version") == 1
    assert look(folder, "SELECT count(*) FROM message") == LETTERS
    assert (folder / "version").read_text().startswith("schema=1\n")
    with pytest.raises(NotFound):
        await go_back(folder)
    assert (await upgrade(folder)).changed


async def test_back_also_after_an_engine_that_did_nothing(tmp_path: Path) -> None:
    folder = await old_store(tmp_path)
    await upgrade(folder)
    store = await MailStore.open(folder, FakeClock())
    await store.close()
    assert await go_back(folder) == 1


async def test_no_way_back_once_mail_came_in(tmp_path: Path) -> None:
    folder = await old_store(tmp_path)
    await upgrade(folder)
    store = await MailStore.open(folder, FakeClock())
    await deliver(store, letter("new"), [await inbox(store, "a@example.test")])
    await store.close()
    with pytest.raises(StorageFailed, match="changed since the upgrade"):
        await go_back(folder)
    assert look(folder, "SELECT count(*) FROM message") == LETTERS + 1


async def test_the_old_database_goes_when_the_engine_was_ready(tmp_path: Path) -> None:
    folder = await old_store(tmp_path)
    await upgrade(folder)
    assert forget_before(folder)
    assert not forget_before(folder)
    assert look(folder, "SELECT count(*) FROM message") == LETTERS


# --- power --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
async def test_power_loss_at_any_point_leaves_the_old_or_the_new(tmp_path: Path, seed: int) -> None:
    folder = await old_store(tmp_path / "disk" / "store")
    schemas = await cut_everywhere(tmp_path, seed, folder, upgrade)
    assert schemas == {1, NOW}


async def test_power_loss_while_going_back(tmp_path: Path) -> None:
    folder = await old_store(tmp_path / "disk" / "store")
    await upgrade(folder)
    assert await cut_everywhere(tmp_path, 7, folder, go_back) == {1, NOW}


async def test_a_forgotten_sync_is_noticed(tmp_path: Path) -> None:
    """The test above can fail: without syncs some cut leaves less than a whole database."""
    folder = await old_store(tmp_path / "disk" / "store")

    async def cut_some() -> None:
        for seed in range(5):
            copy = tmp_path / f"again{seed}" / "store"
            shutil.copytree(folder, copy)
            await cut_everywhere(copy.parent, seed, copy, upgrade, skips=lambda kind, path: kind == "file")

    with pytest.raises((AssertionError, StorageFailed, apsw.Error)):
        await cut_some()


async def cut_everywhere(
    tmp_path: Path,
    seed: int,
    folder: Path,
    work: Callable[..., object],
    skips: Callable[[str, Path], bool] | None = None,
) -> set[int]:
    """Run `work` on a simulated disk; at each operation cut the power, look at what is left, and repeat it
    there. The schemas that were found."""
    disk = SimulatedDisk(folder, skips)
    disk.files = LinkingFiles(disk)
    await work(folder, files=disk.files, vfs=disk.vfs)  # type: ignore[misc]
    rng = random.Random(seed)
    found = set()
    for at in range(disk.count + 1):
        left = tmp_path / f"cut{seed}-{at}"
        disk.cut(rng, left, at)
        assert (left / database.NAME).exists(), at
        assert look(left, "PRAGMA integrity_check") == "ok", at
        schema = look(left, "PRAGMA user_version")
        assert look(left, "SELECT count(*) FROM message") == LETTERS, at
        found.add(schema)
        done = await upgrade(left)
        assert (done.after, done.messages) == (NOW, LETTERS), at
        shutil.rmtree(left)
    disk.close()
    return found  # type: ignore[return-value]
