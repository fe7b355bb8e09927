"""Lines of the agent's socket: JSON by msgspec, bounded, both directions."""

import msgspec

from postkeep_appliance.api.types import MAX_LINE, Reply, Request

_requests = msgspec.json.Decoder(Request)
_replies: msgspec.json.Decoder[Reply] = msgspec.json.Decoder(Reply)
# msgspec reports bad UTF-8 and too deep nesting by Python's own exceptions.
_WRONG = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
_encoder = msgspec.json.Encoder()


class BadLine(ValueError):
    """What came is no line of this protocol."""


def encode(message: Request | Reply) -> bytes:
    """One line with its LF. Raises BadLine when it would be longer than MAX_LINE."""
    line = _encoder.encode(message) + b"\n"
    if len(line) > MAX_LINE:
        raise BadLine(f"a message of {len(line)} octets does not fit a line")
    return line


def decode_request(line: bytes) -> Request:
    """Raises BadLine."""
    try:
        return _requests.decode(line)
    except _WRONG as error:
        raise BadLine(str(error)) from error


def decode_reply(line: bytes) -> Reply:
    """Raises BadLine."""
    try:
        return _replies.decode(line)
    except _WRONG as error:
        raise BadLine(str(error)) from error
