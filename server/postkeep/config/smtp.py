"""Settings of the SMTP server: who may send through it, and how much (rows SMT-1, SMT-2, SMT-5, SRV-3)."""

from dataclasses import dataclass
from enum import StrEnum

from postkeep.config import checks
from postkeep.config.declare import setting

DEFAULT_MESSAGE_SIZE = 128 * 1024 * 1024


class BareNewlines(StrEnum):
    """What becomes of a message with a CR or LF that is not part of CRLF (RFC 5321 §2.3.8)."""

    REFUSE = "refuse"
    REPAIR = "repair"


@dataclass(frozen=True)
class SmtpSettings:
    """One section of mailserver.cfg. 0 in a limit means no limit, unless the help says otherwise."""

    # --- relay control (guide: SMTP Server, Relay Control) ---
    relay_networks: tuple[str, ...] = setting(
        (),
        "RelayNetworks",
        "Addresses or networks (192.0.2.0/24) whose hosts may send to any domain without authentication. "
        "Empty: nobody may",
        keywords="relay open ip group",
        check=checks.network,
    )
    require_authentication_for_local_senders: bool = setting(
        False,
        "RequireAuthForLocalSender",
        "Refuse unauthenticated mail that claims a sender in one of our own domains",
        keywords="spoofing anti-spoofing local sender",
    )
    own_addresses_only: bool = setting(
        True,
        "OwnAddressesOnly",
        "Authenticated users may send only with their own address or one of their aliases as sender",
        keywords="spoofing identity sender submission",
    )
    authentication_without_tls: bool = setting(
        False,
        "AuthWithoutTls",
        "Offer AUTH PLAIN and LOGIN on connections that are not encrypted: passwords can be read on the way",
        keywords="plain login starttls encryption",
    )

    # --- security options ---
    maximum_message_size: int = setting(
        DEFAULT_MESSAGE_SIZE,
        "MaxMessageSize",
        "Largest message that is accepted",
        keywords="size limit incoming attachment",
        unit="octets",
        minimum=0,
    )
    maximum_recipients: int = setting(
        1000,
        "MaxRecipients",
        "Most recipients of one message; more are put off with 452 (RFC 5321 §4.5.3.1.8: at least 100)",
        keywords="spam limit",
        minimum=1,
        maximum=50_000,
    )
    maximum_unknown_recipients: int = setting(
        20,
        "MaxUnknownRecipients",
        "Unknown recipients after which a connection is ended, and its address put off for the rest of ten "
        "minutes (protection from address harvesting). Users who are logged in, relay networks and this "
        "machine are counted by connection only",
        keywords="directory harvest attack",
        minimum=0,
    )
    maximum_failed_commands: int = setting(
        20,
        "MaxFailedCommands",
        "Failed commands since the last accepted message after which a connection is ended",
        keywords="errors spam limit",
        minimum=0,
    )
    maximum_idle_commands: int = setting(
        100,
        "MaxIdleCommands",
        "NOOP, RSET, VRFY, HELP, EHLO and MAIL commands since the last accepted message after which a "
        "connection is ended",
        keywords="flood noop",
        minimum=0,
    )
    maximum_failed_logins: int = setting(
        3,
        "MaxFailedLogins",
        "Failed AUTH commands after which a connection is ended",
        keywords="password guessing brute force",
        minimum=1,
    )
    maximum_connections: int = setting(
        1000,
        "MaxConnections",
        "Connections to the SMTP services that may be open at one time",
        keywords="concurrent limit",
        minimum=0,
    )
    maximum_connections_per_address: int = setting(
        50,
        "MaxConnectionsPerAddress",
        "Connections to the SMTP services that one address may have open at one time",
        keywords="concurrent limit denial of service",
        minimum=0,
    )
    maximum_hops: int = setting(
        50,
        "MaxHops",
        "Received headers after which a message is taken to run in a loop (RFC 5321 §6.3)",
        keywords="loop received",
        minimum=10,
        maximum=1000,
    )
    bare_newlines: BareNewlines = setting(  # noqa: RUF009
        BareNewlines.REFUSE,
        "BareNewlines",
        "Messages with a lone CR or LF: refuse them, or repair each into CRLF. Neither ever ends a message",
        keywords="smuggling line ending LF CR",
    )
    maximum_line_length: int = setting(
        65_536,
        "MaxLineLength",
        "Longest line in a message. RFC 5321 §4.5.3.1.6 asks for 1000; real mail has longer ones, "
        "which are kept as they are",
        unit="octets",
        minimum=1000,
        maximum=1_048_576,
    )

    # --- patience ---
    command_timeout: int = setting(
        300,
        "CommandTimeout",
        "Wait for the next command (RFC 5321 §4.5.3.2.7: at least five minutes)",
        unit="seconds",
        minimum=10,
        maximum=3600,
    )
    data_timeout: int = setting(
        180,
        "DataTimeout",
        "Time in which a part of a message must arrive, at the rate that DataMinimumRate asks for",
        keywords="slow loris",
        unit="seconds",
        minimum=10,
        maximum=3600,
    )
    data_minimum_rate: int = setting(
        100,
        "DataMinimumRate",
        "Slowest pace of a message on its way in; a slower connection is ended",
        keywords="slow loris",
        unit="octets a second",
        minimum=0,
    )
    shutdown_grace: int = setting(
        20,
        "ShutdownGrace",
        "At shutdown, time in which a message under way may be finished",
        unit="seconds",
        minimum=0,
        maximum=300,
    )
