"""SASL as every protocol here speaks it (RFC 4422): base64 in, challenges or credentials out. No I/O.

A mechanism is a small class with `step`; its framing (base64, "*", "=", bounds) is the exchange's. The
protocols frame the lines ("334 …", "+ …") and say in their own words what a `Fault` means.
"""

import base64
import binascii
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

RESPONSE_LIMIT = 12_288
"""Octets of a line in an exchange (RFC 4954 §4, RFC 5034 §4)."""


class Fault(Enum):
    """Why an exchange ended without credentials."""

    CANCELLED = "Authentication cancelled"
    TOO_LONG = "Line too long"
    NOT_BASE64 = "Invalid base64"
    MALFORMED = "Invalid SASL message"
    NOT_TEXT = "Invalid UTF-8"


class SaslError(Exception):
    """The exchange is over; the client may begin another one."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.value)
        self.fault = fault


@dataclass(frozen=True, slots=True)
class Challenge:
    """What the client is asked next, not yet in base64."""

    octets: bytes

    @property
    def line(self) -> bytes:
        """As it goes over the wire, without what the protocol puts before and after it."""
        return base64.b64encode(self.octets)


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who the client says it is. `identity`: whom it wants to act for, "" for itself (RFC 4616 §2)."""

    name: str
    password: str = field(repr=False)
    identity: str = ""


class Mechanism(Protocol):
    """One exchange of one mechanism."""

    def step(self, response: bytes | None) -> Challenge | Credentials:
        """What follows on this response; None at the start of an exchange without an initial one.

        Raises SaslError.
        """


class Plain:
    """RFC 4616: authzid NUL authcid NUL password, in one message."""

    def step(self, response: bytes | None) -> Challenge | Credentials:
        if response is None:
            return Challenge(b"")
        parts = response.split(b"\0")
        if len(parts) != 3 or not parts[1]:
            raise SaslError(Fault.MALFORMED)
        identity, name, password = map(_text, parts)
        return Credentials(name, password, identity)


class Login:
    """draft-murchison-sasl-login-00: the name, then the password."""

    def __init__(self) -> None:
        self._name: str | None = None

    def step(self, response: bytes | None) -> Challenge | Credentials:
        if response is None:
            return Challenge(b"Username:")
        if b"\0" in response:
            raise SaslError(Fault.MALFORMED)
        if self._name is None:
            self._name = _text(response)
            return Challenge(b"Password:")
        return Credentials(self._name, _text(response))


MECHANISMS: Mapping[str, Callable[[], Mechanism]] = {"PLAIN": Plain, "LOGIN": Login}
"""By their registered names, in the order in which they are announced."""


class Exchange:
    """One authentication, from the first line to the credentials."""

    def __init__(self, mechanism: str) -> None:
        """`mechanism` in upper case. Raises KeyError for one that is not in MECHANISMS."""
        self._mechanism = MECHANISMS[mechanism]()

    def begin(self, initial: bytes | None = None) -> Challenge | Credentials:
        """`initial`: the response that came with the command, still in base64; b"=" is an empty one (RFC 4954
        §4, RFC 4959 §3, RFC 5034 §4). Raises SaslError."""
        if initial is None:
            return self._mechanism.step(None)
        return self._mechanism.step(b"" if initial == b"=" else _decode(initial))

    def answer(self, line: bytes) -> Challenge | Credentials:
        """The client's line to a challenge, without its line end. Raises SaslError."""
        if line == b"*":
            raise SaslError(Fault.CANCELLED)
        return self._mechanism.step(_decode(line))


def _decode(line: bytes) -> bytes:
    if len(line) > RESPONSE_LIMIT:
        raise SaslError(Fault.TOO_LONG)
    try:
        return base64.b64decode(line, validate=True)
    except binascii.Error as error:
        raise SaslError(Fault.NOT_BASE64) from error


def _text(octets: bytes) -> str:
    try:
        return octets.decode("utf-8")
    except UnicodeDecodeError as error:
        raise SaslError(Fault.NOT_TEXT) from error
