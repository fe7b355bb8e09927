"""Password guessing: ten failures in a minute block an address from a service, lock an account (SRV-4)."""

import ipaddress
from collections import OrderedDict, deque
from typing import NamedTuple

from postkeep.config.security import SecuritySettings
from postkeep.runtime.clock import Clock
from postkeep.runtime.limits import network_of

WINDOW = 60.0
"""Seconds in which failures are counted together."""
TRACKERS = 10_000
"""Addresses, and accounts, that are remembered; the longest silent ones are forgotten first."""


class Block(NamedTuple):
    """What is blocked now. `service` is "" for a locked account; `seconds` are left."""

    name: str
    service: str
    seconds: int


class _Tracker:
    __slots__ = ("failures", "until")

    def __init__(self, limit: int) -> None:
        self.failures: deque[float] = deque(maxlen=limit)
        self.until = 0.0


class _Trackers:
    """Bounded; the least recently failing one goes first, blocked ones last of all."""

    def __init__(self) -> None:
        self._all: OrderedDict[tuple[str, str], _Tracker] = OrderedDict()

    def blocked(self, key: tuple[str, str], now: float) -> bool:
        tracker = self._all.get(key)
        return tracker is not None and now < tracker.until

    def fail(self, key: tuple[str, str], now: float, limit: int, seconds: float) -> bool:
        """Count a failure; True when it begins a block."""
        tracker = self._all.get(key)
        if tracker is None or tracker.failures.maxlen != limit:
            tracker = self._all[key] = _Tracker(limit)
        self._all.move_to_end(key)
        tracker.failures.append(now)
        if len(tracker.failures) == limit and now - tracker.failures[0] <= WINDOW and now >= tracker.until:
            tracker.until = now + seconds
            tracker.failures.clear()
            return True
        while len(self._all) > TRACKERS:
            self._forget_one(now)
        return False

    def _forget_one(self, now: float) -> None:
        for _ in range(16):
            key, tracker = next(iter(self._all.items()))
            if now >= tracker.until:
                break
            self._all.move_to_end(key)
        self._all.popitem(last=False)

    def release(self, name: str) -> bool:
        found = [key for key in self._all if key[0] == name]
        for key in found:
            del self._all[key]
        return bool(found)

    def clear(self) -> None:
        self._all.clear()

    def blocks(self, now: float) -> list[Block]:
        return [
            Block(*key, max(1, int(one.until - now))) for key, one in self._all.items() if now < one.until
        ]


class GuessingGuard:
    """Counts failed logins. Synchronous; times come from `clock`."""

    def __init__(self, settings: SecuritySettings, clock: Clock) -> None:
        self._clock = clock
        self._addresses = _Trackers()
        self._accounts = _Trackers()
        # Names that nobody has are locked alike, so that a lock tells nothing; apart, so that a flood of
        # invented names pushes out none of the accounts.
        self._unknown = _Trackers()
        self.configure(settings)

    def configure(self, settings: SecuritySettings) -> None:
        self._settings = settings
        self._exempt = [
            ipaddress.ip_network(text, strict=False) for text in settings.guessing_exempt if _is_network(text)
        ]

    def address_blocked(self, peer: str, service: str) -> bool:
        return self._settings.block_addresses and self._addresses.blocked(
            (network_of(peer), service), self._clock.monotonic()
        )

    def account_locked(self, key: str, *, exists: bool = True) -> bool:
        names = self._accounts if exists else self._unknown
        return self._settings.lock_accounts and names.blocked((key, ""), self._clock.monotonic())

    def fail(self, peer: str, service: str, key: str, *, exists: bool = True) -> list[str]:
        """Count a failed login from `peer` as `key` (name@domain; "": counts for the address alone).

        Returns what it led to, for the log.
        """
        settings, now = self._settings, self._clock.monotonic()
        limit, seconds = settings.guessing_limit, settings.guessing_block_seconds
        exempt = self._is_exempt(peer)
        said = []
        if settings.block_addresses and peer and not exempt:
            network = network_of(peer)
            if self._addresses.fail((network, service), now, limit, seconds):
                said.append(f"Password guessing: {network} is blocked from {service} for {seconds} seconds")
        names = self._accounts if exists else self._unknown
        countable = settings.lock_accounts and key and not exempt
        if countable and names.fail((key, ""), now, limit, seconds):
            what = "account" if exists else "name (which nobody has)"
            said.append(f"Password guessing: the {what} {key} is locked for {seconds} seconds")
        return said

    def blocks(self) -> list[Block]:
        """Blocked addresses and locked accounts (not locked names that nobody has)."""
        now = self._clock.monotonic()
        return self._addresses.blocks(now) + self._accounts.blocks(now)

    def release(self, name: str) -> bool:
        """Unblock an address (in all services) or an account now; False: it was not known."""
        return sum(one.release(name) for one in (self._addresses, self._accounts, self._unknown)) > 0

    def release_all(self) -> None:
        for one in (self._addresses, self._accounts, self._unknown):
            one.clear()

    def _is_exempt(self, peer: str) -> bool:
        if not self._exempt or not _is_network(peer):
            return False
        address = ipaddress.ip_address(peer.partition("%")[0])
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        return any(address in network for network in self._exempt)


def _is_network(text: str) -> bool:
    try:
        ipaddress.ip_network(text.partition("%")[0], strict=False)
    except ValueError:
        return False
    return True
