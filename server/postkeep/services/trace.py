"""What a message gets in front of it on its way in: Received (RFC 5321 §4.4), and what submission adds."""

import re
from email.utils import formatdate

_UNSAFE = re.compile(r"[^A-Za-z0-9.:_\[\]-]")
_HEADER_FIELD = re.compile(rb"[!-9;-~]+[ \t]*:|>?From ")

HEADER_LIMIT = 256 * 1024
"""Octets of a header that are looked at for loops and missing fields."""


class HeaderWatch:
    """Looks at the header while the message streams by; keeps nothing afterwards."""

    __slots__ = ("_head", "_searched", "has_date", "has_message_id", "hops", "starts_with_header")

    def __init__(self) -> None:
        self._head: bytearray | bytes | None = b""
        self._searched = 0
        self.hops = 0
        """Received fields (RFC 5321 §6.3)."""
        self.has_date = False
        self.has_message_id = False
        self.starts_with_header = True
        """False: the message begins with text, so that a blank line must be put before it."""

    def see(self, data: bytes) -> None:
        """The next octets; cheap once the header has ended."""
        if self._head is None:
            return
        if not self._head:
            self._head = data
        else:
            if isinstance(self._head, bytes):
                self._head = bytearray(self._head)
            self._head += data
        head = self._head
        if head.startswith(b"\r\n"):
            self._judge(b"")
            return
        end = head.find(b"\r\n\r\n", max(0, self._searched - 3))
        self._searched = len(head)
        if end >= 0:
            self._judge(bytes(head[: end + 2]))
        elif len(head) > HEADER_LIMIT:
            self._judge(bytes(head))

    def end(self) -> None:
        """The message is over: one that is all header is judged now."""
        if self._head is not None:
            self._judge(bytes(self._head))

    def _judge(self, head: bytes) -> None:
        self._head = None
        self.starts_with_header = not head or _HEADER_FIELD.match(head) is not None
        lines = b"\r\n" + head.lower()
        self.hops = lines.count(b"\r\nreceived:")
        self.has_date = b"\r\ndate:" in lines
        self.has_message_id = b"\r\nmessage-id:" in lines


class Dates:
    """Dates of header fields (RFC 5322 §3.3), in UTC; one a second is formatted."""

    __slots__ = ("_second", "_text")

    def __init__(self) -> None:
        self._second = -1
        self._text = b""

    def text(self, now: float) -> bytes:
        second = int(now)
        if second != self._second:
            self._second = second
            self._text = formatdate(second).encode("ascii").replace(b"-0000", b"+0000")
        return self._text


def received_from(name: str, address: str, hostname: str, protocol: str, tls: str) -> bytes:
    """Received up to and with "id ", the same for all messages of a session.

    `name` is what the peer said in HELO/EHLO: nothing in it may end the field or open a comment. `tls` is
    protocol version and cipher as OpenSSL names them, or "".
    """
    said = _UNSAFE.sub("?", name)[:255] or "unknown"
    literal = f"IPv6:{address}" if ":" in address else address
    secured = f"\r\n\t({tls})" if tls else ""
    return f"Received: from {said} ([{literal}])\r\n\tby {hostname} with {protocol}{secured} id ".encode()


def protocol_name(*, extended: bool, tls: bool, authenticated: bool, smtputf8: bool) -> str:
    """The "with" of Received (RFC 3848, RFC 6531 §4.3).

    >>> protocol_name(extended=True, tls=True, authenticated=True, smtputf8=False)
    'ESMTPSA'
    """
    if not extended:
        return "SMTP"
    base = "UTF8SMTP" if smtputf8 else "ESMTP"
    return base + ("S" if tls else "") + ("A" if authenticated else "")
