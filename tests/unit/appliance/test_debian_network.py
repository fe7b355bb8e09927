"""The network of a Debian machine: files in a temporary root, programs recorded (CON-4)."""

import ipaddress
from pathlib import Path
from typing import Any

import netifaces  # type: ignore[import-untyped]
import pytest
from postkeep_appliance.api.types import AdapterSettings, Addressing, Method
from postkeep_appliance.host.adapters import list_adapters
from postkeep_appliance.host.network import DebianNetwork
from postkeep_appliance.host.port import AdapterFacts, HostError

from tests.support.agentbench import Recorder, drive, put
from tests.support.clock import FakeClock

STATIC = AdapterSettings(
    Addressing(Method.STATIC, "192.0.2.5/24", "192.0.2.1"), dns=("192.0.2.53",), search=("example.com",)
)


class World:
    def __init__(self, root: Path) -> None:
        self.root, self.run, self.clock = root, Recorder(), FakeClock()
        self.network = DebianNetwork(root, self.run, self.clock)
        self.facts = AdapterFacts("ens192", "00:0c:29:00:00:01", True, (), "")
        self.network.adapters = lambda: (self.facts,)  # type: ignore[method-assign]

    async def answers(self, settings: AdapterSettings) -> bool:
        return await drive(self.clock, self.network.gateway_answers("ens192", settings))


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_written_read_and_put_back(world: World) -> None:
    path = world.root / "etc/systemd/network/10-postkeep-ens192.network"
    assert world.network.saved("ens192") is None
    world.network.write("ens192", STATIC)
    assert path.stat().st_mode & 0o777 == 0o644, "systemd-networkd is no root"
    assert world.network.settings("ens192") == STATIC
    saved = world.network.saved("ens192")
    world.network.write("ens192", AdapterSettings())
    world.network.restore("ens192", saved)
    assert world.network.settings("ens192") == STATIC
    world.network.restore("ens192", None)
    assert not path.exists()
    assert world.network.settings("ens192") == AdapterSettings()
    assert not list(path.parent.glob("*.new"))


def test_search_domains_reach_resolv_conf_and_leave_it(world: World) -> None:
    path = put(
        world.root, "etc/resolv.conf", "# ours\nnameserver 127.0.0.1\nsearch old.example\noptions edns0\n"
    )
    world.network.write("ens192", STATIC)
    assert path.read_text() == "# ours\nnameserver 127.0.0.1\noptions edns0\nsearch example.com\n"
    world.network.restore("ens192", None)
    assert path.read_text() == "# ours\nnameserver 127.0.0.1\noptions edns0\n"


@pytest.mark.parametrize("name", ["", "../../x", "a/b", ".hidden"])
def test_a_name_cannot_leave_the_folder(world: World, name: str) -> None:
    with pytest.raises(HostError):
        world.network.write(name, STATIC)


async def test_applied_by_networkctl(world: World) -> None:
    await world.network.apply("ens192")
    assert world.run.lines == ["networkctl reload", "networkctl reconfigure ens192"]


async def test_a_gateway_that_answers_ping(world: World) -> None:
    world.facts = world.facts._replace(addresses=("192.0.2.5/24",))
    assert await world.answers(STATIC)
    assert world.run.ran == [
        ["ping", "-n", "-q", "-c", "3", "-i", "0.3", "-W", "2", "-I", "ens192", "192.0.2.1"]
    ]


@pytest.mark.parametrize(
    ("neighbour", "good"),
    [
        ("192.0.2.1 lladdr 00:50:56:00:00:01 REACHABLE", True),
        ("192.0.2.1 lladdr 00:50:56:00:00:01 STALE", True),
        ("192.0.2.1 FAILED", False),
        ("192.0.2.1 INCOMPLETE", False),
        ("", False),
    ],
)
async def test_a_gateway_silent_on_icmp_is_known_by_arp(world: World, neighbour: str, good: bool) -> None:
    world.facts = world.facts._replace(addresses=("192.0.2.5/24",))
    world.run.say("ping", status=1)
    world.run.say("ip neigh", neighbour)
    assert await world.answers(STATIC) is good


async def test_without_a_link_nothing_answers(world: World) -> None:
    world.facts = world.facts._replace(addresses=("192.0.2.5/24",), link=False)
    assert not await world.answers(STATIC)
    assert world.run.ran == []


async def test_dhcp_is_given_time_then_its_gateway_is_asked(world: World) -> None:
    def lease() -> None:
        world.facts = world.facts._replace(addresses=("192.0.2.9/24",), gateway="192.0.2.254")

    world.clock.call_later(5, lease)
    assert await world.answers(AdapterSettings())
    assert world.run.ran[0][-1] == "192.0.2.254"
    assert world.clock.monotonic() >= 5


async def test_dhcp_that_never_answers_is_given_up(world: World) -> None:
    assert not await world.answers(AdapterSettings())
    assert 20 <= world.clock.monotonic() < 25


async def test_a_network_without_gateway_is_reached_by_having_the_address(world: World) -> None:
    world.facts = world.facts._replace(addresses=("192.0.2.5/24",))
    assert await world.answers(
        AdapterSettings(Addressing(Method.STATIC, "192.0.2.5/24"), Addressing(Method.OFF))
    )


async def test_ping_streams(world: World) -> None:
    world.run.say("ping", "line one\nline two\n")
    said: list[str] = []
    assert await world.network.ping("192.0.2.1", said.append)
    assert said == ["line one", "line two"]
    assert world.run.ran == [["ping", "-n", "-c", "4", "-W", "2", "192.0.2.1"]]


async def test_no_resolver_is_said(world: World) -> None:
    with pytest.raises(HostError, match="names no DNS server"):
        await world.network.resolve("example.com", lambda line: None)


# --- netifaces


class Fake:
    """What netifaces 0.11 says on Linux."""

    def __init__(self) -> None:
        self.addresses: dict[str, Any] = {
            "lo": {netifaces.AF_INET: [{"addr": "127.0.0.1", "netmask": "255.0.0.0"}]},
            "ens192": {
                netifaces.AF_LINK: [{"addr": "00:0c:29:00:00:01", "broadcast": "ff:ff:ff:ff:ff:ff"}],
                netifaces.AF_INET: [
                    {"addr": "192.0.2.5", "netmask": "255.255.255.0", "broadcast": "192.0.2.255"}
                ],
                netifaces.AF_INET6: [
                    {"addr": "2001:db8::5", "netmask": "ffff:ffff:ffff:ffff::/64"},
                    {"addr": "fe80::1%ens192", "netmask": "ffff:ffff:ffff:ffff::/64"},
                    {"addr": "nonsense", "netmask": "?"},
                ],
            },
            "docker0": {},
        }

    def interfaces(self) -> list[str]:
        return [*self.addresses, "gone0"]

    def ifaddresses(self, name: str) -> dict[int, list[dict[str, str]]]:
        if name not in self.addresses:
            raise ValueError("You must specify a valid interface name.")
        found: dict[int, list[dict[str, str]]] = self.addresses[name]
        return found

    def gateways(self) -> dict[object, object]:
        return {
            "default": {netifaces.AF_INET: ("192.0.2.1", "ens192")},
            netifaces.AF_INET: [("192.0.2.1", "ens192", True)],
            netifaces.AF_INET6: [("fe80::fe", "ens192", True)],
        }


def _device(root: Path, name: str, state: str = "up", carrier: str = "1") -> None:
    put(root, f"sys/class/net/{name}/device/vendor", "0x15ad\n")
    put(root, f"sys/class/net/{name}/operstate", f"{state}\n")
    put(root, f"sys/class/net/{name}/carrier", f"{carrier}\n")


def test_adapters_as_netifaces_and_sysfs_say(tmp_path: Path) -> None:
    _device(tmp_path, "ens192")
    _device(tmp_path, "gone0")
    (one,) = list_adapters(tmp_path, Fake())
    assert one == AdapterFacts(
        "ens192",
        "00:0c:29:00:00:01",
        True,
        ("192.0.2.5/24", "2001:db8::5/64", "fe80::1/64"),
        "192.0.2.1",
    )


@pytest.mark.parametrize(("state", "carrier"), [("down", "1"), ("up", "0"), ("lowerlayerdown", "0")])
def test_no_link(tmp_path: Path, state: str, carrier: str) -> None:
    _device(tmp_path, "ens192", state, carrier)
    assert not list_adapters(tmp_path, Fake())[0].link


def test_this_machine_has_adapters_that_can_be_read() -> None:
    for one in list_adapters():
        assert all(ipaddress.ip_interface(text) for text in one.addresses)
