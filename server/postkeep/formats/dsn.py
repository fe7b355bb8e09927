"""Delivery status notifications: what a sender is told of his message (RFC 3461, 3462, 3464, 6533)."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from email.utils import formatdate
from typing import Literal

from postkeep.domain.address import Address
from postkeep.formats.mime.headers import get

Action = Literal["failed", "delayed", "delivered", "relayed", "expanded"]
"""RFC 3464 §2.3.3. `relayed` also says that the next server does not confirm deliveries."""

_CONTROLS = re.compile(r"[\x00-\x1f\x7f\u0080-\u009f\u2028\u2029]+")
_XTEXT = re.compile(r"\+([0-9A-F]{2})")
_UNITEXT = re.compile(r"\\x\{([0-9A-F]{2,6})\}")
_BLANK_LINE = re.compile(rb"\r?\n\r?\n")
_LINE_END = re.compile(rb"\r\n|\r|\n")
_STATUS = re.compile(r"[245]\.\d{1,3}\.\d{1,3}\Z")
_DEFAULT_STATUS: dict[Action, str] = {
    "failed": "5.0.0",
    "delayed": "4.0.0",
    "delivered": "2.0.0",
    "relayed": "2.0.0",
    "expanded": "2.0.0",
}


@dataclass(frozen=True, slots=True)
class RecipientReport:
    """What became of one recipient. Times are seconds since 1970."""

    recipient: Address
    action: Action
    status: str
    """RFC 3463, for example 5.1.1."""
    diagnostic: str = ""
    """The server's words: an SMTP reply when `remote_mta` is set, else our own sentence."""
    remote_mta: str = ""
    """Host that said it; "" when it was this one."""
    original: str = ""
    """ORCPT as received: type;xtext (RFC 3461 §4.2)."""
    last_attempt: float | None = None
    retry_until: float | None = None
    """Only shown with action `delayed`."""


@dataclass(frozen=True, slots=True)
class Report:
    """A notification to `sender` about `recipients`, all of one kind (failed, delayed or done)."""

    reporting_mta: str
    """Our host name."""
    postmaster: Address
    """Whom it is from; the envelope's sender must be <> (RFC 3464 §2)."""
    sender: Address
    recipients: Sequence[RecipientReport]
    message_id: str
    """Of the notification, with angle brackets."""
    date: float
    original: bytes
    """The message as it was received, or its header alone."""
    return_full: bool = False
    """RET=FULL; only failures give the whole message back (RFC 3461 §4.3)."""
    arrival: float | None = None
    envelope_id: str = ""
    """ENVID as received: xtext."""
    smtputf8: bool = False
    """`sender` takes internationalized mail (RFC 6533); else non-ASCII addresses are written as \\x{…}."""

    @property
    def needs_smtputf8(self) -> bool:
        """Must it be sent with SMTPUTF8?"""
        return self.smtputf8 and (
            not self.sender.is_ascii or any(not r.recipient.is_ascii for r in self.recipients)
        )


def build_dsn(report: Report) -> bytes:
    """The notification, a whole message with CRLF line ends, ready for delivery to `report.sender`.

    Only the returned message may hold lines longer than 998 octets (as many as it had).
    """
    global_format = report.needs_smtputf8
    returned_type, returned = _returned(report, global_format)
    text = _text(report).encode("utf-8")
    status_type = "message/global-delivery-status" if global_format else "message/delivery-status"
    status = _status(report, global_format).encode("utf-8")
    boundary = _boundary(report.message_id, text + status + returned)
    delimiter = b"--" + boundary.encode("ascii")
    pieces = [
        _header(report, boundary).encode("utf-8"),
        b"This is a message in MIME format (RFC 3464).",
        delimiter,
        b"Content-Description: Notification",
        b"Content-Type: text/plain; charset=utf-8" + _transfer_encoding(text),
        b"",
        text,
        delimiter,
        b"Content-Description: Delivery report",
        b"Content-Type: " + status_type.encode("ascii") + _transfer_encoding(status),
        b"",
        status,
        delimiter,
        b"Content-Description: Undelivered message"
        if _is_failure(report)
        else b"Content-Description: Message",
        b"Content-Type: " + returned_type.encode("ascii") + _transfer_encoding(returned),
        b"",
        returned,
        delimiter + b"--",
        b"",
    ]
    return b"\r\n".join(pieces)


def _header(report: Report, boundary: str) -> str:
    lines = [
        f"From: Mail Delivery System <{report.postmaster}>",
        f"To: <{_address(report.sender, report.smtputf8)}>",
        f"Subject: {_subject(report)}",
        f"Date: {_date(report.date)}",
        f"Message-ID: {_clean(report.message_id)}",
    ]
    about = (get(report.original, "message-id") or b"").decode("ascii", "replace")
    if (
        about.startswith("<")
        and about.endswith(">")
        and len(about) < 900
        and about.isprintable()
        and about.isascii()
    ):
        lines += [f"In-Reply-To: {about}", f"References: {about}"]
    lines += [
        "Auto-Submitted: auto-replied",  # RFC 3834 §5
        "MIME-Version: 1.0",
        "Content-Type: multipart/report; report-type=delivery-status;",
        f'\tboundary="{boundary}"',
        "",
        "",
    ]
    return "\r\n".join(lines)[:-2]


def _subject(report: Report) -> str:
    action = report.recipients[0].action
    if action == "failed":
        return "Undelivered mail: your message was returned"
    if action == "delayed":
        return "Delayed mail: your message is still being tried"
    return "Delivered mail: your message arrived"


def _text(report: Report) -> str:
    """For people."""
    action = report.recipients[0].action
    if action == "failed":
        first = "Your message could not be delivered to:"
        last = "It will not be tried again. Its header is attached."
        if report.return_full:
            last = "It will not be tried again. The message is attached."
    elif action == "delayed":
        first = "Your message has not been delivered yet to:"
        last = "You need not send it again: this server keeps trying."
    else:
        first = "Your message was passed on for:"
        last = "This is the confirmation that you asked for."
    lines = [f"This is the mail server {_clean(report.reporting_mta)}.", "", first, ""]
    for recipient in report.recipients:
        lines.append(f"  {_clean(str(recipient.recipient))}")
        lines += _wrap(_reason(recipient), "      ")
        if recipient.retry_until is not None and action == "delayed":
            lines.append(f"      It will be tried until {_date(recipient.retry_until)}.")
        lines.append("")
    lines.append(last)
    return "\r\n".join(lines) + "\r\n"


_SUCCESS: dict[Action, str] = {
    "failed": "",
    "delayed": "",
    "delivered": "It was delivered to the mailbox.",
    "relayed": "It was handed to the next server, which sends no confirmations.",
    "expanded": "It was handed to the members of a list.",
}


def _reason(recipient: RecipientReport) -> str:
    words = _clean(recipient.diagnostic)
    if recipient.action not in ("failed", "delayed"):
        return _SUCCESS[recipient.action]
    if recipient.remote_mta:
        return (
            f"The server {_clean(recipient.remote_mta)} said: {words}"
            if words
            else (f"The server {_clean(recipient.remote_mta)} did not take it.")
        )
    return words or "No reason is known."


def _status(report: Report, global_format: bool) -> str:
    """message/delivery-status (RFC 3464 §2.1): fields of the message, then of each recipient."""
    groups = []
    fields = [f"Reporting-MTA: dns;{_clean(report.reporting_mta)}"]
    if report.envelope_id:
        fields.insert(0, f"Original-Envelope-Id: {_clean(_decode_xtext(report.envelope_id))}")
    if report.arrival is not None:
        fields.append(f"Arrival-Date: {_date(report.arrival)}")
    groups.append(fields)
    for recipient in report.recipients:
        groups.append(_recipient_fields(recipient, global_format))
    return "\r\n".join("".join(f"{_fold(field)}\r\n" for field in group) for group in groups)


def _recipient_fields(recipient: RecipientReport, global_format: bool) -> list[str]:
    status = recipient.status if _STATUS.match(recipient.status) else _DEFAULT_STATUS[recipient.action]
    fields = []
    original = _original_recipient(recipient.original, global_format)
    if original:
        fields.append(f"Original-Recipient: {original}")
    kind = "rfc822" if recipient.recipient.is_ascii else "utf-8"
    fields += [
        f"Final-Recipient: {kind};{_address(recipient.recipient, global_format)}",
        f"Action: {recipient.action}",
        f"Status: {status}",
    ]
    if recipient.remote_mta:
        fields.append(f"Remote-MTA: dns;{_clean(recipient.remote_mta)}")
    if recipient.diagnostic:
        kind = "smtp" if recipient.remote_mta else "x-postkeep"
        words = _clean(recipient.diagnostic)
        fields.append(f"Diagnostic-Code: {kind};{words if global_format else _to_ascii(words)}")
    if recipient.last_attempt is not None:
        fields.append(f"Last-Attempt-Date: {_date(recipient.last_attempt)}")
    if recipient.retry_until is not None and recipient.action == "delayed":
        fields.append(f"Will-Retry-Until: {_date(recipient.retry_until)}")
    return fields


def _original_recipient(orcpt: str, global_format: bool) -> str:
    """ORCPT's address, no longer as xtext (RFC 3464 §2.3.1), "" when it is none."""
    kind, semicolon, address = orcpt.partition(";")
    if not semicolon or not kind.strip() or not address:
        return ""
    if kind.strip().lower() == "utf-8":  # utf-8-addr-xtext or utf-8-addr-unitext (RFC 6533 §3)
        address = _UNITEXT.sub(_character, address) if global_format else _to_ascii(address)
    else:
        address = _to_ascii(_decode_xtext(address))
    return f"{_clean(kind).strip().lower()};{_clean(address)}"


def _returned(report: Report, global_format: bool) -> tuple[str, bytes]:
    """Content-Type and octets of the returned message or header."""
    original = report.original
    if report.return_full and _is_failure(report):
        is_global = global_format and not original.isascii()
        return ("message/global" if is_global else "message/rfc822"), original
    blank = _BLANK_LINE.search(original)
    header = original if blank is None else original[: blank.start()]
    header = _LINE_END.sub(b"\r\n", header.rstrip(b"\r\n")) + b"\r\n"
    is_global = global_format and not header.isascii()
    return ("message/global-headers" if is_global else "text/rfc822-headers"), header


def _date(seconds: float) -> str:
    """RFC 5322 §3.3, in UTC."""
    return formatdate(seconds).replace("-0000", "+0000")


def _is_failure(report: Report) -> bool:
    return report.recipients[0].action == "failed"


def _boundary(message_id: str, content: bytes) -> str:
    """Chosen so that it is not in the content."""
    seed = message_id.encode("utf-8", "replace")
    while True:
        boundary = "report-" + hashlib.sha256(seed).hexdigest()[:32]
        if boundary.encode("ascii") not in content:
            return boundary
        seed += b"+"


def _transfer_encoding(content: bytes) -> bytes:
    return b"" if content.isascii() else b"\r\nContent-Transfer-Encoding: 8bit"


def _address(address: Address, unicode: bool) -> str:
    text = _clean(str(address))
    return text if unicode else _to_ascii(text)


def _to_ascii(text: str) -> str:
    """utf-8-addr-xtext for what is not ASCII (RFC 6533 §3)."""
    return text if text.isascii() else "".join(c if c < "\x7f" else f"\\x{{{ord(c):02X}}}" for c in text)


def _character(match: re.Match[str]) -> str:
    code = int(match[1], 16)
    return match[0] if code < 0x20 or code > 0x10FFFF or 0xD800 <= code <= 0xDFFF else chr(code)


def _decode_xtext(text: str) -> str:
    """RFC 3461 §4. The octets are ASCII by definition; others are shown as they came."""
    return _XTEXT.sub(lambda match: chr(int(match[1], 16)) if int(match[1], 16) < 0x7F else match[0], text)


def _clean(text: str) -> str:
    """One line, no controls: nobody else's words may end a field."""
    return _CONTROLS.sub(" ", text).strip().encode("utf-8", "replace").decode("utf-8")


def _fold(field: str, limit: int = 76) -> str:
    """RFC 5322 §2.2.3, at spaces; a longer run without spaces is cut at 900 octets."""
    return "\r\n".join(_wrap(field, " ", limit, first=""))


def _wrap(text: str, indent: str, limit: int = 72, first: str | None = None) -> list[str]:
    lines: list[str] = []
    line = indent if first is None else first
    empty = True
    for word in text.split(" "):
        for start in range(0, max(1, len(word)), 200):  # at most 800 octets in UTF-8
            piece = word[start : start + 200]
            if not empty and (start or len(line) + 1 + len(piece) > limit):
                lines.append(line)
                line, empty = indent, True
            line += piece if empty else " " + piece
            empty = empty and not piece
    lines.append(line)
    return lines
