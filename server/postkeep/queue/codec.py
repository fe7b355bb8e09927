"""SMTP as a client speaks it: bytes ↔ commands and replies, no I/O (RFC 5321, 1870, 3461, 6152, 6531)."""

import re
from typing import NamedTuple

from postkeep.queue.entry import WORDS_LIMIT

LINE_LIMIT = 4096
"""Octets of a reply line that are borne (RFC 5321 §4.5.3.1.5 says 512)."""
REPLY_LINES = 128
_ENHANCED = re.compile(r"([245])\.(\d{1,3})\.(\d{1,3})(?:\s+|\Z)")
_XTEXT = re.compile(r"[\x21-\x7e]{1,500}\Z")
_ORCPT = re.compile(r"[A-Za-z0-9-]{1,40};[^\s\x00-\x20\x7f]{1,500}\Z")
_NOTIFY = re.compile(r"(?:NEVER|(?:SUCCESS|FAILURE|DELAY)(?:,(?:SUCCESS|FAILURE|DELAY))*)\Z")
_LONE = re.compile(rb"\r(?!\n)|(?<!\r)\n")


class BadReply(Exception):
    """The other side does not speak SMTP."""


class Reply(NamedTuple):
    """`lines` without code and separator, decoded leniently."""

    code: int
    lines: tuple[str, ...]

    @property
    def ok(self) -> bool:
        return 200 <= self.code < 300

    @property
    def permanent(self) -> bool:
        return self.code >= 500

    @property
    def status(self) -> str:
        """The enhanced status (RFC 2034), or what the code alone says."""
        found = _ENHANCED.match(self.lines[0]) if self.lines else None
        if found and found[1] == str(self.code)[0]:
            return f"{found[1]}.{int(found[2])}.{int(found[3])}"
        return f"{self.code // 100}.0.0"

    @property
    def words(self) -> str:
        """The whole reply in one line, for logs and notifications."""
        text = f"{self.code} {' '.join(line.strip() for line in self.lines)}".strip()
        return "".join(char if char.isprintable() else " " for char in text[:WORDS_LIMIT])


class ReplyParser:
    """Feed bytes, get whole replies. Bounded; raises BadReply once and is then done."""

    def __init__(self) -> None:
        self._rest = b""
        self._lines: list[str] = []
        self._code = 0

    @property
    def pending(self) -> bool:
        """Is there the beginning of a reply?"""
        return bool(self._rest or self._lines)

    def feed(self, data: bytes) -> list[Reply]:
        replies = []
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            reply = self._line(line.rstrip(b"\r"))
            if reply is not None:
                replies.append(reply)
        if len(self._rest) > LINE_LIMIT:
            raise BadReply("a reply line is too long")
        return replies

    def _line(self, line: bytes) -> Reply | None:
        if len(line) > LINE_LIMIT:
            raise BadReply("a reply line is too long")
        code, separator = line[:3], line[3:4]
        if not (code.isdigit() and b"2" <= code[:1] <= b"5") or separator not in (b" ", b"-", b""):
            shown = line[:60].decode("ascii", "backslashreplace")
            raise BadReply(f"not an SMTP reply: {shown!r}")
        number = int(code)
        if self._lines and number != self._code:
            raise BadReply("a reply changes its code between its lines")
        self._code = number
        self._lines.append(line[4:].decode("utf-8", "replace"))
        if separator == b"-":
            if len(self._lines) >= REPLY_LINES:
                raise BadReply("a reply has too many lines")
            return None
        lines, self._lines = tuple(self._lines), []
        return Reply(number, lines)


class Extensions(NamedTuple):
    """What EHLO announced. `size` is the limit in octets (0: none told), None without SIZE."""

    pipelining: bool = False
    size: int | None = None
    eight_bit: bool = False
    smtputf8: bool = False
    dsn: bool = False
    starttls: bool = False
    auth: frozenset[str] = frozenset()


def parse_ehlo(reply: Reply) -> Extensions:
    """The first line is the greeting (RFC 5321 §4.1.1.1); keywords in any case."""
    keywords: dict[str, list[str]] = {}
    for line in reply.lines[1:]:
        # “AUTH=LOGIN” is an old server's spelling
        name, *values = line.replace("AUTH=", "AUTH ", 1).upper().split() or [""]
        keywords.setdefault(name, []).extend(values)
    size = (keywords["SIZE"] or ["0"])[0] if "SIZE" in keywords else None
    return Extensions(
        pipelining="PIPELINING" in keywords,
        size=None if size is None else int(size) if size.isdecimal() and len(size) < 20 else 0,
        eight_bit="8BITMIME" in keywords,
        smtputf8="SMTPUTF8" in keywords,
        dsn="DSN" in keywords,
        starttls="STARTTLS" in keywords,
        auth=frozenset(keywords.get("AUTH", ())),
    )


def mail_command(
    sender: str,
    offered: Extensions,
    *,
    size: int,
    eight_bit: bool,
    smtputf8: bool,
    envid: str = "",
    ret: str = "",
) -> bytes:
    """MAIL FROM with the parameters that the other side knows. The caller has checked what it must know."""
    line = f"MAIL FROM:<{sender}>"
    if offered.size is not None:
        line += f" SIZE={size}"
    if eight_bit and offered.eight_bit:
        line += " BODY=8BITMIME"
    if smtputf8 and offered.smtputf8:
        line += " SMTPUTF8"
    if offered.dsn:
        if ret.upper() in ("FULL", "HDRS"):
            line += f" RET={ret.upper()}"
        if _XTEXT.match(envid):
            line += f" ENVID={envid}"
    return line.encode("utf-8") + b"\r\n"


def rcpt_command(recipient: str, offered: Extensions, notify: str = "", original: str = "") -> bytes:
    line = f"RCPT TO:<{recipient}>"
    if offered.dsn:
        notify = notify.upper().replace(" ", "")
        if _NOTIFY.match(notify):
            line += f" NOTIFY={notify}"
        if _ORCPT.match(original):
            line += f" ORCPT={original}"
    return line.encode("utf-8") + b"\r\n"


class DotStuffer:
    """A message's octets on their way after DATA: dots stuffed, every line end CRLF, the end marked.

    A CR or LF alone becomes CRLF: RFC 5321 §2.3.8 forbids sending them, and a server that takes one for a
    line end could be made to see an end of data inside the message (SMTP smuggling).
    """

    def __init__(self) -> None:
        self._at_start = True
        self._held = b""

    def feed(self, block: bytes) -> bytes:
        data = self._held + block
        self._held = b""
        if data.endswith(b"\r"):
            data, self._held = data[:-1], b"\r"
        if not data:
            return b""
        pairs = data.count(b"\r\n")
        if data.count(b"\n") != pairs or data.count(b"\r") != pairs:
            data = _LONE.sub(b"\r\n", data)
        stuffed = data.replace(b"\r\n.", b"\r\n..")
        if self._at_start and data.startswith(b"."):
            stuffed = b"." + stuffed
        self._at_start = data.endswith(b"\n")
        return stuffed

    def finish(self) -> bytes:
        """The rest and the final dot."""
        tail = b"\r\n" if self._held or not self._at_start else b""
        self._held = b""
        return tail + b".\r\n"
