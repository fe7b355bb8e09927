"""EXPUNGE and UID EXPUNGE (RFC 3501 §6.4.3, RFC 4315 §2.1)."""

from postkeep.domain.message import Flag
from postkeep.protocols.imap.session.session import Session
from postkeep.protocols.imap.session.view import View
from postkeep.protocols.imap.syntax import Cursor


async def expunge(session: Session, cursor: Cursor) -> bytes:
    cursor.end()
    view = session.writable()
    await session.mailboxes.expunge(view.account, view.mailbox.id, origin=session)
    # The view hears of it as of everybody's changes; the session tells it before the tagged reply.
    return _done(session, view, b"EXPUNGE")


async def uid_expunge(session: Session, cursor: Cursor) -> bytes:
    cursor.space()
    numbers = cursor.sequence_set()
    cursor.end()
    view = session.writable()
    ranges = view.select(numbers, uid=True)
    deleted: list[int] = []
    if ranges:
        async for rows in session.mailboxes.flags(view.account, view.mailbox.id, ranges):
            deleted.extend(row.uid for row in rows if row.flags & Flag.DELETED)
    if deleted:
        await session.mailboxes.expunge(view.account, view.mailbox.id, deleted, origin=session)
    return _done(session, view, b"UID EXPUNGE")


def _done(session: Session, view: View, verb: bytes) -> bytes:
    if not session.extensions.qresync:
        return b"OK %b completed" % verb
    modseq = session.mailboxes.counters(view.account, view.mailbox.id).modseq
    return b"OK [HIGHESTMODSEQ %d] %b completed" % (max(1, modseq), verb)  # RFC 7162 §3.2.7
