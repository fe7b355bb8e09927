"""What a person may enter as a name: host names, domains, time servers, targets of a trial."""

import ipaddress
import re

from postkeep_appliance.host.port import Invalid

_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_LOCAL_PART = re.compile(r"[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
HOSTNAME_LIMIT = 64
"""Linux: sethostname(2) takes no more octets."""

PASSWORD_MINIMUM = 8
"""Characters of a new password: of root, and of the administrator (as the engine has it by default)."""


def domain(text: str, field: str) -> str:
    """A DNS name in lower case without its last dot (RFC 1123 §2.1; other scripts by IDNA)."""
    name = text.strip().rstrip(".").lower()
    if not name:
        raise Invalid(field, "A name is missing here.")
    if not name.isascii():
        try:
            name = name.encode("idna").decode("ascii")
        except UnicodeError as error:
            raise Invalid(field, f"“{_shown(text)}” is not a DNS name.") from error
    if len(name) > 253:
        raise Invalid(field, "A DNS name has at most 253 characters.")
    for label in name.split("."):
        if not _LABEL.fullmatch(label):
            raise Invalid(
                field,
                f"“{_shown(label)}” in this name must be 1 to 63 letters, digits and hyphens, "
                "no hyphen first or last.",
            )
    if name.rpartition(".")[2].isdigit():
        raise Invalid(field, "A DNS name does not end in a number; this looks like an address.")
    return name


def hostname(text: str, field: str = "hostname") -> str:
    """The full name of this machine, like mail.example.com. Raises Invalid."""
    name = domain(text, field)
    if "." not in name:
        raise Invalid(field, "The full name is needed, like mail.example.com.")
    if len(name) > HOSTNAME_LIMIT:
        raise Invalid(field, f"The name of a host has at most {HOSTNAME_LIMIT} characters.")
    if name.partition(".")[0] == "localhost" or name.rpartition(".")[2] == "localhost":
        raise Invalid(field, "“localhost” names every machine; choose a name of this one.")
    return name


def host_or_address(text: str, field: str) -> str:
    """A DNS name or an IP address, for programs' arguments: it cannot begin with "-". Raises Invalid."""
    text = text.strip()
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return domain(text, field)


def administrator(text: str, field: str = "administrator") -> str:
    """The local part of the administrator's address. Raises Invalid."""
    name = text.strip().lower()
    if not _LOCAL_PART.fullmatch(name) or ".." in name:
        raise Invalid(
            field, "Use 1 to 64 letters, digits, dots, hyphens and underscores, a letter or digit first."
        )
    return name


def password(text: str, field: str, *, minimum: int) -> str:
    """As it is. Raises Invalid without repeating it."""
    if _CONTROL.search(text):
        raise Invalid(field, "A password has no control characters.")
    if len(text) < minimum:
        raise Invalid(field, f"A password has at least {minimum} characters.")
    if len(text.encode("utf-8", "surrogatepass")) > 256 or any("\ud800" <= one <= "\udfff" for one in text):
        raise Invalid(field, "A password has at most 256 octets of UTF-8.")
    return text


def _shown(text: str) -> str:
    return _CONTROL.sub("?", text)[:60]
