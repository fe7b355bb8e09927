"""Which services listen where (row SRV-1)."""

from dataclasses import dataclass
from typing import NamedTuple

from postkeep.config import checks
from postkeep.config.declare import setting
from postkeep.config.sections import fields_of
from postkeep.domain.errors import ConfigError


class ServiceKind(NamedTuple):
    """A service as declared: `name` in REST and commands, its standard port, TLS from the start."""

    name: str
    title: str
    port: int
    tls: bool
    attribute: str


SERVICES = (
    ServiceKind("smtp", "SMTP", 25, False, "smtp"),
    ServiceKind("submission", "SMTP submission", 587, False, "submission"),
    ServiceKind("smtps", "SMTP over TLS", 465, True, "smtps"),
    ServiceKind("imap", "IMAP", 143, False, "imap"),
    ServiceKind("imaps", "IMAP over TLS", 993, True, "imaps"),
    ServiceKind("pop3", "POP3", 110, False, "pop3"),
    ServiceKind("pop3s", "POP3 over TLS", 995, True, "pop3s"),
    ServiceKind("http", "HTTP", 80, False, "http"),
    ServiceKind("https", "HTTPS", 443, True, "https"),
    ServiceKind("admin", "Administration", 4040, True, "admin"),
)
OFF = "off"
_LISTENERS = "where it listens: PORT, ADDRESS:PORT or [ADDRESS]:PORT, several with commas; “off”: not started"


def _listen(port: int, variable: str, title: str) -> tuple[str, ...]:
    return setting((str(port),), variable, f"{title}: {_LISTENERS}", keywords="port address listener service")


class Listener(NamedTuple):
    """`host` "" means the address setting of the section (ListenAddress)."""

    host: str
    port: int


@dataclass(frozen=True, slots=True)
class ServiceSettings:
    """Section Services of mailserver.cfg."""

    address: str = setting(
        "",
        "ListenAddress",
        "Address that services listen on where their own setting names none; empty means all",
        keywords="interface bind address",
        check=checks.host,
    )
    smtp: tuple[str, ...] = _listen(25, "SmtpListeners", "SMTP")
    submission: tuple[str, ...] = _listen(587, "SubmissionListeners", "SMTP submission")
    smtps: tuple[str, ...] = _listen(465, "SmtpsListeners", "SMTP over TLS")
    imap: tuple[str, ...] = _listen(143, "ImapListeners", "IMAP")
    imaps: tuple[str, ...] = _listen(993, "ImapsListeners", "IMAP over TLS")
    pop3: tuple[str, ...] = _listen(110, "Pop3Listeners", "POP3")
    pop3s: tuple[str, ...] = _listen(995, "Pop3sListeners", "POP3 over TLS")
    http: tuple[str, ...] = _listen(80, "HttpListeners", "HTTP")
    https: tuple[str, ...] = _listen(443, "HttpsListeners", "HTTPS")
    admin: tuple[str, ...] = _listen(4040, "AdministrationListeners", "Administration")
    imap_connections: int = setting(
        0, "ImapMaximumConnections", "IMAP connections at one time; 0 means no limit", minimum=0
    )
    imap_connections_per_address: int = setting(
        500,
        "ImapConnectionsPerAddress",
        "IMAP connections of one address; 0 means no limit. 127.0.0.1 and ::1 have none in any case",
        minimum=0,
    )
    pop3_connections: int = setting(
        0, "Pop3MaximumConnections", "POP3 connections at one time; 0 means no limit", minimum=0
    )
    pop3_connections_per_address: int = setting(
        50,
        "Pop3ConnectionsPerAddress",
        "POP3 connections of one address; 0 means no limit. 127.0.0.1 and ::1 have none in any case",
        minimum=0,
    )
    http_connections: int = setting(
        1_000, "HttpMaximumConnections", "HTTP connections at one time; 0 means no limit", minimum=0
    )
    http_connections_per_address: int = setting(
        100, "HttpConnectionsPerAddress", "HTTP connections of one address; 0 means no limit", minimum=0
    )

    def __post_init__(self) -> None:
        for kind in SERVICES:
            self.listeners(kind)

    def listeners(self, kind: ServiceKind) -> tuple[Listener, ...]:
        """Where this service listens; empty when it is off. Raises ConfigError."""
        found = []
        for text in getattr(self, kind.attribute):
            if text.lower() == OFF:
                continue
            host, _, port = text.rpartition(":")
            if not port.isascii() or not port.isdigit() or not 0 < int(port) < 65_536:
                raise ConfigError(
                    f"{self._variable(kind)}: “{text[:60]}” is not PORT, ADDRESS:PORT or [ADDRESS]:PORT"
                )
            host = host.strip("[]")
            try:
                checks.host(host)
            except ConfigError as error:
                raise ConfigError(f"{self._variable(kind)}: {error}") from error
            found.append(Listener(host or self.address, int(port)))
        return tuple(found)

    def _variable(self, kind: ServiceKind) -> str:
        return next(
            field.declaration.variable for field in fields_of(type(self)) if field.attribute == kind.attribute
        )
