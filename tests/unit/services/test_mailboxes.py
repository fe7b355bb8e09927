"""The mailbox service on a real store: names, quotas, and what is published when."""

import asyncio
import dataclasses
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from postkeep.domain.account import Account
from postkeep.domain.change import Appended, Change, Expunged, FlagsChanged, MailboxesChanged
from postkeep.domain.errors import Denied, InvalidName, MailboxExists, MailboxNotFound, OverQuota
from postkeep.domain.mailbox import Role
from postkeep.domain.message import Flag, FlagMode
from postkeep.services.changes import ChangeBus
from postkeep.services.mailboxes import MailboxService, find_name, normal_name
from postkeep.services.quotas import Quotas
from postkeep.storage.jobs import Target
from postkeep.storage.store import MailStore

from tests.support.clock import FakeClock

ALICE = Account("alice", "example.test")
MESSAGE = b"Subject: x\r\n\r\nhello\r\n"


class World:
    def __init__(self, store: MailStore, clock: FakeClock) -> None:
        self.store = store
        self.service = MailboxService(store, ChangeBus(), Quotas(store), clock)
        self.heard: list[Change] = []
        self.account = 0

    def inbox(self) -> int:
        return self.service.mailbox(self.account, "inbox").id

    async def append(self, owner: Account = ALICE, origin: object | None = None) -> Appended:
        incoming = self.service.incoming()
        incoming.write(MESSAGE)
        target = Target(self.account, self.inbox())
        return await self.service.append(await incoming.finish(), target, 1, owner, origin=origin)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    clock = FakeClock()
    store = await MailStore.open(tmp_path, clock)
    world = World(store, clock)
    world.account = await world.service.open_account(ALICE)
    world.service.bus.subscribe(world.account, world.heard.append)
    yield world
    await store.close()


@pytest.mark.parametrize(
    ("name", "normal"),
    [
        ("inbox", "INBOX"),
        ("InBox/a", "INBOX/a"),
        ("inboxes", "inboxes"),
        ("a/", "a"),
        ("Bu\u0308ro", "Büro"),
        ("a b/c.d", "a b/c.d"),
        ("...", "..."),
        (".a/b./..c", ".a/b./..c"),
    ],
)
def test_names_have_one_spelling(name: str, normal: str) -> None:
    assert normal_name(name) == normal == find_name(name)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "/",
        "a//b",
        "/a",
        "a/ /b",
        "a//",
        ".",
        "..",
        "../a",
        "a/./b",
        "a/../b",
        "a/../",
        "inbox/..",
        "a\0b",
        "a\nb",
        "a\x7f",
        "a\x85",
        "a\u2028b",
        "\ud800",
        "x" * 1001,
        "ü" * 501,
        "a/" * 33,
    ],
)
def test_bad_names_are_refused(name: str) -> None:
    with pytest.raises(InvalidName):
        normal_name(name)


async def test_an_account_is_opened_once(world: World) -> None:
    assert await world.service.open_account(ALICE) == world.account
    assert next(box.name for box in world.service.mailboxes(world.account)) == "INBOX"


async def test_changes_of_mailboxes_are_published_with_their_origin(world: World) -> None:
    origin = object()
    service, account = world.service, world.account
    await service.create_mailbox(account, "a/b", origin=origin)
    await service.rename_mailbox(account, "a", "z", origin=origin)
    await service.subscribe(account, "z/b", False, origin=origin)
    removed = service.mailbox(account, "z/b").id
    await service.delete_mailbox(account, "z/b/", origin=origin)
    assert [type(change) for change in world.heard] == [MailboxesChanged] * 4
    assert all(change.origin is origin for change in world.heard)
    assert world.heard[-1] == MailboxesChanged(account, (removed,), origin)


async def test_what_is_refused_changes_and_publishes_nothing(world: World) -> None:
    service, account = world.service, world.account
    before = service.mailboxes(account)
    with pytest.raises(Denied):
        await service.delete_mailbox(account, "inbox")
    with pytest.raises(MailboxExists):
        await service.create_mailbox(account, "Sent/")
    with pytest.raises(MailboxExists):
        await service.create_mailbox(account, "More", Role.SENT)
    with pytest.raises(InvalidName):
        await service.rename_mailbox(account, "Sent", "Sent/below")
    with pytest.raises(MailboxExists):
        await service.rename_mailbox(account, "Sent", "inbox")
    with pytest.raises(MailboxNotFound):
        await service.rename_mailbox(account, "Gone", "New")
    with pytest.raises(MailboxNotFound):
        await service.subscribe(account, "Gone", True)
    assert service.mailboxes(account) == before
    assert world.heard == []


async def test_a_rename_that_makes_a_child_too_long_is_refused(world: World) -> None:
    await world.service.create_mailbox(world.account, "a/" + "x" * 900)
    with pytest.raises(InvalidName):
        await world.service.rename_mailbox(world.account, "a", "y" * 200)
    await world.service.create_mailbox(world.account, "b" + "/c" * 31)
    with pytest.raises(InvalidName):
        await world.service.rename_mailbox(world.account, "b", "d/e")


async def test_message_changes_are_published_after_their_commit(world: World) -> None:
    service, account, inbox = world.service, world.account, world.inbox()
    origin = object()
    await world.append(origin=origin)
    await service.store_flags(account, inbox, [1], FlagMode.ADD, Flag.SEEN, ["$x"], origin=origin)
    # Nothing changes: nothing is published.
    await service.store_flags(account, inbox, [1], FlagMode.ADD, Flag.SEEN, origin=origin)
    trash = service.mailbox(account, "Trash").id
    await service.copy(account, inbox, [1], trash, ALICE, origin=origin)
    await service.move(account, inbox, [1], trash, origin=origin)
    await service.expunge(account, trash, [1], origin=origin)
    await service.expunge(account, trash, origin=origin)
    assert [type(change) for change in world.heard] == [
        Appended, FlagsChanged, Appended, Appended, Expunged, Expunged,
    ]  # fmt: skip
    assert all(change.origin is origin for change in world.heard)
    assert service.counters(account, trash).messages == 1


async def test_quota(world: World) -> None:
    items = dataclasses.replace(ALICE, quota_items=2)
    octets = dataclasses.replace(ALICE, quota_bytes=len(MESSAGE) * 2)
    await world.append(items)
    await world.append(octets)
    for owner in (items, octets):
        with pytest.raises(OverQuota):
            await world.append(owner)
        with pytest.raises(OverQuota):
            await world.service.copy(
                world.account, world.inbox(), [1], world.inbox(), owner, octets=len(MESSAGE)
            )
    assert world.service.usage(world.account) == (len(MESSAGE) * 2, 2)
    # Moving and deleting always work.
    trash = world.service.mailbox(world.account, "Trash").id
    await world.service.move(world.account, world.inbox(), [1], trash)
    await world.service.expunge(world.account, trash, [1])
    await world.append(items)


def block(store: MailStore) -> tuple[threading.Event, Callable[[], None]]:
    """Hold the writer up: (set when it stands, a call that lets it go on)."""
    started, go = threading.Event(), threading.Event()

    def wait(_: object) -> None:
        started.set()
        assert go.wait(10)

    task = asyncio.ensure_future(store.writer.change(wait))

    def free() -> None:
        assert not task.done()
        go.set()

    return started, free


async def test_what_was_done_is_published_though_its_session_is_gone(world: World) -> None:
    """Attack: the connection ends while the writer works; the other sessions must hear of it."""
    await world.append()
    world.heard.clear()
    service, account, inbox = world.service, world.account, world.inbox()
    trash = service.mailbox(account, "Trash").id
    for work in (
        lambda: service.store_flags(account, inbox, [1], FlagMode.ADD, int(Flag.SEEN)),
        lambda: service.copy(account, inbox, [1], trash, ALICE),
        lambda: service.move(account, inbox, [1], trash),
        lambda: service.expunge(account, trash, [1]),
        lambda: service.create_mailbox(account, "New"),
        lambda: world.append(),
    ):
        # The writer has the work but cannot tell its result before the caller is gone.
        first, free = block(world.store)
        await asyncio.sleep(0)
        await asyncio.to_thread(first.wait, 10)
        task = asyncio.ensure_future(work())
        for _ in range(5):
            await asyncio.sleep(0)
        second, go = block(world.store)
        await asyncio.sleep(0)
        free()
        await asyncio.to_thread(second.wait, 10)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert task.cancelled()
        go()
        await world.store.writer.change(lambda _: None)
    kinds = [type(change) for change in world.heard]
    assert kinds == [FlagsChanged, Appended, Appended, Expunged, Expunged, MailboxesChanged, Appended]
