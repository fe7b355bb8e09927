"""Outgoing connections: from which of our own addresses they come."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from postkeep.runtime.clock import SystemClock
from postkeep.runtime.dialer import SystemDialer


@pytest.fixture
async def peers() -> AsyncIterator[tuple[int, list[str]]]:
    """(port of a listener on 127.0.0.1, the addresses that called it)"""
    called: list[str] = []

    def hear(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        called.append(writer.get_extra_info("peername")[0])
        writer.write(b"x")

    listener = await asyncio.start_server(hear, "127.0.0.1", 0)
    yield listener.sockets[0].getsockname()[1], called
    listener.close()


class Greeted(asyncio.Protocol):
    """`done` once the other side has said something."""

    def __init__(self) -> None:
        self.done = asyncio.get_running_loop().create_future()

    def data_received(self, data: bytes) -> None:
        if not self.done.done():
            self.done.set_result(data)


async def call(dialer: SystemDialer, port: int) -> None:
    transport, protocol = await dialer.connect(Greeted, "127.0.0.1", port, limit=10)
    await asyncio.wait_for(protocol.done, 10)
    transport.close()


async def test_calls_come_from_the_given_address(peers: tuple[int, list[str]]) -> None:
    port, called = peers
    dialer = SystemDialer(SystemClock(), source_v4="127.0.0.2")
    await call(dialer, port)
    dialer.come_from("127.0.0.3", "")
    await call(dialer, port)
    dialer.come_from("", "::1")
    await call(dialer, port)
    assert called == ["127.0.0.2", "127.0.0.3", "127.0.0.1"]


async def test_an_address_that_is_not_ours_is_an_error(peers: tuple[int, list[str]]) -> None:
    with pytest.raises(OSError):  # noqa: PT011 - its text is the system's
        await call(SystemDialer(SystemClock(), source_v4="192.0.2.1"), peers[0])
