"""Each kind of property: its text as it came → a checked value, or the reason why not.

Reasons are shown on the console and logged: those of secrets and keys quote nothing.
"""

import base64
import binascii
import ipaddress
import re
import struct
from collections.abc import Callable, Collection
from typing import Any

from postkeep_appliance.guestinfo.declarations import Declaration
from postkeep_appliance.host import names
from postkeep_appliance.host.port import FIRST_PASSWORD, Invalid

_LIST_LIMIT = 8
_ZONE = re.compile(r"[A-Za-z0-9_+-]+(?:/[A-Za-z0-9_+-]+){0,2}\Z")
_KEY_TYPES = (
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "sk-ssh-ed25519@openssh.com",
    "sk-ecdsa-sha2-nistp256@openssh.com",
    "ssh-rsa",
)
_RSA_MINIMUM = 2048

Interface = ipaddress.IPv4Interface | ipaddress.IPv6Interface


class BadValue(ValueError):
    """The text is the reason, fit for the console."""


def quoted(text: str) -> str:
    """What an administrator typed, so that it cannot disturb a terminal or a log.

    >>> quoted("a\\x1b[2J")
    '“a?[2J”'
    """
    short = text if len(text) <= 60 else text[:59] + "…"
    return "“" + "".join(char if char.isprintable() else "?" for char in short) + "”"


def is_unset(text: str | None) -> bool:
    """Blank, absent, or the word that hosts write for a value that nobody gave."""
    return text is None or text.strip().lower() in ("", "null")


class Reader:
    """Turns one text into the value of its declaration. `zones`: names that a time zone may have."""

    def __init__(self, zones: Collection[str]) -> None:
        self._zones = zones
        self._kinds: dict[str, Callable[[str], Any]] = {
            "hostname": _by(names.hostname),
            "domain": _by(names.domain),
            "address": read_address,
            "netmask": read_netmask,
            "address-list": read_addresses,
            "host-list": read_hosts,
            "password": read_password,
            "ssh-key": read_ssh_key,
            "user": _by(names.administrator),
            "time-zone": self._read_zone,
            "boolean": read_boolean,
            "language": str.lower,
        }

    def read(self, declaration: Declaration, text: str) -> Any:
        """Raises BadValue."""
        if declaration.kind != "password":  # where blanks may be meant
            text = text.strip()
        if len(text) > declaration.length:
            raise BadValue(f"It is longer than {declaration.length} characters.")
        if not text.isprintable():
            raise BadValue("It has control characters or line ends.")
        value = self._kinds[declaration.kind](text)
        if declaration.choices and value not in declaration.choices:
            raise BadValue(f"It is none of {', '.join(declaration.choices)}.")
        return value

    def _read_zone(self, text: str) -> str:
        if not _ZONE.match(text) or text not in self._zones:
            raise BadValue(f"{quoted(text)} is no time zone; write it like Europe/Prague.")
        return text


def _by(check: Callable[[str, str], str]) -> Callable[[str], str]:
    """A check of the agent's, for one field, as a reader here."""

    def read(text: str) -> str:
        try:
            return check(text, "")
        except Invalid as error:
            raise BadValue(error.text) from None

    return read


def read_address(text: str) -> Interface:
    """With "/24" its network is known, else it is of full length. netcheck judges whether it is usable."""
    try:
        if "%" in text:
            raise ValueError
        return ipaddress.ip_interface(text)
    except ValueError:
        raise BadValue(f"{quoted(text)} is no IP address.") from None


def read_netmask(text: str) -> int:
    """A prefix length: of "255.255.255.0" and "/24" it is 24, of "ffff:ffff:ffff:ffff::" 64."""
    digits = text.removeprefix("/")
    if digits.isascii() and digits.isdigit() and len(digits) <= 3 and 1 <= int(digits) <= 128:
        return int(digits)
    try:
        mask = ipaddress.ip_address(text)
    except ValueError:
        raise BadValue(f"{quoted(text)} is no netmask; write 255.255.255.0 or 24.") from None
    bits = f"{int(mask):0{mask.max_prefixlen}b}"
    if "01" in bits or "1" not in bits:
        raise BadValue(f"{quoted(text)} is no netmask: its bits have gaps.")
    return bits.count("1")


def _words(text: str) -> tuple[str, ...]:
    found = tuple(dict.fromkeys(word for word in re.split(r"[\s,;]+", text) if word))
    if len(found) > _LIST_LIMIT:
        raise BadValue(f"More than {_LIST_LIMIT} servers are named.")
    return found


def read_addresses(text: str) -> tuple[str, ...]:
    """netcheck looks at each."""
    return _words(text)


def read_hosts(text: str) -> tuple[str, ...]:
    """Names or addresses."""
    return tuple(_by(names.host_or_address)(word) for word in _words(text))


def read_password(text: str) -> str:
    try:
        names.password(text, "", minimum=names.PASSWORD_MINIMUM)
    except Invalid as error:
        raise BadValue(error.text) from None
    if text == FIRST_PASSWORD:
        raise BadValue("This is the documented first password.")
    return text


def read_boolean(text: str) -> bool:
    """As OVF writes it ("True"), and as people do."""
    word = text.lower()
    if word in ("true", "1", "yes", "on"):
        return True
    if word in ("false", "0", "no", "off"):
        return False
    raise BadValue(f"{quoted(text)} is neither True nor False.")


def read_ssh_key(text: str) -> str:
    """One line of authorized_keys without options (sshd(8)): type, key, comment."""
    kind, _, rest = text.partition(" ")
    body, _, comment = rest.strip().partition(" ")
    if kind not in _KEY_TYPES:
        raise BadValue("It does not begin with a type of SSH public key, like ssh-ed25519.")
    try:
        blob = base64.b64decode(body, validate=True)
        fields = _fields(blob)
    except (binascii.Error, ValueError, struct.error):
        raise BadValue("It is no SSH public key: it is damaged or cut off.") from None
    if len(fields) < 2 or fields[0] != kind.encode():
        raise BadValue("It is no SSH public key: it is of another type than it says.")
    if kind == "ssh-rsa" and (len(fields) != 3 or int.from_bytes(fields[2]).bit_length() < _RSA_MINIMUM):
        raise BadValue(f"It is an RSA key of less than {_RSA_MINIMUM} bits.")
    return " ".join(filter(None, (kind, body, comment.strip())))


def _fields(blob: bytes) -> list[bytes]:
    """RFC 4251 §5 strings until the end. Raises ValueError, struct.error."""
    found, position = [], 0
    while position < len(blob):
        (length,) = struct.unpack_from(">I", blob, position)
        position += 4 + length
        if position > len(blob):
            raise ValueError("cut off")
        found.append(blob[position - length : position])
    return found
