"""One client's dialogue: takes the codec's events one by one, runs commands, gives replies.

It knows no sockets; `Wire` is what it needs of the connection.
"""

import time
import traceback
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from postkeep.config.imap import ImapSettings
from postkeep.domain import errors
from postkeep.domain.account import Account
from postkeep.domain.change import Change
from postkeep.protocols.imap.codec import (
    COMMAND_LIMIT,
    AppendLiteral,
    Codec,
    Command,
    Continuation,
    Event,
    Fatal,
    Line,
    Problem,
)
from postkeep.protocols.imap.encoding import single_line
from postkeep.protocols.imap.session.recent import RecentMessages
from postkeep.protocols.imap.session.view import Extensions, View
from postkeep.protocols.imap.state import LEGAL, LOGGED_IN, NO_EXPUNGE, State
from postkeep.protocols.imap.syntax import BadSyntax, Cursor
from postkeep.protocols.wire import Disconnected
from postkeep.runtime.clock import Clock
from postkeep.services.mailboxes import MailboxService

if TYPE_CHECKING:
    from postkeep.runtime.certificates import Certificates
    from postkeep.runtime.logs import Logs
    from postkeep.services.authentication import Authenticator

COMMAND_LIMIT_BEFORE_LOGIN = 8192
"""Octets of a command from nobody in particular."""
TURN_SECONDS = 0.02
"""How long others may wait for their turn on the loop."""


class No(Exception):
    """The command fails: `NO [code] text`."""

    def __init__(self, text: str, code: str = "") -> None:
        super().__init__(text)
        self.code = code


class Wire(Protocol):
    """What a session needs of its connection."""

    codec: Codec

    @property
    def peer(self) -> str: ...
    @property
    def is_tls(self) -> bool: ...
    @property
    def closing(self) -> bool: ...

    def write(self, data: bytes) -> None:
        """Send soon; large answers call `drain` between."""

    async def drain(self) -> None:
        """Hand over what was written; waits for a slow reader. Raises Disconnected."""

    async def line(self) -> bytes:
        """Send what was written and read one line. Raises Disconnected."""

    async def literal(self) -> bytes:
        """Some octets of the APPEND's message. Raises Disconnected."""

    async def turn(self) -> None:
        """Let others run. Raises Disconnected."""

    def start_tls(self) -> None:
        """Once the tagged answer is on its way."""

    def logged_in(self) -> None:
        """The longer time-out holds from now on."""

    def wake(self) -> None:
        """Call the session's `push` soon."""

    def close(self, *, linger: bool = False) -> None:
        """Send what was written, then hang up; `linger` while the client is still sending."""

    def abort(self) -> None:
        """Hang up in the middle of an answer that cannot be finished."""


@dataclass(frozen=True, slots=True)
class Context:
    """What all sessions of a server share."""

    settings: ImapSettings
    mailboxes: MailboxService
    authenticator: "Authenticator"
    certificates: "Certificates"
    clock: Clock
    logs: "Logs"
    recents: RecentMessages


Handler = Callable[["Session", Cursor], Awaitable[bytes | None]]


class Session:
    """`account` is the store's id once `owner` is logged in; `view` is there while SELECTED."""

    __slots__ = (
        "_bad",
        "_handlers",
        "_turn",
        "_unsubscribe",
        "account",
        "announced",
        "context",
        "extensions",
        "failed_logins",
        "idle_tag",
        "owner",
        "state",
        "streaming",
        "tag",
        "view",
        "wire",
    )

    def __init__(self, context: Context, wire: Wire, handlers: dict[str, Handler]) -> None:
        self.context = context
        self.wire = wire
        self._handlers = handlers
        self.state = State.NOT_AUTHENTICATED
        self.owner: Account | None = None
        self.account = 0
        self.view: View | None = None
        self.extensions = Extensions()
        self.idle_tag: bytes | None = None
        self.failed_logins = 0
        self.tag = b"*"
        self.announced: AppendLiteral | None = None
        """The message that the APPEND under way waits to take or refuse."""
        self.streaming = False
        """The beginning of a reply is out and its rest must follow: nothing else can be said."""
        self._bad = 0
        self._turn = 0.0
        self._unsubscribe: Callable[[], None] | None = None

    # --- for handlers -------------------------------------------------------------------------------

    @property
    def mailboxes(self) -> MailboxService:
        return self.context.mailboxes

    def write(self, data: bytes) -> None:
        self.wire.write(data)

    @property
    def ended(self) -> bool:
        """BYE was said, or the client is gone."""
        return self.state is State.LOGOUT

    def user(self) -> Account:
        """Who is logged in; the state table lets nobody else come here."""
        assert self.owner is not None
        return self.owner

    def selected(self) -> View:
        assert self.view is not None
        return self.view

    def writable(self) -> View:
        """The selected mailbox, when it may be changed."""
        view = self.selected()
        if view.read_only:
            raise No("Mailbox is read-only", "CANNOT")
        return view

    def logged_in(self, owner: Account, account: int) -> None:
        self.owner = owner
        self.account = account
        self.state = State.AUTHENTICATED
        self.wire.codec.command_limit = COMMAND_LIMIT
        self.wire.logged_in()

    def select(self, view: View) -> None:
        """Hear of changes from now on; `view` counts once its `load` is done."""
        self.unselect()
        self.view = view
        self._unsubscribe = self.mailboxes.bus.subscribe(view.account, self._changed)

    def unselect(self) -> None:
        self.view = None
        if self.state is State.SELECTED:
            self.state = State.AUTHENTICATED
        if self._unsubscribe is not None:
            self._unsubscribe()
            self._unsubscribe = None

    def enable_condstore(self, *, qresync: bool = False) -> bool:
        """Whether that is new (RFC 7162 §3.1)."""
        old = self.extensions
        self.extensions = Extensions(condstore=True, qresync=qresync or old.qresync)
        return self.extensions != old

    @property
    def has_news(self) -> bool:
        """Whether an idling client is to be told something."""
        view = self.view
        return self.idle_tag is not None and view is not None and (view.pending or view.gone)

    async def send_updates(self, *, expunge: bool = True) -> None:
        """What other sessions did to the selected mailbox."""
        view = self.view
        if view is None or view.gone or self.state is not State.SELECTED:
            return
        if view.pending:
            self.write(b"".join(await view.updates(self.extensions, expunge=expunge)))
        if self.extensions.condstore and view.held_modseq:
            # RFC 7162 §3.2.10 (RFC 5162 erratum 1810): the MODSEQs just told may be higher than that of an
            # expunge which is not; who comes back with them would never hear of it.
            known = max(1, view.held_modseq - 1)
            self.write(b"* OK [HIGHESTMODSEQ %d] Expunges are still to be told\r\n" % known)

    def leave_deleted(self) -> None:
        """Nothing more can be said of a mailbox that another session has deleted."""
        if self.view is not None and self.view.gone:
            self.bye("Mailbox was deleted")

    async def breathe(self) -> None:
        """For long work on the loop: lets others run when it was long enough. Raises Disconnected."""
        if time.monotonic() - self._turn > TURN_SECONDS:
            await self.wire.turn()
            self._turn = time.monotonic()

    def bye(self, text: str, *, linger: bool = False) -> None:
        """Say BYE and hang up (RFC 3501 §7.1.5); `linger` when the client is probably still sending."""
        if not self.ended:
            self.write(b"* BYE %b\r\n" % single_line(text))
            self.hang_up(linger=linger)

    def hang_up(self, *, linger: bool = False) -> None:
        """The dialogue is over; what was written still goes out."""
        self.state = State.LOGOUT
        self.wire.close(linger=linger)

    # --- for the connection ---------------------------------------------------------------------------

    def closed(self) -> None:
        """The connection is gone."""
        self.unselect()
        self.state = State.LOGOUT
        self.idle_tag = None

    async def push(self) -> None:
        """Tell an idling client what changed (RFC 2177). More may be noted meanwhile: see `has_news`."""
        if self.idle_tag is not None:
            await self.send_updates()
            self.leave_deleted()

    async def handle(self, event: Event) -> None:
        """One event of the codec. Raises Disconnected."""
        if isinstance(event, Command):
            await self._command(event)
        elif isinstance(event, AppendLiteral):
            await self._append(event)
        elif isinstance(event, Continuation):
            self.write(b"+ OK\r\n")
        elif isinstance(event, Line):
            await self._idle_line(event.text)
        elif isinstance(event, Problem):
            self.write(b"%b %b %b\r\n" % event)
            self._count_bad()
        elif isinstance(event, Fatal):
            self.bye(event.text.decode("ascii"), linger=True)

    # --- inside ---------------------------------------------------------------------------------------

    def _changed(self, change: Change) -> None:
        view = self.view
        if view is None:
            return
        view.note(change)
        if self.has_news:
            self.wire.wake()

    async def _command(self, command: Command) -> None:
        legal = LEGAL.get(command.name)
        if legal is None or command.name == "APPEND":
            text = b"BAD APPEND needs a message as literal" if legal else b"BAD Unknown command"
            self.write(b"%b %b\r\n" % (command.tag, text))
            self._count_bad()
        elif not legal & self.state:
            self.write(b"%b BAD %b\r\n" % (command.tag, self._not_now(command.name).encode()))
            self._count_bad()
        else:
            handler = self._handlers[command.name]
            await self._run(command.tag, command.name, handler, Cursor(command.arguments))

    def _not_now(self, name: str) -> str:
        if self.state is State.NOT_AUTHENTICATED:
            return f"{name}: log in first"
        if self.state is State.AUTHENTICATED and LEGAL[name] is State.SELECTED:
            return f"{name}: no mailbox is selected"
        return f"{name} is not possible in this state"

    async def _append(self, announced: AppendLiteral) -> None:
        codec = self.wire.codec
        if not self.state & LOGGED_IN:
            self.write(announced.tag + b" BAD APPEND: log in first\r\n")
            if not codec.refuse_literal(announced):
                self.bye("Literal too long", linger=True)
            self._count_bad()
            return
        self.announced = announced
        try:
            await self._run(announced.tag, "APPEND", self._handlers["APPEND"], Cursor(announced.arguments))
        finally:
            self.announced = None

    async def _run(self, tag: bytes, name: str, handler: Handler, cursor: Cursor) -> None:
        self.tag = tag
        self._turn = time.monotonic()
        text: bytes | None
        try:
            text = await handler(self, cursor)
            self._bad = 0
        except BadSyntax as error:
            text = b"BAD %b" % single_line(str(error))
            if self._count_bad():
                return
        except No as error:
            text = _no(str(error), error.code)
        except errors.PostkeepError as error:
            text = _no(str(error), _code(error))
        except Disconnected:
            raise
        except Exception as error:
            self.context.logs.error.write(f"IMAP {name} failed: {_where(error)}")
            text = _no("Internal error", "SERVERBUG")
        if text is not None and not self.ended:
            await self._finish(tag, text, expunge=name not in NO_EXPUNGE)

    async def _finish(self, tag: bytes, text: bytes, *, expunge: bool) -> None:
        """What else is new, then the tagged reply. A BYE comes after it: what was done is done, and a client
        that is not told so does it again."""
        failed = False
        try:
            await self.send_updates(expunge=expunge)
        except Disconnected:
            raise
        except Exception as error:
            self.context.logs.error.write(f"IMAP updates failed: {_where(error)}")
            failed = True
        if self.ended:
            return
        self.write(b"%b %b\r\n" % (tag, text))
        self.leave_deleted()
        if failed:
            self.bye("Mailbox cannot be read")

    def _count_bad(self) -> bool:
        """True when that was one too many and the client is hung up."""
        self._bad += 1
        if self._bad < self.context.settings.bad_commands:
            return False
        self.bye("Too many commands that are not IMAP", linger=True)
        return True

    async def _idle_line(self, text: bytes) -> None:
        tag, self.idle_tag = self.idle_tag, None
        if tag is None:
            return
        if text.strip().upper() != b"DONE":
            self.write(tag + b" BAD Expected DONE\r\n")
            self._count_bad()
            return
        await self._finish(tag, b"OK IDLE completed", expunge=True)


_CODES: tuple[tuple[type[errors.PostkeepError], str], ...] = (
    # RFC 5530 §3
    (errors.MailboxNotFound, "NONEXISTENT"),
    (errors.NotFound, "NONEXISTENT"),
    (errors.AlreadyExists, "ALREADYEXISTS"),
    (errors.OverQuota, "OVERQUOTA"),
    (errors.LimitReached, "LIMIT"),
    (errors.StorageFull, "LIMIT"),
    (errors.InvalidName, "CANNOT"),
    (errors.Denied, "NOPERM"),
    (errors.InUse, "INUSE"),
    (errors.CorruptRecord, "CORRUPTION"),
    (errors.StorageFailed, "UNAVAILABLE"),
    (errors.Throttled, "UNAVAILABLE"),
    (errors.AuthenticationFailed, "AUTHENTICATIONFAILED"),
)


def _code(error: errors.PostkeepError) -> str:
    return next((code for kind, code in _CODES if isinstance(error, kind)), "")


def _no(text: str, code: str) -> bytes:
    return b"NO %b%b" % (f"[{code}] ".encode() if code else b"", single_line(text))


def _where(error: Exception) -> str:
    """What failed and the innermost line of code, for the Error log."""
    frames = traceback.extract_tb(error.__traceback__, limit=-1)
    place = f" at {Path(frames[0].filename).name}:{frames[0].lineno}" if frames else ""
    return f"{type(error).__name__}: {error}{place}"
