"""Rules for what is typed: pure functions from entries to the keys of the texts that say what is wrong.

The agent checks everything again and has the last word; these answer while one types. A rule returns ""
for a good entry, else a key of the catalogue below `wrong.`.
"""

import ipaddress
import re
from collections.abc import Callable, Mapping

from postkeep_appliance.api.types import AdapterSettings, Addressing, Method

Entries = Mapping[str, str]
Wrong = Mapping[str, str]
"""Name of the entry -> key of the text."""
Rule = Callable[[str], str]

PASSWORD_LEAST = 8
FIRST_PASSWORD = "postkeep"  # noqa: S105 - documented, must be changed at the first login
_LABEL = re.compile(r"(?!-)[a-z0-9-]{1,63}(?<!-)\Z", re.IGNORECASE)
_ADMINISTRATOR = re.compile(r"[a-z0-9_](?:[a-z0-9_'+-]|\.(?=[a-z0-9_'+-])){0,63}\Z", re.IGNORECASE)
"""What the engine takes as the name of an account."""


def hostname(text: str) -> str:
    """A full name, `mail.example.com`: RFC 1123 labels, at least two, not an address."""
    if not text:
        return "wrong.empty"
    labels = text.split(".")
    if len(text) > 253 or not all(_LABEL.match(label) for label in labels):
        return "wrong.hostname"
    if len(labels) < 2:
        return "wrong.hostname_short"
    return "wrong.hostname" if labels[-1].isdigit() else ""


def domain(text: str) -> str:
    """An e-mail domain; the rules of host names."""
    problem = hostname(text)
    return {"wrong.hostname": "wrong.domain", "wrong.hostname_short": "wrong.domain"}.get(problem, problem)


def domain_of(host: str) -> str:
    """The e-mail domain that a host's name suggests: mail.example.com -> example.com."""
    labels = host.split(".")
    return ".".join(labels[1:]) if len(labels) > 2 else host


def administrator(text: str) -> str:
    if not text:
        return "wrong.empty"
    return "" if _ADMINISTRATOR.match(text) else "wrong.administrator"


def new_password(text: str, again: str, user: str = "") -> Wrong:
    """Both entries of a new password, named "new" and "again"."""
    wrong: dict[str, str] = {}
    if not text:
        wrong["new"] = "wrong.empty"
    elif len(text) < PASSWORD_LEAST:
        wrong["new"] = "wrong.password_short"
    elif text.lower() == FIRST_PASSWORD or (user and text.lower() == user.lower()):
        wrong["new"] = "wrong.password_known"
    if text != again:
        wrong["again"] = "wrong.password_differs"
    return wrong


def servers(text: str, *, names: bool) -> str:
    """Addresses (with `names` also host names) between spaces or commas; none is fine."""
    for one in split(text):
        if not _is_address(one) and not (names and (hostname(one) == "" or _LABEL.match(one))):
            return "wrong.ntp" if names else "wrong.dns"
    return "" if len(split(text)) <= 8 else "wrong.too_many"


def domains(text: str) -> str:
    """Search domains between spaces or commas; none is fine."""
    bad = any(not all(_LABEL.match(label) for label in one.split(".")) for one in split(text))
    return "wrong.search" if bad else ""


def split(text: str) -> tuple[str, ...]:
    return tuple(re.split(r"[\s,;]+", text.strip(" \t,;"))) if text.strip(" \t,;") else ()


def prefix_length(mask: str) -> int | None:
    """IPv4: "24", "/24" or "255.255.255.0" -> 24; None when it is no mask."""
    text = mask.strip().removeprefix("/")
    if text.isascii() and text.isdigit():
        return int(text) if len(text) <= 2 and 1 <= int(text) <= 32 else None
    try:
        bits = int(ipaddress.IPv4Address(text))
    except ValueError:
        return None
    length = bits.bit_count()
    return length if length and bits == (0xFFFFFFFF << (32 - length)) & 0xFFFFFFFF else None


def adapter(entries: Entries) -> Wrong:
    """The network form: method4, address4, mask4, gateway4, method6, address6, gateway6, dns, search."""
    wrong = _family4(entries) | _family6(entries)
    wrong["dns"] = servers(entries["dns"], names=False)
    wrong["search"] = domains(entries["search"])
    if entries["method4"] == entries["method6"] == Method.OFF:
        wrong["method4"] = "wrong.both_off"
    return {name: problem for name, problem in wrong.items() if problem}


def _family4(entries: Entries) -> dict[str, str]:
    if entries["method4"] != Method.STATIC:
        return {}
    wrong: dict[str, str] = {}
    length = prefix_length(entries["mask4"])
    if length is None:
        wrong["mask4"] = "wrong.mask"
    try:
        own = ipaddress.IPv4Interface(f"{entries['address4']}/{length if length is not None else 32}")
    except ValueError:
        return wrong | {"address4": "wrong.address4" if entries["address4"] else "wrong.empty"}
    if "/" in entries["address4"] or not _usable(own.ip):
        wrong["address4"] = "wrong.address4"
    elif length is not None and length < 31 and own.ip == own.network.network_address:
        wrong["address4"] = "wrong.network_address"
    elif length is not None and length < 31 and own.ip == own.network.broadcast_address:
        wrong["address4"] = "wrong.broadcast_address"
    gateway = entries["gateway4"]
    if gateway and "mask4" not in wrong:
        wrong["gateway4"] = _gateway(gateway, own, "wrong.address4")
    return wrong


def _family6(entries: Entries) -> dict[str, str]:
    if entries["method6"] != Method.STATIC:
        return {}
    text = entries["address6"]
    if not text:
        return {"address6": "wrong.empty"}
    try:
        own = ipaddress.IPv6Interface(text)
    except ValueError:
        return {"address6": "wrong.address6"}
    if "/" not in text or "%" in text or not _usable(own.ip):
        return {"address6": "wrong.address6"}
    gateway = entries["gateway6"]
    return {"gateway6": _gateway(gateway, own, "wrong.gateway6")} if gateway else {}


def _gateway(text: str, own: ipaddress.IPv4Interface | ipaddress.IPv6Interface, malformed: str) -> str:
    try:
        gateway = ipaddress.ip_address(text)
    except ValueError:
        return malformed
    if gateway.version != own.version or "%" in text:
        return malformed
    if gateway == own.ip:
        return "wrong.gateway_self"
    if gateway.version == 6 and gateway.is_link_local:
        return ""
    return "" if gateway in own.network else "wrong.gateway_outside"


def _usable(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    return not (address.is_multicast or address.is_unspecified or address.is_loopback or address.is_reserved)


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return "%" not in text


def entries_of(settings: AdapterSettings) -> dict[str, str]:
    """What the network form shows for settings."""
    address4, _, mask4 = settings.ipv4.address.partition("/")
    return {
        "method4": settings.ipv4.method.value,
        "address4": address4,
        "mask4": mask4,
        "gateway4": settings.ipv4.gateway,
        "method6": settings.ipv6.method.value,
        "address6": settings.ipv6.address,
        "gateway6": settings.ipv6.gateway,
        "dns": " ".join(settings.dns),
        "search": " ".join(settings.search),
    }


def settings_of(entries: Entries) -> AdapterSettings:
    """What entries that `adapter` finds nothing wrong with mean."""
    method4, method6 = Method(entries["method4"]), Method(entries["method6"])
    return AdapterSettings(
        ipv4=Addressing(
            method4, f"{entries['address4']}/{prefix_length(entries['mask4'])}", entries["gateway4"]
        )
        if method4 is Method.STATIC
        else Addressing(method4),
        ipv6=Addressing(method6, entries["address6"], entries["gateway6"])
        if method6 is Method.STATIC
        else Addressing(method6),
        dns=split(entries["dns"]),
        search=split(entries["search"]),
    )
