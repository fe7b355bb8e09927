"""The IMAP service: what all its connections share."""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from postkeep.config.imap import ImapSettings
from postkeep.protocols.imap.connection import ImapConnection
from postkeep.protocols.imap.session.recent import RecentMessages
from postkeep.protocols.imap.session.session import Context
from postkeep.runtime.clock import Clock
from postkeep.runtime.limits import ConnectionLimiter
from postkeep.services.mailboxes import MailboxService

if TYPE_CHECKING:
    from postkeep.runtime.certificates import Certificates
    from postkeep.runtime.logs import Logs
    from postkeep.services.authentication import Authenticator


class ImapServer:
    """Give `factory()` to the listeners; wrap it in accept_tls for port 993."""

    def __init__(
        self,
        settings: ImapSettings,
        mailboxes: MailboxService,
        authenticator: "Authenticator",
        certificates: "Certificates",
        limiter: ConnectionLimiter,
        logs: "Logs",
        clock: Clock,
    ) -> None:
        recents = RecentMessages()
        self._context = Context(settings, mailboxes, authenticator, certificates, clock, logs, recents)
        self._limiter = limiter
        self._connections: set[ImapConnection] = set()
        self._empty: asyncio.Future[None] | None = None
        self._unsubscribe = mailboxes.bus.subscribe_all(recents.hear)

    @property
    def connections(self) -> int:
        return len(self._connections)

    def factory(self) -> Callable[[], asyncio.Protocol]:
        def make() -> asyncio.Protocol:
            connection = ImapConnection(self._context, self._limiter, self._gone)
            self._connections.add(connection)
            return connection

        return make

    def disconnect(self, account_key: str, reason: str) -> None:
        """Hang up on an account's sessions (it was disabled, removed or its password changed)."""
        for connection in list(self._connections):
            owner = connection.session.owner
            if owner is not None and owner.key == account_key:
                connection.stop(reason, urgent=True)

    async def shutdown(self, grace: float = 5.0) -> None:
        """BYE to all; commands under way may finish for `grace` seconds. The listeners are closed before.

        Returns when all connections are gone.
        """
        self._unsubscribe()
        for connection in list(self._connections):
            connection.stop("Server is shutting down")
        if not self._connections:
            return
        self._empty = asyncio.get_running_loop().create_future()
        timer = self._context.clock.call_later(grace, self._abort_all)
        try:
            await self._empty
        finally:
            timer.cancel()
            self._empty = None

    def _gone(self, connection: ImapConnection) -> None:
        self._connections.discard(connection)
        if not self._connections and self._empty is not None and not self._empty.done():
            self._empty.set_result(None)

    def _abort_all(self) -> None:
        for connection in list(self._connections):
            connection.abort()
