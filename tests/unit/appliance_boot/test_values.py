"""Checks of each kind of property, and of the network that several make together."""

import base64
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from postkeep_appliance.api.types import Addressing, Method
from postkeep_appliance.guestinfo.declarations import PREFIX, load
from postkeep_appliance.guestinfo.properties import Properties, Said, check
from postkeep_appliance.guestinfo.values import Reader

DECLARATIONS = load()
READER = Reader({"Etc/UTC", "Europe/Prague", "America/Argentina/Ushuaia"})


def said(**texts: str) -> Said:
    return check({PREFIX + name: text for name, text in texts.items()}, DECLARATIONS, READER)


def value(name: str, text: str) -> object:
    found = said(**{name: text})
    assert not found.rejected, found.rejected
    return getattr(found.properties, name)


def refusal(name: str, text: str) -> str:
    found = said(**{name: text})
    assert [one.name for one in found.rejected] == [name]
    assert found.properties == Properties()
    return found.rejected[0].reason


def key(kind: str, *fields: bytes) -> str:
    blob = b"".join(struct.pack(">I", len(one)) + one for one in (kind.encode(), *fields))
    return f"{kind} {base64.b64encode(blob).decode()}"


ED25519 = key("ssh-ed25519", bytes(range(32)))


def test_every_declared_kind_is_read() -> None:
    good = {
        "hostname": "mail.example.com",
        "address": "192.0.2.10",
        "netmask": "255.255.255.0",
        "gateway": "192.0.2.1",
        "dns": "192.0.2.53",
        "domain": "example.com",
        "administrator": "postmaster",
        "administrator_password": "correct horse",
        "remote_administration": "False",
        "root_password": "battery staple",
        "ssh_key": ED25519 + " me@example",
        "time_zone": "Europe/Prague",
        "ntp": "ntp.example.com 192.0.2.123",
        "language": "CS",
    }
    assert good.keys() == {one.name for one in DECLARATIONS.values()}
    found = said(**good)
    assert found.rejected == ()
    assert found.given == good.keys()
    network = found.properties.network
    assert network is not None
    assert network.ipv4 == Addressing(Method.STATIC, "192.0.2.10/24", "192.0.2.1")
    assert network.dns == ("192.0.2.53",)
    assert found.properties.remote_administration is False
    assert found.properties.ntp == ("ntp.example.com", "192.0.2.123")
    assert found.properties.language == "cs"


@pytest.mark.parametrize("text", ["", " ", "null", "NULL", "\n"])
def test_unset(text: str) -> None:
    found = said(**{one.name: text for one in DECLARATIONS.values()})
    assert found == Said()


def test_a_declared_default_is_no_wish_of_anybody() -> None:
    found = said(**{one.name: one.default for one in DECLARATIONS.values()})
    assert found.given == frozenset()
    assert found.properties.administrator == "admin"
    assert found.properties.remote_administration is True


def test_unknown_keys_are_told_only_if_they_could_be_meant_for_us() -> None:
    found = check({PREFIX + "host_name\x1b[2J": "x", "other.key": "y"}, DECLARATIONS, READER)
    assert found == Said(ignored=("“guestinfo.postkeep.host_name?[2J”",))


def test_a_repeated_key_is_rejected() -> None:
    texts = {PREFIX + "domain": "example.com"}
    found = check(texts, DECLARATIONS, READER, {PREFIX + "domain"})
    assert found.properties.domain is None
    assert [one.name for one in found.rejected] == ["domain"]


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("hostname", " Mail.Example.COM. ", "mail.example.com"),
        ("domain", "bücher.example", "xn--bcher-kva.example"),
        ("administrator", "Jane.Doe", "jane.doe"),
        ("remote_administration", "true", True),
        ("remote_administration", "0", False),
        ("time_zone", "America/Argentina/Ushuaia", "America/Argentina/Ushuaia"),
        ("ntp", "a.example,b.example;  a.example", ("a.example", "b.example")),
        ("root_password", "  with blanks  ", "  with blanks  "),
        ("ssh_key", f"  {ED25519}   me@here  ", f"{ED25519} me@here"),
        (
            "ssh_key",
            key("ssh-rsa", b"\1\0\1", b"\0" + b"\xff" * 256),
            key("ssh-rsa", b"\1\0\1", b"\0" + b"\xff" * 256),
        ),
    ],
)
def test_good(name: str, text: str, expected: object) -> None:
    assert value(name, text) == expected


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("hostname", "mail"),
        ("hostname", "mail_1.example.com"),
        ("hostname", "-mail.example.com"),
        ("hostname", "192.0.2.1"),
        ("hostname", "a." * 40 + "example"),
        ("hostname", "mail.example.com; reboot"),
        ("hostname", "mail.example.com\nPermitRootLogin yes"),
        ("hostname", "../../etc.passwd"),
        ("domain", "exa mple.com"),
        ("domain", "example..com"),
        ("domain", "$(reboot).example"),
        ("administrator", "root@example.com"),
        ("administrator", "-admin"),
        ("administrator", "a..b"),
        ("administrator_password", "short"),
        ("administrator_password", "with\ttabulator"),
        ("root_password", "postkeep"),
        ("root_password", "x" * 300),
        ("root_password", "new\nline:0:0"),
        ("remote_administration", "maybe"),
        ("time_zone", "Europe/Atlantis"),
        ("time_zone", "../../etc/shadow"),
        ("time_zone", "/etc/localtime"),
        ("ntp", "ntp.example.com\nFallbackNTP=attacker.test"),
        ("ntp", "[Time]"),
        ("ntp", " ".join(f"ntp{n}.example" for n in range(20))),
        ("language", "tlh"),
        ("ssh_key", "ssh-ed25519"),
        ("ssh_key", "ssh-ed25519 AAAA"),
        ("ssh_key", ED25519[:-12]),
        ("ssh_key", f'command="/bin/sh" {ED25519}'),
        ("ssh_key", f"{ED25519}\nssh-ed25519 AAAA"),
        ("ssh_key", ED25519.replace("ssh-ed25519", "ssh-rsa", 1)),
        ("ssh_key", key("ssh-rsa", b"\1\0\1", b"\xff" * 128)),
        ("ssh_key", key("ssh-dss", b"1", b"2", b"3", b"4")),
        ("ssh_key", "-----BEGIN OPENSSH PRIVATE KEY-----"),
        ("dns", "8.8.8.8.8"),
        ("dns", "224.0.0.1"),
        ("dns", "fe80::1%eth0"),
    ],
)
def test_bad(name: str, text: str) -> None:
    reason = refusal(name, text)
    assert reason.endswith(".")
    assert reason.isprintable()


@pytest.mark.parametrize("name", [one.name for one in DECLARATIONS.values() if one.secret] + ["ssh_key"])
def test_reasons_and_reprs_never_hold_a_secret(name: str) -> None:
    for text in ("hunt\x1b2", "hunter2" * 3000, "hunter2 AAAA", "hunter2hunter2"):
        found = said(**{name: text})
        assert "hunt" not in repr(found)
        assert "hunt" not in "".join(map(str, found.rejected))


@pytest.mark.parametrize(
    ("texts", "address", "gateway"),
    [
        ({"address": "192.0.2.10/24"}, "192.0.2.10/24", ""),
        ({"address": "192.0.2.10/24", "netmask": "24", "gateway": "192.0.2.1"}, "192.0.2.10/24", "192.0.2.1"),
        ({"address": "192.0.2.10", "netmask": "/25"}, "192.0.2.10/25", ""),
        ({"address": "192.0.2.10", "netmask": "255.255.255.128"}, "192.0.2.10/25", ""),
    ],
)
def test_a_static_network(texts: dict[str, str], address: str, gateway: str) -> None:
    found = said(**texts)
    assert not found.rejected
    assert found.properties.network is not None
    assert found.properties.network.ipv4 == Addressing(Method.STATIC, address, gateway)
    assert found.properties.network.ipv6.method is Method.AUTOMATIC


def test_a_static_network_of_ipv6() -> None:
    found = said(address="2001:db8::5", netmask="ffff:ffff:ffff:ffff::", gateway="fe80::1")
    assert not found.rejected
    assert found.properties.network is not None
    assert found.properties.network.ipv6 == Addressing(Method.STATIC, "2001:db8::5/64", "fe80::1")
    assert found.properties.network.ipv4.method is Method.AUTOMATIC


def test_dns_beside_dhcp() -> None:
    network = said(dns="192.0.2.53, 2001:db8::53").properties.network
    assert network is not None
    assert network.ipv4.method is Method.AUTOMATIC
    assert network.dns == ("192.0.2.53", "2001:db8::53")


@pytest.mark.parametrize(
    ("texts", "names"),
    [
        ({"address": "192.0.2.10"}, ["netmask"]),
        ({"address": "192.0.2.10", "netmask": "255.0.255.0"}, ["netmask", "address"]),
        ({"address": "192.0.2.10", "netmask": "64"}, ["netmask"]),
        ({"address": "192.0.2.10/24", "netmask": "25"}, ["netmask"]),
        ({"address": "192.0.2.0/24"}, ["address"]),
        ({"address": "192.0.2.255/24"}, ["address"]),
        ({"address": "127.0.0.1/8"}, ["address"]),
        ({"address": "224.0.0.5/24"}, ["address"]),
        ({"address": "192.0.2.10/0"}, ["address"]),
        ({"address": "::1/64"}, ["address"]),
        ({"address": "mail.example.com"}, ["address"]),
        ({"address": "192.0.2.10/24", "gateway": "198.51.100.1"}, ["gateway"]),
        ({"address": "192.0.2.10/24", "gateway": "192.0.2.10"}, ["gateway"]),
        ({"address": "192.0.2.10/24", "gateway": "2001:db8::1"}, ["gateway"]),
        ({"address": "192.0.2.10/24", "gateway": "no"}, ["gateway", "address"]),
        ({"netmask": "24", "gateway": "192.0.2.1"}, ["netmask", "gateway"]),
        ({"address": "wrong", "netmask": "24", "gateway": "192.0.2.1"}, ["address"]),
    ],
)
def test_half_a_network_is_none(texts: dict[str, str], names: list[str]) -> None:
    found = said(**texts)
    assert [one.name for one in found.rejected] == names
    assert found.properties.network is None


@given(st.dictionaries(st.sampled_from(sorted(DECLARATIONS)), st.text(max_size=80)))
def test_any_texts_make_properties_or_reasons(texts: dict[str, str]) -> None:
    found = check(texts, DECLARATIONS, READER)
    for one in found.rejected:
        assert one.reason.isprintable()


@given(
    st.from_regex(r"[0-9a-f:./]{1,30}"), st.from_regex(r"[0-9./]{1,16}"), st.from_regex(r"[0-9a-f:.]{1,20}")
)
def test_any_addresses_make_a_network_or_reasons(address: str, netmask: str, gateway: str) -> None:
    found = said(address=address, netmask=netmask, gateway=gateway)
    assert (found.properties.network is None) == bool(found.rejected)
