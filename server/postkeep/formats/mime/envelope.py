"""IMAP's ENVELOPE of a header (RFC 3501 §7.4.2)."""

import functools
from collections.abc import Mapping

from postkeep.formats.mime.addresses import LIMIT, MailAddress, parse_addresses
from postkeep.formats.mime.headers import unfold
from postkeep.formats.mime.imapsyntax import nstring, string


def envelope(fields: Mapping[bytes, bytes], address_limit: int = LIMIT) -> tuple[bytes, int]:
    """ENVELOPE of a header, and how many addresses are in it. `fields`: lower-case names, folded bodies."""
    get = fields.get
    sender_list, count = _addresses(get(b"from"), address_limit)
    pieces = [b"(" + nstring(get(b"date")), nstring(get(b"subject")), sender_list]
    for name in (b"sender", b"reply-to"):
        text, more = _addresses(get(name), address_limit - count)
        # RFC 3501 §7.4.2: the server fills in From where these are missing
        pieces.append(sender_list if text == b"NIL" else text)
        count += more
    for name in (b"to", b"cc", b"bcc"):
        text, more = _addresses(get(name), address_limit - count)
        pieces.append(text)
        count += more
    pieces.append(nstring(get(b"in-reply-to")))
    pieces.append(nstring(get(b"message-id")) + b")")
    return b" ".join(pieces), count


def _addresses(value: bytes | None, limit: int) -> tuple[bytes, int]:
    if value is None or limit <= 0:
        return b"NIL", 0
    if len(value) <= 200 and limit >= 200:
        return _address_list_again(value)
    return _address_list(value, limit)


def _address_list(value: bytes, limit: int = LIMIT) -> tuple[bytes, int]:
    entries = parse_addresses(unfold(value), limit)
    if not entries:
        return b"NIL", 0
    return b"(%b)" % b"".join([_address(entry) for entry in entries]), len(entries)


# The same people write to the same people.
_address_list_again = functools.lru_cache(maxsize=1024)(_address_list)


def _address(entry: MailAddress) -> bytes:
    name, route, local, domain = entry
    if domain is None:  # group syntax: NIL host (RFC 3501 §7.4.2)
        return b"(NIL NIL NIL NIL)" if local is None else b"(NIL NIL %b NIL)" % string(local)
    return b"(%b %b %b %b)" % (
        string(name) if name else b"NIL",
        string(route) if route else b"NIL",
        string(local or b"MISSING_MAILBOX"),
        string(domain or b"MISSING_DOMAIN"),
    )
