"""A machine in memory, for tests and for a look at the console: believable, deterministic, with faults.

    host = DryRunHost(clock)
    host.faults["engine.command"] = "systemctl: unit is masked"     # that method raises HostError now
    host.machine.gateway_answers = False

What takes time on a real machine takes it on `clock`.
"""

import datetime
import zoneinfo
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from postkeep_appliance import __version__
from postkeep_appliance.api.types import AdapterSettings, Disk, Method, Space
from postkeep_appliance.host import dryrun_facts as facts
from postkeep_appliance.host import netfiles
from postkeep_appliance.host.clock import Clock
from postkeep_appliance.host.port import (
    FIRST_PASSWORD,
    AdapterFacts,
    Collected,
    HostError,
    Invalid,
    Memory,
    Say,
    TimeFacts,
    UnitFacts,
)
from postkeep_appliance.host.state import FIRST_PASSWORD_MARK

GIB = 1 << 30


@dataclass(slots=True)
class Machine:
    """All that the dry run changes. Tests look at it and turn its knobs."""

    hostname: str = "postkeep"
    password: str = FIRST_PASSWORD
    zone: str = "UTC"
    ntp: tuple[str, ...] = ()
    synchronized: bool = True
    ssh: bool = False
    keyboard: str = "us"
    active: str = "active"
    enabled: str = "enabled"
    set_up: bool = False
    settings: dict[str, str] = field(default_factory=dict)
    administrator: str = ""
    network_files: dict[str, str] = field(default_factory=dict)
    applied: dict[str, str] = field(default_factory=dict)
    gateway_answers: bool = True
    starts: bool = True
    """Whether the engine gets to run when it is asked to."""
    root_disk: int = 16 * GIB
    root_size: int = 16 * GIB
    store: str = "/dev/sdb"
    power: str = ""
    bundles: dict[str, bytes] = field(default_factory=dict)
    failed_units: tuple[str, ...] = ()
    free: float = 0.8
    """Share of each disk."""


class _Part:
    """What all ports of the dry run share: the machine, the clock, the faults."""

    name = ""

    def __init__(self, machine: Machine, clock: Clock, faults: dict[str, str]) -> None:
        self._machine = machine
        self._clock = clock
        self._faults = faults

    def _try(self, method: str) -> None:
        """Raises HostError when this method has a fault, as named "engine.command"."""
        text = self._faults.get(f"{self.name}.{method}")
        if text is not None:
            raise HostError(text)


class DryState(_Part):
    name = "state"

    def __init__(self, machine: Machine, clock: Clock, faults: dict[str, str]) -> None:
        super().__init__(machine, clock, faults)
        self.files: dict[str, bytes] = {}

    def read(self, name: str) -> bytes | None:
        return self.files.get(name)

    def write(self, name: str, data: bytes) -> None:
        self._try("write")
        self.files[name] = data

    def remove(self, name: str) -> None:
        self._try("remove")
        self.files.pop(name, None)


class DryNetwork(_Part):
    name = "network"

    def adapters(self) -> tuple[AdapterFacts, ...]:
        return tuple(self._adapter(*one) for one in facts.ADAPTERS)

    def _adapter(self, name: str, mac: str, link: bool, lease: str, gateway: str) -> AdapterFacts:
        """As the settings that were applied last have it."""
        text = self._machine.applied.get(name)
        settings = AdapterSettings() if text is None else netfiles.parse(text)
        addresses, router = [], ""
        if settings.ipv4.method is Method.STATIC:
            addresses.append(settings.ipv4.address)
            router = settings.ipv4.gateway
        elif settings.ipv4.method is Method.AUTOMATIC and link:
            addresses.append(lease)
            router = gateway
        if settings.ipv6.method is Method.STATIC:
            addresses.append(settings.ipv6.address)
            router = router or settings.ipv6.gateway
        if settings.ipv6.method is not Method.OFF and link:
            addresses.append("fe80::20c:29ff:fe5a:1/64")
        return AdapterFacts(name, mac, link, tuple(addresses), router)

    def settings(self, adapter: str) -> AdapterSettings:
        text = self._machine.network_files.get(adapter)
        return AdapterSettings() if text is None else netfiles.parse(text)

    def saved(self, adapter: str) -> str | None:
        return self._machine.network_files.get(adapter)

    def write(self, adapter: str, settings: AdapterSettings) -> None:
        self._try("write")
        self.restore(adapter, netfiles.render(adapter, settings))

    def restore(self, adapter: str, saved: str | None) -> None:
        self._try("restore")
        if saved is None:
            self._machine.network_files.pop(adapter, None)
        else:
            self._machine.network_files[adapter] = saved

    async def apply(self, adapter: str) -> None:
        self._try("apply")
        self._machine.applied = dict(self._machine.network_files)

    async def gateway_answers(self, adapter: str, settings: AdapterSettings) -> bool:
        await self._clock.sleep(1.0)
        self._try("gateway_answers")
        return self._machine.gateway_answers

    async def ping(self, target: str, line: Callable[[str], None]) -> bool:
        self._try("ping")
        good = self._machine.gateway_answers and not target.endswith(".invalid")
        for number in range(1, 5):
            await self._clock.sleep(1.0)
            if good:
                line(f"64 bytes from {target}: icmp_seq={number} ttl=57 time={9 + number}.{number} ms")
            else:
                line(f"From 192.0.2.10 icmp_seq={number} Destination Host Unreachable")
        line(f"4 packets transmitted, {4 if good else 0} received, {0 if good else 100}% packet loss")
        return good

    async def resolve(self, target: str, line: Callable[[str], None]) -> bool:
        self._try("resolve")
        await self._clock.sleep(0.3)
        if target.endswith(".invalid"):
            line(f"{target} does not exist (NXDOMAIN)")
            return False
        for kind, value in (("A", "203.0.113.7"), ("AAAA", "2001:db8::7"), ("MX", f"10 mx.{target}.")):
            line(f"{target} {kind} {value}")
        return True


class DrySystem(_Part):
    name = "system"

    def hostname(self) -> str:
        return self._machine.hostname

    async def set_hostname(self, name: str) -> None:
        self._try("set_hostname")
        self._machine.hostname = name

    async def check_password(self, password: str) -> bool:
        self._try("check_password")
        return password == self._machine.password

    async def set_password(self, password: str) -> None:
        self._try("set_password")
        self._machine.password = password

    async def time(self) -> TimeFacts:
        self._try("time")
        return TimeFacts(self._machine.zone, self._machine.ntp, self._machine.synchronized)

    async def zones(self) -> tuple[str, ...]:
        return facts.ZONES

    async def set_time(self, zone: str, ntp: tuple[str, ...]) -> None:
        self._try("set_time")
        self._machine.zone, self._machine.ntp = zone, ntp

    async def ssh(self) -> bool:
        return self._machine.ssh

    async def set_ssh(self, on: bool) -> None:
        self._try("set_ssh")
        self._machine.ssh = on

    def keyboard(self) -> str:
        return self._machine.keyboard

    def keyboards(self) -> tuple[tuple[str, str], ...]:
        return facts.KEYBOARDS

    async def set_keyboard(self, layout: str) -> None:
        self._try("set_keyboard")
        self._machine.keyboard = layout

    async def power(self, action: Literal["restart", "shutdown"]) -> None:
        self._try("power")
        self._machine.power = action

    async def failed_units(self) -> tuple[str, ...]:
        self._try("failed_units")
        return self._machine.failed_units

    def memory(self) -> Memory:
        return Memory(4 * GIB, 3 * GIB)

    def now(self) -> str:
        zone = zoneinfo.ZoneInfo(self._machine.zone)
        return datetime.datetime.fromtimestamp(self._clock.now(), zone).isoformat(timespec="seconds")


class DryEngine(_Part):
    name = "engine"
    _STARTING = 3.0

    async def unit(self) -> UnitFacts:
        self._try("unit")
        active = self._machine.active
        sub = {"active": "running", "activating": "start", "failed": "failed"}.get(active, "dead")
        return UnitFacts(active, sub, self._machine.enabled)

    async def command(self, action: Literal["start", "stop", "restart", "enable", "disable"]) -> None:
        self._try("command")
        if action in ("enable", "disable"):
            self._machine.enabled = f"{action}d"
        if action in ("stop", "disable"):
            self._machine.active = "inactive"
            return
        self._machine.active = "activating"
        self._clock.call_later(self._STARTING, self._started)

    def _started(self) -> None:
        if self._machine.active == "activating":
            self._machine.active = "active" if self._machine.starts else "failed"

    def is_set_up(self) -> bool:
        return self._machine.set_up

    def setup_code(self) -> str:
        return "" if self._machine.set_up else facts.SETUP_CODE

    async def fingerprint(self) -> str:
        return facts.FINGERPRINT

    async def init(self, hostname: str, domain: str, administrator: str, password: str) -> None:
        self._try("init")
        if self._machine.set_up:
            raise HostError("The engine refuses: this folder is set up already; nothing was changed")
        if self._machine.active not in ("inactive", "failed"):
            raise HostError("The engine refuses: it runs")
        await self._clock.sleep(1.0)
        self._machine.set_up = True
        self._machine.administrator = f"{administrator}@{domain}"
        self._machine.settings["InternetHostname"] = hostname

    def undo_init(self) -> None:
        self._try("undo_init")
        self._machine.set_up = False

    async def set_setting(self, variable: str, value: str) -> None:
        self._try("set_setting")
        self._machine.settings[variable] = value

    async def setting(self, variable: str) -> str:
        return self._machine.settings.get(variable, "0")

    async def use_folder(self, folder: str) -> None:
        self._try("use_folder")
        if folder.startswith(("/etc", "/usr", "/var", "/root")):
            raise Invalid("store", "This place belongs to the system; use one like /srv/mail.")
        self._machine.store = folder

    async def why_failed(self) -> str:
        return "port 25 is in use"


class DryDisks(_Part):
    name = "disks"

    async def disks(self) -> tuple[Disk, ...]:
        self._try("disks")
        empty = Disk("/dev/sdc", 200 * GIB, "empty", "Virtual disk")
        return (
            Disk("/dev/sda", self._machine.root_disk, "system", "Virtual disk"),
            Disk(
                "/dev/sdb",
                64 * GIB,
                "store" if self._machine.store == "/dev/sdb" else "other",
                "Virtual disk",
            ),
            empty
            if self._machine.store != "/dev/sdc"
            else Disk("/dev/sdc", 200 * GIB, "store", "Virtual disk"),
        )

    def spaces(self) -> tuple[Space, ...]:
        root = self._machine.root_size
        return (
            Space("/", root, int(root * self._machine.free)),
            Space("/var/lib/postkeep/store", 64 * GIB, int(64 * GIB * self._machine.free)),
        )

    async def grow(self, say: Say) -> bool:
        self._try("grow")
        say("Looking at the disk of /", 0, 2)
        await self._clock.sleep(0.5)
        grew = self._machine.root_size < self._machine.root_disk
        if grew:
            say(f"The file system of / grows to {self._machine.root_disk / GIB:.1f} GiB", 1, 2)
            await self._clock.sleep(2.0)
            self._machine.root_size = self._machine.root_disk
        say("Disks are looked at", 2, 2)
        return grew

    async def use_as_store(self, device: str, say: Say) -> None:
        self._try("use_as_store")
        texts = ("A file system is made", "What is in the store moves", "The disk is taken into use")
        for number, text in enumerate(texts):
            say(text, number, len(texts))
            await self._clock.sleep(1.0)
        self._machine.store = device

    def tidy(self) -> None:
        self._try("tidy")


class DryLogs(_Part):
    name = "logs"

    def names(self) -> tuple[str, ...]:
        return (*facts.LOGS, "system", "agent")

    async def read(self, name: str, lines: int, search: str) -> tuple[str, ...]:
        self._try("read")
        found = [
            line for line in facts.log_lines(name, self._clock.now()) if search.casefold() in line.casefold()
        ]
        return tuple(found[-lines:])

    async def collect(self, say: Say) -> list[Collected]:
        self._try("collect")
        found = []
        names = self.names()
        for number, name in enumerate(names):
            say(f"Collecting the log {name}", number, len(names))
            await self._clock.sleep(0.2)
            text = "\n".join(facts.log_lines(name, self._clock.now())) + "\n"
            found.append(Collected(f"logs/{name}.log", text.encode()))
        settings = "".join(f"{key}={value}\n" for key, value in sorted(self._machine.settings.items()))
        found.append(Collected("settings/mailserver.txt", settings.encode()))
        return found

    def keep_bundle(self, name: str, data: bytes) -> str:
        self._try("keep_bundle")
        self._machine.bundles[name] = data
        return f"/var/lib/postkeep-appliance/support/{name}"


class DryReset(_Part):
    name = "reset"

    def __init__(self, machine: Machine, clock: Clock, faults: dict[str, str], state: DryState) -> None:
        super().__init__(machine, clock, faults)
        self._state = state

    def steps(self) -> tuple[str, ...]:
        return (
            "The engine stops",
            "Mail, accounts and settings are removed",
            "The network goes back to DHCP",
        )

    async def do(self, step: str) -> None:
        number = self.steps().index(step)
        self._try(f"do {number}")
        await self._clock.sleep(1.0)
        machine, new = self._machine, Machine()
        if number == 0:
            machine.active = "inactive"
        elif number == 1:
            for name in ("set_up", "settings", "administrator", "hostname", "zone", "ntp", "ssh", "keyboard"):
                setattr(machine, name, getattr(new, name))
            machine.password = FIRST_PASSWORD
            self._state.files = {
                name: data for name, data in self._state.files.items() if name == "factory-reset"
            } | {FIRST_PASSWORD_MARK: b""}
        else:
            machine.network_files, machine.applied = {}, {}


class DryRunHost:
    """All ports (port.Host) on one Machine. `faults` maps "port.method" to the text that it fails with."""

    def __init__(self, clock: Clock, *, set_up: bool = False) -> None:
        self.machine = machine = Machine()
        self.faults: dict[str, str] = {}
        self.product = ("Postkeep", __version__)
        self.state = DryState(machine, clock, self.faults)
        self.network = DryNetwork(machine, clock, self.faults)
        self.system = DrySystem(machine, clock, self.faults)
        self.engine = DryEngine(machine, clock, self.faults)
        self.disks = DryDisks(machine, clock, self.faults)
        self.logs = DryLogs(machine, clock, self.faults)
        self.reset = DryReset(machine, clock, self.faults, self.state)
        if set_up:
            machine.hostname, machine.password = "mail.example.com", "correct horse"
            machine.set_up, machine.administrator = True, "admin@example.com"
            machine.settings["InternetHostname"] = machine.hostname
        else:
            self.state.write(FIRST_PASSWORD_MARK, b"")
