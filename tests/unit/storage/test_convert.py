"""A database from before page checksums gets them at the first start, or stays what it was."""

import logging
import os
import random
import shutil
from pathlib import Path

import apsw
import pytest
from postkeep.domain.errors import DatabaseDamaged
from postkeep.storage import checksums, convert, database
from postkeep.storage.convert import add_checksums
from postkeep.storage.store import MailStore
from postkeep.storage.verify import verify

from tests.support.clock import FakeClock
from tests.support.power import SimulatedDisk, cut_points
from tests.support.storing import contents, deliver, inbox, letter, open_store

ALICE = "alice@example.test"


async def old_store(folder: Path, crashed: bool = False) -> None:
    """As a version without checksums left it; `crashed`: with its last messages in the WAL alone."""
    store = await open_store(folder)
    target = await inbox(store, ALICE)
    for number in range(30):
        await deliver(store, letter(f"m{number}"), [target])
    await store.close()
    path = folder / database.NAME
    target_path = folder / "plain"
    source, plain = apsw.Connection(str(path), vfs="unix"), apsw.Connection(str(target_path), vfs="unix")
    plain.pragma("page_size", 4096)
    for name, sql in source.execute("SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL").fetchall():
        if name != "sqlite_sequence":
            plain.execute(sql)
    for (name,) in source.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall():
        rows = source.execute(f"SELECT * FROM {name}").fetchall()
        if rows:
            plain.executemany(f"INSERT INTO {name} VALUES ({','.join('?' * len(rows[0]))})", rows)
    plain.execute("DELETE FROM meta WHERE key = 'checksums'")
    for pragma in ("user_version", "application_id"):
        plain.pragma(pragma, int(source.pragma(pragma)))
    source.close()
    plain.pragma("journal_mode", "wal")
    if crashed:
        plain.execute("INSERT INTO meta (key, value) VALUES ('in_the_wal', 1)")
        shutil.copy(f"{target_path}-wal", f"{path}-wal")
    else:
        Path(f"{path}-wal").unlink(missing_ok=True)
        plain.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
    Path(f"{path}-shm").unlink(missing_ok=True)
    shutil.copy(target_path, path)
    plain.close()
    for leftover in folder.glob("plain*"):
        leftover.unlink()
    assert reserved(folder) == 0


def reserved(folder: Path) -> int:
    return (folder / database.NAME).read_bytes()[checksums.RESERVED_AT]


def in_the_wal(store: MailStore) -> bool:
    return bool(store._connection.execute("SELECT 1 FROM meta WHERE key = 'in_the_wal'").get)


@pytest.mark.parametrize("crashed", [False, True])
async def test_an_old_store_gets_checksums_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, crashed: bool
) -> None:
    await old_store(tmp_path, crashed)
    caplog.set_level(logging.INFO)
    for _ in range(2):
        store = await open_store(tmp_path)
        assert reserved(tmp_path) == checksums.RESERVED
        assert checksums.verifying(store._connection)
        assert in_the_wal(store) == crashed
        assert len((await contents(store, ALICE))["INBOX"]) == 30
        await store.close()
    told = [one.getMessage() for one in caplog.records if one.name == convert.__name__]
    assert len(told) == 2
    assert told[-1] == "the database has page checksums"
    assert (tmp_path / database.NAME).stat().st_mode & 0o077 == 0
    assert sorted(path.name for path in tmp_path.glob("postkeep.db.*")) == []
    assert (await verify(tmp_path, rate=0)).problems == ()


async def test_without_room_it_works_on_as_it_is(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    await old_store(tmp_path)
    usage = shutil._ntuple_diskusage(1 << 40, 1 << 40, 1 << 20)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)
    store = await open_store(tmp_path)
    assert len((await contents(store, ALICE))["INBOX"]) == 30
    await deliver(store, letter("new"), [await inbox(store, ALICE)])
    await store.close()
    assert reserved(tmp_path) == 0
    assert [one.levelno for one in caplog.records if "no room" in one.getMessage()] == [logging.ERROR]


async def test_a_reader_beside_it_puts_it_off(tmp_path: Path) -> None:
    await old_store(tmp_path, crashed=True)
    reader = database.open_reader(tmp_path / database.NAME)
    reader.execute("BEGIN")
    assert reader.execute("SELECT count(*) FROM message").get == 30
    store = await open_store(tmp_path)
    assert reserved(tmp_path) == 0
    await store.close()
    reader.close()
    store = await open_store(tmp_path)
    assert reserved(tmp_path) == checksums.RESERVED
    assert in_the_wal(store)
    await store.close()


async def test_a_header_that_denies_its_checksums_is_not_converted(tmp_path: Path) -> None:
    """Attack: bit 3 of octet 20 flips: the database looks like an old one."""
    store = await open_store(tmp_path)
    await store.close()
    for path in tmp_path.glob("postkeep.db-*"):
        path.unlink()
    data = bytearray((tmp_path / database.NAME).read_bytes())
    data[checksums.RESERVED_AT] ^= 8
    (tmp_path / database.NAME).write_bytes(data)
    with pytest.raises(DatabaseDamaged, match="header"):
        await MailStore.open(tmp_path, FakeClock())
    assert (tmp_path / database.NAME).read_bytes() == data


@pytest.mark.parametrize("crashed", [False, True])
async def test_the_power_goes_at_any_moment_of_it(tmp_path: Path, crashed: bool) -> None:
    await old_store(tmp_path / "old" / "store", crashed)
    disk = SimulatedDisk(tmp_path / "old")
    assert add_checksums(disk.files, disk.folder / "store" / database.NAME, disk.vfs, lambda: 0.0)
    rng = random.Random(11)
    converted = 0
    cuts = cut_points(rng, 0, disk.count, 60)
    for at in cuts:
        target = tmp_path / "cut"
        disk.cut(rng, target, at)
        converted += reserved(target / "store") == checksums.RESERVED
        store = await open_store(target / "store")
        assert reserved(target / "store") == checksums.RESERVED, f"cut at {at}"
        assert in_the_wal(store) == crashed, f"cut at {at}"
        assert len((await contents(store, ALICE))["INBOX"]) == 30, f"cut at {at}"
        await store.close()
        assert not os.path.exists(target / "store" / convert.NEW)
        shutil.rmtree(target)
    assert 0 < converted < len(cuts)
    disk.close()


async def test_the_power_goes_and_one_sync_is_missing(tmp_path: Path) -> None:
    """The proof that the test above can fail."""
    await old_store(tmp_path / "old" / "store", crashed=True)
    disk = SimulatedDisk(tmp_path / "old", lambda kind, path: kind == "file")
    assert add_checksums(disk.files, disk.folder / "store" / database.NAME, disk.vfs, lambda: 0.0)
    rng = random.Random(11)
    lost = 0
    for at in cut_points(rng, 0, disk.count, 60):
        disk.cut(rng, tmp_path / "cut", at)
        try:
            store = await open_store(tmp_path / "cut" / "store")
        except Exception:
            lost += 1
        else:
            lost += not in_the_wal(store)
            await store.close()
        shutil.rmtree(tmp_path / "cut")
    assert lost > 0
    disk.close()


async def test_a_wal_damaged_in_the_middle_is_refused_before_the_copy_takes_its_place(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    await old_store(tmp_path / "old")
    writer = apsw.Connection(str(tmp_path / "old" / database.NAME), vfs="unix")
    writer.pragma("wal_autocheckpoint", 0)
    for number in range(6):
        writer.execute("INSERT INTO meta (key, value) VALUES (?, 1)", (f"acknowledged{number}",))
    shutil.copytree(tmp_path / "old", tmp_path / "crashed", ignore=shutil.ignore_patterns("*-shm"))
    writer.close()
    path = tmp_path / "crashed" / database.NAME
    log = path.with_name(f"{path.name}-wal")
    octets = bytearray(log.read_bytes())
    octets[32 + (24 + checksums.PAGE_SIZE) + 24 + 100] ^= 1  # in the second frame
    log.write_bytes(octets)
    with pytest.raises(DatabaseDamaged, match="frame 2"):
        await open_store(tmp_path / "crashed")
    assert log.read_bytes() == bytes(octets)
    assert reserved(tmp_path / "crashed") == 0


async def test_an_old_database_with_a_damaged_page_is_served_as_it_is(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    await old_store(tmp_path)
    path = tmp_path / database.NAME
    connection = apsw.Connection(str(path), vfs="unix")
    leaf = connection.execute(
        "SELECT max(pageno) FROM dbstat WHERE name = 'structure' AND pagetype = 'leaf'"
    ).get
    connection.close()
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    octets = bytearray(path.read_bytes())
    octets[(leaf - 1) * checksums.PAGE_SIZE] = 0x77  # no kind of page
    path.write_bytes(octets)
    store = await open_store(tmp_path)
    try:
        assert len((await contents(store, ALICE))["INBOX"]) == 30
    finally:
        await store.close()
    assert reserved(tmp_path) == 0
    assert not (tmp_path / convert.NEW).exists()
    assert "gets no page checksums, since it is damaged" in caplog.text
