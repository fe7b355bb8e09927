"""The built packages, and versions that are made of them."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.image.deb.box import LOWER, ROOT, Box
from tests.support.debs import add_migration, break_start, repack


@pytest.fixture(scope="session")
def deb() -> Path:
    """postkeep_VERSION_amd64.deb of `make deb`; DEB_OUT names another folder than build/deb."""
    folder = Path(os.environ.get("DEB_OUT", ROOT / "build/deb"))
    found = sorted(folder.glob("postkeep_*_amd64.deb"), key=lambda path: path.stat().st_mtime)
    if not found or not LOWER.is_dir() or os.geteuid() != 0:
        pytest.fail("this needs root, and what `make deb` makes", pytrace=False)
    return found[-1]


@pytest.fixture(scope="session")
def console_deb(deb: Path) -> Path:
    return deb.with_name(deb.name.replace("postkeep_", "postkeep-console_"))


@pytest.fixture(scope="session")
def versions(deb: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """By what they are. All but "plain" have a newer schema."""
    folder = tmp_path_factory.mktemp("debs")
    migration = add_migration("ALTER TABLE mailbox ADD COLUMN colour TEXT NOT NULL DEFAULT 'blue'")
    return {
        "plain": repack(deb, folder, "0.9.1"),
        "newer": repack(deb, folder, "0.9.2", migration),
        "failing": repack(deb, folder, "0.9.3", add_migration("ALTER TABLE nowhere ADD COLUMN x")),
        "losing": repack(deb, folder, "0.9.4", add_migration("DELETE FROM message")),
        "dead": repack(deb, folder, "0.9.5", migration, break_start),
        "mended": repack(deb, folder, "0.9.6", migration),
    }


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    with Box(tmp_path / "box") as one:
        yield one
