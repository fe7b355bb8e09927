"""The SMTP services on 25, 587 and 465: what their connections share."""

import asyncio
import logging
import traceback
from collections.abc import Callable
from typing import Literal

from postkeep.config.smtp import SmtpSettings
from postkeep.protocols.smtp.connection import SmtpConnection
from postkeep.protocols.smtp.hooks import Hooks
from postkeep.protocols.smtp.link import SmtpLink
from postkeep.runtime.certificates import Certificates
from postkeep.runtime.clock import Clock
from postkeep.runtime.limits import ConnectionLimiter
from postkeep.runtime.logs import Logs
from postkeep.services.authentication import Authenticator
from postkeep.services.receive import Receiver

Kind = Literal["smtp", "submission", "smtps"]


class SmtpServer:
    """Makes protocols for listeners. For "smtps" the listener does TLS (runtime.tls.accept_tls)."""

    def __init__(
        self,
        settings: SmtpSettings,
        receiver: Receiver,
        authenticator: Authenticator,
        certificates: Certificates,
        limiter: ConnectionLimiter,
        logs: Logs,
        clock: Clock,
        hostname: str,
    ) -> None:
        self.settings = settings
        self.receiver = receiver
        self.admission = receiver.admission
        self.authenticator = authenticator
        self.certificates = certificates
        self.logs = logs
        self.clock = clock
        self.hostname = hostname
        self.hooks = Hooks(receiver.admission)
        self.tick = float(min(settings.command_timeout, settings.data_timeout))
        """Seconds between two looks at a connection's deadline, at most."""
        self._limiter = limiter
        self._connections: set[SmtpLink] = set()
        self._stopping = False
        self._all_gone: asyncio.Event | None = None
        # Its log repeats what ours say, and warns of what we do on purpose.
        logging.getLogger("mail.log").setLevel(logging.CRITICAL)

    def factory(self, kind: Kind) -> Callable[[], asyncio.Protocol]:
        """A protocol factory for one service. "submission" and "smtps" want a login before MAIL."""
        return lambda: SmtpConnection(self, kind)

    @property
    def connections(self) -> int:
        return len(self._connections)

    def admit(self, connection: SmtpLink) -> bytes | None:
        """None, and the connection is counted until `gone`; or the reply to turn it away with."""
        if self._stopping:
            return b"421 4.3.2 Server is going down\r\n"
        if not self._limiter.acquire(connection.address):
            self.logs.security.write(f"SMTP: too many connections, peer={connection.address}")
            return b"421 4.7.0 Too many connections, try again later\r\n"
        self._connections.add(connection)
        return None

    def gone(self, connection: SmtpLink) -> None:
        if connection in self._connections:
            self._connections.remove(connection)
            self._limiter.release(connection.address)
            if not self._connections and self._all_gone is not None:
                self._all_gone.set()

    def broken(self, connection: SmtpLink, error: Exception) -> None:
        """A command raised what it should not have; the peer gets 451."""
        trace = " | ".join(line.strip() for line in traceback.format_exception(error)[-3:])
        self.logs.error.write(f"SMTP: error in the session of {connection.address}: {trace}")

    def disconnect(self, account_key: str, reason: str) -> None:
        """End an account's sessions (it was disabled, removed or its password changed)."""
        for connection in list(self._connections):
            if connection.login == account_key:
                connection.expel(reason)

    async def shutdown(self) -> None:
        """421 to all; a message under way may end first, within ShutdownGrace seconds."""
        self._stopping = True
        for connection in list(self._connections):
            connection.stop()
        if not self._connections:
            return
        self._all_gone = asyncio.Event()
        timer = self.clock.call_later(self.settings.shutdown_grace, self._all_gone.set)
        await self._all_gone.wait()
        timer.cancel()
        for connection in list(self._connections):
            connection.abort()
