"""What agent and first boot need of the machine: narrow typed methods, a Protocol a concern.

`debian.py` is the machine itself, `dryrun.py` one in memory. All methods raise HostError with a sentence for
the person at the console. Methods that only look at small files are plain functions; what runs programs or
takes time is async.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple, Protocol

from postkeep_appliance.api.types import AdapterSettings, Addressing, Disk, Space

__all__ = ["AdapterSettings", "Addressing"]

Say = Callable[[str, int, int], None]
"""Progress: text, done, total (0 of 0 when unknown)."""

FIRST_PASSWORD = "postkeep"  # noqa: S105
"""The documented first word of root: good on the local console only, and only until it is changed."""


class HostError(Exception):
    """The machine could not do it. The text says why and, where one can tell, what to do next."""


class Invalid(HostError):
    """An entry is wrong. `field` names it as the call does: "ipv4.gateway"."""

    def __init__(self, field: str, text: str) -> None:
        super().__init__(text)
        self.field = field
        self.text = text


# --- state --------------------------------------------------------------------------------------------


class StatePort(Protocol):
    """Small durable facts of the agent, by name ([a-z-]+). A write is atomic and durable on return."""

    def read(self, name: str) -> bytes | None: ...
    def write(self, name: str, data: bytes) -> None: ...
    def remove(self, name: str) -> None: ...


# --- network ------------------------------------------------------------------------------------------


class AdapterFacts(NamedTuple):
    """`addresses` with prefix length, both families; `gateway` "" when it has none."""

    name: str
    mac: str
    link: bool
    addresses: tuple[str, ...]
    gateway: str


class NetworkPort(Protocol):
    def adapters(self) -> tuple[AdapterFacts, ...]:
        """All but loopback and what containers and tunnels make; sorted by name."""

    def settings(self, adapter: str) -> AdapterSettings: ...

    def saved(self, adapter: str) -> str | None:
        """The adapter's file as text, to be put back by `restore`; None when there is none (DHCP then)."""

    def write(self, adapter: str, settings: AdapterSettings) -> None:
        """Durable; holds from the next `apply` or boot on. The settings must have been checked."""

    def restore(self, adapter: str, saved: str | None) -> None: ...

    async def apply(self, adapter: str) -> None:
        """Make what is written hold now."""

    async def gateway_answers(self, adapter: str, settings: AdapterSettings) -> bool:
        """Whether the gateway that `settings` lead to answers; waits for addresses first. Bounded: 30 s."""

    async def ping(self, target: str, line: Callable[[str], None]) -> bool:
        """Each line of the trial as it comes; whether an answer came. `target` has been checked."""

    async def resolve(self, target: str, line: Callable[[str], None]) -> bool:
        """Addresses and MX of a name, or the names of an address, a line each; whether any came."""


# --- system -------------------------------------------------------------------------------------------


class TimeFacts(NamedTuple):
    zone: str
    ntp: tuple[str, ...]
    synchronized: bool


class Memory(NamedTuple):
    """Octets."""

    total: int
    available: int


class SystemPort(Protocol):
    def hostname(self) -> str:
        """The full name."""

    async def set_hostname(self, name: str) -> None: ...

    async def check_password(self, password: str) -> bool:
        """Whether it is root's. Takes as long as the hash does."""

    async def set_password(self, password: str) -> None: ...

    async def time(self) -> TimeFacts: ...
    async def zones(self) -> tuple[str, ...]: ...
    async def set_time(self, zone: str, ntp: tuple[str, ...]) -> None: ...

    async def ssh(self) -> bool:
        """Whether it runs or will run after the next boot."""

    async def set_ssh(self, on: bool) -> None: ...

    def keyboard(self) -> str: ...
    def keyboards(self) -> tuple[tuple[str, str], ...]:
        """(code, name in English)."""

    async def set_keyboard(self, layout: str) -> None: ...

    async def power(self, action: Literal["restart", "shutdown"]) -> None: ...
    async def failed_units(self) -> tuple[str, ...]: ...
    def memory(self) -> Memory: ...
    def now(self) -> str:
        """Local time, ISO 8601 with offset."""


# --- engine -------------------------------------------------------------------------------------------


class UnitFacts(NamedTuple):
    """As systemd says: ActiveState, SubState, UnitFileState."""

    active: str
    sub: str
    enabled: str


class EnginePort(Protocol):
    async def unit(self) -> UnitFacts: ...
    async def command(self, action: Literal["start", "stop", "restart", "enable", "disable"]) -> None:
        """Asks systemd and returns at once; for "enable" and "disable" when it is done."""

    def is_set_up(self) -> bool: ...
    def setup_code(self) -> str:
        """The one-time code of WEB-3; "" when there is none."""

    async def fingerprint(self) -> str:
        """SHA-256 of the certificate that is served, else of the one that lies there; "" without one."""

    async def init(self, hostname: str, domain: str, administrator: str, password: str) -> None:
        """Sets the data folder up; the engine does not run. Raises HostError with the engine's words."""

    def undo_init(self) -> None:
        """Takes an unfinished set-up away (configuration and self-signed certificate, never mail)."""

    async def set_setting(self, variable: str, value: str) -> None: ...
    async def setting(self, variable: str) -> str: ...

    async def use_folder(self, folder: str) -> None:
        """Makes an absolute folder the store's place: owned by the engine, writable in its sandbox."""

    async def why_failed(self) -> str:
        """The engine's last words; "" when there are none."""


# --- disks --------------------------------------------------------------------------------------------


class DisksPort(Protocol):
    async def disks(self) -> tuple[Disk, ...]: ...
    def spaces(self) -> tuple[Space, ...]:
        """Root and, where it is a file system of its own, the store."""

    async def grow(self, say: Say) -> bool:
        """Root and store to what their disks have now; whether anything grew. Repeatable."""

    async def use_as_store(self, device: str, say: Say) -> None:
        """Makes an empty disk the store's file system and moves what lies in the store onto it. The engine
        must be stopped. Can be repeated after a power cut at any point."""

    def tidy(self) -> None:
        """What a power cut at the end of `use_as_store` left; only when the store has its disk."""


# --- logs ---------------------------------------------------------------------------------------------


class Collected(NamedTuple):
    """One file of a support bundle, not yet redacted."""

    name: str
    data: bytes


class LogsPort(Protocol):
    def names(self) -> tuple[str, ...]: ...
    async def read(self, name: str, lines: int, search: str) -> tuple[str, ...]:
        """The last `lines` that hold `search` (any case). `name` is one of `names()`."""

    async def collect(self, say: Say) -> list[Collected]:
        """What a support bundle holds; each bounded. What cannot be had is said in its place."""

    def keep_bundle(self, name: str, data: bytes) -> str:
        """The path; readable by root alone. Old bundles go."""


# --- reset --------------------------------------------------------------------------------------------


class ResetPort(Protocol):
    def steps(self) -> tuple[str, ...]:
        """What is done, in this order; each can be repeated."""

    async def do(self, step: str) -> None: ...


class Host(Protocol):
    """All ports of one machine."""

    @property
    def product(self) -> tuple[str, str]:
        """Name and version."""

    @property
    def state(self) -> StatePort: ...
    @property
    def network(self) -> NetworkPort: ...
    @property
    def system(self) -> SystemPort: ...
    @property
    def engine(self) -> EnginePort: ...
    @property
    def disks(self) -> DisksPort: ...
    @property
    def logs(self) -> LogsPort: ...
    @property
    def reset(self) -> ResetPort: ...
