"""Network adapters as they are now: the only place that knows netifaces."""

import ipaddress
from pathlib import Path
from typing import Protocol

import netifaces  # type: ignore[import-untyped]

from postkeep_appliance.host.files import read_small
from postkeep_appliance.host.port import AdapterFacts


class Interfaces(Protocol):
    """Of netifaces, what is used."""

    def interfaces(self) -> list[str]: ...
    def ifaddresses(self, name: str) -> dict[int, list[dict[str, str]]]: ...
    def gateways(self) -> dict[object, object]: ...


def list_adapters(root: Path = Path("/"), source: Interfaces = netifaces) -> tuple[AdapterFacts, ...]:
    """Sorted by name: those that are devices, not what tunnels, bridges and containers make.

    An adapter that goes away meanwhile is left out.
    """
    gateways = _gateways(source)
    found = []
    for name in sorted(source.interfaces()):
        if not (root / "sys/class/net" / name / "device").exists():
            continue
        try:
            by_family = source.ifaddresses(name)
        except ValueError:
            continue
        macs = by_family.get(netifaces.AF_LINK) or [{}]
        addresses = [
            text
            for family in (netifaces.AF_INET, netifaces.AF_INET6)
            for entry in by_family.get(family, [])
            if (text := _with_prefix(entry))
        ]
        carrier = read_small(root / "sys/class/net" / name / "carrier") if _is_up(root, name) else None
        found.append(
            AdapterFacts(
                name,
                macs[0].get("addr", ""),
                carrier is not None and carrier.strip() == "1",
                tuple(addresses),
                gateways.get(name, ""),
            )
        )
    return tuple(found)


def _is_up(root: Path, name: str) -> bool:
    """The kernel refuses to read `carrier` of an adapter that is down (EINVAL)."""
    state = read_small(root / "sys/class/net" / name / "operstate")
    return state is not None and state.strip() in ("up", "unknown", "dormant")


def _with_prefix(entry: dict[str, str]) -> str:
    """netifaces gives "fe80::1%eth0" and masks as "255.255.255.0" or "ffff:…::/64"."""
    address = entry.get("addr", "").partition("%")[0]
    mask = entry.get("netmask", "")
    try:
        ip = ipaddress.ip_address(address)
        prefix = mask.rpartition("/")[2] if "/" in mask else mask
        if ip.version == 6 and not prefix.isdigit():
            prefix = str(int(ipaddress.ip_address(prefix)).bit_count()) if prefix else "128"
        elif ip.version == 4 and not prefix:
            prefix = "32"
        return str(ipaddress.ip_interface(f"{address}/{prefix}").with_prefixlen)
    except ValueError:
        return ""


def _gateways(source: Interfaces) -> dict[str, str]:
    """The default gateway by adapter; IPv4's where it has both."""
    found: dict[str, str] = {}
    for family in (netifaces.AF_INET, netifaces.AF_INET6):
        entries = source.gateways().get(family, [])
        if isinstance(entries, list):
            for address, adapter, *_ in entries:
                found.setdefault(adapter, address)
    return found
