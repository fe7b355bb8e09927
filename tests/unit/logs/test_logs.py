"""The eight logs: one line an entry whatever is written, rotation, searching, full disks."""

import errno
import io
import logging
import os
import re
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from postkeep.config.logs import LogSettings
from postkeep.runtime import logs as module
from postkeep.runtime.logs import FLUSH_SECONDS, LINE_LIMIT, NAMES, Bridge, Logs, one_line

from tests.support.clock import FakeClock

ENTRY = re.compile(r"\[\d\d/[A-Z][a-z][a-z]/\d{4} \d\d:\d\d:\d\d\] .*")


def make(folder: Path, **more: int) -> tuple[Logs, FakeClock]:
    clock = FakeClock()
    return Logs(folder, clock, LogSettings(**more), stderr=None), clock


def test_an_entry_is_one_line_with_a_timestamp(tmp_path: Path) -> None:
    logs, _ = make(tmp_path)
    for name in NAMES:
        log = logs.get(name)
        assert log is not None
        log.write(f"hello {name}")
    logs.close()
    for name in NAMES:
        (line,) = (tmp_path / f"{name}.log").read_text().splitlines()
        assert ENTRY.fullmatch(line)
        assert line.endswith(f"hello {name}")
    assert logs.get("nothing") is None


@pytest.mark.parametrize(
    "attack",
    [
        "x\n[24/Nov/2026 17:40:01] alice logged in",
        "x\r\n[24/Nov/2026 17:40:01] forged",
        "x\u2028y",
        "x\x85y",
        "\x1b]0;owned\x07\x1b[2J",
        "x\u202egnp.exe",
        "nul\x00byte",
        "lone \ud800 surrogate",
    ],
)
def test_nobody_can_forge_a_line_or_drive_a_terminal(tmp_path: Path, attack: str) -> None:
    logs, _ = make(tmp_path)
    logs.security.write(f"Failed login of {attack}")
    logs.close()
    text = (tmp_path / "security.log").read_text("utf-8")
    assert len(text.splitlines()) == 1
    assert text[:-1].isprintable()


@settings(max_examples=300, derandomize=True, deadline=None)
@given(st.text(st.characters()))
def test_any_text_becomes_one_visible_line(text: str) -> None:
    line = one_line(text)
    assert line.isprintable()
    assert len(line.splitlines()) <= 1
    if text.isprintable():
        assert line == text


def test_long_entries_are_cut() -> None:
    assert len(one_line("x" * 1_000_000)) < LINE_LIMIT + 50


async def test_mail_is_buffered_and_flushed_by_the_timer(tmp_path: Path) -> None:
    logs, clock = make(tmp_path)
    logs.mail.write("one")
    assert not (tmp_path / "mail.log").exists()
    await clock.advance(FLUSH_SECONDS)
    assert (tmp_path / "mail.log").read_text().endswith("one\n")


@pytest.mark.parametrize("name", ["error", "warning", "security"])
def test_what_matters_is_in_the_file_at_once(tmp_path: Path, name: str) -> None:
    logs, _ = make(tmp_path)
    getattr(logs, name).write("now")
    assert (tmp_path / f"{name}.log").read_text().endswith("now\n")


def test_a_full_buffer_does_not_wait(tmp_path: Path) -> None:
    logs, _ = make(tmp_path)
    for _ in range(20):
        logs.mail.write("x" * 4_000)
    assert (tmp_path / "mail.log").stat().st_size > 60_000


def test_errors_are_said_on_stderr_too(tmp_path: Path) -> None:
    said = io.StringIO()
    logs = Logs(tmp_path, FakeClock(), stderr=said)
    logs.error.write("port 25 is taken")
    logs.mail.write("quiet")
    assert said.getvalue().endswith("port 25 is taken\n")
    assert "quiet" not in said.getvalue()


def test_rotation_by_size_and_count(tmp_path: Path) -> None:
    logs, _ = make(tmp_path, size_kb=1, count=3)
    for number in range(200):
        logs.error.write(f"entry {number:04d}")
    logs.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "error.log", "error.log.1", "error.log.2", "error.log.3",
    ]  # fmt: skip
    assert all(path.stat().st_size <= 1024 for path in tmp_path.iterdir())
    kept = "".join((tmp_path / name).read_text() for name in ("error.log.2", "error.log.1", "error.log"))
    numbers = [int(line[-4:]) for line in kept.splitlines()]
    assert numbers == list(range(numbers[0], 200))


def test_rotation_that_keeps_nothing(tmp_path: Path) -> None:
    logs, _ = make(tmp_path, size_kb=1, count=0)
    for number in range(100):
        logs.error.write(f"entry {number}")
    assert [path.name for path in tmp_path.iterdir()] == ["error.log"]


def test_size_zero_never_rotates(tmp_path: Path) -> None:
    logs, _ = make(tmp_path, size_kb=0)
    for _ in range(100):
        logs.error.write("x" * 100)
    assert [path.name for path in tmp_path.iterdir()] == ["error.log"]


def test_tail_looks_through_rotated_files_newest_last(tmp_path: Path) -> None:
    logs, _ = make(tmp_path, size_kb=1, count=5)
    for number in range(100):
        logs.error.write(f"entry {number:04d} {'even' if number % 2 == 0 else 'Odd'}")
    assert [int(line.split()[-2]) for line in logs.error.tail(3)] == [97, 98, 99]
    assert [int(line.split()[-2]) for line in logs.error.tail(40, "odd")] == list(range(21, 100, 2))
    assert [int(line.split()[-2]) for line in logs.error.tail(2, "even", skip=3)] == [90, 92]
    assert logs.error.tail(10, "nothing like this") == []


def test_tail_joins_lines_over_block_borders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BLOCK", 7)
    logs, _ = make(tmp_path)
    for number in range(20):
        logs.error.write(f"é {number}")
    assert [line.split()[-1] for line in logs.error.tail(20)] == [str(number) for number in range(20)]


def test_a_full_disk_loses_entries_but_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logs, _ = make(tmp_path)
    logs.error.write("first")
    real = os.write

    def full(fd: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    logs.error.write("lost one")
    logs.error.write("lost two")
    monkeypatch.setattr(os, "write", real)
    logs.error.write("after")
    lines = (tmp_path / "error.log").read_text().splitlines()
    assert [line.partition("] ")[2] for line in lines] == [
        "first", "2 entries could not be written and are lost", "after",
    ]  # fmt: skip


def test_a_removed_file_is_made_again(tmp_path: Path) -> None:
    logs, _ = make(tmp_path)
    logs.error.write("one")
    (tmp_path / "error.log").unlink()
    logs.error.write("two")
    assert (tmp_path / "error.log").read_text().endswith("two\n")


def test_files_are_for_the_engines_user_alone(tmp_path: Path) -> None:
    logs, _ = make(tmp_path / "new")
    logs.error.write("one")
    assert (tmp_path / "new" / "error.log").stat().st_mode & 0o777 == 0o600


def test_threads_write_whole_lines(tmp_path: Path) -> None:
    logs, _ = make(tmp_path, size_kb=16, count=100)

    def work(name: str) -> None:
        for number in range(300):
            logs.mail.write(f"{name} {number}")

    threads = [threading.Thread(target=work, args=(f"t{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    logs.close()
    lines = [line for path in tmp_path.iterdir() for line in path.read_text().splitlines()]
    assert len(lines) == 1200
    assert all(ENTRY.fullmatch(line) for line in lines)


def test_debug_topics_are_off_at_first(tmp_path: Path) -> None:
    logs, _ = make(tmp_path)
    assert not logs.debug_on("smtp")
    logs.configure(LogSettings(debug_topics=("smtp",)))
    assert logs.debug_on("smtp")
    assert not logs.debug_on("imap")


def test_pythons_logging_ends_in_ours(tmp_path: Path) -> None:
    logs, _ = make(tmp_path)
    logger = logging.getLogger("postkeep.test")
    logger.propagate = False
    bridge = Bridge(logs)
    logger.addHandler(bridge)
    try:
        logger.error("bad %s", "news\nforged")
        logger.warning("hm")
    finally:
        logger.removeHandler(bridge)
    assert (tmp_path / "error.log").read_text().endswith("bad news\\nforged\n")
    assert (tmp_path / "warning.log").read_text().endswith("hm\n")
