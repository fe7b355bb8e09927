"""The POP3 service: what all its connections share."""

from postkeep.config.pop3 import Pop3Settings
from postkeep.protocols.lineserver import LineServer
from postkeep.protocols.pop3.connection import Pop3Connection
from postkeep.protocols.pop3.maildrop import MaildropLocks
from postkeep.protocols.pop3.session import Context
from postkeep.runtime.certificates import Certificates
from postkeep.runtime.clock import Clock
from postkeep.runtime.limits import ConnectionLimiter
from postkeep.runtime.logs import Logs
from postkeep.services.authentication import Authenticator
from postkeep.services.mailboxes import MailboxService


class Pop3Server(LineServer):
    """Port 110, and 995 with TLS."""

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
        locks = MaildropLocks()
        context = Context(settings, mailboxes, authenticator, certificates, clock, logs, locks)
        super().__init__(lambda gone: Pop3Connection(context, limiter, gone), clock)
