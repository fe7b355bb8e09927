"""Password hashes: argon2id made and verified in a few threads, SHA forms accepted on import (row USR-8)."""

import asyncio
import base64
import contextlib
import hashlib
import hmac
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from argon2.low_level import Type

from postkeep.formats.passwordhash import is_argon2, parse_sha

PASSWORD_LIMIT = 1_024
"""Octets in UTF-8."""
_NICE = 10


class PasswordHashes:
    """Hashes off the event loop, `workers` verified at one time (argon2 takes 19 MiB each).

    New hashes are made by as many threads of their own, at a lower priority: thousands of new users leave
    logins their threads, and the loop its processor.
    `memory_kib` and `passes` set the cost of new hashes (OWASP's advice for argon2id).
    """

    def __init__(self, workers: int | None = None, *, memory_kib: int = 19_456, passes: int = 2) -> None:
        self.workers = workers or max(1, min(4, os.cpu_count() or 1))
        self._hasher = PasswordHasher(passes, memory_kib, 1, type=Type.ID)
        self._pool = ThreadPoolExecutor(self.workers, "argon2")
        self._makers = ThreadPoolExecutor(self.workers, "argon2-new", initializer=_give_way)
        self._dummy = ""

    async def make(self, password: str) -> str:
        """A PHC string (`$argon2id$…`)."""
        return await asyncio.get_running_loop().run_in_executor(self._makers, self._hasher.hash, password)

    async def make_all(self, passwords: Sequence[str], each: Callable[[], None] = lambda: None) -> list[str]:
        """In their order; `workers` at one time, so that a single one asked for meanwhile waits for one only.

        `each` is called on the loop after every one.
        """
        made = [""] * len(passwords)
        left = enumerate(passwords)

        async def feed() -> None:
            for number, password in left:
                made[number] = await self.make(password)
                each()

        feeders = [asyncio.ensure_future(feed()) for _ in range(min(self.workers, len(passwords)))]
        try:
            await asyncio.gather(*feeders)
        finally:  # of a failure or a cancellation: what was begun ends, no more is begun
            for feeder in feeders:
                feeder.cancel()
        return made

    async def verify(self, stored: str, password: str) -> bool:
        """Whether `password` belongs to `stored`. "" costs as much as a real hash, and is never right."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._verify, stored, password)

    def close(self) -> None:
        for pool in (self._pool, self._makers):
            pool.shutdown(wait=False, cancel_futures=True)

    def _verify(self, stored: str, password: str) -> bool:
        if is_argon2(stored):
            return self._verify_argon2(stored, password)
        # So that nobody learns by the clock which accounts exist, are imported or have no password.
        if not self._dummy:
            self._dummy = self._hasher.hash(base64.b64encode(os.urandom(18)).decode())
        self._verify_argon2(self._dummy, password)
        return bool(stored) and _verify_sha(stored, password)

    def _verify_argon2(self, stored: str, password: str) -> bool:
        try:
            return self._hasher.verify(stored, password)
        except (VerificationError, InvalidHashError, UnicodeEncodeError):
            return False


def _verify_sha(stored: str, password: str) -> bool:
    parts = parse_sha(stored)
    if parts is None:
        return False
    secret = password.encode("utf-8", "surrogatepass")
    made = hashlib.new(parts.algorithm, secret + parts.salt, usedforsecurity=False).digest()
    return hmac.compare_digest(made, parts.digest)


def _give_way() -> None:
    """Of this thread alone, under Linux. Where a sandbox forbids it, the work is done all the same."""
    with contextlib.suppress(OSError):
        os.nice(_NICE)
