"""Which server is called for a domain, and what if there is none."""

from pathlib import Path

import pytest

from tests.support.clock import FakeClock
from tests.support.queueworld import first_try, queue_world
from tests.support.resolver import FakeResolver
from tests.support.smtpsink import sink


async def test_the_next_host_is_tried_when_the_first_is_dead(tmp_path: Path) -> None:
    async with sink() as server:
        resolver = FakeResolver(
            mx={"a.test": [(10, "dead.a.test"), (20, "mx.a.test"), (5, "nowhere.a.test")]},
            addresses={"dead.a.test": ["127.0.0.9"], "mx.a.test": ["127.0.0.1"]},
        )
        async with queue_world(tmp_path, server, resolver=resolver) as world:
            await world.send("bob@a.test")
            await server.got(1)
            await world.empty()
            assert "relay=mx.a.test[127.0.0.1]" in world.logs.mail


async def test_address_literal_and_implicit_mx(tmp_path: Path) -> None:
    async with sink() as server:
        resolver = FakeResolver(addresses={"plain.test": ["127.0.0.1"]})
        async with queue_world(tmp_path, server, resolver=resolver) as world:
            await world.send("bob@[127.0.0.1]")
            await world.send("bob@plain.test")
            await server.got(2)
            await world.empty()
            recipients = sorted(
                line.partition(" NOTIFY")[0] for message in server.messages for line in message.rcpts
            )
            assert recipients == ["RCPT TO:<bob@[127.0.0.1]>", "RCPT TO:<bob@plain.test>"]


@pytest.mark.parametrize(
    ("mx", "status"),
    [
        ([(0, "")], b"5.1.10"),
        ([(10, "mail.example.test")], b"5.4.6"),
        ([(10, "gone.test")], b"5.4.4"),
        (None, b"5.1.2"),
    ],
    ids=["null-mx", "loop", "mx-without-address", "nxdomain"],
)
async def test_unroutable_bounces_at_once(
    tmp_path: Path, mx: list[tuple[int, str]] | None, status: bytes
) -> None:
    resolver = FakeResolver(mx={} if mx is None else {"a.test": mx})
    async with queue_world(tmp_path, resolver=resolver) as world:
        await world.send("bob@a.test")
        await world.empty()
        assert b"Status: " + status in world.local.mail[0][2]


async def test_servfail_waits(tmp_path: Path) -> None:
    async with queue_world(tmp_path, resolver=FakeResolver(failing={"a.test"})) as world:
        await world.send("bob@a.test")
        assert "failed to answer" in await first_try(world)
        assert world.local.mail == []


async def test_a_server_with_our_own_name_is_a_loop(tmp_path: Path) -> None:
    async with sink(name="mail.example.test") as server, queue_world(tmp_path, server) as world:
        await world.send("bob@a.test")
        await world.empty()
        assert b"Status: 5.4.6" in world.local.mail[0][2]


async def test_settings_change_while_mail_waits(tmp_path: Path) -> None:
    """Mail that waited for a domain goes through a relay host set meanwhile."""
    clock = FakeClock()
    async with sink() as server, queue_world(tmp_path, clock=clock, port=9, resolver=FakeResolver(
        mx={"a.test": [(1, "m.a.test")]}, addresses={"m.a.test": ["127.0.0.1"]})) as world:  # fmt: skip
        await world.send("bob@a.test")
        await first_try(world)
        world.queue.settings = type(world.settings)(relay_host="127.0.0.1", relay_port=server.port)
        await world.pass_time(lambda: bool(server.messages), step=60)
        await world.empty()
        assert len(server.messages) == 1
