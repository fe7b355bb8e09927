"""AUTH PLAIN and LOGIN: what becomes of a name and a password (RFC 4954 §4, §6)."""

from typing import TYPE_CHECKING

from aiosmtpd.smtp import AuthResult, LoginPassword

from postkeep.domain.errors import AuthenticationFailed, Throttled
from postkeep.services.envelope import Client

if TYPE_CHECKING:
    from postkeep.protocols.smtp.server import SmtpServer


async def verify(
    server: "SmtpServer", client: Client, credentials: LoginPassword, identity: bytes = b""
) -> AuthResult:
    """Ask the authenticator; on success the client is that account from now on.

    `identity`: whom the client wants to act for, if it says so; nobody acts for another account.
    """
    try:
        login, password, actor = credentials.login.decode(), credentials.password.decode(), identity.decode()
    except UnicodeDecodeError:
        return _failed(server, client)
    if actor and not server.authenticator.same_login(actor, login):
        return _failed(server, client)
    try:
        account = await server.authenticator.verify(login, password, peer=client.address, service="SMTP")
    except AuthenticationFailed:
        return _failed(server, client)
    except Throttled:
        return _refusal("454 4.7.0 Too many tries, come back later")
    client.account = account
    client.traces.clear()
    return AuthResult(success=True, auth_data=account)


def _failed(server: "SmtpServer", client: Client) -> AuthResult:
    client.trusted = False  # SMT-1: after a failed AUTH the address no longer helps
    client.failed_logins += 1
    if client.failed_logins >= server.settings.maximum_failed_logins:
        return _refusal("421 4.7.0 Too many failed logins, goodbye")
    return _refusal("535 5.7.8 Authentication credentials invalid")


def _refusal(reply: str) -> AuthResult:
    return AuthResult(success=False, handled=False, message=reply)
