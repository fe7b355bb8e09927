"""Schema versions: an old database is brought up to date, a newer or foreign one is refused."""

from pathlib import Path

import apsw
import pytest
from postkeep.domain.errors import StorageFailed
from postkeep.storage import database
from postkeep.storage.migrations import MIGRATIONS, migrate
from postkeep.storage.store import MailStore

from tests.support.clock import FakeClock
from tests.support.storing import all_rows, deliver, inbox, letter, open_store

LATER = (*MIGRATIONS, "ALTER TABLE mailbox ADD COLUMN colour TEXT NOT NULL DEFAULT 'blue'")


async def test_a_filled_database_of_the_version_before_is_upgraded(tmp_path: Path) -> None:
    store = await open_store(tmp_path)
    target = await inbox(store, "a@example.test")
    await deliver(store, letter("kept"), [target])
    await store.close()
    connection = database.open_writer(tmp_path / database.NAME)
    assert migrate(connection, LATER) == (len(MIGRATIONS), len(LATER))
    assert migrate(connection, LATER) == (len(LATER), len(LATER))
    assert connection.execute("SELECT DISTINCT colour FROM mailbox").get == "blue"
    assert connection.execute("SELECT count(*) FROM message").get == 1
    connection.close()


async def test_a_store_of_the_first_schema_is_upgraded_and_works(tmp_path: Path) -> None:
    """A database as the first version left it, with a message in it."""
    store = await open_store(tmp_path / "now")
    target = await inbox(store, "a@example.test")
    await deliver(store, letter("kept"), [target])
    await store.close()
    connection = database.open_writer(tmp_path / "now" / database.NAME)
    connection.execute("ALTER TABLE mailbox DROP COLUMN forgotten")
    connection.pragma("user_version", 1)
    connection.close()
    store = await open_store(tmp_path / "now")
    assert store._connection.pragma("user_version") == len(MIGRATIONS) > 1
    assert store.counters(target.account, target.mailbox).messages == 1
    await store.expunge(target.account, target.mailbox, [1])
    assert (await store.expunged_since(target.account, target.mailbox, 1)).tolist() == [1]
    await store.close()


async def test_a_newer_schema_is_refused_and_left_alone(tmp_path: Path) -> None:
    store = await open_store(tmp_path)
    await store.close()
    connection = database.open_writer(tmp_path / database.NAME)
    migrate(connection, LATER)
    connection.close()
    with pytest.raises(StorageFailed, match="newer version"):
        await MailStore.open(tmp_path, FakeClock())
    connection = database.open_writer(tmp_path / database.NAME)
    assert connection.pragma("user_version") == len(LATER)
    connection.close()


def test_a_failing_step_changes_nothing(tmp_path: Path) -> None:
    connection = database.open_writer(tmp_path / database.NAME)
    migrate(connection)
    broken = (*MIGRATIONS, "CREATE TABLE half (x); SELECT no_such_function(1)")
    with pytest.raises(apsw.SQLError):
        migrate(connection, broken)
    assert connection.pragma("user_version") == len(MIGRATIONS)
    assert connection.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'half'").get == 0
    connection.close()


async def test_a_foreign_database_is_refused(tmp_path: Path) -> None:
    connection = apsw.Connection(str(tmp_path / database.NAME))
    connection.execute("CREATE TABLE theirs (x)")
    connection.close()
    with pytest.raises(StorageFailed, match="not a database of Postkeep"):
        await MailStore.open(tmp_path, FakeClock())


async def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / database.NAME).write_bytes(b"garbage " * 1000)
    with pytest.raises(StorageFailed):
        await MailStore.open(tmp_path, FakeClock())


async def test_durability_settings(tmp_path: Path) -> None:
    store = await open_store(tmp_path)
    connection = store._connection
    assert connection.pragma("journal_mode") == "wal"
    assert connection.pragma("synchronous") == 2  # FULL
    assert connection.pragma("page_size") == 4096
    assert connection.pragma("wal_autocheckpoint") == 0
    assert (tmp_path / database.NAME).stat().st_mode & 0o077 == 0
    await store.close()


async def test_two_engines_never_open_one_store(tmp_path: Path) -> None:
    store = await open_store(tmp_path)
    with pytest.raises(StorageFailed, match="another engine"):
        await MailStore.open(tmp_path, FakeClock())
    await store.close()
    store = await open_store(tmp_path)
    await store.close()


async def test_a_damaged_page_hurts_what_lies_in_it_only(tmp_path: Path) -> None:
    """Attack: a page of the database is overwritten: its messages alone are missing."""
    store = await open_store(tmp_path)
    first, second = await inbox(store, "a@example.test"), await inbox(store, "b@example.test")
    for target in (first, second):
        await deliver(store, letter("m"), [target] * 2000)
    await store.close()
    path = tmp_path / database.NAME
    connection = database.open_writer(path)
    root = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'message'").get
    connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
    connection.close()
    data = bytearray(path.read_bytes())
    start = (int(root) - 1) * 4096
    left = int.from_bytes(data[start + 12 : start + 14], "big")  # the first cell: a page low in the key order
    child = int.from_bytes(data[start + left : start + left + 4], "big")
    while data[(child - 1) * 4096] in (2, 5):  # down to a leaf
        base = (child - 1) * 4096
        cell = int.from_bytes(data[base + 12 : base + 14], "big")
        child = int.from_bytes(data[base + cell : base + cell + 4], "big")
    data[(child - 1) * 4096 : child * 4096] = b"\x55" * 4096
    path.write_bytes(bytes(data))
    store = await open_store(tmp_path)
    assert 1900 < len(await all_rows(store, first.account, first.mailbox)) < 2000
    assert store.is_damaged(first.account, first.mailbox)
    assert len(await all_rows(store, second.account, second.mailbox)) == 2000
    await deliver(store, letter("new"), [second])
    await store.close()
