"""aiosmtpd's handler: what MAIL, RCPT and the greetings mean here. One object for all connections."""

import inspect
from typing import TYPE_CHECKING, cast

from aiosmtpd.smtp import Envelope, Session

from postkeep.domain.verdict import Verdict
from postkeep.protocols.smtp import parameters
from postkeep.protocols.smtp.session import SmtpEnvelope, SmtpSession
from postkeep.services.admission import RECIPIENT_OK, SENDER_OK, Admission

if TYPE_CHECKING:
    from postkeep.protocols.smtp.connection import SmtpConnection

_BAD_PARAMETER = "501 5.5.4 A parameter is given twice or is not well-formed"
_SENDER_OK = SENDER_OK.reply
_RECIPIENT_OK = RECIPIENT_OK.reply
_EXTENSIONS = (b"250-PIPELINING", b"250-ENHANCEDSTATUSCODES", b"250-DSN", b"250 HELP")


class EhloHook:
    """A function with its signature ready: aiosmtpd inspects it for each connection."""

    def __init__(self) -> None:
        self.__signature__ = inspect.signature(self.__call__)

    async def __call__(
        self,
        server: "SmtpConnection",
        session: Session,
        envelope: Envelope,
        hostname: str,
        responses: list[str],
    ) -> list[bytes]:
        """aiosmtpd's list ("250-host", …, "250 HELP") with our extensions. Bytes are sent as they are."""
        greet(server, session, hostname, extended=True)
        return [*(line.encode() for line in responses[:-1]), *_EXTENSIONS]


def greet(server: "SmtpConnection", session: Session, hostname: str, *, extended: bool) -> None:
    session.host_name = hostname
    client = cast(SmtpSession, session).client
    client.name = hostname.split(maxsplit=1)[0]
    client.extended = extended
    client.traces.clear()


class Hooks:
    """The hooks; `_NAMES` is all that aiosmtpd shall find here, for it looks at each connection."""

    _NAMES = ("handle_EHLO", "handle_HELO", "handle_MAIL", "handle_RCPT")

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self.handle_EHLO = EhloHook()

    def __dir__(self) -> tuple[str, ...]:
        return self._NAMES

    async def handle_HELO(
        self, server: "SmtpConnection", session: Session, envelope: Envelope, hostname: str
    ) -> bytes:
        greet(server, session, hostname, extended=False)
        return b"250 " + server.hostname.encode()  # RFC 2034 §3: no enhanced code in this reply

    async def handle_MAIL(
        self,
        server: "SmtpConnection",
        session: SmtpSession,
        envelope: SmtpEnvelope,
        address: str,
        options: list[str],
    ) -> str:
        transaction = envelope.transaction
        if server.parameters:
            checked = parameters.check_mail(server.parameters)
            if checked is None:
                return _BAD_PARAMETER
            transaction.ret, transaction.envid = checked
        for option in options:
            if option.startswith("SIZE="):
                transaction.size = int(option[5:])
            elif option == "BODY=8BITMIME":
                transaction.eight_bit = True
        transaction.smtputf8 = envelope.smtp_utf8
        verdict = self._admission.sender(session.client, transaction, "" if address == "<>" else address)
        if not verdict.ok:
            server.start_over()
            return self.refused(server, verdict)
        # never empty: aiosmtpd takes an empty one for "no MAIL yet"
        envelope.mail_from = address
        return _SENDER_OK if verdict is SENDER_OK else verdict.reply

    async def handle_RCPT(
        self,
        server: "SmtpConnection",
        session: SmtpSession,
        envelope: SmtpEnvelope,
        address: str,
        options: list[str],
    ) -> str:
        notify = original = ""
        if server.parameters:
            checked = parameters.check_rcpt(server.parameters)
            if checked is None:
                return _BAD_PARAMETER
            notify, original = checked
        verdict = self._admission.recipient(session.client, envelope.transaction, address, notify, original)
        if verdict is RECIPIENT_OK:
            envelope.rcpt_tos.append(address)
            return _RECIPIENT_OK
        return self.refused(server, verdict)

    def refused(self, server: "SmtpConnection", verdict: Verdict) -> str:
        return verdict.reply
