"""Settings, domains, accounts and aliases as they are durable in mailserver.cfg and users.cfg.

A change is a function from the state to a new one. Those that come while a save runs share the next save,
each is answered after it; thousands made in one go are one change.
"""

import asyncio
import errno
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from postkeep.config import server as server_file
from postkeep.config import users as users_file
from postkeep.config.server import ServerConfig, parse_server, write_server
from postkeep.config.users import UsersConfig, UsersWriter, parse_users
from postkeep.domain.errors import ConfigError, StorageFailed, StorageFull
from postkeep.runtime.files import Files
from postkeep.runtime.keptfile import KeptFile


@dataclass(frozen=True, slots=True)
class State:
    """Both files' values; immutable."""

    server: ServerConfig = field(default_factory=ServerConfig)
    users: UsersConfig = field(default_factory=UsersConfig)


Edit = Callable[[State], State]
"""Raises PostkeepError when the change cannot be made; must not change the old state."""


class _Accepted(NamedTuple):
    """A change that waits for its save; `server`, `users`: which of the files it touched."""

    done: asyncio.Future[State]
    server: bool
    users: bool


class Configuration:
    """The one writer of both files. `report` gets lines for the Error log, on the loop's thread."""

    def __init__(self, folder: Path, files: Files, report: Callable[[str], None]) -> None:
        self.report = report
        self.guarded = False
        """Once set, no change is made over a file that cannot be used: somebody's edit is in it."""
        self._said: list[str] = []
        self._server_file = KeptFile(folder / server_file.FILE, files, self._said.append)
        self._users_file = KeptFile(folder / users_file.FILE, files, self._said.append)
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
    def refused(self) -> list[str]:
        """Why files that lie there are not used (their last good copies are); empty when all is well."""
        return [reason for file in (self._server_file, self._users_file) if (reason := file.refused)]

    @property
    def server(self) -> ServerConfig:
        return self.state.server

    @property
    def users(self) -> UsersConfig:
        return self.state.users

    def load(self) -> None:
        """Read both files. Raises ConfigError with file, line and reason; blocking, call at start."""
        self.state = State(self._server_file.read(parse_server), self._users_file.read(parse_users))
        self._say()

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

        Raises what `edit` raises, or ConfigError, StorageFull, StorageFailed; then nothing was changed.
        """
        if self.guarded and (reasons := self.refused):
            raise ConfigError(
                f"nothing is changed while a configuration file is broken: {'; '.join(reasons)}. Mend it and "
                "start the engine again, or move it away to go on with its last good copy"
            )
        done: asyncio.Future[State] = asyncio.get_running_loop().create_future()
        self._pending.append((edit, done))
        if self._saving is None:
            self._saving = asyncio.get_running_loop().create_task(self._save_all())
        return await done

    async def close(self) -> None:
        """Wait for changes under way."""
        while self._saving is not None:
            await asyncio.wait([self._saving])

    def _say(self) -> None:
        while self._said:
            self.report(self._said.pop(0))

    async def _save_all(self) -> None:
        group: list[tuple[Edit, asyncio.Future[State]]] = []
        try:
            while self._pending:
                group, self._pending = self._pending, []
                await self._save(group)
        finally:
            # Nobody is left waiting, whatever ended this.
            for _, done in (*group, *self._pending):
                if not done.done():
                    done.set_exception(StorageFailed("the save of the configuration was ended"))
            self._pending = []
            self._saving = None

    async def _save(self, group: list[tuple[Edit, asyncio.Future[State]]]) -> None:
        old = new = self.state
        accepted = []
        for edit, done in group:
            if done.done():  # the caller was cancelled before we began
                continue
            try:
                before, new = new, edit(new)
            except Exception as error:
                done.set_exception(error)
            else:
                touched = new.server is not before.server, new.users is not before.users
                accepted.append(_Accepted(done, *touched))
        saved, failure = new, None
        if new is not old:
            saved, failure = await asyncio.to_thread(self._write, old, new)
        self._say()
        if saved is not old:
            self.state = saved
            self._publish(old, saved)
        for done, server, users in accepted:
            if done.done():
                continue
            lost = (server and saved.server is not new.server) or (users and saved.users is not new.users)
            if failure is not None and lost:
                done.set_exception(failure)
            else:
                done.set_result(saved)

    def _publish(self, old: State, new: State) -> None:
        for callback in self._subscribers:
            try:
                callback(old, new)
            except Exception as error:  # it is durable, whatever a subscriber made of it
                self.report(f"a change of the configuration is not in use everywhere: {error!r}")

    def _write(self, old: State, new: State) -> tuple[State, Exception | None]:
        """Both files, as far as they changed: (what the files hold now, why it is not `new`)."""
        files = []
        try:
            if new.server is not old.server:
                files.append(self._server_file)
                self._server_file.stage(write_server(new.server))
            if new.users is not old.users:
                files.append(self._users_file)
                self._users_file.stage(self._writer.write(new.users))
            files[0].commit()
        except Exception as error:
            for file in files:
                file.abandon()
            return old, _failure(error)
        try:
            for file in files[1:]:
                file.commit()
        except Exception as error:
            self._users_file.abandon()
            return self._take_back(old, new), _failure(error)
        return new, None

    def _take_back(self, old: State, new: State) -> State:
        """mailserver.cfg is new and users.cfg is not: the old one again, or that is how it is."""
        try:
            self._server_file.write(write_server(old.server))
        except OSError:
            return replace(old, server=new.server)
        return old


def _failure(error: Exception) -> Exception:
    if not isinstance(error, OSError):
        return error
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageFull("the disk is full: the configuration was not changed")
    return StorageFailed(f"the configuration could not be saved: {error.strerror or error}")
