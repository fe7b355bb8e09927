"""ENABLE (RFC 5161) for CONDSTORE and QRESYNC (RFC 7162 §3.1, §3.2.3)."""

from postkeep.protocols.imap.session.session import Session
from postkeep.protocols.imap.syntax import Cursor


async def enable(session: Session, cursor: Cursor) -> bytes:
    names = []
    while not cursor.at_end:
        cursor.space()
        names.append(cursor.word())
    if not names:
        cursor.space()
    enabled = []
    for name in names:
        if name in ("CONDSTORE", "QRESYNC") and name not in enabled:
            session.enable_condstore(qresync=name == "QRESYNC")
            enabled.append(name)
    session.write(b"* ENABLED%b\r\n" % b"".join(b" " + name.encode() for name in enabled))
    return b"OK ENABLE completed"
