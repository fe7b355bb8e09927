"""The composition root: a `House` (house.py) with its listeners, started and stopped in the right order."""

import asyncio
import contextlib
import gc
import os
import resource
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TextIO

from postkeep import __version__
from postkeep.config.services import ServiceSettings
from postkeep.house import House
from postkeep.protocols.http.api import create_api, guarded, trusted
from postkeep.protocols.http.front import FrontPages
from postkeep.protocols.http.server import HttpServer
from postkeep.protocols.imap.server import ImapServer
from postkeep.protocols.pop3.server import Pop3Server
from postkeep.protocols.smtp.server import SmtpServer
from postkeep.runtime.certificates import Certificates
from postkeep.runtime.certificatewatch import CertificateWatch
from postkeep.runtime.clock import Clock, SystemClock
from postkeep.runtime.limits import ConnectionLimiter
from postkeep.runtime.listeners import Listeners
from postkeep.runtime.memory import give_back_big_blocks, resident
from postkeep.runtime.systemd import STOP_LIMIT, ServiceManager
from postkeep.services import settingchecks
from postkeep.services.control import ServiceControl
from postkeep.storage.compaction import Compactor

SOCKET = "run/admin.sock"
_LOOPBACK = ("127.0.0.1", "::/64")
"""As runtime.limits.network_of writes them."""


class Engine:
    """The running server: all services of SRV-1 that this version has, on their ports + `port_offset`.

    `address` takes the place of the ListenAddress setting ("127.0.0.1" for the demo).
    """

    def __init__(
        self,
        data: Path,
        port_offset: int = 0,
        *,
        address: str | None = None,
        clock: Clock | None = None,
        stderr: TextIO | None = sys.stderr,
    ) -> None:
        self.data = data
        self._offset = port_offset
        self._address = address
        self._clock = clock or SystemClock()
        self._stderr = stderr
        self._stopping = False
        self._watch: CertificateWatch | None = None

    async def start(self) -> None:
        """Open the folder and all listeners. A taken port stops that service alone.

        Raises what House.open raises.
        """
        self.house = house = await House.open(self.data, clock=self._clock, stderr=self._stderr)
        try:
            self._build()
        except BaseException:
            await house.close()
            raise
        try:
            await self._http.start(self.data / SOCKET)
            self._compactor.start()
            await self.control.start_all()
            self._watch = CertificateWatch(self._certificates, self._clock, house.logs)
            self._watch.start()
        except BaseException:
            await self.stop()
            raise
        asyncio.get_running_loop().set_exception_handler(self._unhandled)
        for line in settingchecks.doubts(house.configuration.state):
            house.logs.warning.write(line)
        house.logs.operations.write(f"Postkeep {__version__} started")
        # What is alive now lives as long as the engine: the collector need not look at it again.
        gc.collect()
        gc.freeze()
        gc.set_threshold(20_000, 20, 50)

    def _build(self) -> None:
        house, clock = self.house, self._clock
        logs, config = house.logs, house.configuration.server
        certificates = Certificates(
            self.data / "sslcert", config.hostname, house.files, clock, logs.error.write
        )
        self._certificates = certificates
        services = config.services
        smtp_limit = ConnectionLimiter(
            config.smtp.maximum_connections, config.smtp.maximum_connections_per_address
        )
        self._smtp = SmtpServer(
            config.smtp,
            house.receiver,
            house.authenticator,
            certificates,
            smtp_limit,
            logs,
            clock,
            config.hostname,
        )
        self._imap = ImapServer(
            config.imap,
            house.mailboxes,
            house.authenticator,
            certificates,
            ConnectionLimiter(services.imap_connections, services.imap_connections_per_address, _LOOPBACK),
            logs,
            clock,
        )
        self._pop3 = Pop3Server(
            config.pop3,
            house.mailboxes,
            house.authenticator,
            certificates,
            ConnectionLimiter(services.pop3_connections, services.pop3_connections_per_address, _LOOPBACK),
            logs,
            clock,
        )
        house.on_gone += [self._smtp.disconnect, self._imap.disconnect, self._pop3.disconnect]
        storage = config.storage
        self._compactor = Compactor(
            house.store,
            clock,
            dead_ratio=storage.compaction_dead / 100,
            rate=storage.compaction_rate << 10,
            interval=storage.compaction_interval,
            grace=storage.compaction_grace,
        )
        self._listeners = Listeners(logs.error, clock)
        self._build_http(services, certificates)

    def _build_http(self, services: ServiceSettings, certificates: Certificates) -> None:
        house = self.house
        factories: dict[str, Callable[[], asyncio.BaseProtocol]] = {
            "smtp": self._smtp.factory("smtp"),
            "submission": self._smtp.factory("submission"),
            "smtps": self._smtp.factory("smtps"),
            "imap": self._imap.factory(),
            "imaps": self._imap.factory(),
            "pop3": self._pop3.factory(),
            "pop3s": self._pop3.factory(),
        }
        self.control = ServiceControl(
            lambda: house.configuration.server.services,
            self._listeners,
            factories,
            certificates.server_context,
            house.logs,
            offset=self._offset,
            address=self._address,
        )
        api = create_api(house.api(self.control, self.status))
        limiter = ConnectionLimiter(services.http_connections, services.http_connections_per_address)
        self._http = HttpServer(trusted(api), limiter)
        front = FrontPages(house.configuration.server.hostname, lambda: self.control.port("admin"))
        factories["http"] = factories["https"] = self._http.factory(front)
        factories["admin"] = self._http.factory(guarded(api))

    def status(self) -> dict[str, object]:
        """Numbers for GET /status."""
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return self.house.status() | {
            "running": True,
            "pid": os.getpid(),
            "port_offset": self._offset,
            "uptime_seconds": int(self._clock.monotonic() - self.house.started),
            "smtp_connections": self._smtp.connections,
            "imap_connections": self._imap.connections,
            "pop3_connections": self._pop3.connections,
            "http_connections": self._http.connections,
            "outgoing_connections": self.house.queue.connections,
            "administrators": len(self.house.sessions),
            "memory_bytes": resident(),
            "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 2),
        }

    async def stop(self) -> None:
        """Accept nothing more, tell every session, finish what is under way, close the store."""
        if self._stopping:
            return
        self._stopping = True
        self.house.logs.operations.write("Postkeep is stopping")
        await self._listeners.stop()
        await asyncio.gather(
            self._smtp.shutdown(), self._imap.shutdown(), self._pop3.shutdown(), self._http.stop()
        )
        await self._compactor.stop()
        if self._watch is not None:
            await self._watch.stop()
        self.house.logs.operations.write("Postkeep stopped")
        await self.house.close()

    def reload(self) -> None:
        """Read again what is read at start and can change under way: the certificates."""
        if self._watch is not None:  # else it has not been started yet
            self._watch.read_now()

    def _unhandled(self, loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
        error = context.get("exception")
        text = (
            f"{context.get('message')}: {type(error).__name__}: {error}" if error else context.get("message")
        )
        self.house.logs.error.write(f"Unexpected: {text}")


async def serve(
    engine: Engine,
    ready: Callable[[Engine], None],
    before: Callable[[asyncio.Event], Awaitable[bool]] | None = None,
    manager: ServiceManager | None = None,
) -> None:
    """Run until SIGTERM or SIGINT. `ready` is called once all listeners are open.

    SIGHUP has the certificates read again; from a terminal it ends the engine too.
    `before` runs first (the first set-up); it is given the event of the signals, and ends all by False.
    `manager` is told how far we are.
    """
    manager = manager or ServiceManager("", 0, SystemClock())
    give_back_big_blocks()
    ending = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ending.set)
    # From a terminal it is the terminal's end, and nobody wants a server left behind by a closed window.
    loop.add_signal_handler(signal.SIGHUP, ending.set if os.isatty(0) else engine.reload)
    try:
        if before is not None and not await before(ending):
            return
        with manager.patience("reading the mail store"):
            await engine.start()
        try:
            manager.ready(f"serving {engine.house.configuration.server.hostname}")
            ready(engine)
            await ending.wait()
        finally:
            manager.stopping("finishing what is under way")
            with manager.patience("finishing what is under way", STOP_LIMIT):
                await engine.stop()
    finally:
        manager.close()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            with contextlib.suppress(ValueError):
                loop.remove_signal_handler(number)
