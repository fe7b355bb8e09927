"""uvicorn's protocol with our bounds, in this process: slow headers, slow bodies, too many connections."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from postkeep.protocols.http import access as access_module
from postkeep.protocols.http import server as server_module
from postkeep.protocols.http.api import trusted
from postkeep.protocols.http.front import FrontPages
from postkeep.protocols.http.server import HttpServer
from postkeep.runtime.limits import ConnectionLimiter
from starlette.types import ASGIApp

from tests.support.house import open_api

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@asynccontextmanager
async def serving(folder: Path, app: ASGIApp, limiter: ConnectionLimiter) -> AsyncIterator[int]:
    http = HttpServer(app, limiter)
    await http.start(folder / "admin.sock")
    listening = await asyncio.get_running_loop().create_server(http.factory(app), "127.0.0.1", 0)
    try:
        yield listening.sockets[0].getsockname()[1]
    finally:
        listening.close()
        await http.stop()


async def connect(port: int) -> Streams:
    return await asyncio.open_connection("127.0.0.1", port)


async def everything(reader: asyncio.StreamReader) -> bytes:
    async with asyncio.timeout(20):
        return await reader.read()


FRONT = FrontPages("mail.example.test", lambda: 4040)


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\n", b"GET / HTTP/1.1\r\nHost: x\r\nX: "])
async def test_a_header_that_never_ends_is_hung_up_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    monkeypatch.setattr(server_module, "HEADER_SECONDS", 0.2)
    limiter = ConnectionLimiter(10, 10)
    async with serving(tmp_path, FRONT, limiter) as port:
        reader, writer = await connect(port)
        writer.write(sent)
        assert await everything(reader) == b""
        writer.close()
    assert limiter.open == 0


async def test_a_header_dripped_in_between_requests_is_hung_up_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "HEADER_SECONDS", 0.3)
    async with serving(tmp_path, FRONT, ConnectionLimiter(10, 10)) as port:
        reader, writer = await connect(port)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        await reader.readexactly(length)
        writer.write(b"GET / HTTP/1.1\r\nX: y")
        assert await everything(reader) == b""
        writer.close()


async def test_a_body_that_nobody_reads_cannot_go_on_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Attack: the answer (a refusal) is given, and the sender keeps the connection by never ending."""
    monkeypatch.setattr(server_module, "MESSAGE_SECONDS", 0.3)
    limiter = ConnectionLimiter(10, 10)
    async with serving(tmp_path, FRONT, limiter) as port:
        reader, writer = await connect(port)
        writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nx")
        assert (await reader.readline()).startswith(b"HTTP/1.1 405")
        async with asyncio.timeout(5):
            while not reader.at_eof():
                writer.write(b"x")
                with contextlib.suppress(TimeoutError, ConnectionError):
                    await asyncio.wait_for(reader.read(1000), 0.05)
        writer.close()
    assert limiter.open == 0


async def test_connections_are_bounded(tmp_path: Path) -> None:
    limiter = ConnectionLimiter(3, 2)
    async with serving(tmp_path, FRONT, limiter) as port:
        first, second = await connect(port), await connect(port)
        for _, writer in (first, second):
            writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        for reader, _ in (first, second):
            assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        third = await connect(port)
        assert (await everything(third[0])).startswith(b"HTTP/1.1 503")
        first[1].close()
        await first[1].wait_closed()
        while limiter.open > 1:  # noqa: ASYNC110
            await asyncio.sleep(0)
        fourth = await connect(port)
        fourth[1].write(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert (await everything(fourth[0])).startswith(b"HTTP/1.1 200")
        for _, writer in (second, third, fourth):
            writer.close()


async def test_a_body_that_never_comes_is_answered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access_module, "BODY_SECONDS", 0.2)
    async with (
        open_api(tmp_path / "data") as api,
        serving(tmp_path, trusted(api.app), ConnectionLimiter(9, 9)) as port,
    ):
        reader, writer = await connect(port)
        writer.write(
            b"POST /api/v1/users HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b"Connection: close\r\nContent-Length: 100\r\n\r\n{"
        )
        assert (await everything(reader)).startswith(b"HTTP/1.1 408")
        writer.close()


async def test_pipelined_requests_are_answered_in_order(tmp_path: Path) -> None:
    async with serving(tmp_path, FRONT, ConnectionLimiter(9, 9)) as port:
        reader, writer = await connect(port)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 50)
        writer.write(b"GET /admin HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        answer = await everything(reader)
        assert answer.count(b"HTTP/1.1 200") == 50
        assert answer.rindex(b"HTTP/1.1 302") > answer.rindex(b"HTTP/1.1 200")
        writer.close()


async def test_what_lies_at_the_sockets_place_and_is_none_is_not_removed(tmp_path: Path) -> None:
    (tmp_path / "admin.sock").write_text("precious")
    http = HttpServer(FRONT, ConnectionLimiter(9, 9))
    with pytest.raises(OSError, match="Address already in use"):
        await http.start(tmp_path / "admin.sock")
    await http.stop()
    assert (tmp_path / "admin.sock").read_text() == "precious"
