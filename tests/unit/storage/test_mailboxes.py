"""Accounts and mailboxes: made, renamed, deleted; in memory as in the database."""

import asyncio
from pathlib import Path

import pytest
from postkeep.domain.errors import (
    AlreadyExists,
    Denied,
    InvalidName,
    MailboxExists,
    MailboxNotFound,
    NotFound,
)
from postkeep.domain.mailbox import DEFAULT_MAILBOXES, Role
from postkeep.storage.mailboxes import check_name
from postkeep.storage.store import MailStore

from tests.support.storing import all_rows, deliver, inbox, letter, open_store


def names(store: MailStore, account: int) -> list[str]:
    return [mailbox.name for mailbox in store.mailboxes(account)]


async def same_after_reopening(store: MailStore, folder: Path, account: int) -> MailStore:
    before = store.mailboxes(account), store.usage(account)
    await store.close()
    store = await open_store(folder)
    assert (store.mailboxes(account), store.usage(account)) == before
    return store


async def test_a_new_account_has_the_default_mailboxes(tmp_path: Path) -> None:
    store = await open_store(tmp_path)
    account = await store.create_account("a@example.test")
    assert await store.create_account("a@example.test") == account
    assert names(store, account) == ["INBOX", "Drafts", "Junk", "Sent", "Trash"]
    assert {m.name: m.role for m in store.mailboxes(account)} == dict(DEFAULT_MAILBOXES)
    assert all(mailbox.subscribed for mailbox in store.mailboxes(account))
    assert store.mailbox(account, "inBox").name == "INBOX"
    assert store.account_id("b@example.test") is None
    store = await same_after_reopening(store, tmp_path, account)
    await store.close()


async def test_the_same_account_made_by_many_at_once(tmp_path: Path) -> None:
    store = await open_store(tmp_path)
    ids = await asyncio.gather(*[store.create_account("a@example.test") for _ in range(10)])
    assert len(set(ids)) == 1
    assert store._connection.execute("SELECT count(*) FROM account").get == 1
    assert store._connection.execute("SELECT count(*) FROM mailbox").get == 5
    await store.close()


async def test_thousands_of_accounts_in_one_commit(tmp_path: Path) -> None:
    store = await open_store(tmp_path)
    keys = [f"u{number}@example.test" for number in range(3000)]
    await store.create_account("u7@example.test")
    await store.create_accounts([*keys, keys[0]])
    assert len({store.account_id(key) for key in keys}) == 3000
    assert store._connection.execute("SELECT count(*) FROM mailbox").get == 15_000
    await store.close()


async def test_parents_are_made_and_names_checked(tmp_path: Path) -> None:
    store = await open_store(tmp_path)
    account = await store.create_account("a@example.test")
    mailbox, _ = await store.create_mailbox(account, "a/b/c", Role.ARCHIVE)
    assert mailbox.role is Role.ARCHIVE
    assert {"a", "a/b", "a/b/c"} <= set(names(store, account))
    with pytest.raises(MailboxExists):
        await store.create_mailbox(account, "a/b")
    with pytest.raises(MailboxExists):
        await store.create_mailbox(account, "Inbox")
    assert (await store.create_mailbox(account, "inbox/Sub"))[0].name == "INBOX/Sub"
    with pytest.raises(MailboxNotFound):
        store.mailbox(account, "nope")
    store = await same_after_reopening(store, tmp_path, account)
    await store.close()


@pytest.mark.parametrize("name", ["", "/", "a/", "/a", "a//b", "a\r\nb", "a\0", "x" * 1001, "\udcff"])
def test_hostile_names(name: str) -> None:
    with pytest.raises(InvalidName):
        check_name(name)


async def test_rename_takes_children_and_keeps_messages(tmp_path: Path) -> None:
    store = await open_store(tmp_path)
    target = await inbox(store, "a@example.test")
    account = target.account
    for name in ("a/b/c", "ab"):
        await store.create_mailbox(account, name)
    child = store.mailbox(account, "a/b/c")
    await deliver(store, letter("x"), [target._replace(mailbox=child.id)])
    await store.rename_mailbox(account, "a", "new/place")
    assert set(names(store, account)) >= {"new", "new/place", "new/place/b", "new/place/b/c", "ab"}
    assert "a" not in names(store, account)
    moved = store.mailbox(account, "new/place/b/c")
    assert (moved.id, moved.uidvalidity) == (child.id, child.uidvalidity)
    assert store.counters(account, moved.id).messages == 1
    with pytest.raises(MailboxExists):
        await store.rename_mailbox(account, "new/place", "ab")
    with pytest.raises(InvalidName):
        await store.rename_mailbox(account, "new", "new/place/x")
    with pytest.raises(MailboxNotFound):
        await store.rename_mailbox(account, "a", "z")
    with pytest.raises(MailboxExists):
        await store.rename_mailbox(account, "ab", "INBOX")
    store = await same_after_reopening(store, tmp_path, account)
    # The record says where it was delivered, by the name it had then or has now: new deliveries use the new.
    (appended,) = await deliver(store, letter("y"), [target._replace(mailbox=child.id)])
    row = appended.rows[0]
    record = store.packs.read(row.pack, row.offset)
    assert record.trailer.deliveries[0].mailbox == "new/place/b/c"
    await store.close()


async def test_rename_that_would_meet_a_child_is_refused_whole(tmp_path: Path) -> None:
    store = await open_store(tmp_path)
    account = await store.create_account("a@example.test")
    for name in ("a/x", "b/x"):
        await store.create_mailbox(account, name)
    await store.delete_mailbox(account, "b")  # its child stays
    before = store.mailboxes(account)
    with pytest.raises(MailboxExists):
        await store.rename_mailbox(account, "a", "b")
    assert store.mailboxes(account) == before
    store = await same_after_reopening(store, tmp_path, account)
    await store.close()


async def test_rename_inbox_moves_its_messages(tmp_path: Path) -> None:
    """RFC 3501 §6.3.5: INBOX is left empty, its children stay where they are."""
    store = await open_store(tmp_path)
    target = await inbox(store, "a@example.test")
    account = target.account
    await store.create_mailbox(account, "INBOX/Sub")
    await deliver(store, letter("x"), [target])
    old = store.mailbox(account, "INBOX")
    changed = await store.rename_mailbox(account, "inbox", "Old/2026")
    new = store.mailbox(account, "INBOX")
    assert changed.removed == (old.id,)
    assert new.uidvalidity > old.uidvalidity
    assert store.counters(account, new.id).messages == 0
    assert len(await all_rows(store, account, store.mailbox(account, "Old/2026").id)) == 1
    assert {"INBOX/Sub", "Old"} <= set(names(store, account))
    assert store.usage(account)[1] == 1
    await deliver(store, letter("y"), [target._replace(mailbox=new.id)])
    store = await same_after_reopening(store, tmp_path, account)
    await store.close()


async def test_deleted_mailboxes_are_gone_at_once_and_their_octets_are_dead_soon(tmp_path: Path) -> None:
    store = await open_store(tmp_path)
    target = await inbox(store, "a@example.test")
    account = target.account
    work, _ = await store.create_mailbox(account, "Work")
    for number in range(5):
        await deliver(store, letter(f"m{number}"), [target._replace(mailbox=work.id)])
    await store.expunge(account, work.id, [5])
    await store.copy(account, work.id, [1], target.mailbox)
    changed = await store.delete_mailbox(account, "work".title())
    assert changed.removed == (work.id,)
    assert store.usage(account)[1] == 1
    with pytest.raises(MailboxNotFound):
        store.counters(account, work.id)
    with pytest.raises(MailboxNotFound):
        await deliver(store, letter("late"), [target._replace(mailbox=work.id)])
    while store._tasks:
        await store._tasks["reap"]
    connection = store._connection
    assert connection.execute("SELECT count(*) FROM message WHERE mailbox = ?", (work.id,)).get == 0
    assert connection.execute("SELECT count(*) FROM tombstone").get == 0
    assert connection.execute("SELECT count(*) FROM mailbox WHERE name IS NULL").get == 0
    total, dead = connection.execute("SELECT sum(length), sum(dead) FROM pack").fetchone()  # type: ignore[misc]
    (row,) = await all_rows(store, account, target.mailbox)
    record = store.packs.read(row.pack, row.offset)
    assert dead == total - record.header.length
    with pytest.raises(Denied):
        await store.delete_mailbox(account, "INBOX")
    with pytest.raises(MailboxNotFound):
        await store.delete_mailbox(account, "Work")
    await store.close()


async def test_removing_goes_on_after_a_restart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = await open_store(tmp_path)
    target = await inbox(store, "a@example.test")
    for number in range(5):
        await deliver(store, letter(f"m{number}"), [target])
    monkeypatch.setattr(MailStore, "_spawn", lambda *_: None)
    await store.delete_account("a@example.test")
    await store.close()
    monkeypatch.undo()
    store = await open_store(tmp_path)
    assert store.account_id("a@example.test") is None
    while store._tasks:
        await store._tasks["reap"]
    for table in ("message", "mailbox", "account"):
        assert store._connection.execute(f"SELECT count(*) FROM {table}").get == 0
    total, dead = store._connection.execute("SELECT sum(length), sum(dead) FROM pack").fetchone()  # type: ignore[misc]
    assert total == dead > 0
    await store.close()


async def test_accounts_renamed_and_deleted(tmp_path: Path) -> None:
    store = await open_store(tmp_path)
    target = await inbox(store, "a@example.test")
    await store.create_account("b@example.test")
    await deliver(store, letter("x"), [target])
    await store.rename_account("a@example.test", "c@example.test")
    assert store.account_id("c@example.test") == target.account
    assert store.account_id("a@example.test") is None
    with pytest.raises(AlreadyExists):
        await store.rename_account("c@example.test", "b@example.test")
    with pytest.raises(NotFound):
        await store.rename_account("a@example.test", "d@example.test")
    await store.delete_account("c@example.test")
    with pytest.raises(NotFound):
        store.mailboxes(target.account)
    with pytest.raises(NotFound):
        await store.delete_account("c@example.test")
    again = await store.create_account("c@example.test")
    assert again != target.account
    assert store.usage(again) == (0, 0)
    store = await same_after_reopening(store, tmp_path, again)
    await store.close()


async def test_subscribe(tmp_path: Path) -> None:
    store = await open_store(tmp_path)
    account = await store.create_account("a@example.test")
    await store.subscribe(account, "Sent", False)
    assert not store.mailbox(account, "Sent").subscribed
    store = await same_after_reopening(store, tmp_path, account)
    await store.subscribe(account, "Sent", True)
    assert store.mailbox(account, "Sent").subscribed
    with pytest.raises(MailboxNotFound):
        await store.subscribe(account, "nope", True)
    await store.close()


async def test_structural_changes_in_one_batch_see_one_another(tmp_path: Path) -> None:
    store = await open_store(tmp_path)
    account = await store.create_account("a@example.test")
    results = await asyncio.gather(
        store.create_mailbox(account, "one"),
        store.rename_mailbox(account, "one", "two"),
        store.create_mailbox(account, "one"),
        store.create_mailbox(account, "two"),
        store.delete_mailbox(account, "one"),
        store.subscribe(account, "two", False),
        return_exceptions=True,
    )
    assert [type(result) for result in results if isinstance(result, Exception)] == [MailboxExists]
    assert "two" in names(store, account)
    assert "one" not in names(store, account)
    assert not store.mailbox(account, "two").subscribed
    assert store.catalogue.states[store.mailbox(account, "two").id].name == "two"
    store = await same_after_reopening(store, tmp_path, account)
    await store.close()


async def test_accounts_that_go_in_the_same_batch(tmp_path: Path) -> None:
    """Attack: administrators at once: what comes after a deletion finds nothing, and leaves nothing."""
    store = await open_store(tmp_path)
    target = await inbox(store, "a@example.test")
    await deliver(store, letter("x"), [target])
    account = target.account
    sent = store.mailbox(account, "Sent").id
    results = await asyncio.gather(
        store.rename_account("a@example.test", "b@example.test"),
        store.rename_account("a@example.test", "c@example.test"),
        store.delete_account("a@example.test"),
        return_exceptions=True,
    )
    assert [type(result) for result in results] == [type(None), NotFound, NotFound]
    assert store.account_id("b@example.test") == account
    results = await asyncio.gather(
        store.delete_account("b@example.test"),
        store.rename_account("b@example.test", "d@example.test"),
        store.create_mailbox(account, "late"),
        store.copy(account, target.mailbox, [1], sent),
        store.delete_account("b@example.test"),
        return_exceptions=True,
    )
    assert results[0] is None
    assert [type(result) for result in results[1:]] == [NotFound, NotFound, MailboxNotFound, NotFound]
    while store._tasks:
        await store._tasks["reap"]
    for table in ("message", "mailbox", "account"):
        assert store._connection.execute(f"SELECT count(*) FROM {table}").get == 0
    assert not store.catalogue.states
    assert not store.catalogue.by_key
    await store.close()
