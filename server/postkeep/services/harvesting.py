"""Address harvesting: who asked for how many recipients that are not here, over connections (row SMT-2)."""

import ipaddress
from collections import OrderedDict

from postkeep.runtime.clock import Clock
from postkeep.runtime.limits import network_of

WINDOW = 600.0
"""Seconds for which an address's unknown recipients are remembered, from the first of them on."""
ADDRESSES = 4096
"""Most addresses that are remembered; the longest known one is forgotten first."""


class Harvesters:
    """Counts unknown recipients by network address (an IPv6 /64 is one). Synchronous, bounded memory.

    An address over `limit` is put off until its window ends, whomever it asks for: else a new connection for
    each guess would tell as much as before. Meanwhile nothing is counted, so that a busy server elsewhere
    that passes on guesses of others gets its turn with each window. Loopback is never counted.
    """

    def __init__(self, limit: int, clock: Clock) -> None:
        """`limit` 0: nobody is put off."""
        self._limit = limit
        self._clock = clock
        self._seen: OrderedDict[str, tuple[float, int]] = OrderedDict()  # in the order of the first time

    def __len__(self) -> int:
        """Addresses that are remembered."""
        return len(self._seen)

    def is_over(self, address: str) -> bool:
        """Has it asked for more than `limit` unknown recipients lately?"""
        if not self._seen:
            return False
        began, count = self._seen.get(network_of(address), (0.0, 0))
        return count > self._limit and self._clock.monotonic() - began < WINDOW

    def count(self, address: str) -> None:
        """It asked for one more."""
        if not self._limit or _is_loopback(address):
            return
        now = self._clock.monotonic()
        network = network_of(address)
        began, count = self._seen.get(network, (now, 0))
        if now - began >= WINDOW:
            began, count = now, 0
            self._seen.pop(network)
        self._seen[network] = (began, count + 1)
        if len(self._seen) > ADDRESSES:
            self._seen.popitem(last=False)


def _is_loopback(address: str) -> bool:
    """Of this machine: its loopback, or no IP address at all (a Unix socket)."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return True
    mapped = getattr(parsed, "ipv4_mapped", None)
    return bool((mapped or parsed).is_loopback)
