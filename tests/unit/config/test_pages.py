"""The administrators' pages name settings that exist."""

import re
from pathlib import Path

import pytest
from postkeep.config.server import ServerConfig, settings_of

PAGES = sorted((Path(__file__).parents[3] / "docs" / "admin").glob("*.md"))
OTHERS = {"FullName", "MailAddress", "UpgradeBackups"}
"""Columns of user import's files, and a folder (row SET-4)."""


def test_the_pages_are_found() -> None:
    assert len(PAGES) > 8


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.name))
def test_settings_that_a_page_names_exist(page: Path) -> None:
    known = {place.field.declaration.variable for place, _ in settings_of(ServerConfig())}
    named = set(
        re.findall(r"(?:`|setting [sg]et )([A-Z][a-z0-9]+[A-Z][A-Za-z0-9]+)\b", page.read_text("utf-8"))
    )
    assert named - OTHERS <= known
