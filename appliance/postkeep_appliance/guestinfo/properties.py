"""What a deployment said, checked: one frozen value, with what had to be rejected and why."""

import ipaddress
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from postkeep_appliance.api.types import AdapterSettings, Addressing, Method
from postkeep_appliance.guestinfo.declarations import PREFIX, Declaration
from postkeep_appliance.guestinfo.values import BadValue, Interface, Reader, is_unset, quoted
from postkeep_appliance.host import netcheck
from postkeep_appliance.host.port import Invalid


@dataclass(frozen=True, slots=True)
class Properties:
    """None (or empty) is unset. Named as in properties.toml, but for `network`. Its repr shows no secret."""

    hostname: str | None = None
    network: AdapterSettings | None = None
    """Of the first adapter, made of address, netmask, gateway and dns; checked."""
    domain: str | None = None
    administrator: str | None = None
    administrator_password: str | None = field(default=None, repr=False)
    remote_administration: bool | None = None
    root_password: str | None = field(default=None, repr=False)
    ssh_key: str | None = field(default=None, repr=False)
    time_zone: str | None = None
    ntp: tuple[str, ...] = ()
    language: str | None = None


@dataclass(frozen=True, slots=True)
class Rejected:
    """`name` without the prefix. The reason is a sentence for the console; it holds no secret."""

    name: str
    reason: str

    def __str__(self) -> str:
        return f"{self.name}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Said:
    """All of it. `given`: names that were set to something other than the declared default, valid or not."""

    properties: Properties = Properties()
    rejected: tuple[Rejected, ...] = ()
    given: frozenset[str] = frozenset()
    ignored: tuple[str, ...] = ()
    """Keys with our prefix that nothing is known of: most likely typing errors."""


def check(
    texts: Mapping[str, str],
    declarations: Mapping[str, Declaration],
    reader: Reader,
    repeated: Collection[str] = (),
) -> Said:
    """`texts` by full keys, as they came; `repeated` keys are rejected, for which one holds is a guess."""
    values: dict[str, Any] = {}
    rejected = []
    given = set()
    for key, declaration in declarations.items():
        text = texts.get(key)
        if text is None or is_unset(text):
            continue
        if text.strip() != declaration.default:
            given.add(declaration.name)
        try:
            if key in repeated:
                raise BadValue("It is given more than once.")
            values[declaration.name] = reader.read(declaration, text)
        except BadValue as error:
            rejected.append(Rejected(declaration.name, str(error)))
    rejected += _network(values, {one.name for one in rejected})
    known = {one.name for one in fields(Properties)}
    return Said(
        Properties(**{name: value for name, value in values.items() if name in known}),
        tuple(rejected),
        frozenset(given),
        tuple(sorted(quoted(key) for key in texts if key.startswith(PREFIX) and key not in declarations)),
    )


def _network(values: dict[str, Any], bad: Collection[str]) -> list[Rejected]:
    """Put address, netmask, gateway and dns together, or take them all out: half a network is none."""
    address: Interface | None = values.pop("address", None)
    netmask: int | None = values.pop("netmask", None)
    gateway: Interface | None = values.pop("gateway", None)
    dns: tuple[str, ...] = values.pop("dns", ())
    if address is None:
        unused = [] if "address" in bad else [("netmask", netmask), ("gateway", gateway)]
        rejected = [
            Rejected(name, "It is not used, for there is no address.")
            for name, value in unused
            if value is not None
        ]
    elif {"netmask", "gateway"} & set(bad):
        address, rejected = None, [Rejected("address", "It is not used, for netmask or gateway is wrong.")]
    else:
        try:
            address, rejected = _with_netmask(address, netmask), []
        except BadValue as error:
            address, rejected = None, [Rejected("netmask", str(error))]
    if address is None and not dns:
        return rejected
    family = Addressing(Method.STATIC, str(address), str(gateway.ip) if gateway else "") if address else None
    settings = AdapterSettings(
        ipv4=family if family and address and address.version == 4 else Addressing(),
        ipv6=family if family and address and address.version == 6 else Addressing(),
        dns=dns,
    )
    try:
        values["network"] = netcheck.check("adapter", settings)
    except Invalid as error:
        return [*rejected, Rejected(error.field.rpartition(".")[2], error.text)]
    return rejected


def _with_netmask(address: Interface, netmask: int | None) -> Interface:
    full = address.network.max_prefixlen
    if netmask is None:
        if address.network.prefixlen == full:
            raise BadValue("It is missing: give it, or write the address like 192.0.2.10/24.")
        return address
    if netmask > full:
        raise BadValue(f"{netmask} bits are more than the address has.")
    if address.network.prefixlen not in (full, netmask):
        raise BadValue(f"{netmask} bits are not what the address says (/{address.network.prefixlen}).")
    return ipaddress.ip_interface(f"{address.ip}/{netmask}")
