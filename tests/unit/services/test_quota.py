"""Quotas under many deliveries at once."""

import asyncio
from dataclasses import replace
from pathlib import Path

from postkeep.services.envelope import Client, Transaction
from postkeep.storage.store import MailStore

from tests.support.clock import FakeClock
from tests.support.smtp import SmtpWorld


async def _send(world: SmtpWorld, recipient: str) -> None:
    client, transaction = Client("192.0.2.1"), Transaction()
    world.receiver.admission.sender(client, transaction, "far@outside.test")
    world.receiver.admission.recipient(client, transaction, recipient)
    content = world.receiver.content()
    content.write(b"Subject: x\r\n\r\nx\r\n")
    await world.receiver.finish(client, transaction, content)


async def test_many_at_once_do_not_pass_it_together(tmp_path: Path) -> None:
    """Attack: 200 messages that each would fit are all checked before the first is stored."""
    store = await MailStore.open(tmp_path, FakeClock())
    world = SmtpWorld(store=store)
    world.directory.users["dave"] = replace(world.directory.users["dave"], quota_bytes=0, quota_items=10)
    await store.create_account("dave@example.test")
    await asyncio.gather(*[_send(world, "dave@example.test") for _ in range(200)])
    account = store.account_id("dave@example.test")
    assert account is not None
    # Room may count twice for the moment between commit and release: some are put off, none passes.
    assert 1 <= store.usage(account)[1] <= 10
    assert world.quotas._held == {}
    for _ in range(12):  # and nothing of it is lost: one after the other they fill the quota exactly
        await _send(world, "dave@example.test")
    assert store.usage(account)[1] == 10
    await store.close()


async def test_room_is_given_back_whatever_happens(tmp_path: Path) -> None:
    world = SmtpWorld()
    dave = replace(world.directory.users["dave"], quota_bytes=1000, quota_items=0)
    alice = world.directory.users["alice"]
    try:
        with world.quotas.hold([dave, alice], 600):
            assert world.quotas.over(dave, 401)
            assert not world.quotas.over(dave, 400)
            with world.quotas.hold([dave], 100):
                assert world.quotas.over(dave, 301)
            raise ZeroDivisionError
    except ZeroDivisionError:
        pass
    assert not world.quotas.over(dave, 1000)
