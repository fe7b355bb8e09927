"""Where a domain's mail goes (RFC 5321 §5.1, RFC 7505), as values."""

import itertools
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import NamedTuple

from postkeep.config.queue import QueueSettings, RelayTls
from postkeep.domain.errors import PostkeepError
from postkeep.runtime.resolver import NoSuchDomain, Resolver, ResolverFailed

HOST_LIMIT = 10
"""MX hosts of a domain that are looked at; a hostile domain may list thousands."""
ADDRESS_LIMIT = 6
"""Addresses that one try calls."""


class Unroutable(PostkeepError):
    """There is no way, for good (5.y.z) or for now (4.y.z)."""

    def __init__(self, status: str, text: str) -> None:
        super().__init__(text)
        self.status = status

    @property
    def permanent(self) -> bool:
        return self.status.startswith("5")


class Route(NamedTuple):
    """Hosts in the order to try them. `tls` as for a relay; `user` "" means no authentication."""

    hosts: tuple[str, ...]
    port: int
    tls: RelayTls = RelayTls.OPPORTUNISTIC
    verify: bool = False
    user: str = ""
    password: str = ""
    relay: bool = False


class Hop(NamedTuple):
    """One address to call, and the host name that led to it."""

    host: str
    address: str

    def __str__(self) -> str:
        return self.host if self.host == self.address else f"{self.host}[{self.address}]"


RELAY = "*relay*"
"""Destination of everything that goes through the relay host."""
LOCAL = "*local*"
"""Destination of recipients whose domain has become one of ours while they waited."""


def relay_route(settings: QueueSettings) -> Route:
    strict = settings.relay_tls in (RelayTls.STARTTLS, RelayTls.IMPLICIT)
    return Route(
        hosts=(settings.relay_host.strip("[]").removeprefix("IPv6:").lower(),),
        port=settings.relay_port,
        tls=settings.relay_tls,
        verify=settings.relay_verify and strict,
        user=settings.relay_user,
        password=settings.relay_password,
        relay=True,
    )


def order_hosts(
    records: Iterable[tuple[int, str]],
    own_names: Collection[str],
    shuffle: Callable[[list[str]], None],
) -> tuple[str, ...]:
    """MX records → hosts: by preference, equal ones in random order, from this host on cut off.

    Raises Unroutable for a null MX, or when this host is the best one (the domain is not local: a loop).
    """
    records = sorted(set(records))
    if records and all(host in ("", ".") for _, host in records):
        raise Unroutable("5.1.10", "the domain takes no mail (null MX)")  # RFC 7505 §3
    records = [(preference, host) for preference, host in records if host not in ("", ".")]
    own = min((preference for preference, host in records if host in own_names), default=None)
    if own is not None:
        # RFC 5321 §5.1: this host and all that are not better are dropped, or mail would go in circles
        records = [one for one in records if one[0] < own]
        if not records:
            raise Unroutable(
                "5.4.6", "mail loops: the domain's mail server is this one, which does not serve it"
            )
    hosts: list[str] = []
    for _, group in itertools.groupby(records, key=lambda one: one[0]):
        equal = [host for _, host in group]
        shuffle(equal)
        hosts += equal
    return tuple(hosts[:HOST_LIMIT])


async def find_route(
    domain: str,
    settings: QueueSettings,
    resolver: Resolver,
    own_names: Collection[str],
    shuffle: Callable[[list[str]], None],
) -> Route:
    """The way for `domain` (or RELAY); raises Unroutable."""
    if domain == RELAY:
        return relay_route(settings)
    tls = RelayTls.OPPORTUNISTIC if settings.use_tls else RelayTls.NONE
    if domain.startswith("["):
        return Route((domain[1:-1].removeprefix("IPv6:"),), settings.port, tls)
    try:
        records = await resolver.mx(domain)
    except NoSuchDomain as error:
        raise Unroutable("5.1.2", f"the domain {domain} does not exist") from error
    except ResolverFailed as error:
        raise Unroutable("4.4.3", str(error)) from error
    # RFC 5321 §5.1: without MX records the domain itself is the host
    hosts = order_hosts(records, own_names, shuffle) if records else (domain,)
    return Route(hosts, settings.port, tls)


async def find_hops(route: Route, domain: str, resolver: Resolver, *, prefer_ipv4: bool) -> list[Hop]:
    """Addresses to call, in order, at most ADDRESS_LIMIT; raises Unroutable when there is none."""
    hops: list[Hop] = []
    temporary = ""
    for host in route.hosts:
        if _is_address(host):
            hops.append(Hop(host, host))
            continue
        try:
            found = await resolver.addresses(host)
        except NoSuchDomain:
            continue
        except ResolverFailed as error:
            temporary = str(error)
            continue
        hops += [Hop(host, address) for address in _by_family(found, prefer_ipv4)]
        if len(hops) >= ADDRESS_LIMIT:
            break
    if hops:
        return _spread(hops)
    if temporary:
        raise Unroutable("4.4.3", temporary)
    if route.relay:
        raise Unroutable("4.4.4", f"the relay host {route.hosts[0]} has no address")  # a setting may be wrong
    if route.hosts == (domain,):
        raise Unroutable("5.4.4", f"the domain {domain} has neither mail servers nor an address")
    raise Unroutable("5.4.4", f"no mail server of {domain} has an address")


def _by_family(addresses: Sequence[str], prefer_ipv4: bool) -> list[str]:
    """The preferred family first, else as the resolver gave them."""
    return sorted(addresses, key=lambda address: (":" in address) == prefer_ipv4)


def _spread(hops: list[Hop]) -> list[Hop]:
    """At most ADDRESS_LIMIT, and of one host no more than half: another host shall have its chance."""
    if len({hop.host for hop in hops}) == 1:
        return hops[:ADDRESS_LIMIT]
    chosen: list[Hop] = []
    for _, group in itertools.groupby(hops, key=lambda hop: hop.host):
        chosen += itertools.islice(group, ADDRESS_LIMIT // 2)
    return chosen[:ADDRESS_LIMIT]


def _is_address(host: str) -> bool:
    return ":" in host or host.replace(".", "").isdigit()
