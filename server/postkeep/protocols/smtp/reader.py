"""The input of one connection in command mode, in place of asyncio.StreamReader."""

import asyncio
from collections.abc import Awaitable, Callable

BUFFER_LIMIT = 64 * 1024
"""Octets of pipelined commands; beyond it the socket is not read until some are done."""
GARBAGE_LIMIT = 1024 * 1024
"""Octets of one endless line that are thrown away before the connection is."""


class CommandTooLong(Exception):
    """The line outgrew the longest command and was thrown away, its ending included."""


class CommandReader:
    """Gives whole lines with their line ending.

    aiosmtpd uses `readline`, `_buffer` (emptied when TLS starts: RFC 3207 §4.2) and `_transport`.
    """

    __slots__ = (
        "_buffer", "_flush", "_garbage", "_line_limit", "_loop", "_paused", "_transport", "_waiter", "eof",
    )  # fmt: skip

    def __init__(
        self,
        transport: asyncio.Transport,
        flush: Callable[[], Awaitable[None]],
        line_limit: int,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._buffer = bytearray()
        self._transport = transport
        self._flush = flush
        self._line_limit = line_limit
        self._loop = loop
        self._paused = False
        self._garbage = 0
        self._waiter: asyncio.Future[None] | None = None
        self.eof = False

    def __bool__(self) -> bool:
        """Is there input that was not read yet?"""
        return len(self._buffer) > 0

    @property
    def waiting(self) -> bool:
        """Does somebody wait for the peer's next line?"""
        return self._waiter is not None

    def feed(self, data: bytes) -> None:
        self._buffer += data
        if self._waiter is not None:
            self._wake()
        if len(self._buffer) > BUFFER_LIMIT and not (self._paused or self._transport.is_closing()):
            self._paused = True
            self._transport.pause_reading()

    def end(self) -> None:
        """No more input will come."""
        self.eof = True
        self._wake()

    def clear(self) -> None:
        """Throw away what was pipelined."""
        self._buffer.clear()
        self._resume()

    def take(self) -> bytes:
        """All that is buffered."""
        data = bytes(self._buffer)
        self.clear()
        return data

    def next_line(self) -> bytes | None:
        """A whole line that is here already. Raises CommandTooLong, and ConnectionResetError on a flood."""
        buffer = self._buffer
        end = buffer.find(b"\n") + 1
        if end == 0:
            if len(buffer) > self._line_limit or self._garbage:
                self._drop(len(buffer))
            return None
        if end > self._line_limit or self._garbage:
            self._drop(end)
            self._garbage = 0
            raise CommandTooLong
        if end == len(buffer):
            line = bytes(buffer)
            buffer.clear()
        else:
            line = bytes(buffer[:end])
            del buffer[:end]
        if self._paused and len(buffer) <= BUFFER_LIMIT // 2:
            self._resume()
        return line

    async def readline(self) -> bytes:
        """The next line; all replies are sent before it is waited for.

        Raises CommandTooLong, and ConnectionResetError at the end of the input (a part of a line is lost).
        """
        while True:
            line = self.next_line()
            if line is not None:
                return line
            if self.eof:
                raise ConnectionResetError("end of input")
            await self._flush()
            if self.eof or b"\n" in self._buffer:
                continue  # it came while the replies were held up
            self._waiter = self._loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None

    def _drop(self, count: int) -> None:
        del self._buffer[:count]
        self._garbage += count
        self._resume()
        if self._garbage > GARBAGE_LIMIT:
            raise ConnectionResetError("a line without end")

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _resume(self) -> None:
        if self._paused:
            self._paused = False
            if not self.eof and not self._transport.is_closing():
                self._transport.resume_reading()
