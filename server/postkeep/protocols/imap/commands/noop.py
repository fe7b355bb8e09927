"""NOOP, CHECK, LOGOUT and ID (RFC 3501 §6.1.2, §6.1.3, §6.4.1; RFC 2971)."""

import postkeep
from postkeep.protocols.imap.encoding import quoted
from postkeep.protocols.imap.session.session import Session
from postkeep.protocols.imap.syntax import BadSyntax, Cursor

_ID_FIELDS = 30
"""RFC 2971 §3.3."""


async def noop(session: Session, cursor: Cursor) -> bytes:
    cursor.end()
    return b"OK NOOP completed"


async def check(session: Session, cursor: Cursor) -> bytes:
    """Everything answered is durable already."""
    cursor.end()
    return b"OK CHECK completed"


async def logout(session: Session, cursor: Cursor) -> None:
    cursor.end()
    session.write(b"* BYE Goodbye\r\n%b OK LOGOUT completed\r\n" % session.tag)
    session.hang_up()


async def identify(session: Session, cursor: Cursor) -> bytes:
    cursor.space()
    told: list[str] = []
    if cursor.take(b"("):
        while not cursor.take(b")"):
            name = cursor.string()
            cursor.space()
            value = cursor.nstring()
            told.append(f"{name[:30]!r}={(value or b'')[:200]!r}")
            if len(told) > _ID_FIELDS:
                raise BadSyntax("Too many ID fields")
            if cursor.peek() == b" ":
                cursor.space()
    elif cursor.nstring() is not None:
        raise BadSyntax("Expected a list or NIL")
    cursor.end()
    logs = session.context.logs
    if told and logs.debug_on("imap"):
        logs.debug.write(f"IMAP client at {session.wire.peer}: {', '.join(told)}")
    session.write(b'* ID ("name" "Postkeep" "version" %b)\r\n' % quoted(postkeep.__version__.encode()))
    return b"OK ID completed"
