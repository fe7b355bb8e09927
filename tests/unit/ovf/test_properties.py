"""properties.toml: what it declares, what it may not declare, and what is made of it."""

from pathlib import Path

import pytest

from ovf import documentation
from ovf.properties import FILE, PropertyError, load

ROOT = Path(__file__).parents[3]


def test_the_names_that_the_appliance_promises() -> None:
    assert {item.name for item in load().properties} == {
        "hostname",
        "address",
        "netmask",
        "gateway",
        "dns",
        "root_password",
        "ssh_key",
        "domain",
        "administrator",
        "administrator_password",
        "time_zone",
        "ntp",
        "remote_administration",
        "language",
    }


def test_no_secret_has_a_default() -> None:
    secrets = [item for item in load().properties if item.secret]
    assert {item.name for item in secrets} == {"root_password", "administrator_password"}
    assert all(item.default == "" for item in secrets)


def test_each_category_is_used() -> None:
    properties = load()
    assert all(properties.of(category) for category in properties.categories)
    assert sum(len(properties.of(category)) for category in properties.categories) == len(
        properties.properties
    )


def test_the_appliance_reads_the_same_file() -> None:
    link = ROOT / "appliance/postkeep_appliance/properties.toml"
    assert link.resolve() == FILE.resolve()


def test_the_documentation_is_current() -> None:
    page = ROOT / "docs/admin/unattended.md"
    text = page.read_text(encoding="utf-8")
    assert documentation.with_table(text, load()) == text, "run: .venv/bin/python -m ovf.documentation"


CHANGES = {
    "key of another product": ("guestinfo.postkeep.dns", "guestinfo.other.dns"),
    "unknown type": ('type = "netmask"', 'type = "mask"'),
    "boolean as string": ('ovf_type = "boolean"', 'ovf_type = "string"'),
    "qualifier that hosts do not know": ('qualifiers = "MaxLen(49)"', 'qualifiers = "Ip"'),
    "qualifier that refuses a blank": ('qualifiers = "MaxLen(64)"', 'qualifiers = "MinLen(1)"'),
    "default password": (
        'qualifiers = "MaxLen(256)"\ndefault = ""',
        'qualifiers = "MaxLen(256)"\ndefault = "secret"',
    ),
    "password that is no secret": ("secret = true", "secret = false"),
    "unknown category": ('category = "Network"', 'category = "Net"'),
    "unknown need": ('unattended = "access"', 'unattended = "maybe"'),
    "field missing": ('label = "DNS servers"\n', ""),
    "unknown field": ('label = "DNS servers"', 'title = "x"\nlabel = "DNS servers"'),
    "line break in a description": (
        "Used with a static address only.",
        "Used with a static\\naddress only.",
    ),
    "key twice": ("guestinfo.postkeep.ntp", "guestinfo.postkeep.dns"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_refuses(tmp_path: Path, change: str) -> None:
    before, after = CHANGES[change]
    text = FILE.read_text(encoding="utf-8")
    assert before in text
    path = tmp_path / "properties.toml"
    path.write_text(text.replace(before, after), encoding="utf-8")
    with pytest.raises(PropertyError):
        load(path)


def test_page_without_markers_is_refused() -> None:
    with pytest.raises(PropertyError, match="marker"):
        documentation.with_table("# Nothing here\n", load())


def test_what_switches_ssh_on_says_so() -> None:
    access = [item for item in load().properties if item.unattended == "access"]
    assert len(access) == 2
    assert all("Switches SSH on" in item.description for item in access)
