#!/usr/bin/python3
"""Tells unbound how to reach the DNS: itself where the network lets it, else through the network's servers.

Run at boot, every few minutes and when systemd-networkd's state changes. What it knows:

- Some root servers answer and sign: unbound recurses by itself. (Blocklists want that, and so does DANE.)
- They do not: unbound forwards everything to the servers that somebody entered or DHCP named.
- Those servers strip signatures: DNSSEC is off while they are used, said in the journal; DANE then finds no
  signed answers and is not used.
- Search domains of the network and the names of private addresses always go to the network's servers, which
  alone know them, without DNSSEC.

It writes one file in /run, which unbound's configuration includes, and reloads unbound when that changed.
"""

import ipaddress
import os
import re
import secrets
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

NETWORK_STATE = Path("/run/systemd/netif/state")
FORWARDING = Path("/run/postkeep-resolver/forwarding.conf")
# Root servers of four operators (a, f, k, l): https://www.iana.org/domains/root/servers
ROOTS = ("198.41.0.4", "192.5.5.241", "193.0.14.129", "199.7.83.42")
ROOTS_V6 = ("2001:503:ba3e::2:30", "2001:500:2f::f")
# IPv6 unique local addresses and the IPv4 networks of RFC 1918, RFC 6303 §4.1.
PRIVATE_ZONES = (
    "10.in-addr.arpa",
    *(f"{number}.172.in-addr.arpa" for number in range(16, 32)),
    "168.192.in-addr.arpa",
    "d.f.ip6.arpa",
)
TIMEOUT = 3.0
MAX_DOMAINS = 32
DNSKEY, RRSIG, OPT = 48, 46, 41
DNSSEC_OK = 0x8000
NXDOMAIN = 3
_DOMAIN = re.compile(
    r"(?=.{1,253}$)[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)*"
)


@dataclass(frozen=True)
class Network:
    """What systemd-networkd knows: name servers, entered ones first, and domains to look in."""

    servers: tuple[str, ...] = ()
    domains: tuple[str, ...] = ()


@dataclass(frozen=True)
class Answer:
    """`works`: it answered our question, if only by a no; `signed`: with the root's keys and signatures."""

    works: bool
    signed: bool


@dataclass(frozen=True)
class Plan:
    """What unbound shall do."""

    forward_all: tuple[str, ...]
    forward_zones: tuple[tuple[str, tuple[str, ...]], ...]
    validate: bool
    reason: str


def parse_state(text: str) -> Network:
    """/run/systemd/netif/state: KEY=value lines. What is no address or no name is left out."""
    values: dict[str, list[str]] = {}
    for line in text.splitlines():
        key, separator, value = line.partition("=")
        if separator:
            values[key.strip()] = value.split()
    servers: list[str] = []
    for word in values.get("DNS", []):
        # Forms: address, address:port, [address]:port, each with #name and %interface (networkd).
        plain = word.partition("#")[0].partition("%")[0].strip("[]")
        try:
            address = ipaddress.ip_address(plain)
        except ValueError:
            continue
        if address.is_loopback or address.is_unspecified or (address.version == 6 and address.is_link_local):
            continue
        if str(address) not in servers:
            servers.append(str(address))
    domains: list[str] = []
    for word in [*values.get("DOMAINS", []), *values.get("ROUTE_DOMAINS", [])]:
        name = word.lstrip("~").rstrip(".").lower()
        if "." in name and _DOMAIN.fullmatch(name) and name not in domains:
            domains.append(name)
    return Network(tuple(servers[:8]), tuple(domains[:MAX_DOMAINS]))


def question(identity: int) -> bytes:
    """The root's DNSKEYs, recursion desired, DNSSEC OK, 1,232 octets of answer (RFC 6891)."""
    header = struct.pack(">HHHHHH", identity, 0x0100, 1, 0, 0, 1)
    opt = b"\0" + struct.pack(">HHIH", OPT, 1232, DNSSEC_OK, 0)
    return header + b"\0" + struct.pack(">HH", DNSKEY, 1) + opt


def judge(data: bytes, identity: int) -> Answer:
    """Whether `data` answers the question. Hostile input: whatever does not parse does not work."""
    no = Answer(False, False)
    try:
        found, flags, questions, answers = struct.unpack_from(">HHHH", data)
        if found != identity or not flags & 0x8000 or questions != 1:
            return no
        if code := flags & 0x000F:
            return Answer(code == NXDOMAIN, False)  # some forwarders know hosts' addresses only
        if flags & 0x0200:  # cut off: it is there and speaks, but UDP could not hold it
            return Answer(True, True)
        place = 12 + 1 + 4
        kinds = set()
        for _ in range(min(answers, 64)):
            while data[place]:
                if data[place] & 0xC0:
                    place += 1
                    break
                place += 1 + data[place]
            place += 1
            kind, _, _, length = struct.unpack_from(">HHIH", data, place)
            place += 10 + length
            kinds.add(kind)
        return Answer(True, {DNSKEY, RRSIG} <= kinds) if place <= len(data) else no
    except (struct.error, IndexError):
        return no


def ask(server: str, timeout: float = TIMEOUT) -> Answer:
    """Asks one server by UDP."""
    identity = secrets.randbelow(1 << 16)
    family = socket.AF_INET6 if ":" in server else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as link:
            link.settimeout(timeout)
            link.connect((server, 53))
            link.send(question(identity))
            return judge(link.recv(4096), identity)
    except OSError:
        return Answer(False, False)


def plan(network: Network, asking: Callable[[str], Answer]) -> Plan:
    """Decides. `asking` is called for as few servers as needed."""
    zones: tuple[tuple[str, tuple[str, ...]], ...] = ()
    if network.servers:
        zones = tuple((name, network.servers) for name in (*network.domains, *PRIVATE_ZONES))
    roots: Iterable[str] = (*ROOTS[:2], ROOTS_V6[0], *ROOTS[2:], ROOTS_V6[1])
    for root in roots:
        if asking(root).signed:
            return Plan((), zones, True, "root servers answer: unbound asks the DNS itself")
    if not network.servers:
        return Plan((), (), True, "neither root servers nor any other server can be reached")
    answers = {server: asking(server) for server in network.servers}
    signed = tuple(server for server, answer in answers.items() if answer.signed)
    if signed:
        return Plan(signed, zones, True, "root servers do not answer: forwarding to " + ", ".join(signed))
    working = tuple(server for server, answer in answers.items() if answer.works)
    if working:
        text = (
            f"root servers do not answer, and {', '.join(working)} give no signatures: forwarding without "
            "DNSSEC. Let this machine send UDP and TCP to port 53 to have it."
        )
        return Plan(working, zones, False, text)
    text = f"neither root servers nor {', '.join(network.servers)} answer: is the network up?"
    return Plan(network.servers, zones, True, text)


def render(plan: Plan) -> str:
    """unbound.conf(5). All words in it are addresses and names that parse_state let through."""
    lines = [f"# Written by postkeep-resolver. {plan.reason}", "server:"]
    if not plan.validate:
        # Answers that cannot be checked are given without the AD bit instead of refused.
        lines.append("    val-permissive-mode: yes")
    # Names that only this network knows have no chain of trust from the root.
    lines += [f'    domain-insecure: "{zone}"' for zone, _ in plan.forward_zones]
    zones = [*plan.forward_zones, *([(".", plan.forward_all)] if plan.forward_all else [])]
    for zone, servers in zones:
        lines += [
            "forward-zone:",
            f'    name: "{zone}"',
            *(f"    forward-addr: {server}" for server in servers),
        ]
    return "\n".join(lines) + "\n"


def put(text: str, run: Callable[[list[str]], str], path: Path = FORWARDING) -> str:
    """Makes `text` hold, or leaves what held; returns what went wrong, else "". `run` gives a complaint."""
    before = path.read_text() if path.exists() else None
    if text == before:
        return ""
    _replace(path, text)
    wrong = run(["/usr/sbin/unbound-checkconf"]) or run(["/usr/sbin/unbound-control", "reload"])
    if wrong:
        _replace(path, before)
    return wrong


def _replace(path: Path, text: str | None) -> None:
    if text is None:
        path.unlink(missing_ok=True)
        return
    fresh = path.with_suffix(".new")
    fresh.write_text(text)
    fresh.chmod(0o644)
    os.replace(fresh, path)


def complaint(command: list[str]) -> str:
    """What a program says that fails; empty if it does not."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    return "" if done.returncode == 0 else f"{command[0]}: {(done.stderr or done.stdout).strip()}"


def main() -> int:
    try:
        network = parse_state(NETWORK_STATE.read_text())
    except OSError:
        network = Network()
    chosen = plan(network, ask)
    text = render(chosen)
    if not FORWARDING.exists() or FORWARDING.read_text() != text:
        print(chosen.reason)
    if wrong := put(text, complaint):
        print(wrong, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
