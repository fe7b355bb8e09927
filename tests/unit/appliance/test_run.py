"""Programs are run without a shell, bounded in time and output."""

import asyncio
import sys
import time
from pathlib import Path

import pytest
from postkeep_appliance.agent.peers import caller_of, may_call
from postkeep_appliance.agent.work import Caller
from postkeep_appliance.host.files import open_beneath, write_atomically
from postkeep_appliance.host.port import HostError
from postkeep_appliance.host.run import OUTPUT_LIMIT, SystemRunner

RUN = SystemRunner()


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


async def test_output_status_and_stdin() -> None:
    output = await RUN(
        python("import sys; print(sys.stdin.read()); print('e', file=sys.stderr); sys.exit(3)"),
        stdin="é",
        check=False,
    )
    assert output == (3, "é\n", "e\n")


async def test_arguments_are_no_shell() -> None:
    output = await RUN([*python("import sys; print(sys.argv[1])"), "$(id); `id` | x"])
    assert output.out == "$(id); `id` | x\n"


async def test_the_callers_environment_stays_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LD_PRELOAD_TEST", "evil")
    output = await RUN(python("import os; print(sorted(os.environ))"))
    assert "LD_PRELOAD_TEST" not in output.out


async def test_a_program_that_hangs_is_killed_with_its_children() -> None:
    begin = time.monotonic()
    with pytest.raises(HostError, match="not done"):
        await RUN(["/bin/sh", "-c", "sleep 600 & sleep 600"], seconds=0.3)
    assert time.monotonic() - begin < 10


async def test_endless_output_is_thrown_away() -> None:
    output = await RUN(python(f"import sys; sys.stdout.write('x' * {OUTPUT_LIMIT * 2})"))
    assert len(output.out) == OUTPUT_LIMIT


async def test_a_program_that_does_not_read_does_not_hang_us() -> None:
    assert (await RUN(python("pass"), stdin="x" * (1 << 20))).status == 0


async def test_lines_come_as_they_are_written() -> None:
    said: list[str] = []
    await RUN(python("print('one'); print('two', end='')"), line=said.append)
    assert said == ["one", "two"]


async def test_what_is_not_there() -> None:
    with pytest.raises(HostError, match="cannot be run"):
        await RUN(["/nonexistent/program"])


async def test_cancelling_kills() -> None:
    task = asyncio.ensure_future(RUN(["sleep", "600"]))
    await asyncio.sleep(0.2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


# --- files


def test_a_planted_link_at_the_temporary_name_is_not_written_through(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("whole")
    (tmp_path / ".file.new").symlink_to(victim)
    with pytest.raises(OSError, match=r"\.file\.new"):
        write_atomically(tmp_path / "file", b"x")
    assert victim.read_text() == "whole"


@pytest.mark.parametrize("name", ["", "/etc/passwd", "../x", "a/../../x"])
def test_names_below_a_folder_stay_below_it(tmp_path: Path, name: str) -> None:
    with pytest.raises(OSError, match="below"):
        open_beneath(tmp_path, name)


# --- peers


def test_terminal_groups_and_reused_process_numbers(tmp_path: Path) -> None:
    import socket

    left, right = socket.socketpair(socket.AF_UNIX)
    with left, right:
        caller = caller_of(left)
        import os

        assert (caller.uid, caller.pid) == (os.getuid(), os.getpid())
        proc = tmp_path / str(caller.pid)
        proc.mkdir()
        for number, terminal in ((0x401, "tty1"), (0x440, "ttyS0"), (0x8803, "pts/3"), (0, "")):
            (proc / "stat").write_text(f"{caller.pid} (a) b) S 1 1 1 {number} 1 0")
            assert caller_of(left, tmp_path).terminal == terminal
    console = Caller(997, 997, 4711, "")
    assert may_call(Caller(0, 0, 1, ""), (), ())
    assert may_call(console, {997}, ())
    assert may_call(console, (), {997})
    assert not may_call(console, {1}, {1}, tmp_path)
    status = tmp_path / "4711"
    status.mkdir()
    (status / "status").write_text("Uid:\t997\t997\t997\t997\nGroups:\t1 42 \n")
    assert may_call(console, (), {42}, tmp_path)
    (status / "status").write_text("Uid:\t1000\t1000\t1000\t1000\nGroups:\t42\n")
    assert not may_call(console, (), {42}, tmp_path), "another process has this number now"
