"""Settings of the POP3 service."""

from dataclasses import dataclass

from postkeep.config.declare import setting


@dataclass(frozen=True)
class Pop3Settings:
    """Section POP3 of mailserver.cfg."""

    plaintext_login: bool = setting(
        False,
        "Pop3PlaintextLogin",
        "Take passwords on connections without TLS",
        keywords="clear text login stls user pass",
    )
    mark_seen: bool = setting(
        True,
        "Pop3MarkSeen",
        "Messages that a POP3 client fetched and left on the server count as read",
        keywords="flags read unread retr leave on server",
    )
    idle_minutes: int = setting(
        10,
        "Pop3IdleTime",
        "A logged-in client silent for this long is hung up, and nothing that it deleted is removed",
        keywords="timeout autologout idle",
        unit="minutes",
        minimum=10,  # RFC 1939 §3
    )
    login_seconds: int = setting(
        60,
        "Pop3LoginTime",
        "A client that has not logged in this long after it connected is hung up",
        keywords="timeout login",
        unit="seconds",
        minimum=5,
    )
    write_seconds: int = setting(
        300,
        "Pop3WriteTime",
        "A client that reads nothing of its answer for this long is hung up",
        keywords="timeout slow",
        unit="seconds",
        minimum=5,
    )
    bad_commands: int = setting(
        20,
        "Pop3BadCommands",
        "After this many commands in a row that are not POP3 the client is hung up",
        keywords="flood abuse syntax",
        minimum=1,
    )
    failed_logins: int = setting(
        4,
        "Pop3FailedLogins",
        "After this many wrong passwords on one connection the client is hung up",
        keywords="brute force password guessing",
        minimum=1,
    )
    login_delay: float = setting(
        1.0,
        "Pop3LoginDelay",
        "How long a wrong password waits for its answer",
        keywords="brute force password guessing",
        unit="seconds",
        minimum=0,
    )
