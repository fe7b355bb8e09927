"""Rules for what is typed, as values."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from postkeep_appliance.api.types import AdapterSettings, Addressing, Method
from postkeep_console import checks

AUTOMATIC = {
    "method4": "automatic",
    "address4": "",
    "mask4": "",
    "gateway4": "",
    "method6": "automatic",
    "address6": "",
    "gateway6": "",
    "dns": "",
    "search": "",
}
STATIC = AUTOMATIC | {
    "method4": "static",
    "address4": "192.0.2.10",
    "mask4": "24",
    "gateway4": "192.0.2.1",
}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("mail.example.com", ""),
        ("a.b", ""),
        ("MAIL.Example.COM", ""),
        ("xn--mnchen-3ya.de", ""),
        ("", "wrong.empty"),
        ("mail", "wrong.hostname_short"),
        ("mail.example.com.", "wrong.hostname"),
        (".example.com", "wrong.hostname"),
        ("-mail.example.com", "wrong.hostname"),
        ("mail-.example.com", "wrong.hostname"),
        ("mail..example.com", "wrong.hostname"),
        ("mail_1.example.com", "wrong.hostname"),
        ("mail example.com", "wrong.hostname"),
        ("münchen.de", "wrong.hostname"),
        ("192.0.2.1", "wrong.hostname"),
        ("a" * 64 + ".de", "wrong.hostname"),
        (".".join(["abc"] * 64), "wrong.hostname"),
        ("mail.example.com\n", "wrong.hostname"),
    ],
)
def test_host_names(text: str, problem: str) -> None:
    assert checks.hostname(text) == problem


def test_the_domain_follows_from_the_host_name() -> None:
    assert checks.domain_of("mail.example.com") == "example.com"
    assert checks.domain_of("example.com") == "example.com"
    assert checks.domain_of("mail") == "mail"
    assert checks.domain("example") == "wrong.domain"


@pytest.mark.parametrize("name", ["admin", "a", "jo.smith", "o'neil", "x_1", "a+b", "Admin"])
def test_names_of_administrators(name: str) -> None:
    assert checks.administrator(name) == ""


@pytest.mark.parametrize("name", ["", ".a", "a.", "a..b", "a b", "a@b", "jörg", "-a", "a" * 66, "a\x1b"])
def test_wrong_names_of_administrators(name: str) -> None:
    assert checks.administrator(name)


def test_new_passwords() -> None:
    assert checks.new_password("long enough", "long enough") == {}
    assert checks.new_password("short", "short") == {"new": "wrong.password_short"}
    assert checks.new_password("", "") == {"new": "wrong.empty"}
    assert checks.new_password("long enough", "long enouhg") == {"again": "wrong.password_differs"}
    assert checks.new_password("Postkeep", "Postkeep") == {"new": "wrong.password_known"}
    assert checks.new_password("jo.smith", "jo.smith", "jo.smith") == {"new": "wrong.password_known"}


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("24", 24),
        ("/24", 24),
        ("32", 32),
        ("1", 1),
        ("255.255.255.0", 24),
        ("255.255.255.255", 32),
        ("128.0.0.0", 1),
        ("255.255.254.0", 23),
        ("0", None),
        ("33", None),
        ("0.0.0.0", None),
        ("255.0.255.0", None),
        ("255.255.255.1", None),
        ("-1", None),
        ("٢٤", None),
        ("9" * 5000, None),
        ("", None),
        ("255.255.255", None),
    ],
)
def test_masks(text: str, length: int | None) -> None:
    assert checks.prefix_length(text) == length


@given(st.integers(1, 32))
def test_each_prefix_length_has_one_dotted_mask(length: int) -> None:
    bits = (0xFFFFFFFF << (32 - length)) & 0xFFFFFFFF
    dotted = ".".join(str(bits >> shift & 255) for shift in (24, 16, 8, 0))
    assert checks.prefix_length(dotted) == length


def test_good_settings() -> None:
    assert checks.adapter(AUTOMATIC) == {}
    assert checks.adapter(STATIC) == {}
    assert checks.adapter(STATIC | {"gateway4": ""}) == {}
    assert checks.adapter(STATIC | {"mask4": "31", "gateway4": "192.0.2.11"}) == {}
    assert checks.adapter(STATIC | {"dns": "192.0.2.53, 2001:db8::53", "search": "example.com"}) == {}
    six = {"method6": "static", "address6": "2001:db8::10/64", "gateway6": "fe80::1"}
    assert checks.adapter(STATIC | six) == {}
    assert checks.adapter(STATIC | six | {"method4": "off"}) == {}


@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        ({"address4": ""}, {"address4": "wrong.empty"}),
        ({"address4": "192.0.2"}, {"address4": "wrong.address4"}),
        ({"address4": "192.0.2.256"}, {"address4": "wrong.address4"}),
        ({"address4": "192.0.2.10/24"}, {"address4": "wrong.address4"}),
        ({"address4": "224.0.0.1", "gateway4": ""}, {"address4": "wrong.address4"}),
        ({"address4": "127.0.0.1", "gateway4": ""}, {"address4": "wrong.address4"}),
        ({"address4": "0.0.0.0", "gateway4": ""}, {"address4": "wrong.address4"}),
        ({"address4": "192.0.2.0"}, {"address4": "wrong.network_address"}),
        ({"address4": "192.0.2.255"}, {"address4": "wrong.broadcast_address"}),
        ({"mask4": "255.0.255.0"}, {"mask4": "wrong.mask"}),
        ({"gateway4": "198.51.100.1"}, {"gateway4": "wrong.gateway_outside"}),
        ({"gateway4": "192.0.2.10"}, {"gateway4": "wrong.gateway_self"}),
        ({"gateway4": "2001:db8::1"}, {"gateway4": "wrong.address4"}),
        ({"gateway4": "x"}, {"gateway4": "wrong.address4"}),
        ({"method6": "static"}, {"address6": "wrong.empty"}),
        ({"method6": "static", "address6": "2001:db8::1"}, {"address6": "wrong.address6"}),
        ({"method6": "static", "address6": "ff02::1/64"}, {"address6": "wrong.address6"}),
        ({"method6": "static", "address6": "2001:db8::1/129"}, {"address6": "wrong.address6"}),
        (
            {"method6": "static", "address6": "2001:db8::1/64", "gateway6": "2001:db8:1::1"},
            {"gateway6": "wrong.gateway_outside"},
        ),
        (
            {"method6": "static", "address6": "2001:db8::1/64", "gateway6": "fe80::1%eth0"},
            {"gateway6": "wrong.gateway6"},
        ),
        ({"dns": "ns.example.com"}, {"dns": "wrong.dns"}),
        ({"dns": " ".join(["192.0.2.1"] * 9)}, {"dns": "wrong.too_many"}),
        ({"search": "example..com"}, {"search": "wrong.search"}),
        ({"method4": "off", "method6": "off"}, {"method4": "wrong.both_off"}),
    ],
)
def test_wrong_settings_are_refused_at_their_field(change: dict[str, str], wrong: dict[str, str]) -> None:
    assert checks.adapter(STATIC | change) == wrong


@given(st.dictionaries(st.sampled_from(sorted(AUTOMATIC)), st.text(max_size=60)))
def test_no_entry_makes_a_rule_fall_over(change: dict[str, str]) -> None:
    entries = STATIC | change
    for name, problem in checks.adapter(entries).items():
        assert name in AUTOMATIC
        assert problem.startswith("wrong.")


def test_settings_there_and_back() -> None:
    settings = AdapterSettings(
        ipv4=Addressing(Method.STATIC, "192.0.2.10/24", "192.0.2.1"),
        ipv6=Addressing(Method.OFF),
        dns=("192.0.2.53",),
        search=("example.com", "example.net"),
    )
    assert checks.settings_of(checks.entries_of(settings)) == settings
    assert checks.settings_of(AUTOMATIC) == AdapterSettings()
    # What was typed for a family that is not static any more is dropped.
    assert checks.settings_of(STATIC | {"method4": "automatic"}) == AdapterSettings()


def test_time_servers_are_names_or_addresses() -> None:
    assert checks.servers("time.example.com 192.0.2.1;2001:db8::1", names=True) == ""
    assert checks.servers("", names=True) == ""
    assert checks.servers("time_server!", names=True) == "wrong.ntp"
