"""Settings over REST: those that are said to hold at once do."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from postkeep.config.queue import QueueSettings
from postkeep.config.sections import fields_of
from postkeep.protocols.http.routes.settings import AT_ONCE

from tests.support.house import Api, FakeControl, open_api


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    async with open_api(tmp_path, FakeControl()) as api:
        yield api


async def test_deliveries_come_from_the_new_address_at_once(api: Api) -> None:
    called: list[str] = []

    def hear(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        called.append(writer.get_extra_info("peername")[0])
        writer.close()

    listener = await asyncio.start_server(hear, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    client = await api.as_("write")
    answer = await client.patch("/settings/Queue", json={"DeliverySourceIPv4": "127.0.0.2"})
    assert answer.json() == {"changed": ["DeliverySourceIPv4"], "restart_needed": False}
    lost = asyncio.get_running_loop().create_future()

    class Call(asyncio.Protocol):
        def connection_lost(self, exc: Exception | None) -> None:
            lost.set_result(None)

    await api.house.dialer.connect(Call, "127.0.0.1", port, limit=10)
    await asyncio.wait_for(lost, 10)
    assert called == ["127.0.0.2"]
    listener.close()


async def test_every_part_of_the_queue_sees_its_settings_at_once(api: Api) -> None:
    client = await api.as_("write")
    body = {
        "RelayHost": "relay.example",
        "RetryInterval": 7,
        "MaximumDeliveryThreads": 3,
        "PreferIPv4": False,
    }
    assert (await client.patch("/settings/Queue", json=body)).json()["restart_needed"] is False
    queue = api.house.queue
    new = api.house.configuration.server.queue
    assert queue.settings is new
    assert queue._dispatcher.settings is new
    assert queue._ledger.times.retry == 420
    assert new.relay_host == "relay.example"


async def test_name_servers_hold_at_once(api: Api) -> None:
    client = await api.as_("write")
    before = api.house._resolver.inner
    await client.patch("/settings/Queue", json={"NameServers": ["192.0.2.53"]})
    assert api.house._resolver.inner is not before


@pytest.mark.parametrize("section", sorted(AT_ONCE))
async def test_what_holds_at_once_asks_for_no_restart(api: Api, section: str) -> None:
    client = await api.as_("write")
    name = {"Security": "GuessingLimit", "Logs": "LogFileCount", "Queue": "RetryInterval"}[section]
    answer = await client.patch(f"/settings/{section}", json={name: 5})
    assert answer.json() == {"changed": [name], "restart_needed": False}


def test_the_queue_settings_known_here_are_all() -> None:
    """A new one must be made to hold at once too, or leave the section: add it when that is so."""
    assert {field.attribute for field in fields_of(QueueSettings)} == {
        *(
            "relay_host",
            "relay_port",
            "relay_tls",
            "relay_verify",
            "relay_user",
            "relay_password",
        ),  # each call
        *("port", "use_tls", "prefer_ipv4"),  # each call
        *("source_ipv4", "source_ipv6"),  # the dialer
        *("resolver_file", "name_servers"),  # the resolver
        *("total_connections", "domain_connections"),  # the dispatcher
        *("retry_minutes", "delay_notice_hours", "bounce_hours"),  # the ledger
    }
