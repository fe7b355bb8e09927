"""STARTTLS (RFC 3501 §6.2.1)."""

from postkeep.protocols.imap.session.session import Session
from postkeep.protocols.imap.syntax import BadSyntax, Cursor


async def starttls(session: Session, cursor: Cursor) -> bytes:
    cursor.end()
    if session.wire.is_tls:
        raise BadSyntax("TLS is active already")
    session.wire.start_tls()
    return b"OK Begin TLS negotiation now"
