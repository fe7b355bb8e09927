"""SystemPort for Debian: names, time, SSH, passwords, keyboard, power."""

import asyncio
import contextlib
import datetime
import os
import re
import zoneinfo
from pathlib import Path
from typing import Literal

from postkeep_appliance.host.files import read_small, remove, sync_folder, write_atomically
from postkeep_appliance.host.port import HostError, Invalid, Memory, TimeFacts
from postkeep_appliance.host.run import ProgramFailed, Runner
from postkeep_appliance.host.shadow import is_password_of

TIMESYNCD = "etc/systemd/timesyncd.conf.d/50-postkeep.conf"
KEYBOARD = "etc/default/keyboard"
_NON_LATIN = frozenset(
    [
        "af",
        "am",
        "ara",
        "bd",
        "bg",
        "by",
        "et",
        "ge",
        "gr",
        "il",
        "in",
        "iq",
        "ir",
        "jp",
        "kg",
        "kh",
        "kr",
        "kz",
        "la",
        "lk",
        "mk",
        "mm",
        "mn",
        "mv",
        "np",
        "pk",
        "ru",
        "rs",
        "sy",
        "th",
        "tj",
        "ua",
    ]
)
"""Layouts on which no Latin password can be typed."""
_ZONES = "usr/share/zoneinfo"
_ZONE = re.compile(r"[A-Za-z0-9_+-]{1,20}(/[A-Za-z0-9_+-]{1,30}){0,2}")


class DebianSystem:
    """Files below `root`; programs by `run`."""

    def __init__(self, root: Path, run: Runner) -> None:
        self._root = root
        self._run = run

    # --- names

    def hostname(self) -> str:
        return (read_small(self._root / "etc/hostname") or "localhost").strip()

    async def set_hostname(self, name: str) -> None:
        """`name` has been checked (names.hostname). Works before D-Bus is there, too."""
        hosts = self._root / "etc/hosts"
        old = read_small(hosts) or "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n"
        kept = [line for line in old.splitlines() if line.split()[:1] != ["127.0.1.1"]]
        at = next((number + 1 for number, line in enumerate(kept) if line.startswith("127.0.0.1")), 0)
        kept.insert(at, f"127.0.1.1 {name} {name.partition('.')[0]}")
        try:
            write_atomically(hosts, ("\n".join(kept) + "\n").encode())
            write_atomically(self._root / "etc/hostname", f"{name}\n".encode())
        except OSError as error:
            raise HostError(f"{error.filename} cannot be written: {error.strerror}") from error
        try:
            await self._run(["hostnamectl", "set-hostname", name])
        except HostError:
            await self._run(["hostname", name])

    # --- passwords

    async def check_password(self, password: str) -> bool:
        return await asyncio.to_thread(is_password_of, "root", password, self._root)

    async def set_password(self, password: str) -> None:
        if "\n" in password or not password:
            raise Invalid("new_password", "A password has no control characters.")
        await self._run(["chpasswd"], stdin=f"root:{password}\n")

    # --- time

    def zone(self) -> str:
        path = self._root / "etc/localtime"
        with contextlib.suppress(OSError):
            target = os.readlink(path)
            return target.partition("zoneinfo/")[2] or "UTC"
        return "UTC"

    async def time(self) -> TimeFacts:
        said = await self._run(["timedatectl", "show", "--property=NTPSynchronized", "--value"], check=False)
        return TimeFacts(self.zone(), self._ntp(), said.out.strip() == "yes")

    def _ntp(self) -> tuple[str, ...]:
        text = read_small(self._root / TIMESYNCD) or ""
        return next((tuple(line[4:].split()) for line in text.splitlines() if line.startswith("NTP=")), ())

    async def zones(self) -> tuple[str, ...]:
        """Those that the image has, without the old names that are only kept for old systems."""
        folder = self._root / _ZONES
        found = {"UTC"}
        for line in (read_small(folder / "tzdata.zi") or "").splitlines():
            words = line.split()
            name = words[1] if words[:1] == ["Z"] and len(words) > 1 else ""
            if words[:1] == ["L"] and len(words) > 2:
                name = words[2]
            if "/" in name and not name.startswith(("Etc/", "SystemV/")) and (folder / name).is_file():
                found.add(name)
        return tuple(sorted(found))

    async def set_time(self, zone: str, ntp: tuple[str, ...]) -> None:
        """What timedated would do, which is not there yet at first boot."""
        if not _ZONE.fullmatch(zone) or not (self._root / _ZONES / zone).is_file():
            raise Invalid("time_zone", "There is no such time zone; choose one of the list.")
        try:
            link = self._root / "etc/localtime"
            temporary = link.with_name(".localtime.new")
            temporary.unlink(missing_ok=True)
            temporary.symlink_to(f"/{_ZONES}/{zone}")
            temporary.replace(link)
            sync_folder(link.parent)
            write_atomically(self._root / "etc/timezone", f"{zone}\n".encode())
            if ntp:
                write_atomically(self._root / TIMESYNCD, f"[Time]\nNTP={' '.join(ntp)}\n".encode())
            else:
                remove(self._root / TIMESYNCD)
        except OSError as error:
            raise HostError(f"{error.filename} cannot be written: {error.strerror}") from error
        await self._run(["systemctl", "enable", "systemd-timesyncd.service"])
        await self._run(["systemctl", "restart", "--no-block", "systemd-timesyncd.service"])

    def now(self) -> str:
        try:
            zone: datetime.tzinfo = zoneinfo.ZoneInfo(self.zone())
        except (zoneinfo.ZoneInfoNotFoundError, ValueError):
            zone = datetime.UTC
        return datetime.datetime.now(zone).isoformat(timespec="seconds")

    # --- SSH

    async def ssh(self) -> bool:
        show = ["systemctl", "show", "ssh.service", "--property=ActiveState,UnitFileState", "--value"]
        said = (await self._run(show)).out.split()
        return "active" in said or "enabled" in said

    async def set_ssh(self, on: bool) -> None:
        # Debian's ssh has a SysV script too: systemd is reloaded several times.
        await self._run(["systemctl", "enable" if on else "disable", "--now", "ssh.service"], seconds=120)
        if not on:  # sessions that are open end too
            await self._run(["systemctl", "kill", "--kill-whom=all", "ssh.service"], check=False)

    # --- keyboard

    def keyboard(self) -> str:
        text = read_small(self._root / KEYBOARD) or ""
        found = re.search(r'^XKBLAYOUT="?([a-z0-9_,]*)', text, re.MULTILINE)
        layouts = [one for one in (found[1] if found else "").split(",") if one]
        return layouts[-1] if layouts else "us"

    def keyboards(self) -> tuple[tuple[str, str], ...]:
        """From XKB's rules: the lines of section "layout"."""
        text = read_small(self._root / "usr/share/X11/xkb/rules/evdev.lst") or read_small(
            self._root / "usr/share/X11/xkb/rules/base.lst"
        )
        found, inside = {}, False
        for line in (text or "").splitlines():
            if line.startswith("!"):
                inside = line[1:].strip() == "layout"
            elif inside and len(words := line.split(None, 1)) == 2 and words[0] != "custom":
                found[words[0]] = words[1].strip()
        return tuple(sorted((found or {"us": "English (US)"}).items(), key=lambda one: one[1]))

    async def set_keyboard(self, layout: str) -> None:
        if layout not in dict(self.keyboards()):
            raise Invalid("layout", "There is no such keyboard layout; choose one of the list.")
        # Without Latin letters nobody could type root's password any more: US stays, Alt+Shift changes.
        other = layout in _NON_LATIN
        lines = [
            "# Written by the appliance's console.",
            'XKBMODEL="pc105"',
            f'XKBLAYOUT="us,{layout}"' if other else f'XKBLAYOUT="{layout}"',
            f'XKBVARIANT="{"," if other else ""}"',
            'XKBOPTIONS="grp:alt_shift_toggle"' if other else 'XKBOPTIONS=""',
            'BACKSPACE="guess"',
        ]
        try:
            write_atomically(self._root / KEYBOARD, ("\n".join(lines) + "\n").encode())
        except OSError as error:
            raise HostError(f"{error.filename} cannot be written: {error.strerror}") from error
        await self._run(["setupcon", "--keyboard-only", "--force", "--save"])

    # --- state

    async def power(self, action: Literal["restart", "shutdown"]) -> None:
        await self._run(["systemctl", "--no-block", "reboot" if action == "restart" else "poweroff"])

    async def failed_units(self) -> tuple[str, ...]:
        argv = ["systemctl", "list-units", "--state=failed", "--plain", "--no-legend", "--no-pager"]
        try:
            said = await self._run(argv)
        except ProgramFailed as error:
            raise HostError(str(error)) from error
        return tuple(line.split()[0] for line in said.out.splitlines() if line.split())

    def memory(self) -> Memory:
        found = dict.fromkeys(("MemTotal", "MemAvailable"), 0)
        for line in (read_small(self._root / "proc/meminfo") or "").splitlines():
            key, _, rest = line.partition(":")
            if key in found and rest.split()[:1]:
                found[key] = int(rest.split()[0]) * 1024
        return Memory(found["MemTotal"], found["MemAvailable"])
