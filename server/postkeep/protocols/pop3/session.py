"""One POP3 session: its state and the way a command takes. Awaits services, never a socket."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from postkeep.config.pop3 import Pop3Settings
from postkeep.domain.account import Account
from postkeep.domain.errors import CorruptRecord, PostkeepError, StorageFailed, StorageFull
from postkeep.protocols.pop3.codec import Fault, err, ok, parse
from postkeep.protocols.pop3.maildrop import Maildrop, MaildropLocks
from postkeep.protocols.pop3.state import LEGAL, State
from postkeep.protocols.wire import Disconnected
from postkeep.runtime.certificates import Certificates
from postkeep.runtime.clock import Clock
from postkeep.runtime.logs import Logs
from postkeep.services.authentication import Authenticator
from postkeep.services.mailboxes import MailboxService


class Refused(Exception):
    """A handler's way to say -ERR."""

    def __init__(self, text: str, code: str = "", *, bad: bool = False) -> None:
        super().__init__(text)
        self.code = code
        self.bad = bad
        """The command was no POP3, which counts towards `bad_commands`."""


class Wire(Protocol):
    """What a session needs of its connection."""

    @property
    def peer(self) -> str: ...
    @property
    def is_tls(self) -> bool: ...
    def write(self, data: bytes) -> None: ...
    async def drain(self) -> None:
        """Let the client catch up; Disconnected when it is gone."""

    async def response(self) -> bytes | Fault:
        """The next line of a SASL exchange."""

    def start_tls(self) -> None:
        """Once what was written is on its way."""

    def logged_in(self) -> None: ...
    def close(self) -> None: ...
    def abort(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Context:
    """What all sessions share."""

    settings: Pop3Settings
    mailboxes: MailboxService
    authenticator: Authenticator
    certificates: Certificates
    clock: Clock
    logs: Logs
    locks: MaildropLocks


class Session:
    __slots__ = (
        "_bad",
        "_handlers",
        "context",
        "failed_logins",
        "maildrop",
        "owner",
        "state",
        "streaming",
        "user",
        "wire",
    )

    def __init__(self, context: Context, wire: Wire, handlers: Mapping[str, "Handler"]) -> None:
        self.context = context
        self.wire = wire
        self.state = State.AUTHORIZATION
        self.user: str | None = None  # as USER gave it
        self.owner: Account | None = None
        self.maildrop: Maildrop | None = None
        self.failed_logins = 0
        self.streaming = False  # +OK is out and its lines are not complete
        self._bad = 0
        self._handlers = handlers

    async def handle(self, line: bytes | Fault) -> None:
        """Obey one line. Raises Disconnected."""
        keyword = ""
        try:
            if isinstance(line, Fault):
                raise Refused(line.value, bad=True)
            keyword, argument = parse(line)
            if self.context.logs.debug_on("pop3"):
                shown = "…" if keyword in ("PASS", "AUTH") else argument.decode("utf-8", "replace")
                self.context.logs.debug.write(f"POP3 {self.wire.peer} {keyword or '?'} {shown}")
            legal = LEGAL.get(keyword)
            if legal is None:
                raise Refused("Unknown command", bad=True)
            if not legal & self.state:
                words = "Log in first" if self.state is State.AUTHORIZATION else "You are logged in already"
                raise Refused(words, bad=True)
            if keyword != "PASS":  # in a password every space counts (RFC 1939 §7)
                argument = argument.rstrip(b" \t")
            await self._handlers[keyword](self, argument)
            self._bad = 0
        except Refused as error:
            self.wire.write(err(str(error), error.code))
            self._count_bad(error.bad)
            if self.failed_logins >= self.context.settings.failed_logins:
                self.wire.close()
        except PostkeepError as error:
            self._failed(keyword, error)

    def _failed(self, keyword: str, error: PostkeepError) -> None:
        if isinstance(error, CorruptRecord | StorageFailed | StorageFull):
            who = self.owner.key if self.owner is not None else "?"
            self.context.logs.error.write(f"POP3 {keyword} of {who} failed: {error}")
        if self.streaming:  # too late for -ERR, and an end would pass for a whole message
            self.wire.abort()
            raise Disconnected
        code = "SYS/PERM" if isinstance(error, CorruptRecord) else "SYS/TEMP"
        self.wire.write(err(str(error), code))

    def _count_bad(self, bad: bool) -> None:
        self._bad = self._bad + 1 if bad else 0
        if self._bad >= self.context.settings.bad_commands:
            self.wire.write(err("Too many errors"))
            self.wire.close()

    def reply(self, text: str = "") -> None:
        self.wire.write(ok(text))

    def opened(self) -> Maildrop:
        """The maildrop in TRANSACTION."""
        assert self.maildrop is not None
        return self.maildrop

    def number(self, argument: bytes) -> int:
        """A message number that exists and is not marked deleted."""
        if not argument.isdigit() or len(argument) > 10:
            raise Refused("A message number is expected", bad=True)
        number = int(argument)
        maildrop = self.opened()
        if not maildrop.exists(number):
            raise Refused("No such message")
        if maildrop.is_deleted(number):
            raise Refused(f"Message {number} is deleted")
        return number

    def reset_authorization(self) -> None:
        """What was said before TLS does not count (RFC 2595 §4)."""
        self.user = None

    def closed(self) -> None:
        """The connection is gone: without QUIT nothing is removed (RFC 1939 §6)."""
        maildrop, self.maildrop = self.maildrop, None
        if maildrop is not None:
            self.context.locks.release(maildrop.account)


Handler = Callable[[Session, bytes], Awaitable[None]]
