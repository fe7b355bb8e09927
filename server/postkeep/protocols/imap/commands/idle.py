"""IDLE (RFC 2177). It holds no task: the session's `push` runs when something changed."""

from postkeep.protocols.imap.session.session import Session
from postkeep.protocols.imap.syntax import Cursor


async def idle(session: Session, cursor: Cursor) -> None:
    cursor.end()
    session.write(b"+ idling\r\n")
    await session.send_updates()
    session.leave_deleted()
    if not session.ended:
        session.idle_tag = session.tag
