"""`postkeep serve` on a folder that is not set up: the administration's port alone, until it is (SET-1)."""

import asyncio
import contextlib
import tempfile
from collections.abc import Callable
from pathlib import Path

from postkeep.config.services import SERVICES, ServiceSettings
from postkeep.protocols.http.first_start import OneTimeCode, create_first_start_api
from postkeep.protocols.http.server import HttpServer
from postkeep.runtime.certificates import Certificates
from postkeep.runtime.clock import Clock
from postkeep.runtime.files import Files, replace_atomically
from postkeep.runtime.limits import ConnectionLimiter
from postkeep.runtime.listeners import Listeners
from postkeep.runtime.logs import Logs
from postkeep.runtime.systemd import ServiceManager
from postkeep.services.passwords import PasswordHashes
from postkeep.services.setup import Setup, is_set_up, make_folders, set_up

_ADMINISTRATION = next(kind for kind in SERVICES if kind.name == "admin")
CODE_FILE = "run/setup-code"
"""Holds the one-time code while it is good, for the appliance's console (root alone may read it)."""
_CONNECTIONS, _PER_ADDRESS = 100, 20
_LOOK_SECONDS = 1.0
"""How often to look whether `postkeep init` did it meanwhile."""


class FirstStart:
    """Waits for the set-up: over REST with a one-time code, or by `postkeep init`."""

    def __init__(
        self,
        data: Path,
        offset: int,
        address: str | None,
        *,
        clock: Clock,
        files: Files,
        say: Callable[[str], None],
        manager: ServiceManager,
    ) -> None:
        self._data = data
        self._port = _ADMINISTRATION.port + offset
        self._address = address or ""
        self._clock = clock
        self._files = files
        self._say = say
        self._manager = manager
        self._done = asyncio.Event()

    async def run(self, ending: asyncio.Event) -> bool:
        """Whether the folder is set up now; False when `ending` came first."""
        if is_set_up(self._data, self._files):
            self._forget_code()  # of a start that was killed
            return True
        make_folders(self._data, self._files)
        logs = Logs(self._data / "store" / "logs", self._clock)
        try:
            with tempfile.TemporaryDirectory(dir=self._data / "run") as folder:
                # A certificate for this while only: the set-up makes one for the name that it is given.
                certificates = Certificates(Path(folder), "localhost", self._files, self._clock)
                return await self._serve(logs, certificates, ending)
        finally:
            logs.close()

    async def _serve(self, logs: Logs, certificates: Certificates, ending: asyncio.Event) -> bool:
        hashes = PasswordHashes()

        async def make(setup: Setup) -> str:
            account = await set_up(self._data, setup, self._files, self._clock, hashes)
            self._done.set()
            return account.key

        def tell(code: str) -> None:
            replace_atomically(self._files, self._data / CODE_FILE, f"{code}\n".encode())
            text = f"one-time code for the first set-up: {code}"
            logs.security.write(text[0].upper() + text[1:])
            self._say(text)

        http = HttpServer(
            create_first_start_api(OneTimeCode(tell), make, logs),
            ConnectionLimiter(_CONNECTIONS, _PER_ADDRESS),
        )
        listeners = Listeners(logs.error, self._clock)
        await http.start(self._data / "run" / "setup.sock")
        try:
            factory = http.factory(http.app)
            for host, port in self._places():
                await listeners.open("admin", factory, host, port, certificates.server_context)
            self._say(
                f"{self._data} is not set up: POST https://this-host:{self._port}/api/v1/setup, "
                f"or run: postkeep init --data {self._data} (see --help)"
            )
            self._manager.ready("not set up yet: waiting for the first set-up")
            return await self._wait(ending)
        finally:
            self._forget_code()
            await listeners.stop()
            await http.stop()
            hashes.close()

    def _forget_code(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._files.unlink(self._data / CODE_FILE)

    def _places(self) -> list[tuple[str, int]]:
        defaults = ServiceSettings(address=self._address)
        offset = self._port - _ADMINISTRATION.port
        return [(host, port + offset) for host, port in defaults.listeners(_ADMINISTRATION)]

    async def _wait(self, ending: asyncio.Event) -> bool:
        while not self._done.is_set():
            if ending.is_set():
                return False
            if is_set_up(self._data, self._files):
                break
            pause = asyncio.ensure_future(self._clock.sleep(_LOOK_SECONDS))
            waits = {pause, *(asyncio.ensure_future(event.wait()) for event in (ending, self._done))}
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            for wait in waits:
                wait.cancel()
        return True
