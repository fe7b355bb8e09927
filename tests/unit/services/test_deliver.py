"""Local delivery: one commit for all, published after it; the queue's port for bounces."""

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from postkeep.domain.address import parse_address
from postkeep.domain.errors import NotFound, OverQuota, StorageFailed, StorageFull

from tests.support.smtp import SmtpWorld


@pytest.fixture
def world() -> SmtpWorld:
    return SmtpWorld()


async def _body(world: SmtpWorld, content: bytes = b"\r\nx\r\n"):  # type: ignore[no-untyped-def]
    incoming = world.store.incoming()
    incoming.write(content)
    return await incoming.finish(b"")


async def test_one_commit_for_all_then_the_news(world: SmtpWorld) -> None:
    users = world.directory.users
    await world.deliverer.deliver(await _body(world), [users["alice"], users["bob"]], None)
    assert world.store.commits == 1
    assert [change.account for change in world.bus.changes] == [1, 2]


async def test_nothing_is_published_of_a_failed_commit(world: SmtpWorld) -> None:
    world.store.failure = StorageFull("full")
    with pytest.raises(StorageFull):
        await world.deliverer.deliver(await _body(world), [world.directory.users["alice"]], None)
    assert world.bus.changes == []


async def test_quota_of_octets_and_of_items(world: SmtpWorld) -> None:
    alice = world.directory.users["alice"]
    over = world.quotas.over
    assert not over(alice, 10**12)
    limited = replace(alice, quota_bytes=1000)
    assert not over(limited, 1000)
    assert over(limited, 1001)
    await world.store.create_account(alice.key)
    world.store.used[alice.key] = (400, 5)
    assert over(limited, 601)
    assert over(replace(alice, quota_items=5), 1)
    assert not over(replace(alice, quota_items=6), 1)


async def test_bounce_to_a_local_user(world: SmtpWorld) -> None:
    await world.deliverer.deliver_local(
        None, parse_address("al.ice@example.test"), (b"Subject: b\r\n\r\nx\r\n",)
    )
    assert world.store.messages("alice@example.test") == [b"Return-Path: <>\r\nSubject: b\r\n\r\nx\r\n"]
    assert "to=<al.ice@example.test>" in world.logs.mail.lines[0]


@pytest.mark.parametrize("address", ["unknown@example.test", "carol@example.test", "away@example.test"])
async def test_bounce_to_nobody(world: SmtpWorld, address: str) -> None:
    with pytest.raises(NotFound):
        await world.deliverer.deliver_local(None, parse_address(address), (b"\r\nx\r\n",))


async def test_bounce_to_a_full_mailbox(world: SmtpWorld) -> None:
    with pytest.raises(OverQuota):
        await world.deliverer.deliver_local(None, parse_address("dave@example.test"), (b"x" * 20_000,))
    assert world.store.delivered == []


async def test_bounce_is_forwarded_when_the_queue_is_attached(world: SmtpWorld) -> None:
    world.deliverer.queue = world.queue
    await world.deliverer.deliver_local(None, parse_address("away@example.test"), (b"\r\n", b"x\r\n"))
    (entry,) = world.queue.prepared
    assert [one.address for one in entry["recipients"]] == [parse_address("someone@elsewhere.test")]
    assert (entry["sender"], entry["content"], entry["size"]) == (None, b"\r\nx\r\n", 5)
    assert world.queue.activated == ["q1"]
    assert world.store.delivered == []


async def test_a_copy_is_kept_only_when_the_queue_took_its_part(world: SmtpWorld) -> None:
    """Else each later try would put one more copy into the mailbox."""
    world.deliverer.queue = world.queue
    world.directory.lists["both@example.test"] = ("alice@example.test", "someone@elsewhere.test")
    world.queue.failure = StorageFull("full")
    for _ in range(3):
        with pytest.raises(StorageFull):
            await world.deliverer.deliver_local(None, parse_address("both@example.test"), (b"\r\nx\r\n",))
    assert world.store.delivered == []
    assert all(body.discarded for body in world.store.bodies)
    world.queue.failure = None
    await world.deliverer.deliver_local(None, parse_address("both@example.test"), (b"\r\nx\r\n",))
    assert world.store.messages("alice@example.test") == [b"Return-Path: <>\r\n\r\nx\r\n"]
    assert world.store.order == ["prepare", "store", "activate"]


async def test_nothing_is_forwarded_when_the_store_refuses(world: SmtpWorld) -> None:
    world.deliverer.queue = world.queue
    world.directory.lists["both@example.test"] = ("alice@example.test", "someone@elsewhere.test")
    world.store.failure = StorageFull("full")
    with pytest.raises(StorageFull):
        await world.deliverer.deliver_local(None, parse_address("both@example.test"), (b"\r\nx\r\n",))
    assert world.queue.discarded == ["q1"]
    assert world.queue.activated == []


async def test_a_message_comes_in_pieces(world: SmtpWorld) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for number in range(3):
            yield b"%d\r\n" % number

    await world.deliverer.deliver_local(None, parse_address("alice@example.test"), pieces())
    assert world.store.messages("alice@example.test") == [b"Return-Path: <>\r\n0\r\n1\r\n2\r\n"]


async def test_a_piece_that_cannot_be_read_leaves_nothing_behind(world: SmtpWorld) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"\r\n"
        raise StorageFailed("the disk")

    with pytest.raises(StorageFailed):
        await world.deliverer.deliver_local(None, parse_address("alice@example.test"), pieces())
    assert world.store.incomings[0].aborted
    assert world.store.delivered == []


async def test_failed_bounce_leaves_nothing_behind(world: SmtpWorld) -> None:
    world.store.failure = StorageFull("full")
    with pytest.raises(StorageFull):
        await world.deliverer.deliver_local(None, parse_address("alice@example.test"), (b"\r\nx\r\n",))
    assert world.store.bodies[0].discarded


async def test_who_is_left_out_of_a_report_is_logged(world: SmtpWorld) -> None:
    await world.store.create_account("dave@example.test")
    world.store.used["dave@example.test"] = (9_999, 1)
    world.directory.lists["both@example.test"] = ("alice@example.test", "dave@example.test")
    await world.deliverer.deliver_local(None, parse_address("both@example.test"), (b"\r\nx\r\n",))
    assert world.store.messages("dave@example.test") == []
    assert world.logs.security.lines == [
        "Delivery failed: from=<>, to=<dave@example.test> (by way of <both@example.test>): the mailbox is full"
    ]
