"""Settings as systemd.network(5) files, and back."""

import ipaddress

from hypothesis import given
from hypothesis import strategies as st
from postkeep_appliance.api.types import AdapterSettings, Addressing, Method
from postkeep_appliance.host.netfiles import parse, render


def test_a_static_adapter_reads_like_the_manual() -> None:
    settings = AdapterSettings(
        Addressing(Method.STATIC, "192.0.2.5/24", "192.0.2.1"),
        Addressing(Method.STATIC, "2001:db8::5/64", "fe80::1"),
        ("192.0.2.53",),
        ("example.com", "example.org"),
    )
    lines = render("ens192", settings).splitlines()
    for line in (
        "Name=ens192",
        "DHCP=no",
        "IPv6AcceptRA=no",
        "Address=192.0.2.5/24",
        "Gateway=192.0.2.1",
        "Address=2001:db8::5/64",
        "Gateway=fe80::1",
        "DNS=192.0.2.53",
        "Domains=example.com example.org",
        "UseDNS=no",
    ):
        assert line in lines, line
    assert "UseDNS=yes" not in lines


def test_dhcp_takes_the_servers_of_dhcp() -> None:
    text = render("ens192", AdapterSettings())
    assert "DHCP=ipv4" in text
    assert "IPv6AcceptRA=yes" in text
    assert "UseDNS=no" not in text


def test_ipv6_off_is_really_off() -> None:
    text = render("ens192", AdapterSettings(ipv6=Addressing(Method.OFF)))
    assert "IPv6AcceptRA=no" in text
    assert "LinkLocalAddressing=no" in text


_v4 = st.integers(0x01000000, 0xDFFFFFFF).map(lambda n: f"{ipaddress.IPv4Address(n)}/24")
_v6 = st.integers(0x20 << 120, (0x30 << 120) - 1).map(lambda n: f"{ipaddress.IPv6Address(n)}/64")


def _family(addresses: st.SearchStrategy[str], gateway: str) -> st.SearchStrategy[Addressing]:
    return st.one_of(
        st.sampled_from([Addressing(Method.AUTOMATIC), Addressing(Method.OFF)]),
        st.builds(lambda a, g: Addressing(Method.STATIC, a, g), addresses, st.sampled_from(["", gateway])),
    )


@given(
    _family(_v4, "192.0.2.1"),
    _family(_v6, "fe80::1"),
    st.lists(st.sampled_from(["192.0.2.53", "2001:db8::53"]), unique=True),
    st.lists(st.sampled_from(["example.com", "example.org"]), unique=True),
)
def test_what_is_written_is_read_again(
    ipv4: Addressing, ipv6: Addressing, dns: list[str], search: list[str]
) -> None:
    settings = AdapterSettings(ipv4, ipv6, tuple(dns), tuple(search))
    assert parse(render("ens192", settings)) == settings


@given(st.text())
def test_a_file_changed_by_hand_never_raises(text: str) -> None:
    assert isinstance(parse(text), AdapterSettings)
