"""Inventory, licences and bill of materials from a small tree that has what real ones have."""

import json
from pathlib import Path

import pytest

from ovf import sbom
from ovf.inventory import Inventory, from_tree
from ovf.licences import from_copyright, spdx

STATUS = """Package: postkeep
Status: install ok installed
Maintainer: The Postkeep project <nobody@postkeep.example>
Architecture: amd64
Version: 1.2.3
Depends: libc6 (>= 2.36), exim4 | mail-helper, python3:any, absent
Description: mail server
 Long text: with a colon.

Package: libc6
Status: install ok installed
Maintainer: GNU Libc Maintainers <x@example.org>
Architecture: amd64
Multi-Arch: same
Source: glibc (2.41-1)
Version: 2.41-12
Homepage: https://www.gnu.org/software/libc/libc.html
Description: GNU C Library

Package: helper
Status: install ok installed
Architecture: all
Version: 1:2.0+b1
Provides: mail-helper (= 2.0), other
Description: helps

Package: removed
Status: deinstall ok config-files
Architecture: all
Version: 9
Description: gone

Package: python3
Status: hold ok installed
Architecture: amd64
Version: 3.13.5-1
Description: interpreter
"""
DEP5 = """Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Files: *
License: GPL-2+ with OpenSSL exception and (Expat or BSD-3-clause)

Files: debian/*
License: LGPL-2.1+

License: LGPL-2.1+
 On Debian systems see /usr/share/common-licenses/LGPL-2.1.
"""
METADATA = """Metadata-Version: 2.4
Name: Some_Thing
Version: 4.5
Summary: Does it
License-Expression: MIT OR Apache-2.0
Project-URL: Source, https://example.org/thing

Long description
License: not this
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    files = {
        "var/lib/dpkg/status": STATUS,
        "usr/lib/os-release": 'NAME="Debian GNU/Linux"\nVERSION_ID="13"\n',
        "usr/share/doc/postkeep/copyright": DEP5,
        "usr/share/doc/libc6/copyright": "It is under /usr/share/common-licenses/LGPL-2.1. Also GPL-2.",
        "opt/postkeep/venv/lib/python3.13/site-packages/some_thing-4.5.dist-info/METADATA": METADATA,
        "opt/postkeep-console/venv/lib/python3.13/site-packages/some_thing-4.5.dist-info/METADATA": METADATA,
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    # Folders of one source share their copyright by links, absolute or not; one leads out of the tree.
    docs = tmp_path / "usr/share/doc"
    (docs / "helper").symlink_to("/usr/share/doc/libc6")
    (docs / "python3").mkdir()
    (docs / "python3/copyright").symlink_to("../libc6/copyright")
    return tmp_path


@pytest.fixture
def inventory(tree: Path) -> Inventory:
    return from_tree(tree)


def render(inventory: Inventory) -> str:
    return sbom.render(inventory, "postkeep-appliance", "1.2.3", 1_800_000_000)


def test_only_what_is_installed(inventory: Inventory) -> None:
    assert [item.name for item in inventory.packages] == ["helper", "libc6", "postkeep", "python3"]
    assert inventory.system == "13"


def test_source_and_version(inventory: Inventory) -> None:
    libc = inventory.packages[1]
    assert (libc.source, libc.source_version) == ("glibc", "2.41-1")
    assert (inventory.packages[0].source, inventory.packages[0].source_version) == ("helper", "1:2.0+b1")


def test_dependencies_by_provides_and_alternatives(inventory: Inventory) -> None:
    assert inventory.packages[2].depends == ("helper", "libc6", "python3")


def test_manifest_lines(inventory: Inventory) -> None:
    assert inventory.lines().splitlines() == [
        "deb helper 1:2.0+b1 all",
        "deb libc6 2.41-12 amd64",
        "deb postkeep 1.2.3 amd64",
        "deb python3 3.13.5-1 amd64",
        "python some-thing 4.5 /opt/postkeep",
        "python some-thing 4.5 /opt/postkeep-console",
    ]


def test_licences(inventory: Inventory) -> None:
    licences = {item.name: item.licences for item in inventory.packages}
    assert licences["postkeep"] == ("BSD-3-Clause", "GPL-2.0-or-later", "LGPL-2.1-or-later", "MIT")
    assert licences["libc6"] == ("LGPL-2.1-only",)
    assert licences["helper"] == licences["libc6"]
    assert licences["python3"] == licences["libc6"]
    assert inventory.python[0].licences == ("MIT OR Apache-2.0",)


def test_links_do_not_lead_out_of_the_tree(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    secret = tmp_path_factory.mktemp("outside") / "copyright"
    secret.write_text("/usr/share/common-licenses/BSD")
    link = tree / "usr/share/doc/python3/copyright"
    link.unlink()
    link.symlink_to(secret)
    packages = {item.name: item for item in from_tree(tree).packages}
    assert packages["python3"].licences == ()


def test_bill_of_materials(inventory: Inventory) -> None:
    bill = json.loads(render(inventory))
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.5")
    assert bill["metadata"]["timestamp"] == "2027-01-15T08:00:00Z"
    components = {item["bom-ref"]: item for item in bill["components"]}
    assert len(components) == len(bill["components"]), "bom-ref must be unique"
    libc = components["pkg:deb/debian/libc6@2.41-12?arch=amd64&distro=debian-13"]
    assert libc["licenses"] == [{"license": {"id": "LGPL-2.1-only"}}]
    helper = components["pkg:deb/debian/helper@1%3A2.0%2Bb1?arch=all&distro=debian-13"]
    assert helper["version"] == "1:2.0+b1"
    python = components["pkg:pypi/some-thing@4.5#opt/postkeep"]
    assert python["licenses"] == [{"expression": "MIT OR Apache-2.0"}]
    assert python["purl"] == "pkg:pypi/some-thing@4.5"


def test_each_dependency_is_a_component(inventory: Inventory) -> None:
    bill = json.loads(render(inventory))
    known = {item["bom-ref"] for item in bill["components"]} | {bill["metadata"]["component"]["bom-ref"]}
    graph = {entry["ref"]: entry["dependsOn"] for entry in bill["dependencies"]}
    assert graph.keys() <= known
    assert {part for parts in graph.values() for part in parts} <= known
    own = graph["pkg:deb/postkeep/postkeep@1.2.3?arch=amd64"]
    assert "pkg:pypi/some-thing@4.5#opt/postkeep" in own
    assert "pkg:pypi/some-thing@4.5#opt/postkeep-console" not in own


def test_same_inventory_same_octets(tree: Path) -> None:
    assert render(from_tree(tree)) == render(from_tree(tree))


def test_other_inventory_other_serial_number(tree: Path) -> None:
    before = json.loads(render(from_tree(tree)))["serialNumber"]
    status = tree / "var/lib/dpkg/status"
    status.write_text(status.read_text().replace("2.41-12", "2.41-13"))
    assert json.loads(render(from_tree(tree)))["serialNumber"] != before


@pytest.mark.parametrize(
    ("name", "identifier"),
    [
        ("GPL-2", "GPL-2.0-only"),
        ("GPL-3+", "GPL-3.0-or-later"),
        ("LGPL-2.1+", "LGPL-2.1-or-later"),
        ("AGPL-3", "AGPL-3.0-only"),
        ("GFDL-1.3+", "GFDL-1.3-or-later"),
        ("Expat", "MIT"),
        ("apache-2.0", "Apache-2.0"),
        ("Apache License 2.0", "Apache-2.0"),
        ("public-domain", "public-domain"),
        ("some own words", "some own words"),
    ],
)
def test_short_names(name: str, identifier: str) -> None:
    assert spdx(name) == identifier


def test_copyright_without_a_format() -> None:
    text = "GPL: see `/usr/share/common-licenses/GPL-3'. Artistic: /usr/share/common-licenses/Artistic."
    assert from_copyright(text) == ("Artistic-1.0-Perl", "GPL-3.0-only")
    assert from_copyright("") == ()
