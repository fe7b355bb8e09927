"""QUIT and NOOP (RFC 1939 §4–6)."""

from postkeep.domain.errors import PostkeepError
from postkeep.protocols.pop3.codec import err
from postkeep.protocols.pop3.session import Refused, Session
from postkeep.protocols.pop3.state import State


async def noop(session: Session, argument: bytes) -> None:
    session.reply()


async def quit_(session: Session, argument: bytes) -> None:
    """+OK only when what was marked is durably gone; the maildrop is free before the answer (RFC 1939 §6)."""
    if argument:
        raise Refused("QUIT takes no argument", bad=True)
    maildrop = session.maildrop
    answer = b"+OK Bye\r\n"
    if maildrop is not None:
        session.state = State.UPDATE
        try:
            removed = await maildrop.update(mark_seen=session.context.settings.mark_seen)
            if removed:
                answer = b"+OK Bye (%d messages removed)\r\n" % removed
        except PostkeepError as error:
            session.context.logs.error.write(f"POP3 QUIT could not remove deleted messages: {error}")
            answer = err("Some deleted messages were not removed", "SYS/TEMP")
        session.closed()
    session.wire.write(answer)
    session.wire.close()
