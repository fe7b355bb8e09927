"""AUTH: what becomes of a name and a password (RFC 4954 §4, §6)."""

from typing import TYPE_CHECKING

from aiosmtpd.smtp import AuthResult

from postkeep.domain.errors import AuthenticationFailed, Throttled
from postkeep.protocols.sasl import Credentials, Fault
from postkeep.services.envelope import Client

if TYPE_CHECKING:
    from postkeep.protocols.smtp.server import SmtpServer

REPLIES = {
    Fault.CANCELLED: "501 5.7.0 Auth aborted",
    Fault.TOO_LONG: "500 5.5.6 Authentication exchange line is too long",
    Fault.NOT_BASE64: "501 5.5.2 Can't decode base64",
    Fault.MALFORMED: "501 5.5.2 Can't split auth value",
}
"""aiosmtpd's words where it has some. Fault.NOT_TEXT counts as a wrong password."""


async def verify(server: "SmtpServer", client: Client, credentials: Credentials) -> AuthResult:
    """Ask the authenticator; on success the client is that account from now on.

    Nobody acts for another account (`credentials.identity`).
    """
    login, actor = credentials.name, credentials.identity
    if actor and not server.authenticator.same_login(actor, login):
        return failed(server, client)
    try:
        account = await server.authenticator.verify(
            login, credentials.password, peer=client.address, service="SMTP"
        )
    except AuthenticationFailed:
        return failed(server, client)
    except Throttled:
        return _refusal("454 4.7.0 Too many tries, come back later")
    client.account = account
    client.traces.clear()
    return AuthResult(success=True, auth_data=account)


def failed(server: "SmtpServer", client: Client) -> AuthResult:
    """A wrong name or password: counted."""
    client.trusted = False  # SMT-1: after a failed AUTH the address no longer helps
    client.failed_logins += 1
    if client.failed_logins >= server.settings.maximum_failed_logins:
        return _refusal("421 4.7.0 Too many failed logins, goodbye")
    return _refusal("535 5.7.8 Authentication credentials invalid")


def _refusal(reply: str) -> AuthResult:
    return AuthResult(success=False, handled=False, message=reply)
