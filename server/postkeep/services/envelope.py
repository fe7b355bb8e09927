"""The values that an SMTP session and the services share: who is there, and one message's envelope."""

from dataclasses import dataclass, field
from typing import NamedTuple

from postkeep.domain.account import Account
from postkeep.domain.address import Address
from postkeep.queue.queue import QueuedRecipient


@dataclass(slots=True)
class Client:
    """Who is at the other end of a session."""

    address: str
    """IP address as text."""
    service: str = "smtp"
    """smtp (25), submission (587) or smtps (465)."""
    name: str = ""
    """What HELO or EHLO said."""
    extended: bool = False
    tls: str = ""
    """Version and cipher, "" in the clear."""
    account: Account | None = None
    """Who authenticated."""
    trusted: bool = False
    """In one of the relay networks."""
    unknown_recipients: int = 0
    failed_logins: int = 0
    traces: dict[bool, bytes] = field(default_factory=dict)
    """Ready beginnings of Received, by SMTPUTF8; emptied when one of the fields above changes."""


class LocalRecipient(NamedTuple):
    """One accepted RCPT that leads to mailboxes here."""

    recipient: QueuedRecipient
    accounts: tuple[str, ...]
    """Keys; one at least."""


class Transaction:
    """One message's envelope, from MAIL to the end of DATA."""

    __slots__ = (
        "accounts", "eight_bit", "envid", "local", "recipients", "remote", "ret", "sender", "size",
        "smtputf8",
    )  # fmt: skip

    def __init__(self) -> None:
        self.sender: Address | None = None
        self.size = 0
        """Octets as declared (RFC 1870), 0 when not."""
        self.eight_bit = False
        self.smtputf8 = False
        self.ret = ""
        self.envid = ""
        self.recipients: list[str] = []
        """As given, accepted ones."""
        self.accounts: dict[str, Account] = {}
        """By account key: each gets it once, whatever ways lead there."""
        self.remote: dict[str, QueuedRecipient] = {}
        """By address as written: other servers may tell cases of letters apart (RFC 5321 §2.4)."""
        self.local: dict[str, LocalRecipient] = {}
        """By address key, for reports to the sender (RFC 3461 §4.1); of an address given twice the first."""

    @property
    def path(self) -> str:
        """The sender as it is logged."""
        return "<>" if self.sender is None else f"<{self.sender}>"
