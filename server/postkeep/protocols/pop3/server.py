"""The POP3 service: what all its connections share."""

import asyncio
from collections.abc import Callable

from postkeep.config.pop3 import Pop3Settings
from postkeep.protocols.pop3.connection import Pop3Connection
from postkeep.protocols.pop3.maildrop import MaildropLocks
from postkeep.protocols.pop3.session import Context
from postkeep.runtime.certificates import Certificates
from postkeep.runtime.clock import Clock
from postkeep.runtime.limits import ConnectionLimiter
from postkeep.runtime.logs import Logs
from postkeep.services.authentication import Authenticator
from postkeep.services.mailboxes import MailboxService


class Pop3Server:
    """Give `factory()` to the listeners; wrap it in accept_tls for port 995."""

    def __init__(
        self,
        settings: Pop3Settings,
        mailboxes: MailboxService,
        authenticator: Authenticator,
        certificates: Certificates,
        limiter: ConnectionLimiter,
        logs: Logs,
        clock: Clock,
    ) -> None:
        self._context = Context(
            settings, mailboxes, authenticator, certificates, clock, logs, MaildropLocks()
        )
        self._limiter = limiter
        self._connections: set[Pop3Connection] = set()
        self._stopping = False

    @property
    def connections(self) -> int:
        return len(self._connections)

    def factory(self) -> Callable[[], asyncio.Protocol]:
        def make() -> asyncio.Protocol:
            connection = Pop3Connection(self._context, self._limiter, self._connections.discard)
            self._connections.add(connection)
            if self._stopping:
                connection.stop("Server is shutting down")
            return connection

        return make

    def disconnect(self, account_key: str, reason: str) -> None:
        """Hang up on an account's session (it was disabled, removed or its password changed)."""
        for connection in list(self._connections):
            owner = connection.session.owner
            if owner is not None and owner.key == account_key:
                connection.stop(reason)

    async def shutdown(self, grace: float = 5.0) -> None:
        """Hang up on all; commands under way (QUIT's removals) may finish for `grace` seconds."""
        self._stopping = True
        clock = self._context.clock
        deadline = clock.monotonic() + grace
        for connection in list(self._connections):
            connection.stop("Server is shutting down")
        while self._connections and clock.monotonic() < deadline:
            await clock.sleep(0.02)
        for connection in list(self._connections):
            connection.abort()
        await asyncio.sleep(0)
