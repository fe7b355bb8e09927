"""Settings of the queue: delivery to other servers (row SMT-3)."""

from dataclasses import dataclass
from enum import StrEnum

from postkeep.config import checks
from postkeep.config.declare import setting


class RelayTls(StrEnum):
    """How the connection to the relay host is protected."""

    NONE = "none"
    OPPORTUNISTIC = "opportunistic"
    """STARTTLS if offered; nothing verified."""
    STARTTLS = "starttls"
    """STARTTLS or no delivery."""
    IMPLICIT = "tls"
    """TLS from the first octet (RFC 8314)."""


@dataclass(frozen=True)
class QueueSettings:
    """One section of mailserver.cfg. The times hold with a relay host too."""

    # --- relay host ---
    relay_host: str = setting(
        "",
        "RelayHost",
        "Send all mail for other domains through this server (name or address). Empty: find each domain's "
        "servers by MX",
        keywords="smarthost relay provider forward outgoing",
        check=checks.host,
    )
    relay_port: int = setting(
        25,
        "RelayPort",
        "Port of the relay host: 25, 587 (submission) or 465 (with TLS)",
        minimum=1,
        maximum=65535,
    )
    relay_tls: RelayTls = setting(  # noqa: RUF009 - an enum is no mutable default
        RelayTls.OPPORTUNISTIC,
        "RelayTls",
        "none; opportunistic (STARTTLS if offered); starttls (required); tls (from the first octet)",
        keywords="encryption ssl starttls relay",
    )
    relay_verify: bool = setting(
        True,
        "RelayVerifyCertificate",
        "With starttls or tls: deliver only if the relay host's certificate is valid for its name",
        keywords="certificate verify trust",
    )
    relay_user: str = setting(
        "", "RelayUser", "User name for the relay host. Empty: no authentication", keywords="login auth"
    )
    relay_password: str = setting(
        "", "RelayPassword", "Password for the relay host; never sent without TLS unless RelayTls is none",
        keywords="login auth", secret=True,
    )  # fmt: skip

    # --- delivery ---
    port: int = setting(
        25, "DeliveryPort", "Port that other domains' servers are called on", minimum=1, maximum=65535
    )
    use_tls: bool = setting(
        True,
        "UseSslIfPossible",
        "Encrypt deliveries with STARTTLS whenever the other server offers it",
        keywords="tls ssl starttls opportunistic encryption",
    )
    prefer_ipv4: bool = setting(
        True,
        "PreferIPv4",
        "Of a server's addresses try IPv4 first (IPv6 senders without reverse DNS are often refused)",
        keywords="ipv6 address family",
    )
    source_ipv4: str = setting(
        "",
        "DeliverySourceIPv4",
        "Local IPv4 address that deliveries come from",
        check=checks.ipv4_address,
    )
    source_ipv6: str = setting(
        "",
        "DeliverySourceIPv6",
        "Local IPv6 address that deliveries come from",
        check=checks.ipv6_address,
    )
    resolver_file: str = setting(
        "",
        "ResolverFile",
        "Answer DNS questions from this file instead of the name servers (tests, closed networks)",
        keywords="dns zone lab",
    )
    name_servers: tuple[str, ...] = setting(
        (),
        "NameServers",
        "Addresses of name servers to ask. Empty: those of the system",
        keywords="dns",
        check=checks.ip_address,
    )
    total_connections: int = setting(
        100,
        "MaximumDeliveryThreads",
        "Deliveries at one time in all",
        keywords="concurrency threads parallel",
        minimum=1,
        maximum=1000,
    )
    domain_connections: int = setting(
        5,
        "MaximumDomainConnections",
        "Deliveries at one time to one domain, or to the relay host",
        keywords="concurrency parallel",
        minimum=1,
        maximum=100,
    )

    # --- times ---
    retry_minutes: int = setting(
        30,
        "RetryInterval",
        "Time between tries. The first follow sooner; after a day they become half as frequent",
        keywords="delivery retry attempt greylisting",
        unit="minutes",
        minimum=1,
        maximum=1440,
    )
    delay_notice_hours: int = setting(
        4,
        "DelayNoticeTime",
        "Tell the sender that his message is delayed after this time. 0: never",
        keywords="warning delayed notification dsn",
        unit="hours",
        minimum=0,
    )
    bounce_hours: int = setting(
        120,
        "BounceTime",
        "Return a message that could not be delivered for this long to its sender",
        keywords="undeliverable bounce expire dsn ndr",
        unit="hours",
        minimum=1,
    )
