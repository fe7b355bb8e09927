"""DNS as the engine sees it (RFC 1034, RFC 5321 §5): the machine's resolver, or a file for closed labs."""

import asyncio
import ipaddress
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import dns.asyncresolver
import dns.exception
import dns.name
import dns.rdatatype
import dns.resolver
import dns.reversename

from postkeep.domain.errors import ConfigError, PostkeepError

CACHE_SIZE = 10_000
"""Answers kept (for their TTL), negative ones too."""
LIFETIME = 20.0
"""Seconds for one question, over all name servers and tries."""
_FILE_LIMIT = 16 << 20
_LOCALHOST = ["127.0.0.1", "::1"]


class NoSuchDomain(PostkeepError):
    """The name does not exist (NXDOMAIN), or cannot exist."""


class ResolverFailed(PostkeepError):
    """No answer for now (SERVFAIL, time-out, no name server): try later."""


class Resolver(Protocol):
    """Names are absolute, A-labels, without the last dot. A name without such records answers [].

    All raise NoSuchDomain or ResolverFailed.
    """

    async def mx(self, domain: str) -> list[tuple[int, str]]:
        """(preference, host), unsorted; a null MX (RFC 7505) is (0, "")."""

    async def addresses(self, host: str) -> list[str]:
        """IPv4 addresses, then IPv6 addresses."""

    async def txt(self, name: str) -> list[str]:
        """Each record's strings joined; octets as latin-1."""

    async def ptr(self, address: str) -> list[str]:
        """Host names of an IPv4 or IPv6 address."""


class SystemResolver:
    """dnspython on the event loop, with the given name servers or those of /etc/resolv.conf."""

    def __init__(self, nameservers: Sequence[str] = (), *, lifetime: float = LIFETIME) -> None:
        """Raises ConfigError when `nameservers` are no addresses."""
        try:
            self._dns = dns.asyncresolver.Resolver(configure=not nameservers)
        except dns.resolver.NoResolverConfiguration:
            self._dns = dns.asyncresolver.Resolver(configure=False)
        if nameservers:
            try:
                self._dns.nameservers = list(nameservers)
            except ValueError as error:
                raise ConfigError(
                    f"“{', '.join(nameservers)[:80]}”: not addresses of name servers"
                ) from error
        self._dns.lifetime = lifetime
        self._dns.cache = dns.resolver.LRUCache(CACHE_SIZE)

    async def mx(self, domain: str) -> list[tuple[int, str]]:
        answer = await self._ask(_name(domain), dns.rdatatype.MX)
        return [(record.preference, _text(record.exchange)) for record in answer]

    async def addresses(self, host: str) -> list[str]:
        if host == "localhost" or host.endswith(".localhost"):  # RFC 6761 §6.3
            return list(_LOCALHOST)
        name = _name(host)
        both = await asyncio.gather(
            self._ask(name, dns.rdatatype.A), self._ask(name, dns.rdatatype.AAAA), return_exceptions=True
        )
        found = [
            record.address for answer in both if not isinstance(answer, BaseException) for record in answer
        ]
        if not found:
            for answer in both:
                if isinstance(answer, BaseException):
                    raise answer
        return found

    async def txt(self, name: str) -> list[str]:
        answer = await self._ask(_name(name), dns.rdatatype.TXT)
        return [b"".join(record.strings).decode("latin-1") for record in answer]

    async def ptr(self, address: str) -> list[str]:
        try:
            name = dns.reversename.from_address(address)
        except (dns.exception.DNSException, ValueError) as error:
            raise NoSuchDomain(f"“{address}” is not an address") from error
        return [_text(record.target) for record in await self._ask(name, dns.rdatatype.PTR)]

    async def _ask(self, name: dns.name.Name, kind: dns.rdatatype.RdataType) -> dns.resolver.Answer:
        if not self._dns.nameservers:
            raise ResolverFailed("no name server is configured")
        try:
            return await self._dns.resolve(name, kind, raise_on_no_answer=False, search=False)
        except dns.resolver.NXDOMAIN as error:
            raise NoSuchDomain(f"the domain {_text(name)} does not exist") from error
        except dns.exception.Timeout as error:
            raise ResolverFailed(f"no answer from the name server about {_text(name)}") from error
        except (dns.exception.DNSException, OSError) as error:
            # NoNameservers (SERVFAIL, REFUSED from all), malformed answers, the network is down
            raise ResolverFailed(f"the name server failed to answer about {_text(name)}") from error


class ZoneFileResolver:
    """Answers from a small file, read again when it changes.

    One record a line, `#` begins a comment: `example.test MX 10 mx.example.test`,
    `mx.example.test A 127.0.0.1` (or AAAA), `example.test TXT the rest of the line`,
    `127.0.0.1 PTR mx.example.test`, `broken.test FAIL` (SERVFAIL). A null MX is `none.test MX 0 .`. A name
    with any record exists; all others are NoSuchDomain.
    """

    def __init__(self, path: Path) -> None:
        """Raises ConfigError naming file, line and reason."""
        self._path = path
        self._stamp: tuple[int, int] | None = None
        self._records: dict[str, list[tuple[str, str]]] = {}
        self._refresh()

    async def mx(self, domain: str) -> list[tuple[int, str]]:
        found = []
        for value in self._find(domain, "MX"):
            preference, _, host = value.partition(" ")
            found.append((int(preference), host.strip().rstrip(".").lower()))
        return found

    async def addresses(self, host: str) -> list[str]:
        return self._find(host, "A") + self._find(host, "AAAA")

    async def txt(self, name: str) -> list[str]:
        return self._find(name, "TXT")

    async def ptr(self, address: str) -> list[str]:
        return [value.rstrip(".").lower() for value in self._find(address, "PTR")]

    def _find(self, name: str, kind: str) -> list[str]:
        try:
            self._refresh()
        except ConfigError as error:  # it was there at the start: removed or spoilt since then
            raise ResolverFailed(str(error)) from error
        records = self._records.get(name.lower().rstrip("."))
        if records is None:
            raise NoSuchDomain(f"the domain {name} does not exist")
        if any(found == "FAIL" for found, _ in records):
            raise ResolverFailed(f"the name server failed to answer about {name}")
        return [value for found, value in records if found == kind]

    def _refresh(self) -> None:
        try:
            found = self._path.stat()
            stamp = (found.st_mtime_ns, found.st_size)
            if stamp == self._stamp:
                return
            # A device or a pipe would never end.
            if not stat.S_ISREG(found.st_mode) or found.st_size > _FILE_LIMIT:
                raise ConfigError(f"{self._path}: not a file of at most {_FILE_LIMIT >> 20} MB")
            text = self._path.read_text("utf-8")
        except OSError as error:
            raise ConfigError(f"{self._path}: {error.strerror or error}") from error
        except ValueError as error:  # not UTF-8; a NUL in the path
            raise ConfigError(f"{self._path}: {error}") from error
        self._records = self._parse(text)
        self._stamp = stamp

    def _parse(self, text: str) -> dict[str, list[tuple[str, str]]]:
        records: dict[str, list[tuple[str, str]]] = {}
        for number, line in enumerate(text.splitlines(), 1):
            fields = line.partition("#")[0].split(None, 2) if "TXT" not in line else line.split(None, 2)
            if not fields or fields[0].startswith("#"):
                continue
            kind = fields[1].upper() if len(fields) > 1 else ""
            value = fields[2].strip() if len(fields) > 2 else ""
            if not _valid(kind, value):
                raise ConfigError(f"{self._path}: line {number}: “{line.strip()[:80]}” is not a record")
            records.setdefault(fields[0].lower().rstrip("."), []).append((kind, value))
        return records


class FailingResolver:
    """Answers nothing: every question fails for now, with `reason`; mail waits."""

    def __init__(self, reason: str) -> None:
        self._reason = reason

    async def mx(self, domain: str) -> list[tuple[int, str]]:
        raise ResolverFailed(self._reason)

    async def addresses(self, host: str) -> list[str]:
        raise ResolverFailed(self._reason)

    async def txt(self, name: str) -> list[str]:
        raise ResolverFailed(self._reason)

    async def ptr(self, address: str) -> list[str]:
        raise ResolverFailed(self._reason)


class CurrentResolver:
    """Hands each question to `inner`, which may be replaced at any time."""

    def __init__(self, inner: Resolver) -> None:
        self.inner = inner

    async def mx(self, domain: str) -> list[tuple[int, str]]:
        return await self.inner.mx(domain)

    async def addresses(self, host: str) -> list[str]:
        return await self.inner.addresses(host)

    async def txt(self, name: str) -> list[str]:
        return await self.inner.txt(name)

    async def ptr(self, address: str) -> list[str]:
        return await self.inner.ptr(address)


def _valid(kind: str, value: str) -> bool:
    match kind:
        case "FAIL":
            return not value
        case "MX":
            preference, _, host = value.partition(" ")
            return preference.isdigit() and bool(host.strip())
        case "A" | "AAAA":
            try:
                return ipaddress.ip_address(value).version == (4 if kind == "A" else 6)
            except ValueError:
                return False
        case "TXT" | "PTR":
            return bool(value)
    return False


def _name(text: str) -> dns.name.Name:
    try:
        if not text:
            raise NoSuchDomain("an empty name is not a domain name")
        return dns.name.from_text(text)
    except (dns.exception.DNSException, UnicodeError) as error:
        raise NoSuchDomain(f"“{text[:80]}” is not a domain name") from error


def _text(name: dns.name.Name) -> str:
    return name.to_text(omit_final_dot=True).lower() if name != dns.name.root else ""
