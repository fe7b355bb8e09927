"""Settings, domains, accounts and aliases as they are durable in mailserver.cfg and users.cfg.

A change is a function from the state to a new one. Those that come while a save runs share the next save,
each is answered after it; thousands made in one go are one change.
"""

import asyncio
import errno
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from postkeep.config import server as server_file
from postkeep.config import users as users_file
from postkeep.config.server import ServerConfig, parse_server, write_server
from postkeep.config.users import UsersConfig, UsersWriter, parse_users
from postkeep.domain.errors import StorageFailed, StorageFull
from postkeep.runtime.files import Files
from postkeep.runtime.keptfile import KeptFile


@dataclass(frozen=True, slots=True)
class State:
    """Both files' values; immutable."""

    server: ServerConfig = field(default_factory=ServerConfig)
    users: UsersConfig = field(default_factory=UsersConfig)


Edit = Callable[[State], State]
"""Raises PostkeepError when the change cannot be made; must not change the old state."""


class Configuration:
    """The one writer of both files."""

    def __init__(self, folder: Path, files: Files, report: Callable[[str], None]) -> None:
        self._server_file = KeptFile(folder / server_file.FILE, files, report)
        self._users_file = KeptFile(folder / users_file.FILE, files, report)
        self._writer = UsersWriter()
        self._pending: list[tuple[Edit, asyncio.Future[State]]] = []
        self._saving: asyncio.Task[None] | None = None
        self._subscribers: list[Callable[[State, State], None]] = []
        self.state = State()

    @property
    def exists(self) -> bool:
        """Whether this folder was set up."""
        return self._server_file.exists

    @property
    def server(self) -> ServerConfig:
        return self.state.server

    @property
    def users(self) -> UsersConfig:
        return self.state.users

    def load(self) -> None:
        """Read both files. Raises ConfigError with file, line and reason; blocking, call at start."""
        self.state = State(self._server_file.read(parse_server), self._users_file.read(parse_users))

    def create(self, state: State) -> None:
        """Write both files for the first time; blocking."""
        # mailserver.cfg last: it is what says that this folder is set up.
        self._users_file.write(self._writer.write(state.users))
        self._server_file.write(write_server(state.server))
        self.state = state

    def subscribe(self, callback: Callable[[State, State], None]) -> None:
        """`callback(old, new)` on the loop after each save, before its callers are answered."""
        self._subscribers.append(callback)

    async def change(self, edit: Edit) -> State:
        """Apply `edit` to the newest state; durable when this returns.

        Raises what `edit` raises, or StorageFull / StorageFailed; then nothing of it was changed.
        """
        done: asyncio.Future[State] = asyncio.get_running_loop().create_future()
        self._pending.append((edit, done))
        if self._saving is None:
            self._saving = asyncio.get_running_loop().create_task(self._save_all())
        return await done

    async def close(self) -> None:
        """Wait for changes under way."""
        while self._saving is not None:
            await asyncio.wait([self._saving])

    async def _save_all(self) -> None:
        try:
            while self._pending:
                group, self._pending = self._pending, []
                await self._save(group)
        finally:
            self._saving = None

    async def _save(self, group: list[tuple[Edit, asyncio.Future[State]]]) -> None:
        old = new = self.state
        accepted = []
        for edit, done in group:
            if done.done():  # the caller was cancelled before we began
                continue
            try:
                new = edit(new)
            except Exception as error:
                done.set_exception(error)
            else:
                accepted.append(done)
        try:
            if new is not old:
                await asyncio.to_thread(self._write, old, new)
        except OSError as error:
            failure = _failure(error)
            for done in accepted:
                if not done.done():
                    done.set_exception(failure)
            return
        self.state = new
        try:
            for callback in self._subscribers:
                callback(old, new)
        finally:  # it is durable, whatever a subscriber made of it
            for done in accepted:
                if not done.done():
                    done.set_result(new)

    def _write(self, old: State, new: State) -> None:
        if new.server is not old.server:
            self._server_file.write(write_server(new.server))
        if new.users is not old.users:
            self._users_file.write(self._writer.write(new.users))


def _failure(error: OSError) -> StorageFailed | StorageFull:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageFull("the disk is full: the configuration was not changed")
    return StorageFailed(f"the configuration could not be saved: {error.strerror or error}")
