"""How many connections may be open at one time, in all and from one address."""

import ipaddress
from collections.abc import Collection


def network_of(address: str) -> str:
    """What counts as one peer: an IPv4 address, or the /64 of an IPv6 address (one subscriber's net).

    >>> network_of("2001:db8::1:2:3:4"), network_of("::ffff:192.0.2.1")
    ('2001:db8::/64', '192.0.2.1')
    """
    if ":" not in address:
        return address
    try:
        parsed = ipaddress.IPv6Address(address.partition("%")[0])
    except ValueError:
        return address
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    network = int(parsed) >> 64 << 64
    return f"{ipaddress.IPv6Address(network)}/64"


class ConnectionLimiter:
    """Counts open connections; 0 as a bound means none. Not for several threads.

    Every acquire() that answered True is paired with one release() of the same address. Addresses in
    `exempt` (as network_of gives them) count towards the total only.
    """

    def __init__(self, total: int, per_address: int, exempt: Collection[str] = ()) -> None:
        self.total = total
        self.per_address = per_address
        self._exempt = frozenset(exempt)
        self._open = 0
        self._by_network: dict[str, int] = {}

    @property
    def open(self) -> int:
        return self._open

    def count(self, address: str) -> int:
        """Connections open from the peer that `address` belongs to."""
        return self._by_network.get(network_of(address), 0)

    def acquire(self, address: str) -> bool:
        """Count one more connection; False (and nothing counted) when a bound is reached."""
        if self.total and self._open >= self.total:
            return False
        network = network_of(address)
        count = self._by_network.get(network, 0)
        if self.per_address and count >= self.per_address and network not in self._exempt:
            return False
        self._by_network[network] = count + 1
        self._open += 1
        return True

    def release(self, address: str) -> None:
        network = network_of(address)
        count = self._by_network.get(network, 0)
        if count == 0:
            return
        self._open -= 1
        if count == 1:
            del self._by_network[network]
        else:
            self._by_network[network] = count - 1
