"""DELE and RSET (RFC 1939 §5)."""

from postkeep.protocols.pop3.session import Refused, Session


async def dele(session: Session, argument: bytes) -> None:
    """Only marks; QUIT removes."""
    number = session.number(argument)
    session.opened().mark_deleted(number)
    session.reply(f"Message {number} is deleted")


async def rset(session: Session, argument: bytes) -> None:
    if argument:
        raise Refused("RSET takes no argument", bad=True)
    maildrop = session.opened()
    maildrop.reset()
    count, octets = maildrop.totals()
    session.reply(f"{count} messages ({octets} octets)")
