"""The house stays liveable: sizes, rooms, and documents that name files which exist."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "server" / "postkeep"
PACKAGES = (PACKAGE, ROOT / "appliance" / "postkeep_appliance", ROOT / "console" / "postkeep_console")
SOURCES = sorted(PACKAGE.rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
FILE_LIMIT = 450
FUNCTION_LIMIT = 70
LINE_PROTOCOLS = ("imap", "pop3")


def _functions(path: Path) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def test_the_sources_are_found() -> None:
    assert len(SOURCES) > 50


@pytest.mark.parametrize("path", SOURCES + TESTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_and_functions_can_be_read_in_one_go(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").count("\n")
    assert lines <= FILE_LIMIT, f"{lines} lines: give a part of it a room of its own"
    long = [
        f"{function.name}: {function.end_lineno - function.lineno} lines"
        for function in _functions(path)
        if function.end_lineno is not None and function.end_lineno - function.lineno > FUNCTION_LIMIT
    ]
    assert not long


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_module_is_a_drawer_for_odds_and_ends(path: Path) -> None:
    assert path.stem not in {"utils", "util", "helpers", "common", "misc"}


@pytest.mark.parametrize("protocol", LINE_PROTOCOLS)
def test_line_protocols_have_the_same_rooms(protocol: str) -> None:
    folder = PACKAGE / "protocols" / protocol
    for room in ("codec.py", "state.py", "connection.py", "server.py", "commands/__init__.py"):
        assert (folder / room).is_file(), f"protocols/{protocol}/{room} is missing"


@pytest.mark.parametrize(
    "document", ["README.md", "docs/architecture.md", "docs/rfc.md", "docs/performance.md"]
)
def test_documents_name_files_that_exist(document: str) -> None:
    text = (ROOT / document).read_text(encoding="utf-8")
    named = set(re.findall(r"`((?:[a-z0-9_]+/)+[a-z0-9_]+\.py)`", text))
    named |= set(re.findall(r"\]\(((?!http)[^)#]+)", text))
    missing = []
    for name in sorted(named):
        if not any((place / name).exists() for place in (ROOT, (ROOT / document).parent, *PACKAGES)):
            missing.append(name)
    assert not missing


ASSERTING = re.compile(r"raises|assert|check|expect|verify")
"""Of a call: it asserts, or its name says that it does."""


def _asserts(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    return any(
        isinstance(node, ast.Assert)
        or (isinstance(node, ast.Call) and ASSERTING.search(ast.unparse(node.func)) is not None)
        for node in ast.walk(function)
    )


@pytest.mark.parametrize("path", TESTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_test_asserts_something(path: Path) -> None:
    tests = [function for function in _functions(path) if function.name.startswith("test")]
    assert not [function.name for function in tests if not _asserts(function)]
