"""STLS (RFC 2595 §4)."""

from postkeep.protocols.pop3.session import Refused, Session


async def stls(session: Session, argument: bytes) -> None:
    if argument:
        raise Refused("STLS takes no argument", bad=True)
    if session.wire.is_tls:
        raise Refused("TLS is active already", bad=True)
    session.reply("Begin TLS")
    session.wire.start_tls()
