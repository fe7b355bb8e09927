"""What the build of the Debian packages reads from this machine and from the sources."""

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[3]
DEBIAN = ROOT / "appliance" / "debian"


def load(name: str) -> ModuleType:
    """A script of appliance/debian, which is no package."""
    spec = importlib.util.spec_from_file_location(f"packaging_{name}", DEBIAN / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


build, notices, schema = load("build"), load("notices"), load("schema")


def test_the_way_to_the_mirror_is_taken_over_and_nothing_else() -> None:
    dump = (
        'APT "";\nAPT::Install-Recommends "1";\nAcquire "";\nAcquire::http "";\n'
        'Acquire::http::Proxy "http://proxy.example:3128/";\nAcquire::https::Verify-Peer "true";\n'
        'Acquire::Retries "3";\nDPkg::Post-Invoke:: "rm -rf /";\nAcquire::Languages "none";\n'
    )
    assert build.apt_options(dump) == [
        'Acquire::http::Proxy "http://proxy.example:3128/";',
        'Acquire::https::Verify-Peer "true";',
        'Acquire::Retries "3";',
    ]


@pytest.mark.parametrize(
    ("targets", "mirror"),
    [
        ("http://one.example/debian/ bookworm\nhttp://two.example/debian bookworm\n", ["http://one.example/debian/"]),
        ("http://one.example/debian-security/ bookworm-security\n", []),
        ("http://one.example/debian/ bookworm-updates\nhttp://x.example/node nodistro\n", []),
        ("", []),
    ],
)  # fmt: skip
def test_the_mirror_is_this_machines_own(targets: str, mirror: list[str]) -> None:
    assert build.debian_mirror(targets) == mirror


def test_the_changelog_is_the_newest_section() -> None:
    text = build.changelog(
        "# Changelog\n\n## 0.2.0\n\n- One\n  more.\n- Two.\n\n## 0.1.0\n\n- Old.\n", "0.2.0", 0
    )
    assert text == (
        "postkeep (0.2.0) stable; urgency=medium\n\n  * One more.\n  * Two.\n\n"
        " -- Postkeep maintainers <maintainers@postkeep.invalid>  Thu, 01 Jan 1970 00:00:00 -0000\n"
    )


def test_the_schema_is_the_one_of_the_server() -> None:
    from postkeep.storage.migrations import MIGRATIONS

    source = (ROOT / "server/postkeep/storage/migrations.py").read_text("utf-8")
    assert schema.schema_of(source) == len(MIGRATIONS)
    with pytest.raises(ValueError, match="no tuple"):
        schema.schema_of("MIGRATIONS = 5")


@pytest.fixture
def add(tmp_path: Path) -> Callable[..., Path]:
    """Put a distribution into a virtual environment."""

    def make(name: str, metadata: str, **files: str) -> Path:
        folder = tmp_path / f"lib/python3.13/site-packages/{name.replace('-', '_')}-1.0.dist-info"
        (folder / "licenses").mkdir(parents=True)
        (folder / "METADATA").write_text(f"Name: {name}\nVersion: 1.0\n{metadata}\n")
        for file, text in files.items():
            (folder / "licenses" / file).write_text(text)
        return tmp_path

    return make


def test_each_distribution_has_its_licence_with_its_text(add: Callable[..., Path]) -> None:
    add("one-two", "License-Expression: MIT\nAuthor: Jane\n", LICENSE="Permission is hereby\n\ngranted")
    venv = add("three", "License: Apache-2.0\n", NOTICE="Three by Joe", LICENSE=APACHE)
    one, three = sorted(notices.notices(venv))
    assert "Comment: one-two 1.0: MIT;" in one
    assert "Copyright: Jane\n" in one
    assert " Permission is hereby\n .\n granted\n" in one
    assert "/usr/share/common-licenses/Apache-2.0" in three
    assert "TERMS AND CONDITIONS" not in three
    assert " Three by Joe\n" in three


@pytest.mark.parametrize(
    ("metadata", "files", "reason"),
    [
        ("License: MIT\n", {}, "without a text of its licence"),
        ("", {"LICENSE": "text"}, "without a licence"),
        ("License: UNKNOWN text\n" + " and so on" * 20 + "\n", {"LICENSE": "text"}, "without a licence"),
    ],
)  # fmt: skip
def test_nothing_is_shipped_without_a_licence(
    add: Callable[..., Path], metadata: str, files: dict[str, str], reason: str
) -> None:
    venv = add("bare", metadata.replace("\n and", " and"), **files)
    with pytest.raises(ValueError, match=reason):
        list(notices.notices(venv))


def test_our_own_need_no_paragraph(add: Callable[..., Path]) -> None:
    assert list(notices.notices(add("postkeep", ""))) == []


APACHE = "  Apache License\n  Version 2.0, January 2004\n\n  TERMS AND CONDITIONS\n"
