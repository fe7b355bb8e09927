"""STORE and UID STORE (RFC 3501 §6.4.6, RFC 7162 §3.1.3)."""

from postkeep.domain.message import FlagMode
from postkeep.protocols.imap.sequence import format_set, numbers_of
from postkeep.protocols.imap.session.session import Session
from postkeep.protocols.imap.syntax import BadSyntax, Cursor

WRITE_BATCH = 1000


async def store(session: Session, cursor: Cursor) -> bytes:
    return await _store(session, cursor, uid=False)


async def uid_store(session: Session, cursor: Cursor) -> bytes:
    return await _store(session, cursor, uid=True)


async def _store(session: Session, cursor: Cursor, *, uid: bool) -> bytes:
    verb = b"UID STORE" if uid else b"STORE"
    cursor.space()
    numbers = cursor.sequence_set()
    cursor.space()
    unchanged_since = None
    if cursor.take(b"("):
        cursor.expect(b"UNCHANGEDSINCE")
        cursor.space()
        unchanged_since = cursor.modseq()
        cursor.expect(b")")
        cursor.space()
        session.enable_condstore()
    mode, silent = _mode(cursor)
    cursor.space()
    flags, keywords = cursor.flags()
    cursor.end()
    view = session.writable()
    uids = view.members(view.select(numbers, uid=uid))
    if not uids:
        return b"OK %b completed" % verb
    result = await session.mailboxes.store_flags(
        view.account, view.mailbox.id, uids, mode, flags, keywords, unchanged_since, origin=session
    )
    session.write(b"".join(view.new_keywords()))
    # With CONDSTORE even a silent STORE tells the new MODSEQ (RFC 7162 §3.1.3, §3.2).
    if not silent or session.extensions.condstore:
        for start in range(0, len(result.rows), WRITE_BATCH):
            batch = list(result.rows[start : start + WRITE_BATCH])
            lines = view.flag_lines(batch, session.extensions, uid=uid, flags=not silent)
            session.write(b"".join(lines))
            await session.wire.drain()
    if result.modified:
        shown = result.modified if uid else numbers_of(view.uids, result.modified)
        return b"OK [MODIFIED %b] Conditional %b failed for these" % (format_set(shown), verb)
    if len(result.rows) < len(uids):
        return b"OK [EXPUNGEISSUED] Some messages are gone"
    return b"OK %b completed" % verb


def _mode(cursor: Cursor) -> tuple[FlagMode, bool]:
    mode = FlagMode.REPLACE
    if cursor.take(b"+"):
        mode = FlagMode.ADD
    elif cursor.take(b"-"):
        mode = FlagMode.REMOVE
    name = cursor.word()
    if name not in ("FLAGS", "FLAGS.SILENT"):
        raise BadSyntax("Expected FLAGS")
    return mode, name == "FLAGS.SILENT"
