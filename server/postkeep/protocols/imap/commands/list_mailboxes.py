"""LIST with LIST-EXTENDED, SPECIAL-USE and LIST-STATUS (RFC 3501 §6.3.8, RFC 5258, RFC 6154, RFC 5819)."""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field

from postkeep.domain.errors import MailboxNotFound
from postkeep.domain.mailbox import DELIMITER, NAME_LIMIT, Mailbox, Role
from postkeep.protocols.imap import encoding
from postkeep.protocols.imap.commands.status import parse_items, status_line
from postkeep.protocols.imap.matching import Matcher
from postkeep.protocols.imap.session.session import No, Session
from postkeep.protocols.imap.syntax import BadSyntax, Cursor

PATTERN_LIMIT = 64
PATTERN_LETTERS = 2 * NAME_LIMIT
"""Letters of a pattern with its reference: a wildcard between all letters of the longest name."""
DRAIN_NAMES = 64
"""Names between two looks at how fast the client reads."""

_SELECTIONS = frozenset({"SUBSCRIBED", "REMOTE", "RECURSIVEMATCH", "SPECIAL-USE"})
_RETURNS = frozenset({"SUBSCRIBED", "CHILDREN", "SPECIAL-USE"})


@dataclass(slots=True)
class Request:
    """What LIST asks for. `extended`: it used RFC 5258's syntax."""

    patterns: tuple[str, ...] = ()
    reference: str = ""
    selections: set[str] = field(default_factory=set)
    returns: set[str] = field(default_factory=set)
    status: list[str] | None = None
    extended: bool = False


class Listing:
    """An account's mailboxes with the parents that exist only by their children."""

    def __init__(self, mailboxes: Sequence[Mailbox]) -> None:
        self.mailboxes = {mailbox.name: mailbox for mailbox in mailboxes}
        self.parents: set[str] = set()
        for name in self.mailboxes:
            add_ancestors(name, self.parents)
        missing = self.parents - self.mailboxes.keys()
        self.names = sorted([*self.mailboxes, *missing]) if missing else list(self.mailboxes)

    def attributes(self, name: str, *, extended: bool, subscribed: bool) -> list[bytes]:
        mailbox = self.mailboxes.get(name)
        words = []
        if mailbox is None:
            words.append(b"\\NonExistent" if extended else b"\\Noselect")
        elif subscribed and mailbox.subscribed:
            words.append(b"\\Subscribed")
        words.append(b"\\HasChildren" if name in self.parents else b"\\HasNoChildren")  # RFC 3348
        if mailbox is not None and mailbox.role is not Role.NONE:
            words.append(b"\\" + mailbox.role.value.encode())
        return words


def ancestors(name: str) -> list[str]:
    """a/b/c → a, a/b"""
    return [name[:end] for end, letter in enumerate(name) if letter == DELIMITER]


def add_ancestors(name: str, parents: set[str]) -> None:
    """To `parents`, which holds the ancestors of all it holds."""
    end = name.rfind(DELIMITER)
    while end > 0 and name[:end] not in parents:
        parents.add(name[:end])
        end = name.rfind(DELIMITER, 0, end)


def check_pattern(pattern: str) -> str:
    """Raises No for one that could only match what no name can be."""
    if len(pattern) > PATTERN_LETTERS:
        raise No("Pattern too long", "LIMIT")
    return pattern


async def list_mailboxes(session: Session, cursor: Cursor) -> bytes:
    request = _parse(cursor)
    if request.patterns == ("",) and not request.extended:
        # RFC 3501 §6.3.8: only the hierarchy delimiter and the root are asked for.
        session.write(b'* LIST (\\Noselect) "%b" ""\r\n' % DELIMITER.encode())
        return b"OK LIST completed"
    listing = Listing(session.mailboxes.mailboxes(session.account))
    matches = Matcher(tuple(check_pattern(request.reference + pattern) for pattern in request.patterns))
    chosen = {name for name, mailbox in listing.mailboxes.items() if _selected(mailbox, request.selections)}
    with_children: set[str] = set()
    if "RECURSIVEMATCH" in request.selections:
        for name in chosen:
            add_ancestors(name, with_children)
    selecting = bool(request.selections & {"SUBSCRIBED", "SPECIAL-USE"})
    for number, name in enumerate(listing.names):
        await session.breathe()
        if number % DRAIN_NAMES == 0:
            await session.wire.drain()
        if not matches(name):
            continue
        if name in chosen or name in with_children or not (selecting or name in listing.mailboxes):
            session.write(_line(listing, name, request, child_info=name in with_children))
            # RFC 5819 §2: STATUS for those that can be selected.
            mailbox = listing.mailboxes.get(name)
            if request.status is not None and mailbox is not None:
                try:
                    session.write(await status_line(session, mailbox, request.status))
                except MailboxNotFound:
                    continue  # deleted since it was listed
    return b"OK LIST completed"


def _selected(mailbox: Mailbox, selections: set[str]) -> bool:
    if "SUBSCRIBED" in selections and not mailbox.subscribed:
        return False
    return not ("SPECIAL-USE" in selections and mailbox.role is Role.NONE)


def _line(listing: Listing, name: str, request: Request, *, child_info: bool) -> bytes:
    subscribed = "SUBSCRIBED" in request.returns or "SUBSCRIBED" in request.selections
    attributes = listing.attributes(name, extended=request.extended, subscribed=subscribed)
    line = b'* LIST (%b) "%b" %b' % (b" ".join(attributes), DELIMITER.encode(), encoding.mailbox(name))
    if child_info:
        options = sorted(request.selections & {"SUBSCRIBED", "SPECIAL-USE"})
        line += b' ("CHILDINFO" (%b))' % b" ".join(b'"%b"' % option.encode() for option in options)
    return line + b"\r\n"


def _parse(cursor: Cursor) -> Request:
    request = Request()
    cursor.space()
    if cursor.take(b"("):
        request.extended = True
        request.selections = set(_words(cursor))
        if request.selections - _SELECTIONS:
            raise BadSyntax("Unknown selection option")
        # RFC 5258 §3.1: RECURSIVEMATCH needs another option to apply to.
        if "RECURSIVEMATCH" in request.selections and not request.selections & {"SUBSCRIBED", "SPECIAL-USE"}:
            raise BadSyntax("RECURSIVEMATCH needs another selection option")
        cursor.space()
    request.reference = _composed(cursor.mailbox())
    cursor.space()
    if cursor.take(b"("):
        request.extended = True
        patterns = [_composed(cursor.list_mailbox())]
        while not cursor.take(b")"):
            cursor.space()
            patterns.append(_composed(cursor.list_mailbox()))
            if len(patterns) > PATTERN_LIMIT:
                raise BadSyntax("Too many patterns")
        request.patterns = tuple(patterns)
    else:
        request.patterns = (_composed(cursor.list_mailbox()),)
    if cursor.more():
        cursor.expect(b"RETURN")
        cursor.space()
        cursor.expect(b"(")
        request.extended = True
        _returns(cursor, request)
    cursor.end()
    return request


def _returns(cursor: Cursor, request: Request) -> None:
    while not cursor.take(b")"):
        word = cursor.word()
        if word == "STATUS":
            cursor.space()
            request.status = parse_items(cursor)
        elif word in _RETURNS:
            request.returns.add(word)
        else:
            raise BadSyntax("Unknown return option")
        if cursor.peek() == b" ":
            cursor.space()


def _words(cursor: Cursor) -> list[str]:
    words = []
    while not cursor.take(b")"):
        words.append(cursor.word())
        if cursor.peek() == b" ":
            cursor.space()
    return words


def _composed(text: str) -> str:
    return text if text.isascii() else unicodedata.normalize("NFC", text)
