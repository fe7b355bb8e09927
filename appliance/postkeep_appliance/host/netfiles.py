"""AdapterSettings <-> a systemd.network(5) file. Pure: no file is touched."""

from postkeep_appliance.api.types import AdapterSettings, Addressing, Method

_HEAD = "# Written by the appliance's console; what is changed here by hand is kept until it writes again.\n"


def render(adapter: str, settings: AdapterSettings) -> str:
    """Checked settings as text (netcheck.check)."""
    ipv4, ipv6 = settings.ipv4, settings.ipv6
    network = [
        ("DHCP", "ipv4" if ipv4.method is Method.AUTOMATIC else "no"),
        ("IPv6AcceptRA", "yes" if ipv6.method is Method.AUTOMATIC else "no"),
        ("LinkLocalAddressing", "no" if ipv6.method is Method.OFF else "ipv6"),
    ]
    for family in (ipv4, ipv6):
        if family.method is Method.STATIC:
            network.append(("Address", family.address))
            if family.gateway:
                network.append(("Gateway", family.gateway))
    network += [("DNS", server) for server in settings.dns]
    if settings.search:
        network.append(("Domains", " ".join(settings.search)))
    lines = [_HEAD, "[Match]\n", f"Name={adapter}\n", "\n[Network]\n"]
    lines += [f"{key}={value}\n" for key, value in network]
    # Servers that somebody entered are the ones to ask, so none from DHCP or routers beside them.
    use = "no" if settings.dns else "yes"
    lines += ["\n[DHCPv4]\n", f"UseDNS={use}\n", "UseHostname=no\n", "ClientIdentifier=mac\n"]
    lines += ["\n[DHCPv6]\n", f"UseDNS={use}\n", "UseHostname=no\n"]
    lines += ["\n[IPv6AcceptRA]\n", f"UseDNS={use}\n"]
    return "".join(lines)


def parse(text: str) -> AdapterSettings:
    """What a file says, as far as AdapterSettings can. Never raises: unknown lines are left out."""
    found: dict[str, list[str]] = {}
    section = ""
    for raw in text.splitlines():
        line = raw.strip()
        if line.startswith("["):
            section = line.strip("[]").lower()
        elif section == "network" and "=" in line and not line.startswith(("#", ";")):
            key, _, value = line.partition("=")
            found.setdefault(key.strip().lower(), []).append(value.strip())

    def last(key: str, default: str) -> str:
        return found.get(key, [default])[-1].lower()

    def family(version: int, automatic: bool) -> Addressing:
        def mine(value: str) -> bool:
            return (":" in value) == (version == 6)

        address = next(filter(mine, found.get("address", [])), "")
        if address:
            return Addressing(Method.STATIC, address, next(filter(mine, found.get("gateway", [])), ""))
        return Addressing(Method.AUTOMATIC if automatic else Method.OFF)

    dhcp4 = last("dhcp", "no") in ("yes", "true", "1", "on", "ipv4")
    router = last("ipv6acceptra", "yes") in ("yes", "true", "1", "on")
    return AdapterSettings(
        family(4, dhcp4),
        family(6, router),
        tuple(found.get("dns", [])),
        tuple(domain for line in found.get("domains", []) for domain in line.split()),
    )
