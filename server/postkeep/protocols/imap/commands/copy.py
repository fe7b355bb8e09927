"""COPY and MOVE with their UID forms (RFC 3501 §6.4.7, RFC 4315 §3, RFC 6851)."""

from postkeep.domain.errors import MailboxNotFound
from postkeep.domain.message import CopiedUids
from postkeep.protocols.imap.sequence import Ranges, format_set
from postkeep.protocols.imap.session.session import No, Session
from postkeep.protocols.imap.session.view import View
from postkeep.protocols.imap.syntax import Cursor


async def copy(session: Session, cursor: Cursor) -> bytes:
    return await _copy(session, cursor, uid=False)


async def uid_copy(session: Session, cursor: Cursor) -> bytes:
    return await _copy(session, cursor, uid=True)


async def move(session: Session, cursor: Cursor) -> bytes:
    return await _move(session, cursor, uid=False)


async def uid_move(session: Session, cursor: Cursor) -> bytes:
    return await _move(session, cursor, uid=True)


async def _copy(session: Session, cursor: Cursor, *, uid: bool) -> bytes:
    verb = b"UID COPY" if uid else b"COPY"
    view = session.selected()
    ranges, target = _arguments(session, cursor, view, uid=uid)
    uids = view.members(ranges)
    if not uids:
        return b"OK %b completed" % verb
    owner = session.user()
    octets = await _octets(session, view, ranges) if owner.quota_bytes else 0
    result = await session.mailboxes.copy(
        view.account, view.mailbox.id, uids, target, owner, octets=octets, origin=session
    )
    if not result.copied.source_uids:
        return b"OK [EXPUNGEISSUED] The messages are gone"
    return b"OK [%b] %b completed" % (_copyuid(result.copied), verb)


async def _move(session: Session, cursor: Cursor, *, uid: bool) -> bytes:
    verb = b"UID MOVE" if uid else b"MOVE"
    view = session.writable()
    ranges, target = _arguments(session, cursor, view, uid=uid)
    uids = view.members(ranges)
    if not uids:
        return b"OK %b completed" % verb
    result = await session.mailboxes.move(view.account, view.mailbox.id, uids, target, origin=session)
    if not result.copied.source_uids:
        return b"OK [EXPUNGEISSUED] The messages are gone"
    # RFC 6851 §4.3: COPYUID in an untagged OK before the EXPUNGEs, which the session tells next.
    session.write(b"* OK [%b] Moved\r\n" % _copyuid(result.copied))
    if session.extensions.qresync:
        modseq = session.mailboxes.counters(view.account, view.mailbox.id).modseq
        return b"OK [HIGHESTMODSEQ %d] %b completed" % (max(1, modseq), verb)
    return b"OK %b completed" % verb


def _arguments(session: Session, cursor: Cursor, view: View, *, uid: bool) -> tuple[Ranges, int]:
    cursor.space()
    numbers = cursor.sequence_set()
    cursor.space()
    name = cursor.mailbox()
    cursor.end()
    ranges = view.select(numbers, uid=uid)
    try:
        return ranges, session.mailboxes.mailbox(session.account, name).id
    except MailboxNotFound as error:
        raise No("No such mailbox", "TRYCREATE") from error


async def _octets(session: Session, view: View, ranges: Ranges) -> int:
    total = 0
    async for rows in session.mailboxes.rows(view.account, view.mailbox.id, ranges):
        total += sum(row.size for row in rows)
    return total


def _copyuid(copied: CopiedUids) -> bytes:
    """COPYUID keeps the order of both sides parallel; both ascend here."""
    return b"COPYUID %d %b %b" % (
        copied.uidvalidity,
        format_set(copied.source_uids),
        format_set(copied.target_uids),
    )
