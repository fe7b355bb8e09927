"""LogsPort for Debian: the engine's files, the journal, the agent's file; what a support bundle holds."""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

from postkeep_appliance.host.engine import DATA, store_folder
from postkeep_appliance.host.files import read_beneath, read_small, write_atomically
from postkeep_appliance.host.port import Collected, HostError, Say
from postkeep_appliance.host.run import Runner

ENGINE_LOGS = ("config", "debug", "error", "mail", "operations", "security", "spam", "warning")
AGENT_LOG = "var/log/postkeep-agent/agent.log"
BUNDLES = "var/lib/postkeep-appliance/support"
KEPT_BUNDLES = 3
_TAIL = 2 << 20
"""Octets of a log that are looked at."""
_JOURNAL_LINES = "5000"
_LINE = 2000

_PROGRAMS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("versions/packages.txt", ("dpkg-query", "-W")),
    ("versions/kernel.txt", ("uname", "-a")),
    ("versions/postkeep.txt", ("/usr/bin/postkeep", "version")),
    ("system/units.txt", ("systemctl", "list-units", "--all", "--no-pager", "--plain")),
    ("system/failed.txt", ("systemctl", "status", "--failed", "--no-pager", "--lines=20")),
    ("system/engine.txt", ("systemctl", "show", "postkeep.service", "--no-pager")),
    ("system/time.txt", ("timedatectl", "show")),
    ("system/memory.txt", ("free", "-m")),
    ("system/processes.txt", ("ps", "-eo", "user,pid,ppid,rss,pcpu,etime,comm")),
    ("system/disks.txt", ("lsblk", "--output", "NAME,SIZE,TYPE,FSTYPE,LABEL,MOUNTPOINTS,MODEL")),
    ("system/space.txt", ("df", "-h", "--local")),
    ("network/addresses.txt", ("ip", "address")),
    ("network/routes.txt", ("ip", "route", "show", "table", "all")),
    ("network/networkd.txt", ("networkctl", "status", "--all", "--no-pager", "--lines=0")),
    ("network/listeners.txt", ("ss", "-lntup")),
    ("network/firewall.txt", ("nft", "list", "ruleset")),
    ("logs/system.txt", ("journalctl", "--no-pager", "--lines", _JOURNAL_LINES, "--output=short-iso")),
)
"""No command lines of processes and no environment: people put passwords there."""


class DebianLogs:
    """Files below `root`; programs by `run`."""

    def __init__(self, root: Path, run: Runner) -> None:
        self._root = root
        self._run = run

    def names(self) -> tuple[str, ...]:
        return (*ENGINE_LOGS, "system", "agent")

    async def read(self, name: str, lines: int, search: str) -> tuple[str, ...]:
        if name == "system":
            argv = ["journalctl", "--no-pager", "--output=short-iso", "--lines", _JOURNAL_LINES]
            text = (await self._run(argv)).out
        else:
            octets = await asyncio.to_thread(self._tail, name)
            text = octets.decode("utf-8", "replace")
        wanted = search.casefold()
        found = [line[:_LINE] for line in text.splitlines() if wanted in line.casefold()]
        return tuple(found[-lines:])

    def _tail(self, name: str) -> bytes:
        try:
            if name == "agent":
                return read_beneath(self._root, AGENT_LOG, _TAIL, tail=True)
            return read_beneath(store_folder(self._root), f"logs/{name}.log", _TAIL, tail=True)
        except FileNotFoundError:
            return b""
        except OSError as error:
            raise HostError(f"The log {name} cannot be read: {error.strerror or error}") from error

    async def collect(self, say: Say) -> list[Collected]:
        found: list[Collected] = []
        total = len(_PROGRAMS) + len(ENGINE_LOGS) + 2
        for name, argv in _PROGRAMS:
            say(f"Collecting {name}", len(found), total)
            try:
                output = await self._run(argv, check=False)
                text = output.out + output.err
            except HostError as error:
                text = f"{error}\n"
            found.append(Collected(name, text.encode()[-_TAIL:]))
        for log in (*ENGINE_LOGS, "agent"):
            say(f"Collecting the log {log}", len(found), total)
            found.append(Collected(f"logs/{log}.log", await self._octets(lambda log=log: self._tail(log))))  # type: ignore[misc]
        say("Collecting the settings", len(found), total)
        found.append(Collected("settings/mailserver.cfg", await self._octets(self._settings)))
        for path in sorted((self._root / "etc/systemd/network").glob("*.network")):
            found.append(Collected(f"settings/{path.name}", (read_small(path) or "").encode()))
        return found

    def _settings(self) -> bytes:
        return read_beneath(self._root / DATA, "mailserver.cfg", _TAIL)

    @staticmethod
    async def _octets(read: Callable[[], bytes]) -> bytes:
        try:
            return await asyncio.to_thread(read)
        except (OSError, HostError) as error:
            return f"cannot be read: {error}\n".encode()

    def keep_bundle(self, name: str, data: bytes) -> str:
        folder = self._root / BUNDLES
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            old = sorted(folder.glob("*.tar.gz"), key=os.path.getmtime)
            for path in old[: max(0, len(old) - KEPT_BUNDLES + 1)]:
                path.unlink()
            write_atomically(folder / name, data, 0o600)
        except OSError as error:
            raise HostError(f"The support bundle cannot be written: {error.strerror}") from error
        return f"/{BUNDLES}/{name}"
