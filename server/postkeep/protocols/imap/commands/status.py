"""STATUS (RFC 3501 §6.3.10, RFC 7162 §3.1.2.1, RFC 7889, RFC 8438)."""

from postkeep.domain.mailbox import Mailbox
from postkeep.domain.message import Flag
from postkeep.protocols.imap import encoding
from postkeep.protocols.imap.sequence import MAXIMUM
from postkeep.protocols.imap.session.session import Session
from postkeep.protocols.imap.syntax import BadSyntax, Cursor

ITEMS = frozenset(
    {"MESSAGES", "RECENT", "UIDNEXT", "UIDVALIDITY", "UNSEEN", "HIGHESTMODSEQ", "SIZE", "APPENDLIMIT"}
)


def parse_items(cursor: Cursor) -> list[str]:
    """(MESSAGES UNSEEN …)"""
    cursor.expect(b"(")
    items: list[str] = []
    while not cursor.take(b")"):
        item = cursor.word()
        if item not in ITEMS:
            raise BadSyntax("Unknown STATUS item")
        if item not in items:
            items.append(item)
        if cursor.peek() == b" ":
            cursor.space()
    return items


async def status_line(session: Session, mailbox: Mailbox, items: list[str]) -> bytes:
    counters = session.mailboxes.counters(mailbox.account, mailbox.id)
    values = {
        "MESSAGES": counters.messages,
        "UIDNEXT": counters.uidnext,
        "UIDVALIDITY": mailbox.uidvalidity,
        "UNSEEN": counters.unseen,
        "HIGHESTMODSEQ": max(1, counters.modseq),
        "SIZE": counters.size,
        "APPENDLIMIT": session.context.settings.append_limit,
    }
    if session.mailboxes.is_damaged(mailbox.account, mailbox.id):
        values |= await _readable(session, mailbox)
    if "RECENT" in items:
        values["RECENT"] = await _recent(session, mailbox)
    if "HIGHESTMODSEQ" in items:
        session.enable_condstore()
    pairs = b" ".join(b"%b %d" % (item.encode(), values[item]) for item in items)
    return b"* STATUS %b (%b)\r\n" % (encoding.mailbox(mailbox.name), pairs)


async def _readable(session: Session, mailbox: Mailbox) -> dict[str, int]:
    """What SELECT shows of a mailbox of which some messages cannot be read."""
    messages = unseen = size = 0
    async for rows in session.mailboxes.rows(mailbox.account, mailbox.id, [(1, MAXIMUM)]):
        messages += len(rows)
        unseen += sum(not row.flags & Flag.SEEN for row in rows)
        size += sum(row.size for row in rows)
    return {"MESSAGES": messages, "UNSEEN": unseen, "SIZE": size}


async def _recent(session: Session, mailbox: Mailbox) -> int:
    view = session.view
    if view is not None and view.mailbox.id == mailbox.id:
        return view.recent_count
    first = session.context.recents.first(mailbox.id)
    if first is None:
        return 0
    count = 0
    async for rows in session.mailboxes.flags(mailbox.account, mailbox.id, [(first, MAXIMUM)]):
        count += len(rows)
    return count


async def status(session: Session, cursor: Cursor) -> bytes:
    cursor.space()
    name = cursor.mailbox()
    cursor.space()
    items = parse_items(cursor)
    cursor.end()
    mailbox = session.mailboxes.mailbox(session.account, name)
    session.write(await status_line(session, mailbox, items))
    return b"OK STATUS completed"
