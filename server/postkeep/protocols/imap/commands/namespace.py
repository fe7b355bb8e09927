"""NAMESPACE (RFC 2342): personal mailboxes only."""

from postkeep.domain.mailbox import DELIMITER
from postkeep.protocols.imap.session.session import Session
from postkeep.protocols.imap.syntax import Cursor


async def namespace(session: Session, cursor: Cursor) -> bytes:
    cursor.end()
    session.write(b'* NAMESPACE (("" "%b")) NIL NIL\r\n' % DELIMITER.encode())
    return b"OK NAMESPACE completed"
