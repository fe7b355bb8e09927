"""Sessions after root's password (row CON-3): wrong ones are answered late, logged, and never in parallel."""

import asyncio
import hashlib
import hmac
import logging
import secrets

from postkeep_appliance.agent.work import Refused, Work
from postkeep_appliance.api.types import ChangePassword, Done, Lock, Unlock, Unlocked
from postkeep_appliance.host import names
from postkeep_appliance.host.clock import Clock
from postkeep_appliance.host.port import FIRST_PASSWORD, StatePort, SystemPort
from postkeep_appliance.host.state import FIRST_PASSWORD_MARK

IDLE_SECONDS = 600
MAX_SESSIONS = 16
LONGEST_DELAY = 30.0
FORGET_SECONDS = 900.0
"""So long after the last wrong word the delays begin anew."""
MAX_WAITING = 4

_log = logging.getLogger("postkeep.agent")


class Gate:
    """Checks root's password. One at a time over all connections, and after a wrong one nobody's next is
    looked at before the delay is over: guessing in parallel gains nothing."""

    def __init__(self, system: SystemPort, clock: Clock) -> None:
        self._system = system
        self._clock = clock
        self._lock = asyncio.Lock()
        self._waiting = 0
        self._wrong = 0
        self._last = float("-inf")

    async def check(self, password: str, work: Work, field: str) -> None:
        """Raises Refused: "denied" late when it is wrong, "busy" at once when too many wait."""
        if self._waiting >= MAX_WAITING:
            raise Refused("busy", "Too many passwords are being tried; wait a minute.", field)
        self._waiting += 1
        try:
            async with self._lock:
                if await self._system.check_password(password):
                    self._wrong = 0
                    return
                delay = self._count()
                _log.warning("wrong password from %s, number %d", work.caller, self._wrong)
                await self._clock.sleep(delay)
        finally:
            self._waiting -= 1
        raise Refused("denied", "That is not root's password.", field)

    def _count(self) -> float:
        now = self._clock.monotonic()
        self._wrong = 1 if now - self._last > FORGET_SECONDS else self._wrong + 1
        self._last = now
        return min(LONGEST_DELAY, 2.0 ** min(self._wrong - 1, 10))


class Sessions:
    """Who may act. Kept as hashes. A session ends by Lock, by silence, or as the oldest of many."""

    def __init__(self, gate: Gate, system: SystemPort, state: StatePort, clock: Clock) -> None:
        self._gate = gate
        self._system = system
        self._state = state
        self._clock = clock
        self._used: dict[bytes, float] = {}

    @property
    def first_password(self) -> bool:
        return self._state.read(FIRST_PASSWORD_MARK) is not None

    async def unlock(self, call: Unlock, work: Work) -> Unlocked:
        await self._gate.check(call.password, work, "password")
        self._mark(call.password)
        token = secrets.token_urlsafe(32)
        while len(self._used) >= MAX_SESSIONS:
            del self._used[min(self._used, key=self._used.__getitem__)]
        self._used[_key(token)] = self._clock.monotonic()
        _log.info("unlocked by %s", work.caller)
        return Unlocked(token, self.first_password, IDLE_SECONDS)

    def _mark(self, password: str) -> None:
        """The mark follows the truth, whatever `passwd` in a shell did."""
        first = hmac.compare_digest(password.encode("utf-8", "replace"), FIRST_PASSWORD.encode())
        if first and not self.first_password:
            self._state.write(FIRST_PASSWORD_MARK, b"")
        elif not first and self.first_password:
            self._state.remove(FIRST_PASSWORD_MARK)

    def require(self, token: str) -> None:
        """The session is there and is used now. Raises Refused("locked")."""
        key, now = _key(token), self._clock.monotonic()
        for old in [one for one, used in self._used.items() if now - used > IDLE_SECONDS]:
            del self._used[old]
        if not token or key not in self._used:
            raise Refused("locked", "Enter root's password first.")
        self._used[key] = now

    async def lock(self, call: Lock, work: Work) -> Done:
        self._used.pop(_key(work.session), None)
        return Done()

    async def change_password(self, call: ChangePassword, work: Work) -> Done:
        """Ends all other sessions."""
        names.password(call.new_password, "new_password", minimum=names.PASSWORD_MINIMUM)
        if hmac.compare_digest(call.new_password.encode(), call.old_password.encode("utf-8", "replace")):
            raise Refused("invalid", "The new password is the old one.", "new_password")
        if FIRST_PASSWORD in call.new_password.lower() or len(set(call.new_password)) < 4:
            raise Refused("invalid", "This password is easily guessed; choose another one.", "new_password")
        await self._gate.check(call.old_password, work, "old_password")
        await self._system.set_password(call.new_password)
        self._state.remove(FIRST_PASSWORD_MARK)
        mine = _key(work.session)
        self._used = {key: used for key, used in self._used.items() if key == mine}
        _log.info("root's password was changed by %s", work.caller)
        return Done("Root's password is changed.")


def _key(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "replace")).digest()
