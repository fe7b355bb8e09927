"""Address lists of header fields (RFC 5322 §3.4 and its obsolete forms), whatever was written there."""

import re
from typing import NamedTuple

LIMIT = 10_000
"""Addresses taken from one field."""


class MailAddress(NamedTuple):
    """One entry of an address list, raw octets (encoded words are not decoded).

    A group is an entry with `local` = its name and `domain` None, its members, and an entry with both None.
    `domain` is b"" when the address has none.
    """

    name: bytes
    route: bytes
    local: bytes | None
    domain: bytes | None


_GROUP_END = MailAddress(b"", b"", None, None)

_ATOM = rb'[^ \t\r\n"<>,;:@()\[\]\\]++'
# The forms that nearly all mail uses; possessive, so that a failure costs no second look.
_SIMPLE = re.compile(
    rb'[ \t]*+(?:(?:"([^"\\]*+)"[ \t]*+|([^"<>(),:;@\\\[\]]*+))<(%b)@(%b)>|(%b)@(%b))[ \t]*+(?:,|\Z)'
    % (_ATOM, _ATOM, _ATOM, _ATOM)
)
_TOKEN = re.compile(
    rb'(?P<space>[ \t\r\n\0]+)|"(?P<quoted>(?:[^"\\]+|\\.)*)\\?"?|(?P<literal>\[[^\]]*\]?)'
    rb'|(?P<special>[<>,;:@()])|(?P<atom>[^ \t\r\n\0"<>,;:@()\[]+)',
    re.DOTALL,
)
_QUOTED_PAIR = re.compile(rb"\\(.)", re.DOTALL)
_COMMENT_MARK = re.compile(rb"[()\\]")


def parse_addresses(value: bytes, limit: int = LIMIT) -> list[MailAddress]:
    """The entries of an unfolded field body, at most `limit`. Never raises; time is linear."""
    entries: list[MailAddress] = []
    position, end = 0, len(value)
    while position < end and len(entries) < limit:
        match = _SIMPLE.match(value, position)
        if match is None:
            _Parser(value, position, entries, limit).run()
            break
        quoted, phrase, local, domain, bare_local, bare_domain = match.groups()
        if bare_local is not None:
            entries.append(MailAddress(b"", b"", bare_local, bare_domain))
        else:
            entries.append(MailAddress(phrase.strip() if quoted is None else quoted, b"", local, domain))
        position = match.end()
    return entries


class _Parser:
    """The tolerant one: comments, groups, routes, domain literals, and what broken software writes."""

    def __init__(self, value: bytes, position: int, entries: list[MailAddress], limit: int) -> None:
        self._value = value
        self._position = position
        self._entries = entries
        self._limit = limit
        self._in_group = False
        self._start()

    def _start(self) -> None:
        self._words: list[list[bytes]] = []  # of the phrase or local part, in pieces; "a . b" is one word
        self._spaced = True  # white space was seen since the last word
        self._comment = b""
        self._found: MailAddress | None = None  # an address in angle brackets
        self._domain: list[bytes] | None = None  # after an @ outside angle brackets

    def run(self) -> None:
        end = len(self._value)
        while self._position < end and len(self._entries) < self._limit:
            match = _TOKEN.match(self._value, self._position)
            if match is None:  # cannot be: every octet begins a token
                break
            self._position = match.end()
            kind = match.lastgroup
            if kind == "space":
                self._spaced = True
            elif kind == "special":
                self._special(match.group())
            elif kind == "quoted":
                self._word(_QUOTED_PAIR.sub(rb"\1", match["quoted"]))
            else:
                self._word(match.group())
        self._flush()
        if self._in_group:
            self._entries.append(_GROUP_END)

    def _special(self, char: bytes) -> None:
        if char == b"(":
            self._comment = self._read_comment()
            self._spaced = True
        elif char == b",":
            self._flush()
        elif char == b"<":
            self._angle()
        elif char == b"@":
            self._at()
        elif char == b":":
            if not self._in_group and self._domain is None and self._found is None:
                self._entries.append(MailAddress(b"", b"", self._phrase(), None))
                self._in_group = True
            self._start()
        elif char == b";":
            self._flush()
            if self._in_group:
                self._entries.append(_GROUP_END)
                self._in_group = False
        # ")" and ">" alone mean nothing

    def _phrase(self) -> bytes:
        return b" ".join([b"".join(pieces) for pieces in self._words])

    def _word(self, text: bytes) -> None:
        if self._found is not None:
            return
        # obs-local-part, obs-domain: "john . doe" is one word (RFC 5322 §4.4)
        if self._domain is not None:
            dotted = text == b"." or self._domain[-1:] == [b"."]
            if dotted or not (self._spaced and self._domain):
                self._domain.append(text)
        else:
            dotted = text == b"." or bool(self._words and self._words[-1][-1] == b".")
            if self._words and (dotted or not self._spaced):
                self._words[-1].append(text)
            else:
                self._words.append([text])
        self._spaced = False

    def _at(self) -> None:
        if self._domain is None:
            self._domain = []
        else:  # a@b@c: the last one counts
            if not self._words:
                self._words.append([])
            self._words[-1] += (b"@", *self._domain)
            self._domain = []
        self._spaced = False

    def _angle(self) -> None:
        """<local@domain>, <@route:local@domain>, and the end of it missing."""
        route = b""
        before: list[bytes] = []
        after: list[bytes] | None = None
        end = len(self._value)
        while self._position < end:
            match = _TOKEN.match(self._value, self._position)
            if match is None:
                break
            text = match.group()
            in_route = after is not None and not before and not route
            if text == b"<" or (text == b"," and not in_route):
                break  # the ">" is missing; what follows is the next address
            self._position = match.end()
            if text == b">":
                break
            if text == b"(":
                self._read_comment()
            elif text == b"@":
                if after is not None and before:
                    before += (b"@", *after)
                elif in_route and after:
                    after.append(text)
                    continue
                after = []
            elif text == b":" and in_route and after is not None:
                route = b"@" + b"".join(after)
                after = None
            elif match.lastgroup != "space":
                word = _QUOTED_PAIR.sub(rb"\1", match["quoted"]) if match.lastgroup == "quoted" else text
                (before if after is None else after).append(word)
        name = self._phrase()
        if self._domain is not None:  # bob@example.org <bob@example.org>
            name += b"@" + b"".join(self._domain)
            self._domain = None
        if self._found is None:
            self._found = MailAddress(name, route, b"".join(before), b"".join(after or ()))

    def _read_comment(self) -> bytes:
        start = self._position
        depth = 1
        for mark in _COMMENT_MARK.finditer(self._value, start):
            if mark.start() < self._position:
                continue
            self._position = mark.end()
            char = mark.group()
            if char == b"\\":
                self._position += 1
            else:
                depth += 1 if char == b"(" else -1
            if depth == 0:
                return _QUOTED_PAIR.sub(rb"\1", self._value[start : self._position - 1]).strip()
        self._position = len(self._value)
        return self._value[start:].strip()

    def _flush(self) -> None:
        found = self._found
        if found is None:
            if self._domain is not None:
                local = b"".join(self._words.pop()) if self._words else b""
                found = MailAddress(self._phrase(), b"", local, b"".join(self._domain))
            elif self._words:
                found = MailAddress(b"", b"", self._phrase(), b"")
        if found is not None:
            if not found.name and self._comment:
                found = found._replace(name=self._comment)
            self._entries.append(found)
        self._start()
