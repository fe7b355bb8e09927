"""LOGIN (RFC 3501 §6.2.3), and what all ways of logging in share."""

from postkeep.domain.errors import AuthenticationFailed, Throttled
from postkeep.protocols.imap.commands.capability import capabilities
from postkeep.protocols.imap.session.session import No, Session
from postkeep.protocols.imap.state import State
from postkeep.protocols.imap.syntax import Cursor
from postkeep.protocols.wire import Disconnected


async def login(session: Session, cursor: Cursor) -> bytes | None:
    cursor.space()
    name = cursor.text()
    cursor.space()
    password = cursor.text()
    cursor.end()
    require_privacy(session)
    return await log_in(session, name, password, "LOGIN")


def require_privacy(session: Session) -> None:
    """Passwords in the clear only when the administrator wants it (RFC 3501 §6.2.3, RFC 5530 §3)."""
    if not session.wire.is_tls and not session.context.settings.plaintext_login:
        raise No("Use STARTTLS before logging in", "PRIVACYREQUIRED")


async def log_in(session: Session, name: str, password: str, verb: str) -> bytes | None:
    """Verify and open the account; a wrong password waits, and the last one allowed hangs up."""
    context = session.context
    try:
        owner = await context.authenticator.verify(name, password, peer=session.wire.peer, service="IMAP")
    except (AuthenticationFailed, Throttled) as error:
        session.failed_logins += 1
        if context.settings.login_delay:
            await context.clock.sleep(context.settings.login_delay)
        if session.wire.closing:
            raise Disconnected from error
        throttled = isinstance(error, Throttled)
        code = b"UNAVAILABLE" if throttled else b"AUTHENTICATIONFAILED"
        text = b"Too many tries, come back later" if throttled else b"Wrong name or password"
        if session.failed_logins >= context.settings.failed_logins:
            session.write(b"%b NO [%b] %b\r\n" % (session.tag, code, text))
            session.bye("Too many wrong passwords")
            return None
        return b"NO [%b] %b" % (code, text)
    account = await session.mailboxes.open_account(owner)
    if session.state is not State.NOT_AUTHENTICATED:
        raise Disconnected
    session.logged_in(owner, account)
    if context.logs.debug_on("imap"):
        context.logs.debug.write(f"IMAP {owner.key} logged in from {session.wire.peer}")
    return b"OK [CAPABILITY %b] %b completed" % (capabilities(session), verb.encode())
