"""Logging in by name and password, for every protocol (rows SRV-4, USR-8)."""

import asyncio
import hashlib
import hmac
import os
from typing import NamedTuple

from postkeep.config.security import SecuritySettings
from postkeep.domain.account import Account
from postkeep.domain.errors import AuthenticationFailed, Throttled
from postkeep.runtime.clock import Clock
from postkeep.runtime.limits import network_of
from postkeep.runtime.logs import Logs
from postkeep.services.directory import Directory
from postkeep.services.guessing import Block, GuessingGuard
from postkeep.services.passwords import PASSWORD_LIMIT, PasswordHashes

WAITING_LIMIT = 512
"""Logins that wait for a thread; further ones are told to come back."""
WAITING_PER_ADDRESS = 64
REMEMBERED_LIMIT = 100_000
_LOGIN_LIMIT = 512
_SHOWN = 200
_WRONG = "the user name or password is wrong"
_LATER = "too many failed logins, try again later"
_BUSY = "too many logins at one time, try again in a moment"


class _Remembered(NamedTuple):
    account: Account
    digest: bytes
    until: float


class _Guess(NamedTuple):
    """Whose failure it would be. `key`: name@domain, "" for what can be no name."""

    key: str
    exists: bool
    peer: str
    service: str


class Authenticator:
    """Verifies logins. One wrong password costs the same whether the name exists or not.

    A verified login is remembered for LoginMemory seconds as a keyed hash (the key lives in this process
    only) together with the Account value itself: any change of the account makes a new value, so what was
    remembered no longer counts. Several logins of one account with one password at the same moment are
    checked once.
    """

    def __init__(
        self,
        directory: Directory,
        logs: Logs,
        clock: Clock,
        settings: SecuritySettings | None = None,
        hashes: PasswordHashes | None = None,
    ) -> None:
        self._directory = directory
        self._logs = logs
        self._clock = clock
        self._settings = settings or SecuritySettings()
        self.hashes = hashes or PasswordHashes()
        self.guard = GuessingGuard(self._settings, clock)
        self._key = os.urandom(32)
        self._remembered: dict[str, _Remembered] = {}
        self._running: dict[tuple[int, bytes], asyncio.Task[bool]] = {}
        self._threads = asyncio.Semaphore(self.hashes.workers)
        self._waiting: dict[str, int] = {}
        self._waiting_total = 0

    def configure(self, settings: SecuritySettings) -> None:
        self._settings = settings
        self.guard.configure(settings)
        self._remembered.clear()

    async def verify(self, login: str, password: str, *, peer: str, service: str) -> Account:
        """The account that `login` and `password` belong to.

        `peer` is the client's address ("": none known), `service` what it talks to ("IMAP"). Raises
        AuthenticationFailed or Throttled; never says which of name and password was wrong.
        """
        account = self._directory.account(login) if len(login) <= _LOGIN_LIMIT else None
        guess = _Guess(self._guessed(login), account is not None, peer, service)
        self._refuse_blocked(guess)
        if len(password) > PASSWORD_LIMIT or not login:
            self._count_failure(guess)
            raise self._failed(login, account, peer, service)
        digest = self._digest(account.key if account else "", password)
        if account is not None and self._is_remembered(account, digest):
            return account
        stored = account.password_hash if account is not None and account.enabled else ""
        if not await self._check(account, stored, password, digest, guess):
            raise self._failed(login, account, peer, service)
        # It may have been disabled, changed or removed while we looked.
        if account is None or self._directory.account(account.key) is not account:
            raise AuthenticationFailed(_WRONG)
        self._remember(account, digest)
        return account

    def same_login(self, one: str, other: str) -> bool:
        """Whether both stand for the same account, existing or not (RFC 4616 §2: authzid and authcid)."""
        return self._directory.login_key(one) == self._directory.login_key(other)

    def blocks(self) -> list[Block]:
        return self.guard.blocks()

    def close(self) -> None:
        self.hashes.close()

    def _guessed(self, login: str) -> str:
        return self._directory.login_key(login) if login and len(login) <= _LOGIN_LIMIT else ""

    def _refuse_blocked(self, guess: _Guess) -> None:
        """A name that nobody has is locked as an account is: the answers tell nothing."""
        if self.guard.address_blocked(guess.peer, guess.service):
            raise Throttled(_LATER)
        if self.guard.account_locked(guess.key, exists=guess.exists):
            raise Throttled(_LATER)

    async def _check(
        self, account: Account | None, stored: str, password: str, digest: bytes, guess: _Guess
    ) -> bool:
        """Verify in a thread; a second login with the same account and password shares the check."""
        key = (id(account), digest)
        task = self._running.get(key) if account is not None else None
        if task is None:
            task = asyncio.ensure_future(self._check_alone(stored, password, guess))
            if account is not None:
                self._running[key] = task
                # The task holds `account` and so its id.
                task.add_done_callback(lambda _: self._running.pop(key, None))
            task.add_done_callback(_heard)
        # A client that hangs up meanwhile must not cancel the check for others.
        return await asyncio.shield(task)

    async def _check_alone(self, stored: str, password: str, guess: _Guess) -> bool:
        network = network_of(guess.peer)
        waiting = self._waiting.get(network, 0)
        if self._waiting_total >= WAITING_LIMIT or (guess.peer and waiting >= WAITING_PER_ADDRESS):
            raise Throttled(_BUSY)
        self._waiting[network] = waiting + 1
        self._waiting_total += 1
        try:
            async with self._threads:
                # Others' failures may have begun a block while this one waited: a flood of logins sent at
                # once gets no further than one sent in turn.
                self._refuse_blocked(guess)
                right = await self.hashes.verify(stored, password)
                if not right:  # before the next one gets its turn
                    self._count_failure(guess)
                return right
        finally:
            self._waiting_total -= 1
            self._waiting[network] -= 1
            if not self._waiting[network]:
                del self._waiting[network]

    def _failed(self, login: str, account: Account | None, peer: str, service: str) -> AuthenticationFailed:
        reason = "wrong password"
        if account is None:
            reason = "no such user" if login else "there is none"
        elif not account.enabled:
            reason = "the account is disabled"
        user = f"user {login[:_SHOWN]}" if login else "no user name"
        self._logs.security.write(f"Failed {service} login from {peer}, {user}: {reason}")
        return AuthenticationFailed(_WRONG)

    def _count_failure(self, guess: _Guess) -> None:
        for line in self.guard.fail(guess.peer, guess.service, guess.key, exists=guess.exists):
            self._logs.security.write(line)

    def _digest(self, key: str, password: str) -> bytes:
        person = hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=16).digest()
        secret = password.encode("utf-8", "surrogatepass")
        return hashlib.blake2b(secret, digest_size=32, key=self._key, person=person).digest()

    def _is_remembered(self, account: Account, digest: bytes) -> bool:
        known = self._remembered.get(account.key)
        if known is None:
            return False
        if known.account is not account or self._clock.monotonic() >= known.until:
            del self._remembered[account.key]
            return False
        return hmac.compare_digest(known.digest, digest)

    def _remember(self, account: Account, digest: bytes) -> None:
        seconds = self._settings.login_memory_seconds
        if not seconds:
            return
        self._remembered.pop(account.key, None)
        while len(self._remembered) >= REMEMBERED_LIMIT:
            del self._remembered[next(iter(self._remembered))]
        until = self._clock.monotonic() + seconds
        self._remembered[account.key] = _Remembered(account, digest, until)


def _heard(task: asyncio.Task[bool]) -> None:
    """Whoever waited may be gone: its error is then nobody's."""
    if not task.cancelled():
        task.exception()
