"""SEARCH programs as trees (RFC 3501 §6.4.4, RFC 7162 §3.1.5, RFC 4731 §3.1)."""

import datetime
from collections.abc import Callable
from dataclasses import dataclass, field

from postkeep.domain.message import Flag
from postkeep.protocols.imap.sequence import SequenceSet
from postkeep.protocols.imap.syntax import BadSyntax, Cursor

DEPTH_LIMIT = 32
"""Nested NOT, OR and parentheses."""
KEY_LIMIT = 1000
"""Search keys in one program."""
TEXT_LIMIT = 32
"""BODY and TEXT keys in one program: each message is searched for all of them."""


class BadCharset(Exception):
    """NO [BADCHARSET (US-ASCII UTF-8)]."""


@dataclass(frozen=True, slots=True)
class And:
    keys: "tuple[Key, ...]"


@dataclass(frozen=True, slots=True)
class Or:
    left: "Key"
    right: "Key"


@dataclass(frozen=True, slots=True)
class Not:
    key: "Key"


@dataclass(frozen=True, slots=True)
class Everything:
    pass


@dataclass(frozen=True, slots=True)
class Numbers:
    """By sequence number, or by UID."""

    numbers: SequenceSet
    uid: bool


@dataclass(frozen=True, slots=True)
class HasFlag:
    flag: int


@dataclass(frozen=True, slots=True)
class HasKeyword:
    keyword: str
    """Lower-case."""


@dataclass(frozen=True, slots=True)
class Recent:
    pass


@dataclass(frozen=True, slots=True)
class Size:
    larger: int | None = None
    smaller: int | None = None


@dataclass(frozen=True, slots=True)
class Dated:
    """INTERNALDATE (or the Date field) in [since, before), as days."""

    since: datetime.date | None
    before: datetime.date | None
    sent: bool = False


@dataclass(frozen=True, slots=True)
class ModSeq:
    least: int


@dataclass(frozen=True, slots=True)
class Header:
    """Fields called `name` (lower-case) hold `needle` (case-folded; "" asks for the field alone)."""

    name: bytes
    needle: str


@dataclass(frozen=True, slots=True)
class Text:
    """The body's texts, and with `header` the header, hold `needle` (case-folded)."""

    needle: str
    header: bool


Key = (
    And
    | Or
    | Not
    | Everything
    | Numbers
    | HasFlag
    | HasKeyword
    | Recent
    | Size
    | Dated
    | ModSeq
    | Header
    | Text
)


@dataclass(slots=True)
class Program:
    """`returns` are ESEARCH options (None: the plain SEARCH reply), `modseq` asks for the highest MODSEQ."""

    key: Key = field(default_factory=Everything)
    returns: frozenset[str] | None = None
    modseq: bool = False


RETURN_OPTIONS = frozenset({"MIN", "MAX", "ALL", "COUNT"})


def parse_search(cursor: Cursor) -> Program:
    """All arguments of SEARCH. Raises BadSyntax, BadCharset."""
    program = Program()
    if cursor.take(b"RETURN"):
        cursor.space()
        cursor.expect(b"(")
        options = set()
        while not cursor.take(b")"):
            options.add(cursor.word())
            if cursor.peek() == b" ":
                cursor.space()
        if options - RETURN_OPTIONS:
            raise BadSyntax("Unknown RETURN option")
        # RFC 4731 §3.1: an empty list means ALL.
        program.returns = frozenset(options or {"ALL"})
        cursor.space()
    if cursor.take(b"CHARSET"):
        cursor.space()
        if cursor.astring().upper() not in (b"US-ASCII", b"UTF-8", b"ASCII", b"UTF8"):
            raise BadCharset
        cursor.space()
    parser = _Parser(cursor, program)
    program.key = parser.keys(0)
    cursor.end()
    return program


class _Parser:
    def __init__(self, cursor: Cursor, program: Program) -> None:
        self._cursor = cursor
        self._program = program
        self._count = 0
        self._texts = 0

    def keys(self, depth: int) -> Key:
        """One or more keys, all of which must match."""
        keys = [self.key(depth)]
        while self._cursor.peek() == b" ":
            self._cursor.space()
            if self._cursor.at_end:
                break
            keys.append(self.key(depth))
        return keys[0] if len(keys) == 1 else And(tuple(keys))

    def key(self, depth: int) -> Key:
        cursor = self._cursor
        self._count += 1
        if depth > DEPTH_LIMIT or self._count > KEY_LIMIT:
            raise BadSyntax("Search program too complex")
        if cursor.take(b"("):
            key = self.keys(depth + 1)
            cursor.expect(b")")
            return key
        if cursor.peek().isdigit() or cursor.peek() == b"*":
            return Numbers(cursor.sequence_set(), uid=False)
        name = cursor.word()
        simple = _SIMPLE.get(name)
        if simple is not None:
            return simple
        if name == "NOT":
            cursor.space()
            return Not(self.key(depth + 1))
        if name == "OR":
            cursor.space()
            left = self.key(depth + 1)
            cursor.space()
            return Or(left, self.key(depth + 1))
        argument = _WITH_ARGUMENT.get(name)
        if argument is None:
            raise BadSyntax(f"Unknown search key {name[:32]}")
        cursor.space()
        if name == "MODSEQ":
            self._program.modseq = True
        elif name in ("BODY", "TEXT"):
            self._texts += 1
            if self._texts > TEXT_LIMIT:
                raise BadSyntax(f"Search program with more than {TEXT_LIMIT} texts")
        return argument(cursor)


def _needle(cursor: Cursor) -> str:
    try:
        return cursor.astring().decode("utf-8").casefold()
    except UnicodeDecodeError as error:
        raise BadCharset from error


def _field(name: bytes) -> Callable[[Cursor], Key]:
    return lambda cursor: Header(name, _needle(cursor))


def _header(cursor: Cursor) -> Key:
    name = cursor.astring().lower()
    cursor.space()
    return Header(name, _needle(cursor))


def _keyword(cursor: Cursor) -> Key:
    return HasKeyword(cursor.atom().decode("ascii").lower())


def _on(cursor: Cursor, *, sent: bool) -> Key:
    day = cursor.date()
    try:
        return Dated(day, day + datetime.timedelta(days=1), sent)
    except OverflowError:
        return Dated(day, None, sent)


def _modseq(cursor: Cursor) -> Key:
    # RFC 7162 §3.1.5: an entry name and type may be given; we keep one MODSEQ for all flags of a message.
    if cursor.peek() == b'"':
        cursor.string()
        cursor.space()
        if cursor.word() not in ("PRIV", "SHARED", "ALL"):
            raise BadSyntax("Invalid entry type")
        cursor.space()
    return ModSeq(cursor.modseq())


_SIMPLE: dict[str, Key] = {
    "ALL": Everything(),
    "ANSWERED": HasFlag(Flag.ANSWERED),
    "DELETED": HasFlag(Flag.DELETED),
    "DRAFT": HasFlag(Flag.DRAFT),
    "FLAGGED": HasFlag(Flag.FLAGGED),
    "SEEN": HasFlag(Flag.SEEN),
    "UNANSWERED": Not(HasFlag(Flag.ANSWERED)),
    "UNDELETED": Not(HasFlag(Flag.DELETED)),
    "UNDRAFT": Not(HasFlag(Flag.DRAFT)),
    "UNFLAGGED": Not(HasFlag(Flag.FLAGGED)),
    "UNSEEN": Not(HasFlag(Flag.SEEN)),
    "RECENT": Recent(),
    "OLD": Not(Recent()),
    "NEW": And((Recent(), Not(HasFlag(Flag.SEEN)))),
}

_WITH_ARGUMENT: dict[str, Callable[[Cursor], Key]] = {
    "BCC": _field(b"bcc"),
    "CC": _field(b"cc"),
    "FROM": _field(b"from"),
    "SUBJECT": _field(b"subject"),
    "TO": _field(b"to"),
    "HEADER": _header,
    "BODY": lambda cursor: Text(_needle(cursor), header=False),
    "TEXT": lambda cursor: Text(_needle(cursor), header=True),
    "KEYWORD": _keyword,
    "UNKEYWORD": lambda cursor: Not(_keyword(cursor)),
    "LARGER": lambda cursor: Size(larger=cursor.number()),
    "SMALLER": lambda cursor: Size(smaller=cursor.number()),
    "BEFORE": lambda cursor: Dated(None, cursor.date()),
    "SINCE": lambda cursor: Dated(cursor.date(), None),
    "ON": lambda cursor: _on(cursor, sent=False),
    "SENTBEFORE": lambda cursor: Dated(None, cursor.date(), sent=True),
    "SENTSINCE": lambda cursor: Dated(cursor.date(), None, sent=True),
    "SENTON": lambda cursor: _on(cursor, sent=True),
    "UID": lambda cursor: Numbers(cursor.sequence_set(), uid=True),
    "MODSEQ": _modseq,
}
