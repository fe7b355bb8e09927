#!/usr/bin/python3
"""Stands in for systemctl in a chroot, where no systemd runs: notes every call, and really starts and stops
the one service, as its unit file says: user, environment file, command, READY=1 by sd_notify, condition."""

import os
import pwd
import shlex
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

UNIT = Path("/usr/lib/systemd/system/postkeep.service")
PID = Path("/run/postkeep.pid")
SERVICE = "postkeep.service"
READY_SECONDS = 120
REAL = "/usr/bin/systemctl.real"
LINKS = ("preset", "enable", "disable", "mask", "unmask", "is-enabled")
"""What only makes and removes links is done by the real one."""


def settings() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in UNIT.read_text().splitlines():
        name, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found.setdefault(name, []).append(value)
    return found


def environment(unit: dict[str, list[str]]) -> dict[str, str]:
    values = dict(line.split("=", 1) for line in unit["Environment"])
    file = Path(unit["EnvironmentFile"][0].lstrip("-"))
    for line in file.read_text().splitlines() if file.exists() else ():
        if "=" in line and not line.startswith("#"):
            name, _, value = line.partition("=")
            values[name] = value.strip('"')
    return values


def running() -> int:
    try:
        pid = int(PID.read_text())
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, ValueError):
        return 0
    return 0 if state == "Z" else pid


def start() -> int:
    if running():
        return 0
    unit = settings()
    for condition in unit.get("ConditionPathExists", []):
        if Path(condition.lstrip("!")).exists() == condition.startswith("!"):
            print(f"condition {condition} is not met: skipped")
            return 0
    values = environment(unit)
    command: list[str] = []
    for word in shlex.split(unit["ExecStart"][0]):
        if word.startswith("${"):
            command.append(values[word[2:-1]])
        elif word.startswith("$"):
            command += values.get(word[1:], "").split()
        else:
            command.append(word)
    user = pwd.getpwnam(unit["User"][0])
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    Path("/run/notify").unlink(missing_ok=True)
    listening.bind("/run/notify")
    os.chmod("/run/notify", 0o777)
    listening.settimeout(0.2)
    log = os.open("/var/log/postkeep-engine.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    process = subprocess.Popen(
        command, user=user.pw_uid, group=user.pw_gid, extra_groups=[], umask=0o077, cwd="/",
        env=values | {"NOTIFY_SOCKET": "/run/notify", "PATH": "/usr/bin:/bin"},
        stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
    )  # fmt: skip
    PID.write_text(str(process.pid))
    until = time.monotonic() + READY_SECONDS
    while time.monotonic() < until:
        if process.poll() is not None:
            return 1
        try:
            if b"READY=1" in listening.recv(4096):
                return 0
        except TimeoutError:
            pass
    return 1


def stop() -> int:
    pid = running()
    if pid:
        os.kill(pid, signal.SIGTERM)
        until = time.monotonic() + 60
        while running() and time.monotonic() < until:
            time.sleep(0.05)
    PID.unlink(missing_ok=True)
    return 0


def main() -> int:
    words = [word for word in sys.argv[1:] if not word.startswith("--")]
    with open("/var/log/systemctl.log", "a") as log:
        log.write(" ".join(words) + "\n")
    action, units = words[0], words[1:]
    if action in LINKS:
        return subprocess.run([REAL, *sys.argv[1:]], env=os.environ | {"SYSTEMD_OFFLINE": "1"}).returncode
    if action == "is-active":
        return 0 if SERVICE in units and running() else 3
    if SERVICE not in units:
        return 0
    if action == "restart":
        stop()
    return {"start": start, "restart": start, "stop": stop}.get(action, lambda: 0)()


if __name__ == "__main__":
    sys.exit(main())
