"""The mail of accounts that come and go: nobody finds what another one left behind (rows USR-1, USR-2).

users.cfg notes in one save with a removal what becomes of the mail: it is kept for the next user of that
name, or it goes. An engine that ends between the two finds the note at its next start. Mail that belongs to
nobody and has no note (users.cfg was edited or restored) is deleted by nobody either: it is set aside.
"""

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from postkeep.config.users import UsersConfig
from postkeep.domain.errors import InUse, NotFound, PostkeepError
from postkeep.runtime.logs import Logs
from postkeep.services.configuration import Configuration
from postkeep.storage.store import MailStore

_ASIDE_LIMIT = 10_000


class AccountBoxes:
    """Makes and removes accounts of the store in step with users.cfg."""

    def __init__(self, store: MailStore, configuration: Configuration, logs: Logs) -> None:
        self._store = store
        self._configuration = configuration
        self._logs = logs
        self._reserved: set[str] = set()

    @contextlib.contextmanager
    def reserved(self, keys: Sequence[str]) -> Iterator[None]:
        """These accounts are being made or removed: nobody else does either meanwhile. Raises InUse."""
        for key in keys:
            if key in self._reserved:
                raise InUse(f"{key} is being made or removed right now, try again in a moment")
        self._reserved.update(keys)
        try:
            yield
        finally:
            self._reserved.difference_update(keys)

    def noted(self, users: UsersConfig, keys: Iterable[str], *, keep_mail: bool) -> UsersConfig:
        """`users` with the note of what becomes of these removed users' mail; notes that are done go."""
        store = self._store
        done = {key for key in users.removed if key in users.accounts or store.account_id(key) is None}
        removed = users.removed - done
        if keep_mail:
            return replace(users, kept=users.kept.union(keys), removed=removed.difference(keys))
        return replace(users, kept=users.kept.difference(keys), removed=removed.union(keys))

    async def make(self, keys: Sequence[str]) -> None:
        """Mailboxes of new users: fresh ones, but for those whose mail was kept for them."""
        users = self._configuration.users
        for key in keys:
            if self._store.account_id(key) is None or key in users.kept or key in users.accounts:
                continue
            if key in users.removed:
                await self._remove(key)
            else:
                await self._set_aside(key)
        await self._store.create_accounts(keys)

    async def remove(self, keys: Iterable[str]) -> None:
        """One who never logged in nor got mail has no mailboxes yet. Raises StorageFull, StorageFailed."""
        for key in keys:
            await self._remove(key)

    async def finish_removals(self) -> None:
        """What is noted to go and still here goes now. A failure is logged, the note stays."""
        users = self._configuration.users
        for key in sorted(users.removed - users.accounts.keys()):
            try:
                await self._remove(key)
            except PostkeepError as error:
                self._logs.error.write(f"The mail of the removed user {key} is still here: {error}")

    async def _remove(self, key: str) -> None:
        if self._store.account_id(key) is not None:
            with contextlib.suppress(NotFound):  # another one was faster
                await self._store.delete_account(key)

    async def _set_aside(self, key: str) -> None:
        aside = next(
            name
            for number in range(1, _ASIDE_LIMIT)
            if self._store.account_id(name := f"{key}#{number}") is None
        )
        await self._store.rename_account(key, aside)
        self._logs.warning.write(
            f"The store held mail of an earlier {key} that no user owned; it is kept aside as {aside}"
        )


def without_notes(users: UsersConfig, keys: Iterable[str]) -> UsersConfig:
    """Of users that are there again."""
    gone = {key for key in keys if key in users.kept or key in users.removed}
    return replace(users, kept=users.kept - gone, removed=users.removed - gone) if gone else users
