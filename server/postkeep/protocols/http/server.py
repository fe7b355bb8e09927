"""uvicorn inside our event loop: its HTTP protocol with bounds, our listeners and our TLS."""

import asyncio
import contextlib
import logging
import os
import socket
import stat
import struct
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from postkeep.runtime.limits import ConnectionLimiter
from postkeep.runtime.unixsocket import reachable

HEADER_LIMIT = 32_768
"""Octets of a request line and its header fields."""
HEADER_SECONDS = 30.0
MESSAGE_SECONDS = 90.0
"""From the end of a request's header to the end of its body, whether or not anybody reads the body."""
KEEP_ALIVE_SECONDS = 15
STOP_SECONDS = 3
_REFUSALS = {431: b"The header is too large", 503: b"Too many connections"}


class _Connection(HttpToolsProtocol):
    """uvicorn's protocol; what it lacks is a bound on the header's size and time and on connections."""

    def __init__(self, limiter: ConnectionLimiter | None, local_only: bool, **more: Any) -> None:
        super().__init__(**more)
        self._limiter = limiter
        self._local_only = local_only
        self._peer = ""
        self._counted = False
        self._in_header = True
        self._header_octets = 0
        self._header_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        if self._local_only and not _is_own_user(transport):
            transport.abort()
            return
        super().connection_made(transport)
        self._peer = self.client[0] if self.client else ""
        if self._limiter is not None:
            self._counted = self._limiter.acquire(self._peer)
            if not self._counted:
                self._refuse(503)
                return
        self._expect_header()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        if self._counted and self._limiter is not None:
            self._limiter.release(self._peer)
            self._counted = False
        if self.transport is not None:
            super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.transport is None or self.transport.is_closing():
            return
        if self._in_header:
            if self._header_timer is None:
                self._expect_header()
            self._header_octets += len(data)
        super().data_received(data)
        if self._in_header and self._header_octets > HEADER_LIMIT and not self.transport.is_closing():
            self._refuse(431)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_header = True

    def on_headers_complete(self) -> None:
        self._in_header = False
        self._header_octets = 0
        self._stop_timer()
        # A refused request's body is read by nobody: without this its sender could take for ever.
        self._header_timer = self.loop.call_later(MESSAGE_SECONDS, self.transport.close)
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._stop_timer()
        super().on_message_complete()
        self._in_header = True  # the next request's

    def _expect_header(self) -> None:
        self._stop_timer()
        self._header_timer = self.loop.call_later(HEADER_SECONDS, self.timeout_keep_alive_handler)

    def _stop_timer(self) -> None:
        if self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None

    def _refuse(self, status: int) -> None:
        text = _REFUSALS[status]
        head = b"content-type: text/plain\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % len(text)
        self.transport.write(STATUS_LINE[status] + head + text)
        self.transport.close()


def _is_own_user(transport: asyncio.Transport) -> bool:
    """Whether the peer of a Unix socket is root or the engine's own user (unix(7), SO_PEERCRED)."""
    raw = transport.get_extra_info("socket")
    if raw is None:
        return False
    credentials = raw.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    _, uid, _ = struct.unpack("3i", credentials)
    return uid in (0, os.geteuid())


class _Server(uvicorn.Server):
    """Its date header and its shutdown; signals are the engine's."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.begun = asyncio.Event()
        self.ending = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield

    async def main_loop(self) -> None:
        self.begun.set()
        while not self.ending.is_set():
            await self.on_tick(0)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.ending.wait(), 1.0)


class HttpServer:
    """One uvicorn for all HTTP ports and the Unix socket. `factory` gives protocols to listeners."""

    def __init__(self, app: ASGIApp, limiter: ConnectionLimiter) -> None:
        """`app` is what the Unix socket serves."""
        for name in ("uvicorn.error", "uvicorn.access", "uvicorn"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
        self.app = app
        self._limiter = limiter
        self._config = self._configure(app)
        self._server = _Server(self._config)
        self._serving: asyncio.Task[None] | None = None
        self._unix: asyncio.Server | None = None
        self._socket_path: Path | None = None

    @property
    def connections(self) -> int:
        return len(self._server.server_state.connections)

    def factory(self, app: ASGIApp) -> Callable[[], asyncio.Protocol]:
        """Protocols that serve `app`, for runtime.listeners."""
        config = self._configure(app)
        return lambda: _Connection(
            self._limiter, False, config=config, server_state=self._server.server_state, app_state={}
        )

    async def start(self, socket_path: Path) -> None:
        """Begin; the Unix socket (mode 0600) takes the place of one that a killed engine left."""
        self._serving = asyncio.get_running_loop().create_task(self._server.serve(sockets=[]))
        await self._server.begun.wait()
        with contextlib.suppress(FileNotFoundError):
            if stat.S_ISSOCK(socket_path.lstat().st_mode):
                socket_path.unlink()
        listening = socket.socket(socket.AF_UNIX)
        old = os.umask(0o177)
        try:
            with reachable(socket_path) as path:
                listening.bind(path)
        finally:
            os.umask(old)
        listening.setblocking(False)
        self._socket_path = socket_path
        self._unix = await asyncio.get_running_loop().create_unix_server(
            lambda: _Connection(
                None,
                True,
                config=self._config,
                server_state=self._server.server_state,
                app_state={},
            ),
            sock=listening,
        )

    async def stop(self) -> None:
        """Requests under way may end, within STOP_SECONDS."""
        if self._unix is not None:
            self._unix.close()
        if self._socket_path is not None:
            self._socket_path.unlink(missing_ok=True)
        if self._serving is not None:
            self._server.ending.set()
            await self._serving

    def _configure(self, app: ASGIApp) -> uvicorn.Config:
        config = uvicorn.Config(
            app,
            loop="none",
            http="httptools",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=STOP_SECONDS,
            interface="asgi3",
        )
        config.load()
        return config
