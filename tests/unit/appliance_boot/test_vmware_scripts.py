"""The scripts that open-vm-tools calls, run for real with stand-ins for what they call."""

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[3] / "appliance" / "vmware"
NOW = 1_800_000_000


class Box:
    """A folder of stand-ins that write down how they were called; `say` lines of a stand-in come first."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bin = folder / "bin"
        self.run = folder / "run"
        self.sys = folder / "sys"
        self.calls = folder / "calls"
        for path in (self.bin, self.run / "systemd/timesync", self.sys / "class/rtc/rtc0"):
            path.mkdir(parents=True)
        self.calls.touch()
        for name in ("logger", "systemctl", "systemd-run", "sync"):
            self.stand_in(name)
        self.stand_in("sleep", f"touch -d '+1 hour' {self.run}/asleep")
        self.stand_in("date", f'[ "$1" != +%s ] || echo {NOW}')
        self.stand_in("timeout", 'shift; exec "$@"')
        self.rtc(NOW)

    def stand_in(self, name: str, body: str = "", *, log: bool = True) -> None:
        path = self.bin / name
        note = f'echo "{name} $*" >>{self.calls}' if log else ":"
        path.write_text(f"#!/bin/sh\n{note}\n{body}\n")
        path.chmod(0o755)

    def rtc(self, seconds: int | str) -> None:
        (self.sys / "class/rtc/rtc0/since_epoch").write_text(f"{seconds}\n")

    def synchronized(self) -> None:
        path = self.run / "systemd/timesync/synchronized"
        path.touch()
        os.utime(path, (time.time() + 3600,) * 2)

    def call(self, script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {
            "PATH": f"{self.bin}:/usr/bin:/bin",
            "RUNTIME_DIRECTORY": str(self.run),
            "SYSFS_DIRECTORY": str(self.sys),
            "POSTKEEP_STORE": str(self.folder),
        }
        return subprocess.run(
            [SCRIPTS / script, *arguments], env=environment, capture_output=True, text=True, timeout=60
        )

    def did(self) -> list[str]:
        """Commands in order; the journal's lines are in `said`."""
        return [
            line for line in self._lines() if not line.startswith(("logger", "date +%s", "sleep", "timeout"))
        ]

    def said(self) -> str:
        return "\n".join(line for line in self._lines() if line.startswith("logger"))

    def _lines(self) -> list[str]:
        return self.calls.read_text().splitlines()


@pytest.fixture
def box(tmp_path: Path) -> Box:
    return Box(tmp_path)


STOP = [
    "systemctl --quiet is-active postkeep.service",
    "systemd-run --quiet --collect --unit=postkeep-resume-guard --on-active=90 systemctl start postkeep.service",
    "systemctl stop postkeep.service",
]


@pytest.mark.parametrize("operation", ["poweroff-vm", "suspend-vm"])
def test_the_engine_stops_before_the_machine_does(box: Box, operation: str) -> None:
    assert box.call("vm-power", operation).returncode == 0
    assert box.did() == STOP
    assert f"daemon.info -- {operation}: the engine stopped in 0 seconds" in box.said()


def test_an_engine_that_does_not_run_is_left_alone_and_not_started_after_a_resume(box: Box) -> None:
    box.stand_in("systemctl", "exit 3")
    assert box.call("vm-power", "suspend-vm").returncode == 0
    assert box.did() == STOP[:1]
    box.call("vm-power", "resume-vm")
    assert not any("start postkeep.service" in line for line in box.did())


def test_an_engine_that_does_not_stop_holds_nobody_up(box: Box) -> None:
    box.stand_in("timeout", "exit 124")
    for operation in ("poweroff-vm", "suspend-vm"):
        assert box.call("vm-power", operation).returncode == 0
    assert "daemon.err -- suspend-vm: the engine did not stop in 20 seconds" in box.said()


def test_the_time_limits_leave_room_to_the_host_s_30_seconds(box: Box) -> None:
    box.call("vm-power", "suspend-vm")
    box.call("vm-power", "resume-vm")
    limits = [int(line.split()[1]) for line in box._lines() if line.startswith("timeout")]
    sleeps = [line for line in box._lines() if line.startswith("sleep")]
    assert limits == [20, 5]
    assert len(sleeps) == 5


def test_suspend_works_without_a_guard(box: Box) -> None:
    box.stand_in("systemd-run", "exit 1")
    assert box.call("vm-power", "suspend-vm").returncode == 0
    assert box.did()[-1] == "systemctl stop postkeep.service"
    assert "no timer can be set" in box.said()


def test_resume_checks_the_clock_first_then_starts_the_engine_once(box: Box) -> None:
    box.synchronized()
    box.call("vm-power", "suspend-vm")
    before = len(box.did())
    assert box.call("vm-power", "resume-vm").returncode == 0
    assert box.did()[before:] == [
        "systemctl --quiet is-enabled systemd-timesyncd.service",
        "systemctl restart systemd-timesyncd.service",
        "systemctl stop postkeep-resume-guard.timer",
        "systemctl --no-block start postkeep.service",
    ]
    assert "the clock is synchronized with a time server" in box.said()
    before = len(box.did())
    box.call("vm-power", "resume-vm")  # a host may say it again
    assert not any("start postkeep.service" in line for line in box.did()[before:])


def test_a_clock_that_fell_behind_is_set_forward(box: Box) -> None:
    box.rtc(NOW + 7200)
    box.call("vm-power", "resume-vm")
    assert f"date --set=@{NOW + 7200}" in box.did()
    assert "the clock was 7200 seconds behind and was set forward" in box.said()


@pytest.mark.parametrize("rtc", [NOW, NOW + 2, NOW - 7200, "", "junk", "12; reboot"])
def test_a_clock_that_is_right_or_not_to_be_judged_is_left(box: Box, rtc: int | str) -> None:
    box.rtc(rtc)
    assert box.call("vm-power", "resume-vm").returncode == 0
    assert not any(line.startswith("date --set") for line in box.did())


def test_no_clock_at_all(box: Box) -> None:
    (box.sys / "class/rtc/rtc0/since_epoch").unlink()
    assert box.call("vm-power", "resume-vm").returncode == 0
    assert not any(line.startswith("date --set") for line in box.did())


def test_a_time_server_that_does_not_answer_holds_the_engine_up_for_seconds_only(box: Box) -> None:
    box.call("vm-power", "suspend-vm")
    box.call("vm-power", "resume-vm")
    assert box.did()[-1] == "systemctl --no-block start postkeep.service"
    assert "no time server answered in 5 seconds" in box.said()


def test_time_synchronization_that_is_off_stays_off(box: Box) -> None:
    box.stand_in("systemctl", 'case "$*" in *is-enabled*) exit 1 ;; esac')
    box.call("vm-power", "resume-vm")
    assert not any("restart" in line for line in box.did())


@pytest.mark.parametrize("script", ["vm-power", "vm-snapshot"])
@pytest.mark.parametrize("arguments", [(), ("",), ("poweron-vm",), ("; reboot",)])
def test_other_operations_do_nothing(box: Box, script: str, arguments: tuple[str, ...]) -> None:
    result = box.call(script, *arguments)
    assert result.returncode == 2
    assert result.stderr.startswith(f"usage: {script} ")
    assert box.did() == []


# --- snapshots ----------------------------------------------------------------------------------------


def test_freeze_and_thaw(box: Box) -> None:
    assert box.call("vm-snapshot", "freeze").returncode == 0
    assert box.did() == [
        "systemd-run --quiet --collect --unit=postkeep-thaw-guard --on-active=600 systemctl service-watchdogs yes",
        "systemctl service-watchdogs no",
        f"sync -f {box.folder}",
    ]
    before = len(box.did())
    assert box.call("vm-snapshot", "thaw").returncode == 0
    assert box.did()[before:] == [
        "systemctl service-watchdogs yes",
        "systemctl stop postkeep-thaw-guard.timer",
        "systemctl --quiet is-active postkeep.service",
    ]
    assert "daemon.info -- thaw: done" in box.said()


def test_a_freeze_that_failed_is_undone_alike(box: Box) -> None:
    assert box.call("vm-snapshot", "freezeFail").returncode == 0
    assert box.did()[0] == "systemctl service-watchdogs yes"


def test_watchdogs_stay_on_when_nothing_would_turn_them_on_again(box: Box) -> None:
    box.stand_in("systemd-run", "exit 1")
    assert box.call("vm-snapshot", "freeze").returncode == 0
    assert "systemctl service-watchdogs no" not in box.did()


def test_a_sync_that_hangs_does_not_hold_the_host_up(box: Box) -> None:
    # It ends when its parent does; the stand-in for sleep makes eight seconds pass at once.
    box.stand_in("sync", "exec /bin/sleep 5")
    started = time.monotonic()
    process = box.call("vm-snapshot", "freeze")
    assert process.returncode == 0
    assert "was not written out in 8 seconds" in box.said()
    assert time.monotonic() - started < 30


def test_a_sync_that_fails_does_not_refuse_the_snapshot(box: Box) -> None:
    box.stand_in("sync", "exit 1")
    assert box.call("vm-snapshot", "freeze").returncode == 0
    assert "the store could not be written out" in box.said()


def test_an_engine_that_failed_meanwhile_is_told(box: Box) -> None:
    box.stand_in("systemctl", 'case "$*" in *is-active*) exit 3 ;; *is-failed*) exit 0 ;; esac')
    assert box.call("vm-snapshot", "thaw").returncode == 0
    assert "daemon.err -- thaw: the engine has failed" in box.said()


@pytest.mark.parametrize("script", ["vm-power", "vm-snapshot"])
def test_scripts_are_executable_and_posix(script: str) -> None:
    path = SCRIPTS / script
    assert os.access(path, os.X_OK)
    assert path.read_text().startswith("#!/bin/sh\n")
    check: Callable[..., subprocess.CompletedProcess[bytes]] = subprocess.run
    assert check(["/bin/sh", "-n", path], capture_output=True).returncode == 0
