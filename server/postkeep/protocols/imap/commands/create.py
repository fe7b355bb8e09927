"""CREATE, DELETE, RENAME, SUBSCRIBE and UNSUBSCRIBE (RFC 3501 §6.3.3–§6.3.7, RFC 6154 §3)."""

from postkeep.domain.mailbox import Role
from postkeep.protocols.imap.session.session import No, Session
from postkeep.protocols.imap.syntax import Cursor


async def create(session: Session, cursor: Cursor) -> bytes:
    cursor.space()
    name = cursor.mailbox()
    role = Role.NONE
    if cursor.more():
        role = _use(cursor)
    cursor.end()
    await session.mailboxes.create_mailbox(session.account, name, role, origin=session)
    return b"OK CREATE completed"


def _use(cursor: Cursor) -> Role:
    """(USE (\\Sent)): one role a mailbox; \\All and \\Flagged are not kept."""
    cursor.expect(b"(")
    cursor.expect(b"USE")
    cursor.space()
    cursor.expect(b"(")
    uses = []
    while not cursor.take(b")"):
        cursor.expect(b"\\")
        uses.append(cursor.word())
        if cursor.peek() == b" ":
            cursor.space()
    cursor.expect(b")")
    if not uses:
        return Role.NONE
    roles = {role.value.upper(): role for role in Role if role is not Role.NONE}
    if len(uses) > 1 or uses[0] not in roles:
        raise No("That special use is not supported", "USEATTR")
    return roles[uses[0]]


async def delete(session: Session, cursor: Cursor) -> bytes:
    cursor.space()
    name = cursor.mailbox()
    cursor.end()
    await session.mailboxes.delete_mailbox(session.account, name, origin=session)
    _unselect_deleted(session)
    return b"OK DELETE completed"


async def rename(session: Session, cursor: Cursor) -> bytes:
    cursor.space()
    name = cursor.mailbox()
    cursor.space()
    new_name = cursor.mailbox()
    cursor.end()
    await session.mailboxes.rename_mailbox(session.account, name, new_name, origin=session)
    # INBOX's messages have gone away with their mailbox; it starts anew with another UIDVALIDITY.
    _unselect_deleted(session)
    return b"OK RENAME completed"


def _unselect_deleted(session: Session) -> None:
    """After a command of our own, which was heard of as everybody's changes are, nobody needs a BYE."""
    if session.view is not None and session.view.gone:
        session.unselect()


async def subscribe(session: Session, cursor: Cursor) -> bytes:
    await _subscription(session, cursor, on=True)
    return b"OK SUBSCRIBE completed"


async def unsubscribe(session: Session, cursor: Cursor) -> bytes:
    await _subscription(session, cursor, on=False)
    return b"OK UNSUBSCRIBE completed"


async def _subscription(session: Session, cursor: Cursor, *, on: bool) -> None:
    cursor.space()
    name = cursor.mailbox()
    cursor.end()
    await session.mailboxes.subscribe(session.account, name, on, origin=session)
