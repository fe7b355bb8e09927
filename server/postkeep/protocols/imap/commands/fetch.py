"""FETCH and UID FETCH (RFC 3501 §6.4.5, RFC 7162 §3.1.4, §3.2.6)."""

from postkeep.protocols.imap.commands.select import write_vanished
from postkeep.protocols.imap.fetch_syntax import FetchItems, parse_items
from postkeep.protocols.imap.sequence import MAXIMUM, format_set, resolve
from postkeep.protocols.imap.session.fetcher import Fetcher
from postkeep.protocols.imap.session.session import No, Session
from postkeep.protocols.imap.syntax import BadSyntax, Cursor


async def fetch(session: Session, cursor: Cursor) -> bytes:
    return await _fetch(session, cursor, uid=False)


async def uid_fetch(session: Session, cursor: Cursor) -> bytes:
    return await _fetch(session, cursor, uid=True)


async def _fetch(session: Session, cursor: Cursor, *, uid: bool) -> bytes:
    verb = b"UID FETCH" if uid else b"FETCH"
    cursor.space()
    numbers = cursor.sequence_set()
    cursor.space()
    items = parse_items(cursor)
    changed_since, vanished = None, False
    if cursor.more():
        changed_since, vanished = _modifiers(session, cursor, items, uid=uid)
    cursor.end()
    if uid and "UID" not in items.simple:
        items.simple.insert(0, "UID")  # RFC 3501 §6.4.8
    if "MODSEQ" in items.simple:
        session.enable_condstore()  # RFC 7162 §3.1
    view = session.selected()
    ranges = view.select(numbers, uid=uid)
    session.write(b"".join(view.new_keywords()))
    if vanished and changed_since is not None:
        await write_vanished(session, view, resolve(numbers, MAXIMUM), changed_since)
    if not ranges:
        return b"OK %b completed" % verb
    fetcher = Fetcher(session, view, items)
    where, since = (view.account, view.mailbox.id, ranges), changed_since or 0
    if fetcher.flags_only:
        await fetcher.run_flags(session.mailboxes.flags(*where, changed_since=since))
    else:
        await fetcher.run(session.mailboxes.rows(*where, changed_since=since))
    if fetcher.damaged:
        shown = format_set(sorted(fetcher.damaged)[:50]).decode()
        raise No(f"Damaged in storage, others were sent: UID {shown}", "CORRUPTION")  # RFC 5530 §3
    if changed_since is None and fetcher.answered < len(view.members(ranges)):
        if session.mailboxes.is_damaged(view.account, view.mailbox.id):
            # Damaged since SELECT: what the client knows keeps its number and cannot be read.
            raise No("The database is damaged, others were sent: see postkeep rebuild", "CORRUPTION")
        return b"OK [EXPUNGEISSUED] Some messages are gone"
    return b"OK %b completed" % verb


def _modifiers(session: Session, cursor: Cursor, items: FetchItems, *, uid: bool) -> tuple[int | None, bool]:
    """(CHANGEDSINCE n [VANISHED])"""
    cursor.expect(b"(")
    changed_since, vanished = None, False
    while not cursor.take(b")"):
        name = cursor.word()
        if name == "CHANGEDSINCE":
            cursor.space()
            changed_since = cursor.modseq()
            items.add("MODSEQ")  # RFC 7162 §3.1.4.1
        elif name == "VANISHED":
            vanished = True
        else:
            raise BadSyntax("Unknown FETCH modifier")
        if cursor.peek() == b" ":
            cursor.space()
    if vanished and (not uid or changed_since is None or not session.extensions.qresync):
        raise BadSyntax("VANISHED needs QRESYNC, UID FETCH and CHANGEDSINCE")  # RFC 7162 §3.2.6
    return changed_since, vanished
