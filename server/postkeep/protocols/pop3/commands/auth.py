"""AUTH (RFC 5034)."""

from postkeep.protocols import sasl
from postkeep.protocols.pop3.codec import END, Fault
from postkeep.protocols.pop3.commands.login import log_in, may_log_in, require_privacy
from postkeep.protocols.pop3.session import Refused, Session
from postkeep.protocols.sasl import MECHANISMS, Challenge, Credentials, Exchange, SaslError


async def auth(session: Session, argument: bytes) -> None:
    words = argument.split()
    if not words:  # older clients ask for the mechanisms in this way
        usable = MECHANISMS if may_log_in(session) else ()
        session.reply("Mechanisms follow")
        session.wire.write("".join(f"{name}\r\n" for name in usable).encode("ascii") + END)
        return
    if len(words) > 2:
        raise Refused("Too many arguments", bad=True)
    require_privacy(session)
    mechanism = words[0].decode("latin-1").upper()
    if mechanism not in MECHANISMS:
        raise Refused("Unknown mechanism")
    try:
        credentials = await _exchange(session, mechanism, words[1] if len(words) == 2 else None)
    except SaslError as error:
        raise Refused(str(error), bad=error.fault is not sasl.Fault.CANCELLED) from error
    same_login = session.context.authenticator.same_login
    if credentials.identity and not same_login(credentials.identity, credentials.name):
        raise Refused("Acting for another user is not allowed", "AUTH")
    await log_in(session, credentials.name, credentials.password)


async def _exchange(session: Session, mechanism: str, initial: bytes | None) -> Credentials:
    exchange = Exchange(mechanism)
    step = exchange.begin(initial)
    while isinstance(step, Challenge):
        session.wire.write(b"+ %b\r\n" % step.line)
        line = await session.wire.response()
        if isinstance(line, Fault):
            raise Refused(line.value, bad=True)
        step = exchange.answer(line)
    return step
