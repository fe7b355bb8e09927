"""The words between agent and console: frozen values, one Struct a call with the answer that it gets.

On the Unix socket each line is one JSON value (api/codec.py): a `Request` one way; `Answer`, `Progress` or
`Failure` with the same id the other. Every call but OPEN_CALLS needs a session (`Unlock`); one that must
change the password first may do nothing else. All fields that hold secrets are named `*password*`; they are
never logged and never echoed.
"""

from enum import StrEnum
from typing import Literal

from msgspec import Struct

MAX_LINE = 1 << 20
"""Octets of the longest line, either way."""

MAX_REQUEST = 1 << 16
"""Octets of the longest line that the agent reads: no call needs as much."""


# --- values ---------------------------------------------------------------------------------------


class EngineState(StrEnum):
    """Of postkeep.service."""

    RUNNING = "running"
    STARTING = "starting"
    STOPPED = "stopped"
    DISABLED = "disabled"
    FAILED = "failed"
    NOT_SET_UP = "not set up"


class Method(StrEnum):
    """Where an adapter's addresses come from. AUTOMATIC is DHCP for IPv4, router advertisements for IPv6."""

    AUTOMATIC = "automatic"
    STATIC = "static"
    OFF = "off"


class Addressing(Struct, frozen=True):
    """One family of one adapter. STATIC needs `address` with its prefix length ("192.0.2.5/24")."""

    method: Method = Method.AUTOMATIC
    address: str = ""
    gateway: str = ""


class AdapterSettings(Struct, frozen=True):
    """What is configured. `dns` empty means: what DHCP or the router says."""

    ipv4: Addressing = Addressing()
    ipv6: Addressing = Addressing()
    dns: tuple[str, ...] = ()
    search: tuple[str, ...] = ()


class Adapter(Struct, frozen=True):
    """A network adapter as it is now. `addresses` with prefix length, both families."""

    name: str
    mac: str
    link: bool
    addresses: tuple[str, ...]
    gateway: str
    settings: AdapterSettings


class Health(Struct, frozen=True):
    """One line of the start screen: `level` "ok", "warning" or "error"; `advice` says what to do next."""

    subject: str
    level: Literal["ok", "warning", "error"]
    text: str
    advice: str = ""


class Disk(Struct, frozen=True):
    """A whole disk. `role` "system", "store", "empty" (may become the store) or "other" (holds something)."""

    device: str
    size: int
    role: str
    description: str = ""


class Space(Struct, frozen=True):
    """A mounted file system, octets."""

    path: str
    size: int
    free: int


# --- calls without a session ------------------------------------------------------------------------


class Status(Struct, frozen=True, tag=True):
    """-> StatusAnswer. Cheap: the console asks every few seconds."""


class StatusAnswer(Struct, frozen=True, tag=True):
    """All of the start screen (CON-1)."""

    product: str
    version: str
    hostname: str
    addresses: tuple[str, ...]
    administration_urls: tuple[str, ...]
    client_urls: tuple[str, ...]
    engine: EngineState
    set_up: bool
    """Whether the engine has a domain and an administrator."""
    setup_code: str
    """The engine's one-time code while it is not set up, else empty (WEB-3)."""
    first_password: bool
    """Whether root still has the documented first word, so must change it before anything else (CON-3)."""
    fingerprint: str
    """SHA-256 of the engine's certificate, "AB:CD:…"; empty while there is none."""
    time: str
    """Local time, ISO 8601 with offset."""
    time_zone: str
    ssh: bool
    language: str
    """Of the console: a two-letter code; empty while none was chosen."""
    health: tuple[Health, ...]
    notices: tuple[str, ...] = ()
    """What first boot has to say, such as a rejected OVF property. No secrets."""
    suggested_domain: str = ""
    """What the deployment named as primary domain when it left something else for the wizard to ask."""


class Unlock(Struct, frozen=True, tag=True):
    """-> Unlocked. Checks root's password; a wrong one is answered late and logged (CON-3)."""

    password: str


class Unlocked(Struct, frozen=True, tag=True):
    """`session` goes into each Request. `must_change`: ChangePassword is all that is allowed now."""

    session: str
    must_change: bool
    idle_seconds: int
    """The session ends when nothing was asked for so long."""


class SetLanguage(Struct, frozen=True, tag=True):
    """-> Done. The console's language; kept over restarts."""

    language: str


# --- calls with a session ---------------------------------------------------------------------------


class Lock(Struct, frozen=True, tag=True):
    """-> Done. Ends the session."""


class ChangePassword(Struct, frozen=True, tag=True):
    """-> Done. Root's password; the new one is checked (length, not the old, not the documented one)."""

    old_password: str
    new_password: str


class SetUp(Struct, frozen=True, tag=True):
    """-> Progress…, Done. The first start (CON-2): host name, store, domain, administrator, engine."""

    hostname: str
    domain: str
    administrator: str
    administrator_password: str
    store: str
    """"" for the place that the image has; a device of a Disk with role "empty"; or an absolute folder."""
    remote_administration: bool
    statistics: bool = False


class ListAdapters(Struct, frozen=True, tag=True):
    """-> Adapters."""


class Adapters(Struct, frozen=True, tag=True):
    adapters: tuple[Adapter, ...]


class SetNetwork(Struct, frozen=True, tag=True):
    """-> Pending. Tried at once; without ConfirmNetwork in time the old settings come back (CON-4)."""

    adapter: str
    settings: AdapterSettings


class Pending(Struct, frozen=True, tag=True):
    """`lost` says that the gateway does not answer under the new settings: the console advises to undo."""

    seconds: int
    lost: bool
    text: str


class ConfirmNetwork(Struct, frozen=True, tag=True):
    """-> Done. Keeps what SetNetwork tried."""


class UndoNetwork(Struct, frozen=True, tag=True):
    """-> Done. Back to the settings before SetNetwork."""


class SetHostname(Struct, frozen=True, tag=True):
    """-> Changed."""

    hostname: str


class GetTime(Struct, frozen=True, tag=True):
    """-> TimeSettings."""


class TimeSettings(Struct, frozen=True, tag=True):
    time_zone: str
    ntp: tuple[str, ...]
    synchronized: bool
    zones: tuple[str, ...]
    """All that may be chosen, sorted."""


class SetTime(Struct, frozen=True, tag=True):
    """-> Changed. `ntp` empty: the image's servers."""

    time_zone: str
    ntp: tuple[str, ...]


class Changed(Struct, frozen=True, tag=True):
    """`restart`: "" nothing, "engine" or "appliance" has to be restarted for it to hold everywhere."""

    restart: Literal["", "engine", "appliance"] = ""
    text: str = ""


class SetSsh(Struct, frozen=True, tag=True):
    """-> Done. Refused while root has the documented first password (CON-3)."""

    on: bool


class SetRemoteAdministration(Struct, frozen=True, tag=True):
    """-> Changed. WEB-3."""

    on: bool


class Power(Struct, frozen=True, tag=True):
    """-> Done, before it happens."""

    action: Literal["restart", "shutdown"]


class Engine(Struct, frozen=True, tag=True):
    """-> Progress…, Done once the engine is in that state. "disable" stops it and keeps it off at boot."""

    action: Literal["start", "stop", "restart", "enable", "disable"]


class ListDisks(Struct, frozen=True, tag=True):
    """-> Disks."""


class Disks(Struct, frozen=True, tag=True):
    disks: tuple[Disk, ...]
    spaces: tuple[Space, ...]


class GrowDisks(Struct, frozen=True, tag=True):
    """-> Progress…, Changed. Root and store grow to what the hypervisor gives now (APP-5)."""


class ReadLog(Struct, frozen=True, tag=True):
    """-> LogLines. `name`: one of the engine's eight logs, "system" or "agent"."""

    name: str
    lines: int = 200
    search: str = ""


class LogLines(Struct, frozen=True, tag=True):
    names: tuple[str, ...]
    """All logs that there are."""
    lines: tuple[str, ...]


class TestNetwork(Struct, frozen=True, tag=True):
    """-> Progress… (a line each), Done. "ping": ICMP to `target`; "dns": addresses and MX of `target`."""

    __test__ = False

    kind: Literal["ping", "dns"]
    target: str


class SupportBundle(Struct, frozen=True, tag=True):
    """-> Progress…, Bundle. Logs, versions, states; no mail, no password, no key."""


class Bundle(Struct, frozen=True, tag=True):
    path: str
    size: int


class FactoryReset(Struct, frozen=True, tag=True):
    """-> Progress…, Done, then a restart. Removes mail, accounts and settings; `confirm` is the host name."""

    confirm: str


class ListKeyboards(Struct, frozen=True, tag=True):
    """-> Keyboards."""


class Keyboards(Struct, frozen=True, tag=True):
    current: str
    layouts: tuple[tuple[str, str], ...]
    """(code as XKB names it, like "de"; name in English), sorted by name."""


class SetKeyboard(Struct, frozen=True, tag=True):
    """-> Done. At once, and after each boot."""

    layout: str


class Done(Struct, frozen=True, tag=True):
    text: str = ""


# --- envelopes --------------------------------------------------------------------------------------

Call = (
    Status
    | Unlock
    | SetLanguage
    | Lock
    | ChangePassword
    | SetUp
    | ListAdapters
    | SetNetwork
    | ConfirmNetwork
    | UndoNetwork
    | SetHostname
    | GetTime
    | SetTime
    | SetSsh
    | SetRemoteAdministration
    | Power
    | Engine
    | ListDisks
    | GrowDisks
    | ReadLog
    | TestNetwork
    | SupportBundle
    | FactoryReset
    | ListKeyboards
    | SetKeyboard
)

Result = (
    StatusAnswer
    | Unlocked
    | Adapters
    | Pending
    | TimeSettings
    | Changed
    | Disks
    | LogLines
    | Bundle
    | Keyboards
    | Done
)

OPEN_CALLS = (Status, Unlock, SetLanguage)
"""Calls that need no session."""


class Request(Struct, frozen=True):
    id: int
    call: Call
    session: str = ""


class Answer(Struct, frozen=True, tag=True):
    """The end of a call that succeeded."""

    id: int
    result: Result


class Progress(Struct, frozen=True, tag=True):
    """On the way of a long call: `done` of `total` (0 of 0 when unknown), `text` for the person who waits."""

    id: int
    text: str
    done: int = 0
    total: int = 0


class Failure(Struct, frozen=True, tag=True):
    """The end of a call that did not succeed. `field` names the entry to correct, as in the call."""

    id: int
    code: Literal["locked", "denied", "invalid", "busy", "failed"]
    text: str
    field: str = ""


Reply = Answer | Progress | Failure
