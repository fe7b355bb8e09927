"""The composition root: builds everything, starts it and stops it in the right order.

`House` is what works on a data folder without the network: settings, accounts, store, queue and the API
over them. The command line opens one by itself when no engine runs. `Engine` is a House with its listeners.
"""

import asyncio
import contextlib
import gc
import logging
import os
import resource
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TextIO

from postkeep import __version__
from postkeep.config.services import ServiceSettings
from postkeep.domain.errors import ConfigError, DatabaseDamaged, NotFound, PostkeepError, StorageFailed
from postkeep.protocols.http.api import create_api, guarded, trusted
from postkeep.protocols.http.context import ApiServices
from postkeep.protocols.http.front import FrontPages
from postkeep.protocols.http.server import HttpServer
from postkeep.protocols.http.sessions import Sessions
from postkeep.protocols.imap.server import ImapServer
from postkeep.protocols.pop3.server import Pop3Server
from postkeep.protocols.smtp.server import SmtpServer
from postkeep.queue.queue import Queue
from postkeep.runtime.certificates import Certificates
from postkeep.runtime.clock import Clock, SystemClock
from postkeep.runtime.dialer import SystemDialer
from postkeep.runtime.files import Files, SystemFiles
from postkeep.runtime.folderlock import FolderLock
from postkeep.runtime.limits import ConnectionLimiter
from postkeep.runtime.listeners import Listeners
from postkeep.runtime.logs import Bridge, Logs
from postkeep.runtime.memory import give_back_big_blocks, resident
from postkeep.runtime.resolver import CurrentResolver, FailingResolver, Resolver
from postkeep.services import settingchecks
from postkeep.services.accounts import AccountService
from postkeep.services.authentication import Authenticator
from postkeep.services.changes import ChangeBus
from postkeep.services.configuration import Configuration, State
from postkeep.services.control import ServiceControl
from postkeep.services.deliver import Deliverer
from postkeep.services.directory import Directory
from postkeep.services.mailboxes import MailboxService
from postkeep.services.receive import Receiver
from postkeep.services.setup import make_folders
from postkeep.storage.compaction import Compactor
from postkeep.storage.store import MailStore

SOCKET = "run/admin.sock"
LOCK = "run/engine.lock"
_LOOPBACK = ("127.0.0.1", "::/64")
"""As runtime.limits.network_of writes them."""


class StoreUnusable(StorageFailed):
    """The mail store of this folder cannot be opened; its settings can be read and changed all the same."""


class House:
    """Everything on one data folder but the network. Made by `open`, ended by `close`."""

    @classmethod
    async def open(
        cls,
        data: Path,
        *,
        clock: Clock | None = None,
        files: Files | None = None,
        stderr: TextIO | None = sys.stderr,
        deliver: bool = True,
    ) -> "House":
        """Raises NotFound when the folder is not set up, EngineRuns, ConfigError, StoreUnusable.

        `deliver` off: the queue is there to be looked at, nothing is sent.
        """
        clock, files = clock or SystemClock(), files or SystemFiles()
        said: list[str] = []
        configuration = Configuration(data, files, said.append)
        if not configuration.exists:
            raise NotFound(f"{data} is not set up yet; run: postkeep init --data {data} (see --help)")
        make_folders(data, files)
        lock = FolderLock(data / LOCK)
        try:
            configuration.load()
            house = cls(data, clock, files, configuration, lock, stderr)
            house.warnings += said
            for line in said:
                house.logs.error.write(line)
            configuration.report = house.logs.error.write
            await house._open_store(deliver)
            configuration.guarded = True
        except BaseException:
            lock.release()
            raise
        return house

    def __init__(
        self,
        data: Path,
        clock: Clock,
        files: Files,
        configuration: Configuration,
        lock: FolderLock,
        stderr: TextIO | None,
    ) -> None:
        self.data = data
        self.clock = clock
        self.files = files
        self.configuration = configuration
        self._lock = lock
        config = configuration.server
        self.store_folder = data / config.storage.folder
        self.logs = Logs(self.store_folder / "logs", clock, config.logs, stderr)
        self._bridge = Bridge(self.logs)
        logger = logging.getLogger("postkeep")
        logger.addHandler(self._bridge)
        logger.setLevel(logging.INFO)
        logger.propagate = False
        users = configuration.users
        self.directory = Directory(config.domains, users.accounts.values(), users.aliases.values())
        self.authenticator = Authenticator(self.directory, self.logs, clock, config.security)
        self.bus = ChangeBus()
        self.sessions = Sessions(self.directory, config.security, clock)
        self.on_gone: list[Callable[[str, str], None]] = []
        self.started = clock.monotonic()
        self.warnings: list[str] = []
        """What had to be got round while opening."""

    async def _open_store(self, deliver: bool) -> None:
        config = self.configuration.server
        try:
            self.store = await MailStore.open(self.store_folder, self.clock, files=self.files)
        except DatabaseDamaged as error:
            raise StoreUnusable(
                f"{error}; look at it with `postkeep verify --data {self.data}`, then make a new one from "
                f"the messages with `postkeep rebuild --data {self.data}`"
            ) from error
        except (OSError, PostkeepError) as error:
            reason = (error.strerror if isinstance(error, OSError) else None) or error
            raise StoreUnusable(
                f"the mail store {self.store_folder} (setting MailStoreDirectory) cannot be opened: {reason}"
            ) from error
        try:
            self.mailboxes = MailboxService(self.store, self.bus, self.clock)
            self.deliverer = Deliverer(self.store, self.bus, self.directory, self.logs, self.clock)
            self.queue = self._make_queue()
            self.deliverer.queue = self.queue
            self.accounts = AccountService(
                self.configuration,
                self.directory,
                self.store,
                self.authenticator.hashes,
                self.logs,
                gone=self._gone,
            )
            self.configuration.subscribe(self._apply)
            if not self.configuration.refused:  # nothing is written over somebody's edit
                await self.accounts.finish_removals()
            await self.queue.start(deliver=deliver)
        except BaseException:
            await self.store.close()
            raise
        self.receiver = Receiver(
            config.smtp,
            self.store,
            self.directory,
            self.queue,
            self.deliverer,
            self.logs,
            self.clock,
            config.hostname,
        )

    def _make_queue(self) -> Queue:
        config = self.configuration.server
        self._resolver = CurrentResolver(self._make_resolver())
        dialer = SystemDialer(
            self.clock, source_v4=config.queue.source_ipv4, source_v6=config.queue.source_ipv6
        )
        return Queue(
            self.store_folder / "queue",
            config.queue,
            config.hostname,
            resolver=self._resolver,
            dialer=dialer,
            is_local=self.directory.is_local,
            deliver_local=self.deliverer.deliver_local,
            logs=self.logs,
            clock=self.clock,
            files=self.files,
        )

    def _make_resolver(self) -> Resolver:
        """A setting that cannot be used stops no server: mail for elsewhere waits until it is mended."""
        try:
            return settingchecks.make_resolver(self.data, self.configuration.server.queue)
        except ConfigError as error:
            text = f"{error}. No question to the DNS is answered until this is mended"
            self.warnings.append(text)
            self.logs.error.write(text)
            return FailingResolver(str(error))

    def api(self, control: ServiceControl | None, status: Callable[[], dict[str, object]]) -> ApiServices:
        """What the REST API works on."""
        return ApiServices(
            configuration=self.configuration,
            directory=self.directory,
            accounts=self.accounts,
            authenticator=self.authenticator,
            store=self.store,
            queue=self.queue,
            logs=self.logs,
            clock=self.clock,
            sessions=self.sessions,
            status=status,
            control=control,
            check_settings=lambda old, new: settingchecks.check_change(self.data, old, new),
        )

    def status(self) -> dict[str, object]:
        """Numbers for GET /status."""
        return {
            "version": __version__,
            "running": False,
            "hostname": self.configuration.server.hostname,
            "domains": len(self.directory.domains()),
            "users": len(self.directory.accounts()),
            "aliases": len(self.directory.aliases()),
            "passwords_to_hash": self.accounts.hashes_wanted,
            "passwords_hashed": self.accounts.hashes_made,
            "queued": len(self.queue),
        }

    def _gone(self, key: str, reason: str) -> None:
        for callback in self.on_gone:
            callback(key, reason)

    def _apply(self, old: State, new: State) -> None:
        """Settings that hold at once."""
        if new.server.security is not old.server.security:
            self.authenticator.configure(new.server.security)
            self.sessions.configure(new.server.security)
        if new.server.logs is not old.server.logs:
            self.logs.configure(new.server.logs)
        if new.server.queue is not old.server.queue:
            self.queue.settings = new.server.queue
            before, now = old.server.queue, new.server.queue
            if (now.resolver_file, now.name_servers) != (before.resolver_file, before.name_servers):
                self._resolver.inner = self._make_resolver()

    async def close(self) -> None:
        """Everything under way is finished and durable when this returns."""
        await self.queue.stop()
        await self.configuration.close()
        await self.store.close()
        self.authenticator.close()
        logging.getLogger("postkeep").removeHandler(self._bridge)
        self.logs.close()
        self._lock.release()


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
        self._compactor = Compactor(house.store, clock)
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
        self.house.logs.operations.write("Postkeep stopped")
        await self.house.close()

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
) -> None:
    """Run until SIGTERM or SIGINT. `ready` is called once all listeners are open.

    `before` runs first (the first set-up); it is given the event of the signals, and ends all by False.
    """
    give_back_big_blocks()
    ending = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ending.set)
    try:
        if before is not None and not await before(ending):
            return
        await engine.start()
        try:
            ready(engine)
            await ending.wait()
        finally:
            await engine.stop()
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            with contextlib.suppress(ValueError):
                loop.remove_signal_handler(number)
