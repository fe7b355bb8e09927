"""NetworkPort for Debian: systemd-networkd's files, search domains, ping and DNS."""

import ipaddress
from collections.abc import Callable
from pathlib import Path

import dns.asyncresolver
import dns.exception
import dns.rdatatype
import dns.resolver
import dns.reversename

from postkeep_appliance.api.types import AdapterSettings, Addressing, Method
from postkeep_appliance.host import adapters, netfiles
from postkeep_appliance.host.clock import Clock
from postkeep_appliance.host.files import read_small, remove, write_atomically
from postkeep_appliance.host.port import AdapterFacts, HostError
from postkeep_appliance.host.run import Runner

FOLDER = "etc/systemd/network"
RESOLV_CONF = "etc/resolv.conf"
LEASE_SECONDS = 20.0
"""How long DHCP or a router may take before an adapter counts as without address."""
DNS_SECONDS = 10.0
_LOOK = 0.5


class DebianNetwork:
    """Files below `root`; programs by `run`."""

    def __init__(self, root: Path, run: Runner, clock: Clock) -> None:
        self._root = root
        self._run = run
        self._clock = clock

    def adapters(self) -> tuple[AdapterFacts, ...]:
        return adapters.list_adapters(self._root)

    # --- files

    def path(self, adapter: str) -> Path:
        """One file an adapter; it sorts before the image's 90-postkeep-default.network."""
        if not adapter or "/" in adapter or adapter.startswith("."):
            raise HostError("This is no name of a network adapter.")
        return self._root / FOLDER / f"10-postkeep-{adapter}.network"

    def settings(self, adapter: str) -> AdapterSettings:
        text = read_small(self.path(adapter))
        return AdapterSettings() if text is None else netfiles.parse(text)

    def saved(self, adapter: str) -> str | None:
        return read_small(self.path(adapter))

    def write(self, adapter: str, settings: AdapterSettings) -> None:
        self.restore(adapter, netfiles.render(adapter, settings))

    def restore(self, adapter: str, saved: str | None) -> None:
        path = self.path(adapter)
        try:
            if saved is None:
                remove(path)
            else:
                write_atomically(path, saved.encode())
            self._write_resolver()
        except OSError as error:
            raise HostError(f"{error.filename or path} cannot be written: {error.strerror}") from error

    def _all(self) -> list[AdapterSettings]:
        folder = self._root / FOLDER
        found = [read_small(path) for path in sorted(folder.glob("10-postkeep-*.network"))]
        return [netfiles.parse(text) for text in found if text is not None]

    def _write_resolver(self) -> None:
        """Search domains are libc's. The servers are unbound's, which learns them from networkd's state."""
        search = list(dict.fromkeys(domain for settings in self._all() for domain in settings.search))
        path = self._root / RESOLV_CONF
        old = read_small(path) or "nameserver 127.0.0.1\noptions edns0 trust-ad\n"
        kept = [line for line in old.splitlines() if line.split(None, 1)[:1] not in (["search"], ["domain"])]
        new = "\n".join([*kept, *([f"search {' '.join(search)}"] if search else [])]) + "\n"
        if new != old:
            write_atomically(path, new.encode())

    # --- now

    async def apply(self, adapter: str) -> None:
        await self._run(["networkctl", "reload"])
        await self._run(["networkctl", "reconfigure", adapter])

    async def gateway_answers(self, adapter: str, settings: AdapterSettings) -> bool:
        facts = await self._settled(adapter, settings)
        if facts is None or not facts.link:
            return False
        gateways = [one.gateway for one in (settings.ipv4, settings.ipv6) if one.method is Method.STATIC]
        if Method.AUTOMATIC in (settings.ipv4.method, settings.ipv6.method):
            gateways.append(facts.gateway)
        wanted = list(dict.fromkeys(filter(None, gateways)))
        if not wanted:  # nothing beyond its own network was asked for
            return bool(facts.addresses)
        for gateway in wanted:
            if await self._answers(adapter, gateway):
                return True
        return False

    async def _settled(self, adapter: str, settings: AdapterSettings) -> AdapterFacts | None:
        """The adapter once it has what `settings` lead to, or as it is when the time is over."""
        end = self._clock.monotonic() + LEASE_SECONDS
        while True:
            facts = next((one for one in self.adapters() if one.name == adapter), None)
            if facts is not None and _has(facts, settings):
                return facts
            if self._clock.monotonic() >= end:
                return facts
            await self._clock.sleep(_LOOK)

    async def _answers(self, adapter: str, gateway: str) -> bool:
        ping = ["ping", "-n", "-q", "-c", "3", "-i", "0.3", "-W", "2", "-I", adapter, gateway]
        if (await self._run(ping, check=False, seconds=10)).status == 0:
            return True
        # A router may keep silent on ICMP: that it answered ARP or neighbour discovery is enough.
        said = await self._run(["ip", "neigh", "show", gateway, "dev", adapter], check=False)
        words = said.out.split()
        return "lladdr" in words and not {"FAILED", "INCOMPLETE"} & set(words)

    # --- trials

    async def ping(self, target: str, line: Callable[[str], None]) -> bool:
        argv = ["ping", "-n", "-c", "4", "-W", "2", target]
        return (await self._run(argv, check=False, seconds=20, line=line)).status == 0

    async def resolve(self, target: str, line: Callable[[str], None]) -> bool:
        resolver = self._resolver()
        try:
            name = str(dns.reversename.from_address(str(ipaddress.ip_address(target))))
            kinds: tuple[str, ...] = ("PTR",)
        except ValueError:
            name, kinds = target, ("A", "AAAA", "MX")
        good = False
        for kind in kinds:
            try:
                answer = await resolver.resolve(name, kind, search=False, lifetime=DNS_SECONDS)
            except dns.resolver.NXDOMAIN:
                line(f"{target} does not exist (NXDOMAIN)")
                return False
            except dns.resolver.NoAnswer:
                line(f"{target} has no {kind} record")
            except dns.exception.DNSException as error:
                line(f"{kind}: {str(error)[:300] or type(error).__name__}")
            else:
                good = True
                for text in sorted(record.to_text() for record in answer)[:20]:
                    line(f"{target} {kind} {text[:300]}")
        return good

    def _resolver(self) -> dns.asyncresolver.Resolver:
        try:
            return dns.asyncresolver.Resolver(filename=str(self._root / RESOLV_CONF))
        except (dns.resolver.NoResolverConfiguration, OSError) as error:
            raise HostError("/etc/resolv.conf names no DNS server.") from error


def _has(facts: AdapterFacts, settings: AdapterSettings) -> bool:
    """Whether every family that is on has its address, and the automatic one its gateway."""

    def family(version: int, wanted: Addressing) -> bool:
        mine = [ipaddress.ip_interface(text) for text in facts.addresses]
        if wanted.method is Method.STATIC:
            return ipaddress.ip_interface(wanted.address) in mine
        return wanted.method is Method.OFF or any(
            one.version == version and not one.is_link_local for one in mine
        )

    families = ((4, settings.ipv4), (6, settings.ipv6))
    if settings.ipv4.method is Method.AUTOMATIC:
        return family(4, settings.ipv4) and bool(facts.gateway)  # IPv6 may have no router at all
    return all(family(version, wanted) for version, wanted in families)
