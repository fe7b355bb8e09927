"""Modified UTF-7 of mailbox names (RFC 3501 §5.1.3)."""

import binascii
import re

_SHIFTED = re.compile(r"&([A-Za-z0-9+,]*)-")
_DIRECT = re.compile(r"[\x20-\x7e]*\Z")
_RUN = re.compile(r"[^\x20-\x7e]+|&")


def encode(name: str) -> str:
    """Unicode to modified UTF-7; always printable ASCII.

    >>> encode("Entwürfe & Ideen")
    'Entw&APw-rfe &- Ideen'
    """
    return _RUN.sub(_encode_run, name)


def _encode_run(match: re.Match[str]) -> str:
    text = match[0]
    if text == "&":
        return "&-"
    packed = binascii.b2a_base64(text.encode("utf-16-be", "surrogatepass"), newline=False)
    return "&" + packed.rstrip(b"=").replace(b"/", b",").decode("ascii") + "-"


def decode(text: str) -> str:
    """Modified UTF-7 to Unicode. Raises ValueError for what RFC 3501 forbids.

    >>> decode("Entw&APw-rfe &- Ideen")
    'Entwürfe & Ideen'
    """
    if not _DIRECT.match(text):
        raise ValueError("mailbox name holds characters that must be encoded")
    if "&" not in text:
        return text
    name = _SHIFTED.sub(_decode_run, text)
    # One spelling only: unshifted ampersands, ASCII inside a shift and adjacent shifts do not round-trip.
    if encode(name) != text:
        raise ValueError("mailbox name is not in modified UTF-7")
    return name


def _decode_run(match: re.Match[str]) -> str:
    packed = match[1]
    if not packed:
        return "&"
    padded = packed.replace(",", "/") + "=" * (-len(packed) % 4)
    try:
        return binascii.a2b_base64(padded, strict_mode=True).decode("utf-16-be")
    except (binascii.Error, UnicodeDecodeError) as error:
        raise ValueError("mailbox name is not in modified UTF-7") from error
