import pytest
from postkeep.config.queue import QueueSettings, RelayTls
from postkeep.queue.routes import (
    ADDRESS_LIMIT,
    HOST_LIMIT,
    RELAY,
    Hop,
    Route,
    Unroutable,
    find_hops,
    find_route,
    order_hosts,
)

from tests.support.resolver import FakeResolver

OWN = frozenset({"mail.example.test"})
SETTINGS = QueueSettings()


def keep(hosts: list[str]) -> None:
    """No shuffling."""


async def route(resolver: FakeResolver, domain: str = "a.test", settings: QueueSettings = SETTINGS) -> Route:
    return await find_route(domain, settings, resolver, OWN, keep)


def test_hosts_by_preference_and_equal_ones_shuffled() -> None:
    records = [(20, "c"), (10, "b"), (10, "a"), (10, "b")]
    assert order_hosts(records, OWN, lambda hosts: hosts.reverse()) == ("b", "a", "c")
    assert order_hosts(records, OWN, keep) == ("a", "b", "c")


def test_this_host_and_worse_ones_are_dropped() -> None:
    """RFC 5321 §5.1: a backup server sends to better ones only."""
    records = [(10, "primary"), (20, "mail.example.test"), (20, "equal"), (30, "worse")]
    assert order_hosts(records, OWN, keep) == ("primary",)


def test_this_host_as_the_best_is_a_loop() -> None:
    with pytest.raises(Unroutable) as error:
        order_hosts([(10, "mail.example.test"), (20, "other")], OWN, keep)
    assert error.value.status == "5.4.6"


def test_null_mx() -> None:
    with pytest.raises(Unroutable) as error:
        order_hosts([(0, "")], OWN, keep)
    assert error.value.status == "5.1.10"
    assert order_hosts([(0, ""), (10, "a")], OWN, keep) == ("a",)  # not a null MX: RFC 7505 §3 says only one


def test_thousands_of_mx_hosts_are_not_followed() -> None:
    assert len(order_hosts([(n, f"h{n}") for n in range(5000)], OWN, keep)) == HOST_LIMIT


async def test_implicit_mx() -> None:
    assert (await route(FakeResolver(addresses={"a.test": ["192.0.2.1"]}))).hosts == ("a.test",)


async def test_nxdomain_is_permanent_and_servfail_is_not() -> None:
    with pytest.raises(Unroutable) as error:
        await route(FakeResolver())
    assert (error.value.status, error.value.permanent) == ("5.1.2", True)
    with pytest.raises(Unroutable) as error:
        await route(FakeResolver(failing={"a.test"}))
    assert (error.value.status, error.value.permanent) == ("4.4.3", False)


@pytest.mark.parametrize(
    ("literal", "address"), [("[192.0.2.1]", "192.0.2.1"), ("[IPv6:2001:db8::1]", "2001:db8::1")]
)
async def test_address_literals(literal: str, address: str) -> None:
    found = await route(FakeResolver(), literal)
    assert found.hosts == (address,)
    assert await find_hops(found, literal, FakeResolver(), prefer_ipv4=True) == [Hop(address, address)]


async def test_relay_host() -> None:
    settings = QueueSettings(
        relay_host="Relay.Test",
        relay_port=587,
        relay_tls=RelayTls.STARTTLS,
        relay_user="u",
        relay_password="p",
    )
    found = await route(FakeResolver(), RELAY, settings)
    assert found == Route(("relay.test",), 587, RelayTls.STARTTLS, True, "u", "p", True)
    with pytest.raises(Unroutable) as error:
        await find_hops(found, RELAY, FakeResolver(), prefer_ipv4=True)
    assert error.value.status == "4.4.4"  # a typing error in a setting must not bounce everybody's mail


async def test_opportunistic_relay_is_not_verified() -> None:
    assert not (await route(FakeResolver(), RELAY, QueueSettings(relay_host="r.test"))).verify


async def test_families_and_fallback() -> None:
    resolver = FakeResolver(addresses={"h": ["2001:db8::1", "192.0.2.1", "192.0.2.2"]})
    found = Route(("h",), 25)
    hops = await find_hops(found, "a.test", resolver, prefer_ipv4=True)
    assert [hop.address for hop in hops] == ["192.0.2.1", "192.0.2.2", "2001:db8::1"]
    hops = await find_hops(found, "a.test", resolver, prefer_ipv4=False)
    assert hops[0] == Hop("h", "2001:db8::1")


async def test_hosts_without_addresses() -> None:
    two = Route(("gone", "h"), 25)
    resolver = FakeResolver(addresses={"h": ["192.0.2.1"]})
    assert await find_hops(two, "a.test", resolver, prefer_ipv4=True) == [Hop("h", "192.0.2.1")]
    with pytest.raises(Unroutable) as error:
        await find_hops(Route(("gone",), 25), "a.test", resolver, prefer_ipv4=True)
    assert error.value.status == "5.4.4"
    with pytest.raises(Unroutable) as error:
        await find_hops(
            Route(("gone", "broken"), 25), "a.test", FakeResolver(failing={"broken"}), prefer_ipv4=True
        )
    assert error.value.status == "4.4.3"


async def test_a_host_with_many_addresses_leaves_room_for_the_next() -> None:
    resolver = FakeResolver(addresses={"h": [f"192.0.2.{n}" for n in range(100)], "i": ["198.51.100.1"]})
    hops = await find_hops(Route(("h", "i"), 25), "a.test", resolver, prefer_ipv4=True)
    assert len(hops) <= ADDRESS_LIMIT
    assert len(await find_hops(Route(("h",), 25), "a.test", resolver, prefer_ipv4=True)) == ADDRESS_LIMIT
