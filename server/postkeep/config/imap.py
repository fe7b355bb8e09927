"""Settings of the IMAP service."""

from dataclasses import dataclass

from postkeep.config.declare import setting


@dataclass(frozen=True)
class ImapSettings:
    """Section IMAP of mailserver.cfg."""

    plaintext_login: bool = setting(
        False,
        "ImapPlaintextLogin",
        "Take passwords on connections without TLS; off, clients are told LOGINDISABLED",
        keywords="clear text login starttls logindisabled",
    )
    append_limit: int = setting(
        128 * 1024 * 1024,  # as much as SMTP takes: what was sent also fits into Sent
        "ImapAppendLimit",
        "Largest message that a client may store (APPENDLIMIT)",
        keywords="size upload append",
        unit="octets",
        minimum=1024,
    )
    idle_minutes: int = setting(
        30,
        "ImapIdleTime",
        "A logged-in client that says nothing for this long is logged out",
        keywords="timeout autologout idle",
        unit="minutes",
        minimum=30,  # RFC 3501 §5.4
    )
    login_seconds: int = setting(
        60,
        "ImapLoginTime",
        "A client that has not logged in after this long is hung up",
        keywords="timeout login",
        unit="seconds",
        minimum=5,
    )
    write_seconds: int = setting(
        300,
        "ImapWriteTime",
        "A client that reads nothing of its answer for this long is hung up",
        keywords="timeout slow",
        unit="seconds",
        minimum=5,
    )
    bad_commands: int = setting(
        20,
        "ImapBadCommands",
        "After this many commands in a row that are not IMAP the client is hung up",
        keywords="flood abuse syntax",
        minimum=1,
    )
    failed_logins: int = setting(
        4,
        "ImapFailedLogins",
        "After this many wrong passwords on one connection the client is hung up",
        keywords="brute force password guessing",
        minimum=1,
    )
    login_delay: float = setting(
        1.0,
        "ImapLoginDelay",
        "How long a wrong password waits for its answer",
        keywords="brute force password guessing",
        unit="seconds",
        minimum=0,
    )
    literal_minus: bool = setting(
        False,
        "ImapLiteralMinus",
        "Offer LITERAL- instead of LITERAL+: clients ask before they send more than 4096 octets",
        keywords="literal upload",
    )
