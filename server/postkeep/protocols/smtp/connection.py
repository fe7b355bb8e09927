"""One SMTP connection: aiosmtpd's state machine with its hot parts replaced.

Kept of aiosmtpd 1.4.6: Session, Envelope, AuthResult, the hooks, EHLO, HELO, MAIL, RCPT, RSET, NOOP, AUTH,
HELP, VRFY and STARTTLS. Replaced: the command loop, DATA, the address parser for ordinary addresses, and in
link.py the wire side. tests/unit/smtp/test_cut.py holds the hashes of all that this leans on.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from aiosmtpd.smtp import AuthResult, TLSSetupException, sanitize, syntax

from postkeep.protocols.sasl import Challenge, Exchange, Fault, SaslError
from postkeep.protocols.smtp import parameters
from postkeep.protocols.smtp.authentication import REPLIES, failed, verify
from postkeep.protocols.smtp.codec import is_path, parse_command, parse_path
from postkeep.protocols.smtp.data import DataPhase
from postkeep.protocols.smtp.link import SmtpLink
from postkeep.protocols.smtp.reader import CommandTooLong

TURN = 100
"""Pipelined commands done in a row before other connections get their turn."""
_BUSY_COMMANDS = frozenset({"MAIL", "RCPT", "DATA", "QUIT", "STARTTLS", "AUTH"})
"""All others are counted as idle: they bring no message nearer."""


class SmtpConnection(SmtpLink):
    """Made by SmtpServer.factory for each connection."""

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
        if self._expelled and not self._closing:
            self._input.clear()
            await self.push(self._expelled)
        elif settings.maximum_failed_commands and self._failures > settings.maximum_failed_commands:
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
        if self._debug:
            shown = sanitize(line.rstrip()).decode("utf-8", "replace")
            self._server.logs.debug.write(f"SMTP: {self.address} > {shown}")
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
            if arg and not is_path(arg):
                return None, None
            try:
                found = super()._getaddr(arg)
            except Exception:
                # email's parser raises IndexError and more on broken input
                return None, None
        address, rest = found
        if rest and address and self._state[0].extended_smtp:
            known = parameters.MAIL_PARAMETERS if self._verb == "MAIL" else parameters.RCPT_PARAMETERS
            self.parameters, rest = parameters.take(rest, known)
            if rest and not parameters.are_sound(rest):
                rest = "="  # to aiosmtpd a syntax error: 501
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
        if self._input.eof and not phase.ended.done():
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
        session, envelope = self._state
        if session.extended_smtp and envelope.mail_from:
            await self.push("503 5.5.1 AUTH is not permitted during a mail transaction")  # RFC 4954 §4
            return
        if arg and not arg.isascii():
            await self.push("501 5.5.4 Syntax: AUTH <mechanism>")
            return
        if arg:
            mechanism, _, rest = arg.partition(" ")
            arg = f"{mechanism.upper()} {rest}"
        await super().smtp_AUTH(arg)

    async def auth_PLAIN(self, _: Any, args: list[str]) -> AuthResult:
        return await self._exchange(args)

    async def auth_LOGIN(self, _: Any, args: list[str]) -> AuthResult:
        return await self._exchange(args)

    async def _exchange(self, args: list[str]) -> AuthResult:
        """Ours, not aiosmtpd's: those ignore the authorization identity, and verify on the loop."""
        mechanism, *initial = args
        try:
            exchange = Exchange(mechanism)
            step = exchange.begin(initial[0].encode() if initial else None)
            while isinstance(step, Challenge):
                await self.push(b"334 " + step.line)
                step = exchange.answer((await self._input.readline()).rstrip(b"\r\n"))
        except SaslError as error:
            if error.fault is Fault.NOT_TEXT:  # no account has such a name or password
                return failed(self._server, self._state[0].client)
            await self.push(REPLIES[error.fault])
            return AuthResult(success=False, handled=True)
        self._busy = True
        try:
            return await verify(self._server, self._state[0].client, step)
        finally:
            self._busy = False
