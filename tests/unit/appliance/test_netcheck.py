"""Network settings are refused with the reason and the field (CON-4)."""

import pytest
from postkeep_appliance.api.types import AdapterSettings, Addressing, Method
from postkeep_appliance.host.netcheck import check
from postkeep_appliance.host.port import Invalid


def v4(address: str, gateway: str = "") -> AdapterSettings:
    return AdapterSettings(Addressing(Method.STATIC, address, gateway))


def v6(address: str, gateway: str = "") -> AdapterSettings:
    return AdapterSettings(ipv6=Addressing(Method.STATIC, address, gateway))


@pytest.mark.parametrize(
    ("settings", "field", "words"),
    [
        (v4(""), "ipv4.address", "static address is needed"),
        (v4("192.0.2.5"), "ipv4.address", "prefix length is missing"),
        (v4("192.0.2.5/33"), "ipv4.address", "no address"),
        (v4("192.0.2.256/24"), "ipv4.address", "no address"),
        (v4("192.0.2.5/0"), "ipv4.address", "at least 1"),
        (v4("192.0.2.0/24"), "ipv4.address", "the network 192.0.2.0/24 itself"),
        (v4("192.0.2.255/24"), "ipv4.address", "broadcast"),
        (v4("127.0.0.1/8"), "ipv4.address", "loopback"),
        (v4("224.0.0.5/24"), "ipv4.address", "multicast"),
        (v4("255.255.255.255/32"), "ipv4.address", "reserved"),
        (v4("0.0.0.0/24"), "ipv4.address", "no address"),
        (v4("2001:db8::5/64"), "ipv4.address", "not an IPv4"),
        (v4("192.0.2.5/24\nDNS=6.6.6.6"), "ipv4.address", "no address"),
        (v4("192.0.2.5/24", "198.51.100.1"), "ipv4.gateway", "not in 192.0.2.0/24"),
        (v4("192.0.2.5/24", "192.0.2.5"), "ipv4.gateway", "own address"),
        (v4("192.0.2.5/24", "192.0.2.0"), "ipv4.gateway", "itself"),
        (v4("192.0.2.5/24", "192.0.2.255"), "ipv4.gateway", "broadcast"),
        (v4("192.0.2.5/24", "gateway"), "ipv4.gateway", "no IP address"),
        (v4("192.0.2.5/24", "fe80::1"), "ipv4.gateway", "IPv4 address"),
        (v6("2001:db8::/64"), "ipv6.address", "every router"),
        (v6("fe80::5/64"), "ipv6.address", "link-local"),
        (v6("::1/128"), "ipv6.address", "loopback"),
        (v6("ff02::1/64"), "ipv6.address", "multicast"),
        (v6("::ffff:192.0.2.5/96"), "ipv6.address", "enter it under IPv4"),
        (v6("192.0.2.5/24"), "ipv6.address", "not an IPv6"),
        (v6("2001:db8::5/64", "2001:db8:1::1"), "ipv6.gateway", "not in"),
        (v6("2001:db8::5/64", "fe80::1%ens192"), "ipv6.gateway", "plain"),
        (AdapterSettings(Addressing(Method.OFF), Addressing(Method.OFF)), "ipv4.method", "not be reached"),
        (AdapterSettings(dns=("one",)), "dns", "no IP address"),
        (AdapterSettings(dns=("127.0.0.1",)), "dns", "local resolver"),
        (AdapterSettings(dns=("224.0.0.1",)), "dns", "multicast"),
        (AdapterSettings(dns=("192.0.2.1", "192.0.2.1")), "dns", "twice"),
        (AdapterSettings(dns=tuple(f"192.0.2.{n}" for n in range(1, 5))), "dns", "At most 3"),
        (AdapterSettings(search=("exa mple",)), "search", "letters"),
        (AdapterSettings(search=tuple(f"d{n}.test" for n in range(7))), "search", "At most 6"),
    ],
)
def test_refused_with_reason_and_field(settings: AdapterSettings, field: str, words: str) -> None:
    with pytest.raises(Invalid) as caught:
        check("ens192", settings)
    assert caught.value.field == field
    assert words in caught.value.text


@pytest.mark.parametrize(
    "settings",
    [
        AdapterSettings(),
        v4("192.0.2.5/24"),
        v4("192.0.2.5/24", "192.0.2.1"),
        v4("192.0.2.4/31", "192.0.2.5"),  # RFC 3021
        v4("192.0.2.5/32"),
        v6("2001:db8::5/64", "fe80::1"),
        v6("2001:db8::5/64", "2001:db8::1"),
        v6("2001:db8::/127", "2001:db8::1"),  # RFC 6164
        AdapterSettings(Addressing(Method.OFF)),
        AdapterSettings(dns=("192.0.2.53", "2001:db8::53"), search=("example.com",)),
    ],
)
def test_good_settings_pass_as_they_are(settings: AdapterSettings) -> None:
    assert check("ens192", settings) == settings


def test_what_is_written_otherwise_gets_its_usual_spelling() -> None:
    found = check(
        "ens192", AdapterSettings(Addressing(Method.STATIC, " 192.0.2.5/255.255.255.0 ", "192.0.2.1 "))
    )
    assert found.ipv4 == Addressing(Method.STATIC, "192.0.2.5/24", "192.0.2.1")


def test_what_is_not_used_is_left_out() -> None:
    found = check("ens192", AdapterSettings(Addressing(Method.AUTOMATIC, "nonsense", "nonsense")))
    assert found.ipv4 == Addressing(Method.AUTOMATIC)


def test_an_address_of_another_adapter() -> None:
    with pytest.raises(Invalid, match="ens224 has this address"):
        check("ens192", v4("192.0.2.5/24"), {"ens224": v4("192.0.2.5/24")})


def test_a_network_of_another_adapter() -> None:
    with pytest.raises(Invalid, match=r"ens224 is in 192\.0\.2\.0/24 already"):
        check("ens192", v4("192.0.2.5/25"), {"ens224": v4("192.0.2.200/24")})


@pytest.mark.parametrize("name", ["", "../x", "a/b", "-a", "x" * 16, "a b", "a\nb"])
def test_names_of_adapters_cannot_leave_the_folder(name: str) -> None:
    with pytest.raises(Invalid) as caught:
        check(name, AdapterSettings())
    assert caught.value.field == "adapter"
