"""The IMAP service: what all its connections share."""

from typing import TYPE_CHECKING

from postkeep.config.imap import ImapSettings
from postkeep.protocols.imap.connection import ImapConnection
from postkeep.protocols.imap.session.recent import RecentMessages
from postkeep.protocols.imap.session.session import Context
from postkeep.protocols.lineserver import LineServer
from postkeep.runtime.clock import Clock
from postkeep.runtime.limits import ConnectionLimiter
from postkeep.services.mailboxes import MailboxService

if TYPE_CHECKING:
    from postkeep.runtime.certificates import Certificates
    from postkeep.runtime.logs import Logs
    from postkeep.services.authentication import Authenticator


class ImapServer(LineServer):
    """Port 143, and 993 with TLS."""

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
        context = Context(settings, mailboxes, authenticator, certificates, clock, logs, recents)
        super().__init__(lambda gone: ImapConnection(context, limiter, gone), clock)
        self._unsubscribe = mailboxes.bus.subscribe_all(recents.hear)

    async def shutdown(self, grace: float = 5.0) -> None:
        self._unsubscribe()
        await super().shutdown(grace)
