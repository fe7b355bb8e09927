import asyncio
import socket

import pytest
from postkeep.runtime.listeners import Listeners

from tests.support.logs import FakeLog


class Hello(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.write(b"hello")

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


async def greet(host: str, port: int) -> bytes:
    reader, writer = await asyncio.open_connection(host, port)
    try:
        return await reader.readexactly(5)
    finally:
        writer.close()


async def test_port_in_use_is_one_line_and_the_others_run() -> None:
    log = FakeLog()
    listeners = Listeners(log)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        await listeners.open("smtp", Hello, "127.0.0.1", port)
        await listeners.open("imap", Hello, "127.0.0.1", 0)
    assert log.lines == [
        f"smtp does not run: cannot listen on 127.0.0.1 port {port}: another program uses it"
    ]
    assert listeners.failure("smtp") == log.lines[0]
    assert listeners.failure("imap") is None
    assert listeners.addresses("smtp") == []
    ((host, number),) = listeners.addresses("imap")
    assert await greet(host, number) == b"hello"
    await listeners.stop()


async def test_all_addresses_means_ipv4_and_ipv6() -> None:
    log = FakeLog()
    listeners = Listeners(log)
    await listeners.open("imap", Hello, "", 0)
    addresses = listeners.addresses("imap")
    port = addresses[0][1]
    assert await greet("127.0.0.1", port) == b"hello"
    if socket.has_ipv6 and len(addresses) == 2:
        assert addresses[1] == ("::", port)
        assert await greet("::1", port) == b"hello"
    await listeners.stop()
    assert log.lines == []


async def test_a_port_taken_on_ipv6_only_gives_up_both() -> None:
    try:
        other = socket.socket(socket.AF_INET6)
        other.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        other.bind(("::", 0))
    except OSError:
        pytest.skip("this machine has no IPv6")
    with other:
        other.listen()
        listeners = Listeners(FakeLog())
        await listeners.open("imap", Hello, "*", other.getsockname()[1])
        assert listeners.addresses("imap") == []
        assert "another program uses it" in (listeners.failure("imap") or "")
    await listeners.open("imap", Hello, "*", 0)
    assert listeners.failure("imap") is None
    await listeners.stop()


@pytest.mark.parametrize("host", ["192.0.2.77", "no such host", "999.1.1.1"])
async def test_an_address_that_is_not_ours(host: str) -> None:
    log = FakeLog()
    listeners = Listeners(log)
    await listeners.open("smtp", Hello, host, 0)
    assert len(log.lines) == 1
    assert log.lines[0].startswith("smtp does not run: cannot listen on")
    await listeners.stop()


async def test_close_stops_accepting_and_leaves_open_connections() -> None:
    listeners = Listeners(FakeLog())
    await listeners.open("imap", Hello, "127.0.0.1", 0)
    ((host, port),) = listeners.addresses("imap")
    reader, writer = await asyncio.open_connection(host, port)
    assert await reader.readexactly(5) == b"hello"
    await listeners.close("imap")
    with pytest.raises(ConnectionError):
        await greet(host, port)
    writer.write(b"still here")
    assert await reader.readexactly(10) == b"still here"
    writer.close()
    # and the same port can be opened again at once
    await listeners.open("imap", Hello, host, port)
    assert await greet(host, port) == b"hello"
    await listeners.stop()
