"""Small pieces of the command line: tables, sizes, following a log, CSV."""

from pathlib import Path

import click
import pytest
from postkeep.cli import output
from postkeep.cli.operation import _new_lines
from postkeep.cli.options import split_name
from postkeep.cli.output import Progress, print_fields, print_table, size
from postkeep.cli.users import read_csv


def test_tables_line_up_whatever_the_script(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(
        ("NAME", "N"), [("alice", 1), ("日本", True), ("é\x1b[2J", None), ("l", ["a", "b"])], "nothing"
    )
    assert capsys.readouterr().out.splitlines() == [
        "NAME   N",
        "alice  1",
        "日本   yes",
        "é\ufffd[2J  -",
        "l      a, b",
    ]
    print_table(("NAME",), [], "nothing")
    assert capsys.readouterr().out == "nothing\n"
    print_fields([("a", 1), ("long name", "")])
    assert capsys.readouterr().out == "a          1\nlong name\n"


@pytest.mark.parametrize(
    ("octets", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1536, "1.5 KB"),
        (200 << 10, "200 KB"),
        (5 << 30, "5.0 GB"),
        (1 << 60, "1048576 TB"),
    ],
)
def test_sizes(octets: int, text: str) -> None:
    assert size(octets) == text


def test_progress_without_a_terminal_says_each_tenth_once(capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress()
    for done in range(1001):
        progress(done, 1000, "pack 1")
    progress(1000, 1000, "pack 1")
    progress(0, 0, "nothing to do")
    progress.close()
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 12
    assert lines[0] == "  0% pack 1"
    assert lines[-2:] == ["100% pack 1", "100% nothing to do"]


def test_progress_on_a_terminal_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output.sys.stderr, "isatty", lambda: True)
    progress = Progress()
    for done in range(101):
        progress(done, 100, "x" * 300)
    progress.close()
    text = capsys.readouterr().err
    assert text.count("\n") == 1
    assert all(len(line) < 200 for line in text.split("\r"))


@pytest.mark.parametrize(
    ("old", "new", "more"),
    [
        ([], ["a"], ["a"]),
        (["a"], ["a"], []),
        (["a", "b"], ["a", "b", "c"], ["c"]),
        (["a", "b"], ["b", "c"], ["c"]),
        (["a", "a"], ["a", "a", "a"], ["a"]),
        (["a"], ["x", "y"], ["x", "y"]),
        (["1", "2", "3"], ["0", "1", "2", "3", "4"], ["4"]),
    ],
)
def test_following_a_log_shows_each_line_once(old: list[str], new: list[str], more: list[str]) -> None:
    assert _new_lines(old, new) == more


def test_names() -> None:
    assert split_name("alice") == ("alice", "")
    assert split_name("alice@example.test") == ("alice", "example.test")
    for bad in ("", "alice@", "@example.test", "@"):
        with pytest.raises(click.UsageError):
            split_name(bad)


def test_csv_with_commas_quotes_its_lists(tmp_path: Path) -> None:
    file = tmp_path / "users.csv"
    file.write_text('\ufeffName,FullName,MailAddress\r\nann,"Ann, the first","a1@x.test,a2"\r\n\r\n', "utf-8")
    users, lines = read_csv(file, "x.test")
    assert lines == [2]
    assert users == [
        {
            "name": "ann",
            "domain": "x.test",
            "full_name": "Ann, the first",
            "description": "",
            "aliases": ["a1", "a2"],
        }
    ]


@pytest.mark.parametrize("data", [b"", b"\xff\xfe", b"FullName\nx\n", b"Name;Wrong\nx;y\n", b'Name\n"open\n'])
def test_a_csv_that_cannot_be_read_names_the_place(tmp_path: Path, data: bytes) -> None:
    file = tmp_path / "users.csv"
    file.write_bytes(data)
    with pytest.raises(click.UsageError, match=r"users\.csv"):
        read_csv(file, "")
