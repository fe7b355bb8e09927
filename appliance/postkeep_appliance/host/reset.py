"""ResetPort for Debian: back to the state of the image. Each step can be done again after a power cut."""

import asyncio
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path

from postkeep_appliance.host.engine import DATA, DROP_IN, DebianEngine, store_folder
from postkeep_appliance.host.files import remove, sync_folder
from postkeep_appliance.host.logs import AGENT_LOG
from postkeep_appliance.host.network import FOLDER, DebianNetwork
from postkeep_appliance.host.port import FIRST_PASSWORD, HostError
from postkeep_appliance.host.run import Runner
from postkeep_appliance.host.state import FIRST_PASSWORD_MARK, StateFolder
from postkeep_appliance.host.system import KEYBOARD, DebianSystem

RESET_MARK = "factory-reset"
"""State while a reset is under way: the next start of the agent finishes it."""
IMAGE_HOSTNAME = "postkeep"
_STOP_SECONDS = 120.0


class DebianReset:
    """Files below `root`; programs by `run`."""

    def __init__(
        self,
        root: Path,
        run: Runner,
        state: StateFolder,
        system: DebianSystem,
        network: DebianNetwork,
        engine: DebianEngine,
    ) -> None:
        self._root = root
        self._run = run
        self._state = state
        self._system = system
        self._network = network
        self._engine = engine
        self._steps: dict[str, Callable[[], Awaitable[None]]] = {
            "The engine stops": self._stop,
            "Root gets the documented first password; SSH goes off": self._passwords,
            "Mail, accounts and settings of the engine are removed": self._engine_data,
            "The network goes back to DHCP": self._network_settings,
            "Host name, time and keyboard are those of the image": self._system_settings,
            "SSH keys of this host are made anew; logs are emptied": self._identities,
            "What the appliance remembers is removed": self._memory,
        }

    def steps(self) -> tuple[str, ...]:
        return tuple(self._steps)

    async def do(self, step: str) -> None:
        try:
            await self._steps[step]()
        except OSError as error:
            raise HostError(f"{step}: {error.filename or ''} {error.strerror or error}") from error

    async def _stop(self) -> None:
        await self._run(["systemctl", "stop", "postkeep.service"], seconds=_STOP_SECONDS)

    async def _passwords(self) -> None:
        """First, so that a network login with the documented word is never possible."""
        await self._system.set_ssh(False)
        self._state.write(FIRST_PASSWORD_MARK, b"")
        await self._system.set_password(FIRST_PASSWORD)
        await asyncio.to_thread(shutil.rmtree, self._root / "root/.ssh", True)

    async def _engine_data(self) -> None:
        folder = store_folder(self._root)
        data = self._root / DATA
        for place in {folder, data / "store", data}:
            await asyncio.to_thread(_empty, place)
        remove(self._root / DROP_IN)
        await self._run(["systemctl", "daemon-reload"])

    async def _network_settings(self) -> None:
        for path in (self._root / FOLDER).glob("10-postkeep-*.network"):
            self._network.restore(path.name.removeprefix("10-postkeep-").removesuffix(".network"), None)

    async def _system_settings(self) -> None:
        await self._system.set_hostname(IMAGE_HOSTNAME)
        await self._system.set_time("UTC", ())
        if (self._root / KEYBOARD).exists():
            await self._system.set_keyboard("us")
        await self._run(["systemctl", "enable", "postkeep.service"])

    async def _identities(self) -> None:
        for path in (self._root / "etc/ssh").glob("ssh_host_*"):
            remove(path)
        await self._run(["ssh-keygen", "-A"])
        await self._run(["journalctl", "--rotate"], check=False)
        await self._run(["journalctl", "--vacuum-time=1s"], check=False)
        for path in (self._root / AGENT_LOG).parent.glob("agent.log.*"):
            remove(path)

    async def _memory(self) -> None:
        kept = {RESET_MARK, FIRST_PASSWORD_MARK}
        if not self._state.folder.is_dir():
            return
        for path in self._state.folder.iterdir():
            if path.name in kept:
                continue
            if path.is_dir() and not path.is_symlink():
                await asyncio.to_thread(shutil.rmtree, path)
            else:
                path.unlink(missing_ok=True)
        sync_folder(self._state.folder)


def _empty(folder: Path) -> None:
    """All that is in it, not the folder itself, and no mount point in it. No link is followed."""
    if folder.is_symlink() or not folder.is_dir():
        return
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            if path.is_mount():
                continue  # emptied as a place of its own
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    sync_folder(folder)
