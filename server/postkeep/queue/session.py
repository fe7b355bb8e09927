"""An SMTP session as a client: from the call to the end of EHLO, STARTTLS and AUTH (RFC 5321, 3207, 4954)."""

import asyncio
import base64
import contextlib
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from postkeep.config.queue import RelayTls
from postkeep.queue.codec import Extensions, Reply, parse_ehlo
from postkeep.queue.connection import ConnectionFailed, SmtpConnection
from postkeep.queue.routes import Hop, Route
from postkeep.runtime.clock import Clock
from postkeep.runtime.dialer import Dialer
from postkeep.runtime.tls import client_context

CONNECT_LIMIT = 30.0
# RFC 5321 §4.5.3.2, seconds
GREETING_LIMIT = 300.0
COMMAND_LIMIT = 300.0
DATA_LIMIT = 120.0
BLOCK_LIMIT = 180.0
FINAL_LIMIT = 600.0
QUIT_LIMIT = 5.0
# What all these waits together may come to: else a server could hold a connection for days, just in time
# with each answer
OPENING_LIMIT = 900.0
"""From the call to MAIL."""
ENVELOPE_LIMIT = 1800.0
"""For MAIL and all RCPT and DATA, before the message's own time."""
MINIMUM_RATE = 8192
"""Octets a second that a server takes of a message at least."""


class SessionFailed(Exception):
    """No session with any of the servers. `host` said `words` (or "" and it is our own sentence)."""

    def __init__(self, words: str, status: str, host: str = "", *, our_fault: bool = False) -> None:
        super().__init__(words)
        self.words = words
        self.status = status
        self.host = host
        self.our_fault = our_fault
        """The administrator has to act (wrong password for the relay host)."""

    @property
    def permanent(self) -> bool:
        return self.status.startswith("5")


class _TlsFailed(Exception):
    """STARTTLS was begun and came to nothing: the same server is called again, without."""


@dataclass(slots=True)
class Session:
    """Ready for MAIL. `messages` counts those sent; `dirty` asks for RSET before the next."""

    connection: SmtpConnection
    hop: Hop
    port: int
    offered: Extensions
    tls: bool
    messages: int = 0
    dirty: bool = False

    @property
    def usable(self) -> bool:
        return self.connection.usable

    async def command(self, line: bytes, limit: float = COMMAND_LIMIT, shown: str = "") -> Reply:
        self.connection.write(line, shown)
        return await self.connection.reply(limit)

    async def quit(self) -> None:
        """RFC 5321 §4.1.1.10: say QUIT, wait a little for the answer."""
        with contextlib.suppress(ConnectionFailed):
            if self.usable:
                await self.command(b"QUIT\r\n", QUIT_LIMIT)
        self.connection.close()


class Caller:
    """Opens sessions."""

    def __init__(
        self,
        dialer: Dialer,
        clock: Clock,
        hostname: str,
        trace: Callable[[], Callable[[str], None] | None] = lambda: None,
    ) -> None:
        self._dialer = dialer
        self._clock = clock
        self._hostname = hostname
        self._trace = trace
        self._contexts: dict[bool, ssl.SSLContext] = {}

    async def call(self, hops: Sequence[Hop], route: Route) -> Session:
        """The first server that takes us. SessionFailed with the last one's words when none does."""
        failed: SessionFailed | None = None
        for hop in hops:
            try:
                return await self._call(hop, route)
            except SessionFailed as error:
                failed = error
                if error.permanent or error.our_fault:
                    break
        raise failed or SessionFailed("there is no address to call", "4.4.4")

    async def _call(self, hop: Hop, route: Route) -> Session:
        try:
            return await self._open(hop, route, allow_tls=True)
        except _TlsFailed as error:
            if route.tls is not RelayTls.OPPORTUNISTIC:
                raise SessionFailed(f"{hop}: {error}", "4.7.5") from error
        # RFC 7435: opportunistic means that broken TLS is not worse than none
        return await self._open(hop, route, allow_tls=False)

    async def _open(self, hop: Hop, route: Route, *, allow_tls: bool) -> Session:
        connection = await self._connect(hop, route.port)
        connection.allow(OPENING_LIMIT)
        try:
            if route.tls is RelayTls.IMPLICIT:
                await self._handshake(connection, hop, route)
            greeting = await connection.reply(GREETING_LIMIT)
            self._check_greeting(hop, route, greeting)
            offered = await self._hello(connection, hop)
            tls = route.tls is RelayTls.IMPLICIT
            if not tls and allow_tls and route.tls is not RelayTls.NONE:
                tls = await self._upgrade(connection, hop, route, offered)
                if tls:
                    # RFC 3207 §4.2: what was announced before TLS is void
                    offered = await self._hello(connection, hop)
            session = Session(connection, hop, route.port, offered, tls)
            if route.user:
                await self._login(session, route)
            connection.allow()
        except ConnectionFailed as error:
            connection.abort()
            raise SessionFailed(f"{hop}: {error}", "4.4.2") from error
        except asyncio.CancelledError:
            connection.abort()
            raise
        except (SessionFailed, _TlsFailed):
            connection.close()
            raise
        return session

    async def _connect(self, hop: Hop, port: int) -> SmtpConnection:
        trace = self._trace()
        try:
            _, connection = await self._dialer.connect(
                lambda: SmtpConnection(self._clock, trace), hop.address, port, limit=CONNECT_LIMIT
            )
        except OSError as error:
            reason = error.strerror or str(error)
            raise SessionFailed(f"{hop} port {port} does not answer: {reason}", "4.4.1") from error
        return connection

    def _check_greeting(self, hop: Hop, route: Route, greeting: Reply) -> None:
        if greeting.code != 220:
            # Also 554 (“no SMTP service here”): another host of the domain may take it, or this one later
            raise _said(hop, greeting)
        name = greeting.lines[0].split(" ", 1)[0].lower() if greeting.lines else ""
        if name == self._hostname.lower() and name != "localhost" and not route.relay:
            raise SessionFailed(f"mail loops: {hop} is this server, which does not serve the domain", "5.4.6")

    async def _hello(self, connection: SmtpConnection, hop: Hop) -> Extensions:
        connection.write(f"EHLO {self._hostname}\r\n".encode("ascii", "replace"))
        reply = await connection.reply(COMMAND_LIMIT)
        if reply.code == 250:
            return parse_ehlo(reply)
        if reply.code == 421:
            raise _said(hop, reply)
        # RFC 5321 §3.2: an old server, or one that refuses EHLO
        connection.write(f"HELO {self._hostname}\r\n".encode("ascii", "replace"))
        reply = await connection.reply(COMMAND_LIMIT)
        if reply.code != 250:
            raise _said(hop, reply)
        return Extensions()

    async def _upgrade(self, connection: SmtpConnection, hop: Hop, route: Route, offered: Extensions) -> bool:
        required = route.tls is RelayTls.STARTTLS
        if not offered.starttls:
            if required:
                raise SessionFailed(f"{hop} does not offer STARTTLS, which is required", "4.7.5")
            return False
        connection.write(b"STARTTLS\r\n")
        reply = await connection.reply(COMMAND_LIMIT)
        if reply.code != 220:
            if required or reply.code == 421:
                raise _said(hop, reply)
            return False
        await self._handshake(connection, hop, route)
        return True

    async def _handshake(self, connection: SmtpConnection, hop: Hop, route: Route) -> None:
        context = self._contexts.get(route.verify)
        if context is None:
            context = self._contexts[route.verify] = client_context(verify=route.verify)
        named = hop.host != hop.address or route.verify
        try:
            await connection.start_tls(context, hop.host if named else None)
        except (ConnectionFailed, ValueError) as error:  # ValueError: a name that cannot be SNI
            raise _TlsFailed(str(error)) from error

    async def _login(self, session: Session, route: Route) -> None:
        """RFC 4954; PLAIN before LOGIN. The password goes over TLS, or where the administrator chose none."""
        if not session.tls and route.tls is not RelayTls.NONE:
            raise SessionFailed(
                f"{session.hop} offers no TLS: the password is not sent in the clear",
                "4.7.11",
                our_fault=True,
            )
        user, password = route.user.encode(), route.password.encode()
        if "PLAIN" in session.offered.auth:
            token = base64.b64encode(b"\0" + user + b"\0" + password)
            reply = await session.command(b"AUTH PLAIN " + token + b"\r\n", shown="AUTH PLAIN …")
        elif "LOGIN" in session.offered.auth:
            reply = await session.command(b"AUTH LOGIN\r\n")
            for part in (user, password):
                if reply.code == 334:
                    reply = await session.command(base64.b64encode(part) + b"\r\n", shown="…")
        else:
            raise SessionFailed(f"{session.hop} offers neither AUTH PLAIN nor LOGIN", "4.7.0", our_fault=True)
        if reply.code != 235:
            raise SessionFailed(
                f"login refused: {reply.words}", "4.7.8", str(session.hop.host), our_fault=reply.permanent
            )


def _said(hop: Hop, reply: Reply) -> SessionFailed:
    """A refusal before MAIL is about us or the moment, not about the message: never permanent."""
    return SessionFailed(reply.words, "4" + reply.status[1:], hop.host)
