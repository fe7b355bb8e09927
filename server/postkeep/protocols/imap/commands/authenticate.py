"""AUTHENTICATE with initial responses (RFC 3501 §6.2.2, RFC 4959)."""

from postkeep.protocols.imap.commands.login import log_in, require_privacy
from postkeep.protocols.imap.session.session import No, Session
from postkeep.protocols.imap.syntax import BadSyntax, Cursor
from postkeep.protocols.sasl import MECHANISMS, Challenge, Credentials, Exchange, SaslError


async def authenticate(session: Session, cursor: Cursor) -> bytes | None:
    cursor.space()
    mechanism = cursor.word()
    initial: bytes | None = None
    if not cursor.at_end:
        cursor.space()
        initial = cursor.data[cursor.position :]
    require_privacy(session)
    if mechanism not in MECHANISMS:
        raise No("Unknown mechanism", "CANNOT")
    try:
        credentials = await _exchange(session, mechanism, initial)
    except SaslError as error:
        raise BadSyntax(str(error)) from error
    same_login = session.context.authenticator.same_login
    if credentials.identity and not same_login(credentials.identity, credentials.name):
        raise No("Acting for another user is not allowed", "AUTHORIZATIONFAILED")
    return await log_in(session, credentials.name, credentials.password, "AUTHENTICATE")


async def _exchange(session: Session, mechanism: str, initial: bytes | None) -> Credentials:
    exchange = Exchange(mechanism)
    step = exchange.begin(initial)
    while isinstance(step, Challenge):
        session.write(b"+ %b\r\n" % step.line)
        step = exchange.answer(await session.wire.line())
    return step
