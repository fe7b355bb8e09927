"""APPEND (RFC 3501 §6.3.11, RFC 4315, RFC 7889): the message streams into the store."""

from postkeep.domain.errors import MailboxNotFound
from postkeep.protocols.imap.codec import AppendLiteral
from postkeep.protocols.imap.session.session import No, Session
from postkeep.protocols.imap.syntax import BadSyntax, Cursor, FlagList
from postkeep.protocols.wire import Disconnected
from postkeep.storage.bodies import Incoming
from postkeep.storage.jobs import Target

DATE_LIMIT = 1 << 40
"""Seconds from 1970, either way, that a date may lie."""


async def append(session: Session, cursor: Cursor) -> bytes | None:
    announced = session.announced
    assert announced is not None
    try:
        target, date = _target(session, cursor, announced)
        incoming = session.mailboxes.incoming()
    except Exception:
        # Before the continuation: the message is not even sent (RFC 3501 §7.5).
        refuse(session, announced)
        raise
    if announced.synchronizing:
        session.write(b"+ OK\r\n")
    session.wire.codec.accept_literal()
    try:
        await _receive(session, incoming)
        if (await session.wire.line()).strip(b" "):
            raise BadSyntax("One message an APPEND")
        if not announced.size:
            raise No("A message cannot be empty")
        body = await incoming.finish()
    except BaseException:
        incoming.abort()
        raise
    appended = await session.mailboxes.append(body, target, date, session.user(), origin=session)
    mailbox = next(
        (box for box in session.mailboxes.mailboxes(session.account) if box.id == target.mailbox), None
    )
    if mailbox is None:
        return b"OK APPEND completed"
    return b"OK [APPENDUID %d %d] APPEND completed" % (mailbox.uidvalidity, appended.rows[0].uid)


def refuse(session: Session, announced: AppendLiteral) -> None:
    """A message that is on its way already is dropped if it is not larger than one we would take."""
    limit = session.context.settings.append_limit
    if not session.wire.codec.refuse_literal(announced, limit):
        session.bye("Message too large", linger=True)
        raise Disconnected


def _target(session: Session, cursor: Cursor, announced: AppendLiteral) -> tuple[Target, int]:
    """Where to and with which date; everything that can be refused is refused here."""
    cursor.space()
    name = cursor.mailbox()
    cursor.space()
    flags = FlagList(0, ())
    if cursor.peek() == b"(":
        flags = cursor.flags()
        cursor.space()
    date = int(session.context.clock.now())
    if cursor.peek() == b'"':
        date = cursor.date_time()
        if not -DATE_LIMIT < date < DATE_LIMIT:
            raise BadSyntax("Invalid date-time")
        cursor.space()
    cursor.end()
    limit = session.context.settings.append_limit
    if announced.size > limit:
        raise No(f"A message has at most {limit} octets", "TOOBIG")  # RFC 7889 §4
    try:
        mailbox = session.mailboxes.mailbox(session.account, name)
    except MailboxNotFound as error:
        raise No("No such mailbox", "TRYCREATE") from error
    session.mailboxes.check_quota(session.user(), announced.size)
    return Target(session.account, mailbox.id, flags.flags, flags.keywords), date


async def _receive(session: Session, incoming: Incoming) -> None:
    codec = session.wire.codec
    try:
        while True:
            incoming.write(await session.wire.literal())
            if not codec.literal_left:
                return
    except BaseException:
        # The disk is full, or worse: the rest is read and dropped, so that the answer can be understood.
        codec.abandon_literal()
        raise
