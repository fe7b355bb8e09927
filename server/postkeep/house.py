"""Everything that works on a data folder, without the network: settings, accounts, store, queue, API.

The command line opens a `House` by itself when no engine runs; `app.Engine` is a House with its listeners.
"""

import asyncio
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

from postkeep import __version__
from postkeep.domain.errors import ConfigError, DatabaseDamaged, NotFound, PostkeepError, StorageFailed
from postkeep.protocols.http.context import ApiServices
from postkeep.protocols.http.sessions import Sessions
from postkeep.queue.queue import Queue
from postkeep.runtime.clock import Clock, SystemClock
from postkeep.runtime.dialer import SystemDialer
from postkeep.runtime.files import Files, SystemFiles
from postkeep.runtime.folderlock import FolderLock
from postkeep.runtime.logs import Bridge, Logs
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
from postkeep.services.quotas import Quotas
from postkeep.services.receive import Receiver
from postkeep.services.setup import make_folders
from postkeep.storage.marker import write_marker
from postkeep.storage.migrations import MIGRATIONS
from postkeep.storage.store import MailStore
from postkeep.storage.upgrade import needs_upgrade

LOCK = "run/engine.lock"


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

    async def _mark_version(self) -> None:
        """For older packages only (storage/marker.py): a full disk must not keep the engine from starting."""
        try:
            await asyncio.to_thread(write_marker, self.files, self.store_folder, len(MIGRATIONS))
        except OSError as error:
            self.logs.error.write(f"The version of the store could not be noted: {error.strerror or error}")

    async def _open_store(self, deliver: bool) -> None:
        config = self.configuration.server
        if await asyncio.to_thread(needs_upgrade, self.store_folder):
            raise StoreUnusable(
                f"the mail store {self.store_folder} was written by an older version; run: "
                f"postkeep upgrade --data {self.data}"
            )
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
            quotas = Quotas(self.store)
            self.mailboxes = MailboxService(self.store, self.bus, quotas, self.clock)
            self.deliverer = Deliverer(self.store, self.bus, self.directory, quotas, self.logs, self.clock)
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
            await self._mark_version()
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
        self.dialer = SystemDialer(
            self.clock, source_v4=config.queue.source_ipv4, source_v6=config.queue.source_ipv6
        )
        return Queue(
            self.store_folder / "queue",
            config.queue,
            config.hostname,
            resolver=self._resolver,
            dialer=self.dialer,
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
            self.dialer.come_from(new.server.queue.source_ipv4, new.server.queue.source_ipv6)
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
