"""The only code of the queue that awaits a socket: replies in, commands out, time limits on both."""

import asyncio
import math
import ssl
from collections import deque
from collections.abc import Callable
from typing import cast

from postkeep.queue.codec import BadReply, Reply, ReplyParser
from postkeep.runtime.clock import Clock
from postkeep.runtime.tls import start_tls

_QUEUED_REPLIES = 512


class ConnectionFailed(Exception):
    """The connection is of no more use; str() says why in words for people."""


class SmtpConnection(asyncio.Protocol):
    """One TCP connection to a mail server. For one task at a time."""

    def __init__(self, clock: Clock, trace: Callable[[str], None] | None = None) -> None:
        self._clock = clock
        self._trace = trace
        self._parser = ReplyParser()
        self._replies: deque[Reply] = deque()
        self._error: ConnectionFailed | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._drainer: asyncio.Future[None] | None = None
        self._paused = False
        self._allowed = self._deadline = math.inf
        self._transport: asyncio.Transport | None = None

    # --- asyncio --------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        try:
            replies = self._parser.feed(data)
        except BadReply as error:
            self._fail(f"the server does not speak SMTP ({error})")
            return
        if self._trace is not None:
            for reply in replies:
                self._trace(f"< {reply.words}")
        self._replies += replies
        if len(self._replies) > _QUEUED_REPLIES:
            self._fail("the server sends replies that nobody asked for")
        if replies:
            self._wake(self._waiter)

    def eof_received(self) -> None:
        self._fail("the server closed the connection")

    def connection_lost(self, exc: Exception | None) -> None:
        reason = "the connection was lost" if exc is None else f"the connection was lost ({exc})"
        self._fail(reason)

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self._wake(self._drainer)

    # --- for the session ------------------------------------------------------------------------------

    @property
    def usable(self) -> bool:
        """Open, and nothing said that was not asked for (an idle server says 421 before it closes)."""
        return self._error is None and not self._replies and not self._parser.pending

    @property
    def answered(self) -> bool:
        """Is there a reply to read?"""
        return bool(self._replies)

    def allow(self, seconds: float = math.inf) -> None:
        """From now on all waits together end after `seconds`, whatever the limit of each is."""
        self._allowed = seconds
        self._deadline = self._clock.monotonic() + seconds

    async def reply(self, limit: float) -> Reply:
        """The next reply, in order; ConnectionFailed when there is none within `limit` seconds."""
        while not self._replies:
            if self._error is not None:
                raise self._error
            self._waiter = asyncio.get_running_loop().create_future()
            await self._wait(self._waiter, limit, "the server did not answer")
        return self._replies.popleft()

    def write(self, data: bytes, shown: str = "") -> None:
        if self._error is not None:
            raise self._error
        assert self._transport is not None
        if self._trace is not None:
            self._trace(f"> {shown or data.decode('utf-8', 'replace').strip()}")
        self._transport.write(data)

    async def send(self, data: bytes, limit: float) -> None:
        """Write a part of a message; wait until the other side has taken most of it."""
        if self._error is not None:
            raise self._error
        assert self._transport is not None
        self._transport.write(data)
        while self._paused:
            if self._error is not None:
                raise self._error
            self._drainer = asyncio.get_running_loop().create_future()
            await self._wait(self._drainer, limit, "the server did not take the message")

    async def start_tls(self, context: ssl.SSLContext, host: str | None) -> None:
        """The server said 220 to STARTTLS (or TLS comes first). ConnectionFailed when the handshake fails."""
        if self._error is not None:
            raise self._error
        if not self.usable:
            # RFC 3207 §6, and the response injection of CVE-2021-38371: nothing may come before TLS
            self._fail("the server sent more before TLS than its reply")
            raise self._failure
        assert self._transport is not None
        done: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()

        def hear(error: Exception | None) -> None:
            if not done.done():
                done.set_result(error)

        self._transport = start_tls(
            self._transport,
            self,
            context,
            server_side=False,
            server_hostname=host,
            clock=self._clock,
            on_handshake=hear,
        )
        error = await done
        if error is not None:
            self._fail("the TLS handshake failed")
            raise ConnectionFailed(f"the TLS handshake failed ({_tls_reason(error)})")

    def close(self) -> None:
        self._fail("the connection was closed")

    # --- inside ---------------------------------------------------------------------------------------

    @property
    def _failure(self) -> ConnectionFailed:
        return self._error or ConnectionFailed("the connection was lost")

    def _fail(self, reason: str) -> None:
        if self._error is None:
            self._error = ConnectionFailed(reason)
        if self._transport is not None:
            self._transport.close()
        self._wake(self._waiter)
        self._wake(self._drainer)

    def abort(self) -> None:
        self._fail("the connection was closed")
        if self._transport is not None:
            self._transport.abort()

    async def _wait(self, future: asyncio.Future[None], limit: float, reason: str) -> None:
        left = self._deadline - self._clock.monotonic()
        words = f"{reason} within {limit:.0f} seconds"
        if left < limit:
            limit, words = max(left, 0.0), f"the server is too slow: not done in {self._allowed:.0f} seconds"

        def expire() -> None:
            if self._error is None:
                self._error = ConnectionFailed(words)
            self.abort()

        if limit <= 0:
            expire()
            raise self._failure
        timer = self._clock.call_later(limit, expire)
        try:
            await future
        finally:
            timer.cancel()

    @staticmethod
    def _wake(future: asyncio.Future[None] | None) -> None:
        if future is not None and not future.done():
            future.set_result(None)


def _tls_reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message
    if isinstance(error, ssl.SSLError) and error.reason:
        return error.reason.lower().replace("_", " ")
    return str(error)
