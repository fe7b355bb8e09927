"""SELECT, EXAMINE, CLOSE and UNSELECT (RFC 3501 §6.3.1, §6.3.2, §6.4.2, RFC 3691, RFC 7162 §3.2.5)."""

from dataclasses import dataclass

from postkeep.domain.message import Flag
from postkeep.protocols.imap.sequence import (
    MAXIMUM,
    Ranges,
    SequenceSet,
    format_set,
    present,
    resolve,
)
from postkeep.protocols.imap.session.session import Session
from postkeep.protocols.imap.session.view import View
from postkeep.protocols.imap.state import State
from postkeep.protocols.imap.syntax import BadSyntax, Cursor

UNSEEN_LIMIT = 2000
"""The first unseen message is looked for in mailboxes up to this size; in larger ones the reply is left out
(RFC 3501 §6.3.1 lets us; RFC 9051 dropped it) rather than reading all rows at each SELECT."""

DAMAGED = (
    b"* NO [ALERT] The database is damaged: some messages of this mailbox cannot be read, the others are"
    b" served read-only until the administrator runs postkeep rebuild\r\n"
)


@dataclass(frozen=True, slots=True)
class Resync:
    """QRESYNC (uidvalidity modseq [known-uids [seq-match]])."""

    uidvalidity: int
    modseq: int
    known: SequenceSet | None
    matched: tuple[SequenceSet, SequenceSet] | None


async def select(session: Session, cursor: Cursor) -> bytes:
    return await _open(session, cursor, b"SELECT", read_only=False)


async def examine(session: Session, cursor: Cursor) -> bytes:
    return await _open(session, cursor, b"EXAMINE", read_only=True)


async def close(session: Session, cursor: Cursor) -> bytes:
    """Expunges silently, unless the mailbox is read-only."""
    cursor.end()
    view = session.selected()
    if not view.read_only:
        await session.mailboxes.expunge(view.account, view.mailbox.id, origin=session)
    session.unselect()
    return b"OK CLOSE completed"


async def unselect(session: Session, cursor: Cursor) -> bytes:
    cursor.end()
    session.unselect()
    return b"OK UNSELECT completed"


async def _open(session: Session, cursor: Cursor, verb: bytes, *, read_only: bool) -> bytes:
    cursor.space()
    name = cursor.mailbox()
    resync = None
    if cursor.more():
        resync = _parameters(session, cursor)
    cursor.end()
    if session.view is not None:
        # RFC 3501 §6.3.1: after a failed SELECT no mailbox is selected.
        session.unselect()
        if session.extensions.qresync:
            session.write(b"* OK [CLOSED] Previous mailbox closed\r\n")  # RFC 7162 §3.2.11
    service = session.mailboxes
    mailbox = service.mailbox(session.account, name)
    view = View(service, session.context.recents, mailbox, session, read_only=read_only)
    # Hear of changes first, then read: what comes between is noted and told later.
    session.select(view)
    try:
        # Read before the UIDs: an expunge in between would never be told to who comes back with its MODSEQ.
        modseq = max(1, service.counters(view.account, mailbox.id).modseq)
        await view.load()
        damaged = service.is_damaged(view.account, mailbox.id)
        read_only = view.read_only = read_only or damaged
        counters = service.counters(view.account, mailbox.id)
        lines = [DAMAGED] if damaged else []
        lines += view.describe_flags()[:1]
        lines.append(b"* %d EXISTS\r\n* %d RECENT\r\n" % (view.count, view.recent_count))
        unseen = await _first_unseen(session, view) if counters.unseen else 0
        if unseen:
            lines.append(b"* OK [UNSEEN %d] First unseen\r\n" % unseen)
        lines += view.describe_flags()[1:]
        lines.append(b"* OK [UIDNEXT %d] Predicted next UID\r\n" % counters.uidnext)
        lines.append(b"* OK [UIDVALIDITY %d] UIDs valid\r\n" % mailbox.uidvalidity)
        lines.append(b"* OK [HIGHESTMODSEQ %d] Highest\r\n" % modseq)
        session.write(b"".join(lines))
        if resync is not None and resync.uidvalidity == mailbox.uidvalidity:
            await _resynchronize(session, view, resync)
    except BaseException:
        session.unselect()
        raise
    session.state = State.SELECTED
    if read_only:
        return b"OK [READ-ONLY] %b completed" % verb
    return b"OK [READ-WRITE] SELECT completed"


def _parameters(session: Session, cursor: Cursor) -> Resync | None:
    cursor.expect(b"(")
    resync = None
    while True:
        name = cursor.word()
        if name == "CONDSTORE":
            session.enable_condstore()
        elif name == "QRESYNC":
            if not session.extensions.qresync:
                raise BadSyntax("ENABLE QRESYNC first")  # RFC 7162 §3.2.5
            cursor.space()
            resync = _resync(cursor)
        else:
            raise BadSyntax("Unknown SELECT parameter")
        if cursor.take(b")"):
            return resync
        cursor.space()


def _resync(cursor: Cursor) -> Resync:
    cursor.expect(b"(")
    uidvalidity = cursor.number()
    cursor.space()
    modseq = cursor.modseq()
    known = None
    matched = None
    if cursor.peek() == b" ":
        cursor.space()
        if cursor.peek() != b"(":
            known = cursor.sequence_set()
            if cursor.peek() == b" ":
                cursor.space()
        if cursor.take(b"("):
            numbers = cursor.sequence_set()
            cursor.space()
            matched = numbers, cursor.sequence_set()
            cursor.expect(b")")
    cursor.expect(b")")
    return Resync(uidvalidity, modseq, known, matched)


async def _resynchronize(session: Session, view: View, resync: Resync) -> None:
    """VANISHED (EARLIER) and FETCH for all that changed since the client's MODSEQ (RFC 7162 §3.2.5).

    The sequence match (§3.2.5.2) only helps servers that have forgotten what was expunged; ours has not.
    """
    last = view.uids[-1] if view.uids else 0
    known = resolve(resync.known, MAXIMUM) if resync.known is not None else [(1, MAXIMUM)]
    await write_vanished(session, view, known, resync.modseq)
    ranges = [(low, min(high, last)) for low, high in known if low <= last]
    if not ranges:
        return
    rows = session.mailboxes.flags(view.account, view.mailbox.id, ranges, changed_since=resync.modseq)
    async for batch in rows:
        lines = []
        for row in batch:
            number = view.number(row.uid)
            if number is not None:
                flags = view.flags_text(row.uid, row.flags, row.keywords)
                lines.append(
                    b"* %d FETCH (UID %d FLAGS (%b) MODSEQ (%d))\r\n" % (number, row.uid, flags, row.modseq)
                )
        session.write(b"".join(lines))
        await session.wire.drain()


async def write_vanished(session: Session, view: View, ranges: Ranges, since: int) -> None:
    """VANISHED (EARLIER) for the UIDs in `ranges` that were expunged after `since`."""
    gone = await session.mailboxes.expunged_since(view.account, view.mailbox.id, since)
    known = [uid for uid in present(gone, ranges) if view.number(uid) is None]
    if known:
        session.write(b"* VANISHED (EARLIER) %b\r\n" % format_set(known))


async def _first_unseen(session: Session, view: View) -> int:
    """Sequence number of the first message without \\Seen, 0 when it is not looked for."""
    if not 0 < view.count <= UNSEEN_LIMIT:
        return 0
    everything = [(view.uids[0], view.uids[-1])]
    async for rows in session.mailboxes.flags(view.account, view.mailbox.id, everything):
        for row in rows:
            if not row.flags & Flag.SEEN:
                return view.number(row.uid) or 0
    return 0
