"""A service that echoes, to try the layers below protocols with."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any, cast

from postkeep.runtime.tls import client_context


class Echo(asyncio.Protocol):
    """Echoes; remembers what it was told."""

    made: list["Echo"]

    def __init__(self) -> None:
        self.transport: asyncio.Transport
        self.lost: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
        self.ended = False
        self.received = bytearray()
        self.paused = 0
        self.resumed = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's are no subclass

    def data_received(self, data: bytes) -> None:
        self.received += data
        self.transport.write(data)

    def eof_received(self) -> None:
        self.ended = True

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set_result(exc)

    def pause_writing(self) -> None:
        self.paused += 1

    def resume_writing(self) -> None:
        self.resumed += 1


class Service:
    def __init__(self, make: Callable[[], asyncio.BaseProtocol]) -> None:
        self.made: list[Any] = []
        self._make = make

    def factory(self) -> asyncio.BaseProtocol:
        protocol = self._make()
        self.made.append(protocol)
        return protocol


@contextlib.asynccontextmanager
async def listening(factory: Callable[[], asyncio.BaseProtocol]) -> AsyncIterator[int]:
    server = await asyncio.get_running_loop().create_server(factory, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def tls_client(port: int, **more: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    context = client_context(verify=False)
    for name, value in more.items():
        setattr(context, name, value)
    return await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="mail.example.test")
