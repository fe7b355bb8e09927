"""Whether network settings make sense, before they are tried (row CON-4): the reason, and the field."""

import ipaddress
import re
from collections.abc import Mapping

from postkeep_appliance.api.types import AdapterSettings, Addressing, Method
from postkeep_appliance.host import names
from postkeep_appliance.host.port import Invalid

MAX_SERVERS = 3
"""What resolv.conf(5) and its readers take."""
MAX_SEARCH = 6
_ADAPTER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,14}")

Interface = ipaddress.IPv4Interface | ipaddress.IPv6Interface
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def check(
    adapter: str, settings: AdapterSettings, others: Mapping[str, AdapterSettings] | None = None
) -> AdapterSettings:
    """`settings` with everything in its usual spelling. `others`: the other adapters' settings by name.

    Raises Invalid with the field as in the call: "ipv4.address", "ipv6.gateway", "dns", "search", "adapter".
    """
    if not _ADAPTER.fullmatch(adapter):
        raise Invalid("adapter", "This is no name of a network adapter.")
    ipv4 = _family(4, "ipv4", settings.ipv4)
    ipv6 = _family(6, "ipv6", settings.ipv6)
    if ipv4.method is Method.OFF and ipv6.method is Method.OFF:
        raise Invalid("ipv4.method", "With IPv4 and IPv6 off this adapter could not be reached at all.")
    for family, mine in (("ipv4", ipv4), ("ipv6", ipv6)):
        if mine.method is Method.STATIC:
            _check_unused(f"{family}.address", mine.address, others or {})
    dns = tuple(_server(text) for text in settings.dns)
    if len(dns) > MAX_SERVERS:
        raise Invalid("dns", f"At most {MAX_SERVERS} DNS servers can be used.")
    if len(set(dns)) != len(dns):
        raise Invalid("dns", "A DNS server is named twice.")
    if len(settings.search) > MAX_SEARCH:
        raise Invalid("search", f"At most {MAX_SEARCH} search domains can be used.")
    search = tuple(names.domain(text, "search") for text in settings.search)
    return AdapterSettings(ipv4, ipv6, dns, search)


def _family(version: int, field: str, given: Addressing) -> Addressing:
    if given.method is not Method.STATIC:
        return Addressing(given.method)
    interface = _interface(version, f"{field}.address", given.address.strip())
    gateway = given.gateway.strip()
    if gateway:
        gateway = _gateway(version, f"{field}.gateway", gateway, interface)
    return Addressing(Method.STATIC, str(interface), gateway)


def _interface(version: int, field: str, text: str) -> Interface:
    example = "192.0.2.5/24" if version == 4 else "2001:db8::5/64"
    if not text:
        raise Invalid(field, f"A static address is needed, like {example}.")
    if "/" not in text:
        raise Invalid(field, f"The prefix length is missing; write it like {example}.")
    try:
        interface = ipaddress.ip_interface(text)
    except ValueError as error:
        raise Invalid(field, f"This is no address with prefix length; write it like {example}.") from error
    if interface.version != version:
        raise Invalid(field, f"This is not an IPv{version} address.")
    _usable(field, interface.ip)
    if version == 6 and interface.ip.is_link_local:
        raise Invalid(field, "A link-local address is there anyway; a static one must be of a network.")
    network = interface.network
    whole = network.max_prefixlen
    if not network.prefixlen >= 1:
        raise Invalid(field, "The prefix length must be at least 1.")
    if network.prefixlen < whole - 1:  # RFC 3021, RFC 6164: both ends of a /31 and /127 are hosts
        if version == 4 and interface.ip == network.network_address:
            raise Invalid(field, f"{interface.ip} is the network {network} itself, no host in it.")
        if version == 4 and interface.ip == network.broadcast_address:
            raise Invalid(field, f"{interface.ip} is the broadcast address of {network}.")
        if version == 6 and interface.ip == network.network_address:
            raise Invalid(field, f"{interface.ip} is every router of {network} (RFC 4291), no host in it.")
    return interface


def _usable(field: str, address: Address) -> None:
    """A host's own address or its gateway's can be none of these."""
    wrong = ""
    if address.is_unspecified or (address.version == 4 and address in ipaddress.ip_network("0.0.0.0/8")):
        wrong = "stands for “no address”"
    elif address.is_loopback:
        wrong = "is a loopback address: it never leaves a machine"
    elif address.is_multicast:
        wrong = "is a multicast address: it names a group of hosts"
    elif address.version == 4 and address in ipaddress.ip_network("240.0.0.0/4"):
        wrong = "is reserved or broadcast: no host can have it"
    elif isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        wrong = "is an IPv4 address written as IPv6: enter it under IPv4"
    if wrong:
        raise Invalid(field, f"{address} {wrong}.")


def _gateway(version: int, field: str, text: str, interface: Interface) -> str:
    try:
        gateway = ipaddress.ip_address(text)
    except ValueError as error:
        raise Invalid(field, "The gateway is no IP address.") from error
    if gateway.version != version or (isinstance(gateway, ipaddress.IPv6Address) and gateway.scope_id):
        raise Invalid(field, f"The gateway must be a plain IPv{version} address.")
    _usable(field, gateway)
    if gateway == interface.ip:
        raise Invalid(field, "The gateway is this machine's own address.")
    if version == 6 and gateway.is_link_local:
        return str(gateway)  # the usual case: routers announce themselves so
    if gateway not in interface.network:
        raise Invalid(field, f"The gateway {gateway} is not in {interface.network}, so cannot be reached.")
    network = interface.network
    if version == 4 and network.prefixlen < 31:
        if gateway == network.network_address:
            raise Invalid(field, f"{gateway} is the network {network} itself, no host in it.")
        if gateway == network.broadcast_address:
            raise Invalid(field, f"{gateway} is the broadcast address of {network}.")
    return str(gateway)


def _check_unused(field: str, address: str, others: Mapping[str, AdapterSettings]) -> None:
    mine = ipaddress.ip_interface(address)
    for name, settings in others.items():
        for family in (settings.ipv4, settings.ipv6):
            if family.method is not Method.STATIC or not family.address:
                continue
            theirs = ipaddress.ip_interface(family.address)
            if theirs.ip == mine.ip:
                raise Invalid(field, f"The adapter {name} has this address already.")
            if theirs.version == mine.version and theirs.network.overlaps(mine.network):
                raise Invalid(
                    field,
                    f"The adapter {name} is in {theirs.network} already; two adapters in one network "
                    "answer for each other.",
                )


def _server(text: str) -> str:
    try:
        address = ipaddress.ip_address(text.strip())
    except ValueError as error:
        raise Invalid("dns", f"“{text.strip()[:60]}” is no IP address.") from error
    if isinstance(address, ipaddress.IPv6Address) and address.scope_id:
        raise Invalid("dns", "A DNS server is a plain address, without zone.")
    if address.is_loopback:
        raise Invalid("dns", "The local resolver is used anyway; name the servers that it shall ask.")
    _usable("dns", address)
    return str(address)
