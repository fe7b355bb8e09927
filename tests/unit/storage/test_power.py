"""The simulator of power cuts must itself lose what nobody synced, and keep what was."""

import errno
import os
import random
from pathlib import Path

import apsw
import pytest
from postkeep.runtime.files import replace_atomically, write_all

from tests.support.power import SimulatedDisk

STATES = 60


def survivors(disk: SimulatedDisk, name: str, tmp_path: Path, at: int | None = None) -> set[bytes | None]:
    """All the contents that `name` has in many cuts at one operation; None where it is missing."""
    found: set[bytes | None] = set()
    for seed in range(STATES):
        target = tmp_path / f"cut-{name}-{at}-{seed}"
        disk.cut(random.Random(seed), target, at)
        path = target / name
        found.add(path.read_bytes() if path.exists() else None)
    return found


@pytest.fixture
def disk(tmp_path: Path):
    folder = tmp_path / "disk"
    folder.mkdir()
    disk = SimulatedDisk(folder)
    yield disk
    disk.close()


def put(disk: SimulatedDisk, name: str, data: bytes, *, sync: bool = True, sync_dir: bool = True) -> None:
    fd = disk.files.open(disk.folder / name, os.O_WRONLY | os.O_CREAT)
    write_all(disk.files, fd, data)
    if sync:
        disk.files.fdatasync(fd)
    disk.files.close(fd)
    if sync_dir:
        disk.files.sync_dir(disk.folder)


def test_synced_data_under_a_synced_name_always_survives(disk, tmp_path):
    put(disk, "a", b"x" * 5000)
    assert survivors(disk, "a", tmp_path) == {b"x" * 5000}


def test_without_the_file_sync_data_is_lost_torn_and_zeroed(disk, tmp_path):
    put(disk, "a", b"x" * 5000, sync=False)
    found = survivors(disk, "a", tmp_path)
    assert b"x" * 5000 in found
    assert b"" in found
    assert bytes(5000) in found
    assert any(data and len(data) == 5000 and 0 < data.count(b"x") < 5000 for data in found)
    assert any(data and 0 < len(data) < 5000 for data in found)


def test_without_the_directory_sync_a_new_name_may_be_missing(disk, tmp_path):
    put(disk, "a", b"x", sync_dir=False)
    assert survivors(disk, "a", tmp_path) == {b"x", None}


def test_a_left_out_sync_loses_data_and_the_same_run_with_it_does_not(tmp_path):
    for skipped in (None, "file", "dir"):
        folder = tmp_path / f"disk-{skipped}"
        folder.mkdir()
        disk = SimulatedDisk(folder, lambda kind, path, skipped=skipped: kind == skipped)
        put(disk, "a", b"x" * 600)
        found = survivors(disk, "a", tmp_path / str(skipped))
        assert (found == {b"x" * 600}) == (skipped is None)
        disk.close()


def test_unsynced_writes_survive_in_any_order(disk, tmp_path):
    put(disk, "a", b"0" * 1024)
    fd = disk.files.open(disk.folder / "a", os.O_WRONLY)
    disk.files.pwrite(fd, b"1" * 512, 0)
    disk.files.pwrite(fd, b"2" * 512, 512)
    disk.files.close(fd)
    halves = {b"0" * 512 + b"2" * 512, b"1" * 512 + b"0" * 512}
    assert halves < survivors(disk, "a", tmp_path)


def test_a_torn_write_is_torn_at_sectors_of_the_file_only(disk, tmp_path):
    put(disk, "a", b"0" * 2048)
    fd = disk.files.open(disk.folder / "a", os.O_WRONLY)
    disk.files.pwrite(fd, b"1" * 1500, 300)
    disk.files.close(fd)
    for data in survivors(disk, "a", tmp_path):
        assert data is not None
        for sector, (start, end) in enumerate(((300, 512), (512, 1024), (1024, 1536), (1536, 1800))):
            assert len(set(data[start:end])) == 1, sector


def test_rename_is_atomic_and_durable_only_with_the_targets_directory(disk, tmp_path):
    files = disk.files
    files.mkdir(disk.folder / "spool")
    files.mkdir(disk.folder / "mail")
    fd = files.open(disk.folder / "spool/s", os.O_WRONLY | os.O_CREAT)
    files.write(fd, b"body")
    files.fdatasync(fd)
    files.close(fd)
    files.rename(disk.folder / "spool/s", disk.folder / "mail/m")
    before = disk.count
    files.sync_dir(disk.folder / "spool")
    assert survivors(disk, "mail/m", tmp_path, before) == {b"body", None}
    assert survivors(disk, "mail/m", tmp_path, before + 1) == {b"body", None}
    files.sync_dir(disk.folder / "mail")
    assert survivors(disk, "mail/m", tmp_path) == {b"body"}
    assert survivors(disk, "spool/s", tmp_path) == {None}


def test_unlink_comes_back_without_a_directory_sync(disk, tmp_path):
    put(disk, "a", b"x")
    disk.files.unlink(disk.folder / "a")
    before = disk.count
    disk.files.sync_dir(disk.folder)
    assert survivors(disk, "a", tmp_path, before) == {b"x", None}
    assert survivors(disk, "a", tmp_path) == {None}


def test_unsynced_truncation_may_come_back(disk, tmp_path):
    put(disk, "a", b"x" * 100)
    fd = disk.files.open(disk.folder / "a", os.O_WRONLY)
    disk.files.truncate(fd, 10)
    disk.files.close(fd)
    assert survivors(disk, "a", tmp_path) == {b"x" * 100, b"x" * 10}


def test_replace_atomically_shows_old_or_new_at_every_operation(disk, tmp_path):
    replace_atomically(disk.files, disk.folder / "a", b"old")
    start = disk.count
    replace_atomically(disk.files, disk.folder / "a", b"new" * 300)
    for at in range(start, disk.count):
        assert survivors(disk, "a", tmp_path, at) <= {b"old", b"new" * 300}, at
    assert survivors(disk, "a", tmp_path) == {b"new" * 300}


def test_cuts_go_forward_only(disk, tmp_path):
    put(disk, "a", b"x")
    disk.cut(random.Random(1), tmp_path / "c1", 3)
    with pytest.raises(ValueError, match="ascending"):
        disk.cut(random.Random(1), tmp_path / "c2", 2)


def test_what_stood_on_the_disk_before_is_durable(tmp_path):
    folder = tmp_path / "disk"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub/old").write_bytes(b"old")
    disk = SimulatedDisk(folder)
    disk.files.unlink(folder / "sub/old")
    assert survivors(disk, "sub/old", tmp_path, 0) == {b"old"}
    disk.close()


def test_refused_operations_fail_as_the_kernel_would(disk):
    disk.refuse = lambda kind, path: errno.ENOSPC if kind == "write" else 0
    with pytest.raises(OSError, match="No space left") as error:
        put(disk, "a", b"x")
    assert error.value.errno == errno.ENOSPC
    connection = apsw.Connection(str(disk.folder / "db"), vfs=disk.vfs)
    with pytest.raises(apsw.FullError):
        connection.execute("CREATE TABLE t (x)")
    disk.refuse = None
    connection.execute("CREATE TABLE t (x)")
    connection.close()


def run_database(disk: SimulatedDisk, commits: int = 40) -> list[tuple[int, int]]:
    """Commits numbers 0… into a WAL database beside a reader; [(operations so far, number)]."""
    path = str(disk.folder / "db")
    writer = apsw.Connection(path, vfs=disk.vfs)
    writer.execute("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 8")
    writer.execute("CREATE TABLE t (x INTEGER PRIMARY KEY, y)")
    reader = apsw.Connection(path, vfs=disk.vfs, flags=apsw.SQLITE_OPEN_READONLY)
    acknowledged = []
    for number in range(commits):
        writer.execute("INSERT INTO t VALUES (?, ?)", (number, os.urandom(700)))
        acknowledged.append((disk.count, number))
        assert reader.execute("SELECT count(*) FROM t").get == number + 1
    reader.close()
    writer.close()
    return acknowledged


def lost_rows(disk: SimulatedDisk, acknowledged: list[tuple[int, int]], tmp_path: Path, states: int) -> int:
    """In how many cuts an acknowledged row is missing or the database is broken."""
    lost = 0
    rng = random.Random(7)
    for number, at in enumerate(sorted(rng.randrange(acknowledged[0][0], disk.count) for _ in range(states))):
        target = tmp_path / f"database-{number}"
        disk.cut(rng, target, at)
        try:
            connection = apsw.Connection(str(target / "db"))
            rows = [row[0] for row in connection.execute("SELECT x FROM t ORDER BY x")]
            healthy = connection.execute("PRAGMA integrity_check").get == "ok"
            connection.close()
        except apsw.Error:
            rows, healthy = [], False
        due = sum(1 for count, _ in acknowledged if count <= at)
        lost += not (healthy and len(rows) >= due and rows == list(range(len(rows))))
    return lost


def test_sqlite_in_wal_mode_keeps_every_commit_at_every_cut(disk, tmp_path):
    assert lost_rows(disk, run_database(disk), tmp_path, 100) == 0


def test_sqlite_loses_commits_when_its_syncs_are_left_out(tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir()
    disk = SimulatedDisk(folder, lambda kind, path: kind == "file")
    assert lost_rows(disk, run_database(disk), tmp_path, 40) > 20
    disk.close()


def test_sqlite_loses_commits_when_the_directory_is_not_synced(tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir()
    disk = SimulatedDisk(folder, lambda kind, path: kind == "dir")
    assert lost_rows(disk, run_database(disk), tmp_path, 40) > 5
    disk.close()
