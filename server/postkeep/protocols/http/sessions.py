"""Bearer tokens of administrators who logged in with POST /session (row WEB-2)."""

import hashlib
import secrets
from dataclasses import dataclass

from postkeep.config.security import SecuritySettings
from postkeep.domain.account import Account
from postkeep.runtime.clock import Clock
from postkeep.services.directory import Directory

SESSIONS_LIMIT = 1_000
_PER_ACCOUNT = 50


@dataclass(slots=True)
class _Session:
    key: str
    password_hash: str
    peer: str
    ends: float
    idle_until: float


class Sessions:
    """In memory, bounded; only a hash of each token is kept.

    A session ends when it is idle or old, when its account is removed, disabled or gets another password, or
    when it is used from another address. Rights are those that the account has at each request.
    """

    def __init__(self, directory: Directory, settings: SecuritySettings, clock: Clock) -> None:
        self._directory = directory
        self._settings = settings
        self._clock = clock
        self._sessions: dict[bytes, _Session] = {}

    def configure(self, settings: SecuritySettings) -> None:
        self._settings = settings

    def open(self, account: Account, peer: str) -> tuple[str, int]:
        """A new token and the seconds that it lives at most."""
        now = self._clock.monotonic()
        own = [hashed for hashed, one in self._sessions.items() if one.key == account.key]
        for hashed in own[: max(0, len(own) - _PER_ACCOUNT + 1)]:
            del self._sessions[hashed]
        while len(self._sessions) >= SESSIONS_LIMIT:
            del self._sessions[min(self._sessions, key=lambda one: self._sessions[one].idle_until)]
        token = secrets.token_urlsafe(32)
        seconds = self._settings.session_hours * 3600
        self._sessions[_hashed(token)] = _Session(
            account.key, account.password_hash, peer, now + seconds, now + self._idle
        )
        return token, seconds

    def account(self, token: str, peer: str) -> Account | None:
        """The account that `token` stands for; None when it is unknown or has ended."""
        hashed = _hashed(token)
        session = self._sessions.get(hashed)
        if session is None:
            return None
        now = self._clock.monotonic()
        account = self._directory.account(session.key)
        ended = now >= min(session.ends, session.idle_until) or session.peer != peer
        if ended or account is None or not account.enabled or account.password_hash != session.password_hash:
            del self._sessions[hashed]
            return None
        session.idle_until = now + self._idle
        return account

    def close(self, token: str) -> None:
        self._sessions.pop(_hashed(token), None)

    @property
    def _idle(self) -> int:
        return self._settings.session_idle_minutes * 60

    def __len__(self) -> int:
        return len(self._sessions)


def _hashed(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
