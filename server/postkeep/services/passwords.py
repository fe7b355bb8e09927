"""Password hashes: argon2id made and verified in a few threads, SHA forms accepted on import (row USR-8)."""

import asyncio
import base64
import binascii
import hashlib
import hmac
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from argon2.low_level import Type

PASSWORD_LIMIT = 1_024
"""Octets in UTF-8."""
_SCHEMES = {"sha": "sha1", "sha1": "sha1", "sha256": "sha256", "sha512": "sha512"}
# A PHC string of another server can ask for any amount of memory and time.
_MEMORY_LIMIT_KIB = 1 << 20
_TIME_LIMIT = 64
_LANES_LIMIT = 16


class PasswordHashes:
    """Hashes off the event loop, `workers` at one time (argon2 takes 19 MiB each).

    `memory_kib` and `passes` set the cost of new hashes (OWASP's advice for argon2id).
    """

    def __init__(self, workers: int | None = None, *, memory_kib: int = 19_456, passes: int = 2) -> None:
        self.workers = workers or max(1, min(4, os.cpu_count() or 1))
        self._hasher = PasswordHasher(passes, memory_kib, 1, type=Type.ID)
        self._pool = ThreadPoolExecutor(self.workers, "argon2")
        self._dummy = ""

    async def make(self, password: str) -> str:
        """A PHC string (`$argon2id$…`)."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._hasher.hash, password)

    async def make_all(self, passwords: Sequence[str]) -> list[str]:
        return list(await asyncio.gather(*(self.make(password) for password in passwords)))

    async def verify(self, stored: str, password: str) -> bool:
        """Whether `password` belongs to `stored`. "" costs as much as a real hash, and is never right."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._verify, stored, password)

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _verify(self, stored: str, password: str) -> bool:
        if stored.startswith("$argon2"):
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


def is_hash(text: str) -> bool:
    """Whether verify() can use `text`: argon2 within bounds, or {SHA}, {SSHA}, {SHA256}, {SSHA512}, …"""
    if text.startswith(("$argon2id$", "$argon2i$")):
        fields = text.split("$")
        try:
            costs = dict(item.split("=", 1) for item in fields[3].split(","))
            memory, passes, lanes = int(costs["m"]), int(costs["t"]), int(costs["p"])
        except (IndexError, KeyError, ValueError):
            return False
        bounded = memory <= _MEMORY_LIMIT_KIB and passes <= _TIME_LIMIT and lanes <= _LANES_LIMIT
        return len(fields) == 6 and len(text) < 512 and bounded
    return _sha_parts(text) is not None


def _sha_parts(stored: str) -> tuple[str, bytes, bytes] | None:
    """(hash name, digest, salt) of `{SCHEME}base64(digest + salt)` (RFC 2307, and {SSHA…} as OpenLDAP)."""
    scheme, brace, encoded = stored[1:].partition("}")
    scheme = scheme.lower()
    name = _SCHEMES.get(scheme) or _SCHEMES.get(scheme[1:] if scheme.startswith("ssha") else "")
    if not stored.startswith("{") or not brace or name is None:
        return None
    try:
        raw = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        return None
    size = hashlib.new(name, usedforsecurity=False).digest_size
    salted = scheme.startswith("ssha")
    if len(raw) < size or (len(raw) > size) != salted or len(raw) > size + 64:
        return None
    return name, raw[:size], raw[size:]


def _verify_sha(stored: str, password: str) -> bool:
    parts = _sha_parts(stored)
    if parts is None:
        return False
    name, digest, salt = parts
    secret = password.encode("utf-8", "surrogatepass")
    return hmac.compare_digest(hashlib.new(name, secret + salt, usedforsecurity=False).digest(), digest)
