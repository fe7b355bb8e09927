"""One SMTP connection: aiosmtpd's state machine with its hot parts replaced.

Kept of aiosmtpd 1.4.6: Session, Envelope, AuthResult, the hooks, EHLO, HELO, MAIL, RCPT, RSET, NOOP, AUTH,
HELP, VRFY and STARTTLS. Replaced, because its way costs four times the CPU or lacks a bound: the reader,
`push` (replies leave together), the command loop, DATA, the timer, the address parser, the ends of a
connection. tests/unit/smtp/test_cut.py holds the hashes of all that this leans on.
"""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword, TLSSetupException, syntax

from postkeep.protocols.smtp import parameters
from postkeep.protocols.smtp.authentication import verify
from postkeep.protocols.smtp.codec import LIMITS, LINE_LIMIT, parse_command, parse_path
from postkeep.protocols.smtp.data import DataPhase
from postkeep.protocols.smtp.reader import CommandReader, CommandTooLong
from postkeep.protocols.smtp.replies import with_enhanced
from postkeep.protocols.smtp.session import SmtpEnvelope, SmtpSession
from postkeep.runtime.clock import Timer
from postkeep.services.envelope import Client

if TYPE_CHECKING:
    from postkeep.protocols.smtp.server import SmtpServer

TURN = 100
"""Pipelined commands done in a row before other connections get their turn."""
_BUSY_COMMANDS = frozenset({"MAIL", "RCPT", "DATA", "QUIT", "STARTTLS", "AUTH"})
"""All others are counted as idle: they bring no message nearer."""


class SmtpConnection(SMTP):
    """Made by SmtpServer.factory for each connection."""

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
        self._busy = False
        """In the middle of something that the peer cannot hurry: a commit, a password check."""
        self._verb = ""
        self._replies: list[bytes] = []
        self._data: DataPhase | None = None
        self._failures = 0
        self._idle_commands = 0
        self._deadline = 0.0
        self._timer: Timer | None = None

    def __dir__(self) -> tuple[str, ...]:
        """Only what aiosmtpd looks for at each connection; found once."""
        if not SmtpConnection._names:
            SmtpConnection._names = tuple(
                name for name in object.__dir__(self) if name.startswith(("smtp_", "auth_"))
            )
        return SmtpConnection._names

    # --- the connection ------------------------------------------------------------------------------------

    def _create_session(self) -> SmtpSession:
        return SmtpSession(self.loop, Client(self.address, self._kind))

    def _create_envelope(self) -> SmtpEnvelope:
        return SmtpEnvelope()

    @property
    def _state(self) -> tuple[SmtpSession, SmtpEnvelope]:
        return cast(SmtpSession, self.session), cast(SmtpEnvelope, self.envelope)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called a second time when STARTTLS is done: then all that was said before is forgotten."""
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
        client.trusted = self._server.admission.is_trusted(self.address)

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
                self._server.logs.security.write(f"SMTP: connection of {self.address} timed out")
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

    # --- commands ------------------------------------------------------------------------------------------

    async def _handle_client(self) -> None:
        """Commands until the end. Waits for nothing while there is input (RFC 2920 §3.2)."""
        await self.push(f"220 {self.hostname} {self.__ident__}".encode())
        turn = 0
        try:
            while not self._closing:
                await self._handle_line()
                turn += 1
                if turn == TURN:
                    turn = 0
                    await asyncio.sleep(0)
        except (ConnectionResetError, BrokenPipeError):
            pass  # the end of input, or a peer that is gone
        self.hang_up()

    async def _handle_line(self) -> None:
        try:
            line = self._input.next_line() or await self._input.readline()
            self._reset_timeout()
            await self._dispatch(line)
        except CommandTooLong:
            await self.push("500 5.5.2 Command line too long")
        except TLSSetupException as error:
            # The TLS layer never told us of the connection, so it does not tell us of its end either.
            self.abort()
            self.connection_lost(error)
            return
        except (ConnectionResetError, BrokenPipeError):
            raise
        except Exception as error:
            if self._lost:
                return
            self._server.broken(self, error)
            await self.push("451 4.3.0 Local error in processing")
        settings = self._server.settings
        if settings.maximum_failed_commands and self._failures > settings.maximum_failed_commands:
            await self._give_up("failed commands")
        elif settings.maximum_idle_commands and self._idle_commands > settings.maximum_idle_commands:
            await self._give_up("commands without a message")
        elif self._stopping and not self._state[1].rcpt_tos:
            await self.push("421 4.3.2 Server is going down")

    async def _give_up(self, of: str) -> None:
        self._server.logs.security.write(f"SMTP: too many {of}, peer={self.address}")
        await self.push(f"421 4.7.0 Too many {of}, goodbye")

    async def _dispatch(self, line: bytes) -> None:
        session = self._state[0]
        command = parse_command(line, extended=session.extended_smtp)
        if isinstance(command, str):
            await self.push(command)
            return
        verb, argument = command
        method = self._smtp_methods.get(verb)
        if method is None:
            await self.push(f'500 5.5.1 Error: command "{verb[:40]}" not recognized')
            return
        if verb not in _BUSY_COMMANDS:
            self._idle_commands += 1
        self._verb = verb
        if self.parameters:
            self.parameters = {}
        await method(argument)

    def start_over(self) -> None:
        """Forget the transaction; the session stays."""
        self._set_post_data_state()

    def _getaddr(self, arg: str) -> tuple[str | None, str | None]:
        found: tuple[str | None, str | None] | None = parse_path(arg)
        if found is None:
            try:
                found = super()._getaddr(arg)
            except Exception:
                # email's parser raises IndexError and more on broken input
                return None, None
        address, rest = found
        if rest and address:
            known = parameters.MAIL_PARAMETERS if self._verb == "MAIL" else parameters.RCPT_PARAMETERS
            self.parameters, rest = parameters.take(rest, known)
        return address, rest

    @syntax("DATA")
    async def smtp_DATA(self, arg: str | None) -> None:
        if await self.check_helo_needed() or await self.check_auth_needed("DATA"):
            return
        session, envelope = self._state
        if not envelope.rcpt_tos:
            await self.push("503 5.5.1 Error: need RCPT command")
            return
        if arg:
            await self.push("501 5.5.4 Syntax: DATA")
            return
        receiver = self._server.receiver
        content = receiver.content()
        try:
            phase = await self._receive_message(content.write)
            fault = phase.scanner.fault
            if fault is None:
                verdict = await receiver.finish(session.client, envelope.transaction, content)
            else:
                content.abort()
                verdict = fault
                receiver.refuse(
                    session.client, envelope.transaction, phase.scanner.size, fault, phase.scanner.error
                )
        except BaseException:
            content.abort()
            raise
        finally:
            self._data = None
            self._busy = False
        self._set_post_data_state()
        if verdict.ok:
            self._failures = self._idle_commands = 0
        await self.push(verdict.reply)

    async def _receive_message(self, write: Callable[[bytes], None]) -> DataPhase:
        """From 354 to the end; ConnectionResetError when the connection ends before."""
        clock, settings = self._server.clock, self._server.settings
        limit = self._server.admission.size_limit(self._state[0].client)
        phase = DataPhase(write, settings, limit, self.loop, clock.monotonic())
        self._data = phase
        self._replies.append(b"354 End data with <CR><LF>.<CR><LF>\r\n")
        if self._input:
            self._feed_message(phase, self._input.take())
        elif self._input.eof:
            raise ConnectionResetError("end of input")
        await self.flush()
        await phase.ended
        self._busy = True
        return phase

    @syntax("QUIT")
    async def smtp_QUIT(self, arg: str | None) -> None:
        if not arg:
            self._input.clear()  # nothing counts after it, and so the reply leaves at once
            self._closing = True
        await super().smtp_QUIT(arg)

    @syntax("STARTTLS", when="tls_context")
    async def smtp_STARTTLS(self, arg: str | None) -> None:
        if self._tls_protocol is not None:
            await self.push("503 5.5.1 TLS is active already")
            return
        if not arg:
            # RFC 3207 §4.2: what was pipelined in the clear behind STARTTLS may be anybody's
            self._input.clear()
        await super().smtp_STARTTLS(arg)
        if self._original_transport is not None and self._state[0].ssl is None:
            raise TLSSetupException  # the connection ended during the handshake

    # --- authentication ------------------------------------------------------------------------------------

    @syntax("AUTH <mechanism>")
    async def smtp_AUTH(self, arg: str | None) -> None:
        if self._state[1].mail_from:
            await self.push("503 5.5.1 AUTH is not permitted during a mail transaction")  # RFC 4954 §4
            return
        if arg:
            mechanism, _, rest = arg.partition(" ")
            arg = f"{mechanism.upper()} {rest}"
        await super().smtp_AUTH(arg)

    async def auth_PLAIN(self, _: Any, args: list[str]) -> AuthResult:
        return await self._verify(await super().auth_PLAIN(_, args))

    async def auth_LOGIN(self, _: Any, args: list[str]) -> AuthResult:
        return await self._verify(await super().auth_LOGIN(_, args))

    def _authenticate(self, mechanism: str, auth_data: Any) -> AuthResult:
        """aiosmtpd asks here, in the middle of its mechanism; we answer after it (_verify), off the loop."""
        return AuthResult(success=False, handled=False, auth_data=auth_data)

    async def _verify(self, result: AuthResult) -> AuthResult:
        credentials = result.auth_data
        if not isinstance(credentials, LoginPassword):
            return result  # answered already: not base64, cancelled, …
        self._busy = True
        try:
            return await verify(self._server, self._state[0].client, credentials)
        finally:
            self._busy = False
