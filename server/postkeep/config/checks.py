"""What the texts of some settings must be. A check raises ConfigError: the reason without the variable."""

import ipaddress
from collections.abc import Callable, Collection

from postkeep.domain.address import parse_domain
from postkeep.domain.errors import ConfigError, InvalidAddress

Check = Callable[[str], None]
_SHOWN = 60


def _wrong(text: str, expected: str) -> ConfigError:
    return ConfigError(f"“{text[:_SHOWN]}” is not {expected}")


def ip_address(text: str) -> None:
    """An IPv4 or IPv6 address, the latter perhaps with its zone (fe80::1%eth0)."""
    try:
        ipaddress.ip_address(text)
    except ValueError as error:
        raise _wrong(text, "an IP address") from error


def ipv4_address(text: str) -> None:
    """An IPv4 address, or nothing."""
    try:
        if text:
            ipaddress.IPv4Address(text)
    except ValueError as error:
        raise _wrong(text, "an IPv4 address") from error


def ipv6_address(text: str) -> None:
    """An IPv6 address, or nothing."""
    try:
        if text:
            ipaddress.IPv6Address(text)
    except ValueError as error:
        raise _wrong(text, "an IPv6 address") from error


def network(text: str) -> None:
    """An address, or a network as ADDRESS/BITS."""
    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError as error:
        raise _wrong(text, "an address or network (192.0.2.0/24)") from error


def domain_name(text: str) -> None:
    """A DNS name or an address literal, as in EHLO."""
    try:
        parse_domain(text)
    except InvalidAddress as error:
        raise _wrong(text, "a domain name") from error


def host(text: str) -> None:
    """An IP address, in brackets or not, or a DNS name; or nothing."""
    if not text:
        return
    bare = text.strip("[]").removeprefix("IPv6:")
    try:
        ipaddress.ip_address(bare)
        return
    except ValueError:
        pass
    try:
        name = parse_domain(text)
    except InvalidAddress as error:
        raise _wrong(text, "a host name or an IP address") from error
    # RFC 1123 §2.1: a name whose last label is a number can only be a mistyped address.
    if name.startswith("[") or name.rpartition(".")[2].isdigit():
        raise _wrong(text, "a host name or an IP address")


def not_empty(text: str) -> None:
    if not text:
        raise ConfigError("a value is needed")


def one_of(words: Collection[str]) -> Check:
    """A check for texts that must be among `words`."""

    def check(text: str) -> None:
        if text not in words:
            raise ConfigError(f"“{text[:_SHOWN]}” is none of: {', '.join(words)}")

    return check
