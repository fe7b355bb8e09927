"""The API over a data folder whose mail store cannot be opened: settings and what needs no store, so that
the setting that is to blame can be mended by the same commands."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from postkeep import __version__
from postkeep.domain.errors import StorageFailed
from postkeep.house import LOCK
from postkeep.protocols.http.context import ApiServices
from postkeep.protocols.http.sessions import Sessions
from postkeep.runtime.clock import SystemClock
from postkeep.runtime.files import SystemFiles
from postkeep.runtime.folderlock import FolderLock
from postkeep.runtime.logs import Logs
from postkeep.services import settingchecks
from postkeep.services.authentication import Authenticator
from postkeep.services.configuration import Configuration
from postkeep.services.directory import Directory


class _Missing:
    """Stands where the store, or what needs it, would be: each use answers why there is none."""

    def __init__(self, reason: str) -> None:
        self._reason = reason

    def __getattr__(self, name: str) -> Any:
        raise StorageFailed(self._reason)


@contextlib.contextmanager
def without_store(data: Path, reason: str) -> Iterator[ApiServices]:
    """`reason` is why the store could not be opened. Raises EngineRuns, ConfigError."""
    clock = SystemClock()
    lock = FolderLock(data / LOCK)
    try:
        configuration = Configuration(data, SystemFiles(), lambda text: None)
        configuration.load()
        configuration.guarded = True
        server, users = configuration.server, configuration.users
        logs = Logs(data / "store" / "logs", clock, server.logs, None)
        directory = Directory(server.domains, users.accounts.values(), users.aliases.values())
        authenticator = Authenticator(directory, logs, clock, server.security)
        missing: Any = _Missing(reason)
        try:
            yield ApiServices(
                configuration=configuration,
                directory=directory,
                accounts=missing,
                authenticator=authenticator,
                store=missing,
                queue=missing,
                logs=logs,
                clock=clock,
                sessions=Sessions(directory, server.security, clock),
                status=lambda: {
                    "version": __version__,
                    "running": False,
                    "hostname": configuration.server.hostname,
                    "domains": len(directory.domains()),
                    "users": len(directory.accounts()),
                    "aliases": len(directory.aliases()),
                    "failure": reason,
                },
                check_settings=lambda old, new: settingchecks.check_change(data, old, new),
            )
        finally:
            authenticator.close()
            logs.close()
    finally:
        lock.release()
