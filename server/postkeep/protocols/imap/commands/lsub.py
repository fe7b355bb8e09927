"""LSUB (RFC 3501 §6.3.9)."""

import unicodedata

from postkeep.domain.mailbox import DELIMITER
from postkeep.protocols.imap import encoding
from postkeep.protocols.imap.commands.list_mailboxes import DRAIN_NAMES, ancestors, check_pattern
from postkeep.protocols.imap.matching import Matcher
from postkeep.protocols.imap.session.session import Session
from postkeep.protocols.imap.syntax import Cursor


async def lsub(session: Session, cursor: Cursor) -> bytes:
    cursor.space()
    reference = cursor.mailbox()
    cursor.space()
    pattern = unicodedata.normalize("NFC", reference + cursor.list_mailbox())
    cursor.end()
    matches = Matcher((check_pattern(pattern),))
    names = [mailbox.name for mailbox in session.mailboxes.mailboxes(session.account) if mailbox.subscribed]
    lines = {}
    for name in names:
        await session.breathe()
        if matches(name):
            lines[name] = b""
    if "%" in pattern:
        # A parent that is not subscribed stands for its subscribed children, as \Noselect.
        for name in names:
            await session.breathe()
            if name not in lines:
                for parent in ancestors(name):
                    if parent not in lines and matches(parent):
                        lines[parent] = b"\\Noselect"
    for number, (name, attribute) in enumerate(lines.items()):
        if number % DRAIN_NAMES == 0:
            await session.wire.drain()
        session.write(b'* LSUB (%b) "%b" %b\r\n' % (attribute, DELIMITER.encode(), encoding.mailbox(name)))
    return b"OK LSUB completed"
