"""SEARCH and UID SEARCH (RFC 3501 §6.4.4, RFC 4731, RFC 7162 §3.1.5)."""

from postkeep.protocols.imap.search_syntax import BadCharset, Program, parse_search
from postkeep.protocols.imap.sequence import format_set
from postkeep.protocols.imap.session.searcher import Found, Searcher
from postkeep.protocols.imap.session.session import No, Session
from postkeep.protocols.imap.syntax import Cursor


async def search(session: Session, cursor: Cursor) -> bytes:
    return await _search(session, cursor, uid=False)


async def uid_search(session: Session, cursor: Cursor) -> bytes:
    return await _search(session, cursor, uid=True)


async def _search(session: Session, cursor: Cursor, *, uid: bool) -> bytes:
    cursor.space()
    try:
        program = parse_search(cursor)
    except BadCharset as error:
        raise No("Unknown charset", "BADCHARSET (US-ASCII UTF-8)") from error
    if program.modseq:
        session.enable_condstore()  # RFC 7162 §3.1
    found = await Searcher(session, session.selected(), program.key).run()
    session.write(_reply(session, program, found, uid=uid))
    return b"OK UID SEARCH completed" if uid else b"OK SEARCH completed"


def _reply(session: Session, program: Program, found: Found, *, uid: bool) -> bytes:
    numbers = found.uids if uid else found.numbers
    if program.returns is None:
        line = b"* SEARCH" + b"".join(map(b" %d".__mod__, numbers))
        if program.modseq and numbers:
            line += b" (MODSEQ %d)" % max(found.modseqs)
        return line + b"\r\n"
    # RFC 4731 §3.1: ESEARCH names the command's tag.
    line = b'* ESEARCH (TAG "%b")' % session.tag
    if uid:
        line += b" UID"
    if "COUNT" in program.returns:
        line += b" COUNT %d" % len(numbers)
    if numbers:
        if "MIN" in program.returns:
            line += b" MIN %d" % numbers[0]
        if "MAX" in program.returns:
            line += b" MAX %d" % numbers[-1]
        if "ALL" in program.returns:
            line += b" ALL " + format_set(numbers)
        if program.modseq:
            line += b" MODSEQ %d" % _modseq(program.returns, found)
    return line + b"\r\n"


def _modseq(returns: frozenset[str], found: Found) -> int:
    """Of the messages that the reply names (RFC 4731 §3.2)."""
    if returns & {"ALL", "COUNT"}:
        return max(found.modseqs)
    ends = [found.modseqs[0]] if "MIN" in returns else []
    if "MAX" in returns:
        ends.append(found.modseqs[-1])
    return max(ends)
