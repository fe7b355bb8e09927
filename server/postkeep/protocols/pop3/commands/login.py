"""USER and PASS, and what every way of logging in ends with (RFC 1939 §4, §7; RFC 2449 §8; RFC 3206)."""

from postkeep.domain.errors import AuthenticationFailed, Throttled
from postkeep.protocols.pop3.maildrop import Maildrop
from postkeep.protocols.pop3.session import Refused, Session
from postkeep.protocols.pop3.state import State


def may_log_in(session: Session) -> bool:
    """Passwords only under TLS, unless the setting allows the clear."""
    return session.wire.is_tls or session.context.settings.plaintext_login


def require_privacy(session: Session) -> None:
    if not may_log_in(session):
        raise Refused("Clear-text passwords are refused: use STLS first")


async def user(session: Session, argument: bytes) -> None:
    require_privacy(session)
    name = argument.strip()
    if not name:
        raise Refused("A name is expected", bad=True)
    session.user = text(name)
    session.reply()  # whether it exists is nobody's business (RFC 1939 §13)


async def pass_(session: Session, argument: bytes) -> None:
    require_privacy(session)
    name, session.user = session.user, None
    if name is None:
        raise Refused("USER comes first", bad=True)
    await log_in(session, name, text(argument))  # spaces are part of it (RFC 1939 §7)


async def log_in(session: Session, name: str, password: str) -> None:
    """Check the password, take the lock, make the snapshot, say +OK."""
    context = session.context
    try:
        owner = await context.authenticator.verify(name, password, peer=session.wire.peer, service="POP3")
    except Throttled as error:
        await _failed(session)
        raise Refused(str(error), "SYS/TEMP") from error
    except AuthenticationFailed as error:
        await _failed(session)
        raise Refused("Wrong name or password", "AUTH") from error
    account = await context.mailboxes.open_account(owner)
    if not context.locks.acquire(account):
        raise Refused("Another session is using this mailbox", "IN-USE")
    try:
        maildrop = Maildrop(context.mailboxes, account, session)
        await maildrop.load()
    except BaseException:
        context.locks.release(account)
        raise
    session.owner = owner
    session.maildrop = maildrop
    session.state = State.TRANSACTION
    session.wire.logged_in()
    count, octets = maildrop.totals()
    session.reply(f"{count} messages ({octets} octets)")


async def _failed(session: Session) -> None:
    context = session.context
    session.failed_logins += 1
    if context.settings.login_delay:
        await context.clock.sleep(context.settings.login_delay)


def text(octets: bytes) -> str:
    """UTF-8; what is none is taken octet by octet (and will be no known name or password)."""
    try:
        return octets.decode("utf-8")
    except UnicodeDecodeError:
        return octets.decode("latin-1")
