import asyncio
import os
from pathlib import Path

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest
from postkeep.domain.errors import ConfigError
from postkeep.runtime.resolver import (
    CurrentResolver,
    FailingResolver,
    NoSuchDomain,
    ResolverFailed,
    SystemResolver,
    ZoneFileResolver,
)

ZONE = """
# a closed lab
a.test        MX  10 MX.a.test.
a.test        MX  20 mx2.a.test   # the second
mx.a.test     A   127.0.0.1
mx.a.test     AAAA ::1
a.test        TXT v=spf1 -all # kept
none.test     MX  0 .
broken.test   FAIL
127.0.0.1     PTR mx.a.test.
"""


async def test_zone_file(tmp_path: Path) -> None:
    path = tmp_path / "zone"
    path.write_text(ZONE)
    resolver = ZoneFileResolver(path)
    assert await resolver.mx("A.test.") == [(10, "mx.a.test"), (20, "mx2.a.test")]
    assert await resolver.mx("none.test") == [(0, "")]
    assert await resolver.addresses("mx.a.test") == ["127.0.0.1", "::1"]
    assert await resolver.addresses("a.test") == []
    assert await resolver.txt("a.test") == ["v=spf1 -all # kept"]
    assert await resolver.ptr("127.0.0.1") == ["mx.a.test"]
    with pytest.raises(NoSuchDomain):
        await resolver.mx("other.test")
    with pytest.raises(ResolverFailed):
        await resolver.mx("broken.test")


async def test_zone_file_is_read_again_when_it_changes(tmp_path: Path) -> None:
    path = tmp_path / "zone"
    path.write_text("a.test A 127.0.0.1\n")
    resolver = ZoneFileResolver(path)
    path.write_text("a.test A 127.0.0.2\n")
    os.utime(path, ns=(1, 1))
    assert await resolver.addresses("a.test") == ["127.0.0.2"]


@pytest.mark.parametrize(
    "line",
    ["a.test", "a.test MX mx", "a.test MX x mx", "a.test A ::1", "a.test A", "a.test CNAME b", "a FAIL x"],
)
def test_broken_zone_file_names_the_line(tmp_path: Path, line: str) -> None:
    path = tmp_path / "zone"
    path.write_text(f"ok.test A 127.0.0.1\n{line}\n")
    with pytest.raises(ConfigError, match="line 2"):
        ZoneFileResolver(path)


def test_missing_zone_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        ZoneFileResolver(tmp_path / "none")


class NameServer(asyncio.DatagramProtocol):
    """Answers a few names; counts questions."""

    def __init__(self) -> None:
        self.questions: list[tuple[str, str]] = []
        self.silent = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        query = dns.message.from_wire(data)
        question = query.question[0]
        name = question.name.to_text().lower()
        kind = dns.rdatatype.to_text(question.rdtype)
        self.questions.append((name, kind))
        if self.silent:
            return
        answer = dns.message.make_response(query)
        answer.flags |= dns.flags.RA
        table = {
            ("a.test.", "MX"): ["10 mx.a.test.", "0 ."],
            ("mx.a.test.", "A"): ["192.0.2.1"],
            ("mx.a.test.", "AAAA"): ["2001:db8::1"],
            ("txt.test.", "TXT"): ['"v=spf1 " "-all"'],
            ("1.2.0.192.in-addr.arpa.", "PTR"): ["mx.a.test."],
        }
        if name == "half.test." and kind == "A":
            table[(name, kind)] = ["192.0.2.9"]
        if (name == "half.test." and kind == "AAAA") or name == "fail.test.":
            answer.set_rcode(dns.rcode.SERVFAIL)
        elif (name, kind) in table:
            answer.answer.append(dns.rrset.from_text(name, 300, "IN", kind, *table[(name, kind)]))
        elif name.startswith("gone"):
            answer.set_rcode(dns.rcode.NXDOMAIN)
        self.transport.sendto(answer.to_wire(), addr)  # type: ignore[attr-defined]


@pytest.fixture
async def name_server():  # type: ignore[no-untyped-def]
    transport, server = await asyncio.get_running_loop().create_datagram_endpoint(
        NameServer, local_addr=("127.0.0.1", 0)
    )
    server.port = transport.get_extra_info("sockname")[1]
    yield server
    transport.close()


def system(server: NameServer, lifetime: float = 5.0) -> SystemResolver:
    resolver = SystemResolver(["127.0.0.1"], lifetime=lifetime)
    resolver._dns.port = server.port  # type: ignore[attr-defined]
    return resolver


async def test_system_resolver(name_server: NameServer) -> None:
    resolver = system(name_server)
    assert sorted(await resolver.mx("a.test")) == [(0, ""), (10, "mx.a.test")]
    assert await resolver.addresses("mx.a.test") == ["192.0.2.1", "2001:db8::1"]
    assert await resolver.txt("txt.test") == ["v=spf1 -all"]
    assert await resolver.ptr("192.0.2.1") == ["mx.a.test"]
    assert await resolver.mx("empty.test") == []
    assert await resolver.addresses("half.test") == ["192.0.2.9"]
    assert await resolver.addresses("localhost") == ["127.0.0.1", "::1"]
    with pytest.raises(NoSuchDomain):
        await resolver.mx("gone.test")
    with pytest.raises(NoSuchDomain):
        await resolver.addresses("gone.test")
    with pytest.raises(ResolverFailed):
        await resolver.mx("fail.test")


async def test_answers_are_remembered_also_that_there_is_none(name_server: NameServer) -> None:
    resolver = system(name_server)
    for _ in range(5):
        await resolver.mx("a.test")
        with pytest.raises(NoSuchDomain):
            await resolver.mx("gone.test")
    assert len(name_server.questions) == 2


@pytest.mark.parametrize("name", ["x" * 64 + ".test", ".".join(["a"] * 200), "a..test", "", "é\ud800.test"])
async def test_impossible_names_do_not_exist(name_server: NameServer, name: str) -> None:
    with pytest.raises(NoSuchDomain):
        await system(name_server).mx(name)
    assert name_server.questions == []


async def test_a_silent_name_server_is_a_temporary_failure(name_server: NameServer) -> None:
    name_server.silent = True
    with pytest.raises(ResolverFailed):
        await system(name_server, lifetime=0.2).mx("a.test")


async def test_no_such_address() -> None:
    with pytest.raises(NoSuchDomain):
        await SystemResolver(["127.0.0.1"]).ptr("not an address")


async def test_a_zone_file_that_is_removed_or_spoilt_puts_mail_off(tmp_path: Path) -> None:
    path = tmp_path / "zone"
    path.write_text(ZONE)
    resolver = ZoneFileResolver(path)
    path.write_text("now this is nonsense\n")
    with pytest.raises(ResolverFailed, match="line 1"):
        await resolver.mx("a.test")
    path.unlink()
    with pytest.raises(ResolverFailed, match="No such file"):
        await resolver.addresses("mx.a.test")
    path.write_text(ZONE)
    assert await resolver.addresses("mx.a.test") == ["127.0.0.1", "::1"]


async def test_the_failing_resolver_puts_everything_off_until_it_is_replaced(tmp_path: Path) -> None:
    current = CurrentResolver(FailingResolver("it is broken"))
    for ask in (current.mx, current.addresses, current.txt, current.ptr):
        with pytest.raises(ResolverFailed, match="it is broken"):
            await ask("a.test")
    (tmp_path / "zone").write_text(ZONE)
    current.inner = ZoneFileResolver(tmp_path / "zone")
    assert await current.ptr("127.0.0.1") == ["mx.a.test"]
