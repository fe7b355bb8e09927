"""The wire side of an SMTP connection: from transport to input, from replies to transport, and the clock.

Replaces of aiosmtpd 1.4.6 what costs it CPU or lacks a bound: its reader, `push` (replies leave together),
its timer at each command, the ends of a connection (it cancels a commit), the search for methods and hooks.
"""

import asyncio
from typing import TYPE_CHECKING, cast

from aiosmtpd.smtp import SMTP

from postkeep.protocols.smtp.codec import LIMITS, LINE_LIMIT
from postkeep.protocols.smtp.data import DataPhase
from postkeep.protocols.smtp.reader import CommandReader
from postkeep.protocols.smtp.replies import with_enhanced
from postkeep.protocols.smtp.session import SmtpEnvelope, SmtpSession
from postkeep.runtime.clock import Timer
from postkeep.services.envelope import Client

if TYPE_CHECKING:
    from postkeep.protocols.smtp.server import SmtpServer


class SmtpLink(SMTP):
    """The connection's ends, its replies and its time; SmtpConnection has the commands."""

    command_size_limits = LIMITS

    _names: tuple[str, ...] = ()

    if TYPE_CHECKING:  # of asyncio's FlowControlMixin and StreamReaderProtocol, and an untyped one
        _over_ssl: bool
        _paused: bool

        async def _drain_helper(self) -> None: ...
        def _set_post_data_state(self) -> None: ...

    def __init__(self, server: "SmtpServer", kind: str) -> None:
        self._server = server
        self._kind = kind
        settings = server.settings
        context = None if kind == "smtps" else server.certificates.server_context()
        super().__init__(
            server.hooks,
            data_size_limit=settings.maximum_message_size,
            enable_SMTPUTF8=True,
            hostname=server.hostname,
            ident="ESMTP Postkeep",
            tls_context=context,
            timeout=settings.command_timeout,
            auth_required=kind != "smtp",
            # _auth_require_tls is set by what the transport is: see connection_made
            auth_require_tls=True,
            loop=asyncio.get_running_loop(),
        )
        self.parameters: dict[str, str | None] = {}
        """Of the command under way: those that aiosmtpd does not know."""
        self.address = ""
        self._admitted = False
        self._lost = False
        self._closing = False
        self._stopping = False
        self._expelled = ""
        self._busy = False
        """In the middle of something that the peer cannot hurry: a commit, a password check."""
        self._debug = server.logs.debug_on("smtp")
        self._verb = ""
        self._replies: list[bytes] = []
        self._data: DataPhase | None = None
        self._failures = 0
        self._idle_commands = 0
        self._deadline = 0.0
        self._timer: Timer | None = None

    def __dir__(self) -> tuple[str, ...]:
        """Only what aiosmtpd looks for at each connection; found once."""
        if not SmtpLink._names:
            SmtpLink._names = tuple(
                name for name in object.__dir__(self) if name.startswith(("smtp_", "auth_"))
            )
        return SmtpLink._names

    # --- the connection ------------------------------------------------------------------------------------

    def _create_session(self) -> SmtpSession:
        return SmtpSession(self.loop, Client(self.address, self._kind))

    def _create_envelope(self) -> SmtpEnvelope:
        return SmtpEnvelope()

    @property
    def _state(self) -> tuple[SmtpSession, SmtpEnvelope]:
        return cast(SmtpSession, self.session), cast(SmtpEnvelope, self.envelope)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called a second time when STARTTLS is done: then all that was said before is forgotten.

        Not what was done: RFC 3207 §4.2 means what was learnt from the peer, and tries start at no new count.
        """
        before = self._state[0].client if self._admitted else None
        if not self._admitted:
            peer = transport.get_extra_info("peername")
            self.address = str(peer[0]) if isinstance(peer, tuple) and peer else "local"
            refusal = self._server.admit(self)
            if refusal is not None:
                self._lost = True
                cast(asyncio.Transport, transport).write(refusal)
                transport.close()
                return
            self._admitted = True
        self._replies.clear()
        super().connection_made(transport)
        client = self._state[0].client
        secured = transport.get_extra_info("ssl_object")
        if secured is not None:
            cipher = secured.cipher()
            client.tls = f"{secured.version()} {cipher[0]}" if cipher else str(secured.version())
        self._auth_require_tls = secured is None and not self._server.settings.authentication_without_tls
        if before is None:
            client.trusted = self._server.admission.is_trusted(self.address)
        else:
            client.trusted = before.trusted
            client.failed_logins = before.failed_logins
            client.unknown_recipients = before.unknown_recipients

    def connection_lost(self, error: Exception | None) -> None:
        """The handler is not cancelled: a commit under way ends as it will, all else sees the input end."""
        if self._lost:
            return
        self._lost = self._closing = True
        if self._timer is not None:
            self._timer.cancel()
        if self._original_transport is not None:
            self._original_transport.close()
        # Not SMTP.connection_lost: it cancels the handler, a commit included.
        asyncio.StreamReaderProtocol.connection_lost(self, error)
        self._end_input()
        self.transport = None
        self._server.gone(self)

    def eof_received(self) -> bool:
        """A half-closed connection still gets the answers to what it sent."""
        if self._lost:
            return False
        self._end_input()
        return not self._over_ssl and self._tls_protocol is None

    def _end_input(self) -> None:
        self._input.end()
        if self._data is not None:
            self._data.lose()

    def data_received(self, data: bytes) -> None:
        if self._data is not None:
            self._feed_message(self._data, data)
        elif not self._closing:
            self._input.feed(data)

    def _feed_message(self, phase: DataPhase, data: bytes) -> bool:
        if phase.feed(data):
            self._data = None
            if phase.rest:
                self._input.feed(phase.rest)
            return True
        if phase.endless:
            # RFC 5321 §4.2.5 asks to read on to the end, not for ever
            self.hang_up(b"552 5.3.4 Message is too big, giving up\r\n")
        return False

    def _cb_client_connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._input = CommandReader(
            cast(asyncio.Transport, writer.transport), self.flush, LINE_LIMIT, self.loop
        )
        self._reader = cast(asyncio.StreamReader, self._input)  # all that aiosmtpd reads goes through it
        self._writer = writer

    # --- replies -------------------------------------------------------------------------------------------

    async def push(self, status: str | bytes) -> None:
        """Queue one reply line; all leave together once no input is left (RFC 2920 §3.2).

        Text gets an enhanced status code if it has none; bytes are sent as they are.
        """
        if isinstance(status, str):
            if status[0] in "45":
                self._failures += 1
                if status.startswith("421"):
                    self._closing = True
            line = with_enhanced(status).encode("utf-8", "replace")
        else:
            line = status
        if self._debug:
            self._server.logs.debug.write(f"SMTP: {self.address} < {line.decode('utf-8', 'replace')}")
        self._replies.append(line + b"\r\n")
        if not self._input:
            await self.flush()

    def _send(self) -> None:
        if self._replies:
            replies = b"".join(self._replies)
            self._replies.clear()
            transport = self.transport
            if transport is not None and not transport.is_closing():
                cast(asyncio.Transport, transport).write(replies)

    async def flush(self) -> None:
        """Send the queued replies, and wait while the peer does not read."""
        self._send()
        if self._paused:
            await self._drain_helper()

    # --- time ----------------------------------------------------------------------------------------------

    def _reset_timeout(self, duration: float | None = None) -> None:
        """One coarse timer a connection; a command only moves the deadline."""
        self._deadline = self._server.clock.monotonic() + (duration or self._timeout_duration)
        if self._timer is None:
            self._timer = self._server.clock.call_later(self._server.tick, self._timeout_cb)

    def _timeout_cb(self) -> None:
        self._timer = None
        if self._lost:
            return
        clock = self._server.clock
        now = clock.monotonic()
        if now >= self._deadline:
            settings = self._server.settings
            if self._busy:
                self._deadline = now + self._server.tick
            elif self._data is not None and self._data.keeps_pace(now, settings.data_minimum_rate):
                self._deadline = now + settings.data_timeout
            else:
                if self._data is not None:
                    self._server.logs.security.write(f"SMTP: message too slow, peer={self.address}")
                self.hang_up(b"421 4.4.2 Timeout, closing the connection\r\n")
                # A peer that does not read would hold the closing connection open for ever.
                self._timer = clock.call_later(self._server.tick, self.abort)
                return
        self._timer = clock.call_later(min(self._server.tick, self._deadline - now), self._timeout_cb)

    def stop(self) -> None:
        """The server goes down: at once if the peer is idle, else after the message under way."""
        self._stopping = True
        if self._input.waiting and not self._state[1].rcpt_tos:
            self.hang_up(b"421 4.3.2 Server is going down\r\n")

    @property
    def login(self) -> str:
        """The key of the account that is logged in, "" for none."""
        session = cast(SmtpSession | None, self.session)
        return "" if session is None or session.client.account is None else session.client.account.key

    def expel(self, reason: str) -> None:
        """421 at once (RFC 5321 §3.8), but a message that was sent whole gets its answer first."""
        self._expelled = f"421 4.7.0 Goodbye, {reason}"
        if not self._busy:
            self.hang_up(self._expelled.encode() + b"\r\n")

    def hang_up(self, farewell: bytes = b"") -> None:
        """Send what is queued and close."""
        if farewell:
            self._replies.append(farewell)
        self._send()
        self._closing = True
        if self.transport is not None:
            self.transport.close()
        self._end_input()

    def abort(self) -> None:
        if self.transport is not None:
            cast(asyncio.Transport, self.transport).abort()
