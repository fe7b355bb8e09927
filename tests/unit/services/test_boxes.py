"""Users that come and go: who finds which mail, whatever happens between users.cfg and the store."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from postkeep.domain.errors import AlreadyExists, InUse, StorageFailed
from postkeep.house import House
from postkeep.services.accounts import NewUser
from postkeep.services.configuration import State
from postkeep.services.envelope import Client, Transaction
from postkeep.services.rights import ROOT

from tests.support.house import DOMAIN, make_data
from tests.support.storing import contents

CARL = f"carl@{DOMAIN}"


@pytest.fixture
async def houses(tmp_path: Path) -> AsyncIterator["Houses"]:
    houses = Houses(make_data(tmp_path / "data"))
    await houses.reopen()
    yield houses
    await houses.house.close()


class Houses:
    """One data folder; `reopen` is a restart."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self._open = False

    async def reopen(self) -> House:
        if self._open:
            await self.house.close()
        self.house = await House.open(self.data, stderr=None)
        self._open = True
        return self.house

    async def send(self, text: bytes, to: str = CARL) -> str:
        receiver, client, transaction = self.house.receiver, Client("192.0.2.1"), Transaction()
        assert receiver.admission.sender(client, transaction, "x@else.test").ok
        verdict = receiver.admission.recipient(client, transaction, to)
        if not verdict.ok:
            return verdict.reply
        content = receiver.content()
        content.write(b"Subject: %b\r\n\r\nx\r\n" % text)
        return (await receiver.finish(client, transaction, content)).reply

    async def add(self, name: str = "carl") -> None:
        await self.house.accounts.add_users(ROOT, [NewUser(name)])

    async def inbox(self, key: str = CARL) -> int:
        return len((await contents(self.house.store, key)).get("INBOX", ()))


async def test_mail_of_a_removed_user_goes_or_is_kept(houses: Houses) -> None:
    for keep in (False, True):
        await houses.add()
        assert (await houses.send(b"old")).startswith("250")
        await houses.house.accounts.remove_users(ROOT, ["carl"], keep_mail=keep)
        assert (houses.house.store.account_id(CARL) is not None) == keep
        await houses.reopen()
        await houses.add()
        assert await houses.inbox() == int(keep)
        await houses.house.accounts.remove_users(ROOT, ["carl"])
    await houses.add()
    assert await houses.inbox() == 0  # kept once, not for ever


async def test_a_message_on_its_way_to_a_removed_user_is_nobodys(houses: Houses) -> None:
    await houses.add()
    receiver, client, transaction = houses.house.receiver, Client("192.0.2.1"), Transaction()
    receiver.admission.sender(client, transaction, "x@else.test")
    assert receiver.admission.recipient(client, transaction, CARL).ok
    await houses.house.accounts.remove_users(ROOT, ["carl"])
    content = receiver.content()
    content.write(b"Subject: for the old carl\r\n\r\nsecret\r\n")
    assert (await receiver.finish(client, transaction, content)).reply.startswith("451 ")
    assert houses.house.store.account_id(CARL) is None
    assert (await houses.send(b"again")).startswith("550 5.1.1")
    await houses.add()
    assert await houses.inbox() == 0


async def _cut(houses: Houses) -> None:
    """Remove carl; the engine's end comes between the two saves."""
    await houses.add()
    await houses.send(b"old")
    reached = asyncio.Event()

    async def never(key: str) -> None:
        reached.set()
        await asyncio.Event().wait()

    houses.house.store.delete_account = never  # type: ignore[method-assign]
    job = asyncio.create_task(houses.house.accounts.remove_users(ROOT, ["carl"]))
    await reached.wait()
    job.cancel()
    with pytest.raises(asyncio.CancelledError):
        await job
    del houses.house.store.delete_account
    assert houses.house.directory.account("carl") is None
    assert houses.house.store.account_id(CARL) is not None


async def test_a_removal_cut_short_is_finished_at_the_next_start(houses: Houses) -> None:
    await _cut(houses)
    await houses.reopen()
    assert houses.house.store.account_id(CARL) is None


async def test_a_removal_cut_short_is_finished_before_the_name_is_used_again(houses: Houses) -> None:
    await _cut(houses)
    await houses.add()
    assert await houses.inbox() == 0
    await houses.reopen()  # ... and the note does not touch the new one
    await houses.send(b"new")
    await houses.reopen()
    assert await houses.inbox() == 1
    assert houses.house.configuration.users.removed == frozenset()


async def test_a_start_that_cannot_remove_says_so_and_goes_on(
    houses: Houses, monkeypatch: pytest.MonkeyPatch
) -> None:
    await _cut(houses)

    async def refuse(self: Any, key: str) -> None:
        raise StorageFailed("the disk does not answer")

    with monkeypatch.context() as patch:
        patch.setattr(type(houses.house.store), "delete_account", refuse)
        house = await houses.reopen()
    assert "carl@example.test is still here: the disk does not" in house.logs.error.path.read_text()
    await houses.reopen()
    assert houses.house.store.account_id(CARL) is None


async def test_mail_that_nobody_owns_is_set_aside_not_shown_and_not_deleted(houses: Houses) -> None:
    await houses.add()
    await houses.send(b"old")

    def forget(state: State) -> State:  # somebody edited users.cfg
        accounts = {key: one for key, one in state.users.accounts.items() if key != CARL}
        return replace(state, users=replace(state.users, accounts=accounts))

    await houses.house.configuration.change(forget)
    await houses.reopen()
    assert houses.house.store.account_id(CARL) is not None
    await houses.add()
    assert await houses.inbox() == 0
    assert await houses.inbox(f"{CARL}#1") == 1
    assert f"kept aside as {CARL}#1" in houses.house.logs.warning.path.read_text()


async def test_a_user_back_by_hand_finds_the_mail(houses: Houses) -> None:
    await houses.add()
    await houses.send(b"old")
    carl = houses.house.directory.account("carl")
    assert carl is not None

    def set_carl(there: bool) -> Any:
        def edit(state: State) -> State:
            accounts = {key: one for key, one in state.users.accounts.items() if key != CARL}
            if there:
                accounts[CARL] = carl
            return replace(state, users=replace(state.users, accounts=accounts))

        return edit

    for there in (False, True):
        await houses.house.configuration.change(set_carl(there))
        await houses.reopen()
    assert await houses.inbox() == 1


async def test_one_name_is_made_or_removed_by_one_at_a_time(houses: Houses) -> None:
    accounts = houses.house.accounts
    results = await asyncio.gather(
        *(accounts.add_users(ROOT, [NewUser("carl", password="long enough")]) for _ in range(5)),
        return_exceptions=True,
    )
    assert sum(isinstance(one, list) for one in results) == 1
    assert sum(isinstance(one, InUse | AlreadyExists) for one in results) == 4
    removal = asyncio.create_task(accounts.remove_users(ROOT, ["carl", "carl"]))
    while houses.house.directory.account("carl") is not None:  # noqa: ASYNC110
        await asyncio.sleep(0)
    with pytest.raises(InUse):
        await accounts.add_users(ROOT, [NewUser("carl")])
    assert await removal == [CARL]
    await houses.add()
    assert await houses.inbox() == 0
