"""The socket side of one IMAP client: the only code of this protocol that awaits it.

An idle connection has no task, no stream reader and no buffers: data_received feeds the codec and starts
a task that ends when all complete commands are answered.
"""

import asyncio
from collections.abc import Callable
from typing import cast

from postkeep.protocols.imap.codec import Codec, Line
from postkeep.protocols.imap.commands import HANDLERS
from postkeep.protocols.imap.commands.capability import capabilities
from postkeep.protocols.imap.session.session import (
    COMMAND_LIMIT_BEFORE_LOGIN,
    Context,
    Disconnected,
    Session,
)
from postkeep.protocols.imap.state import State
from postkeep.runtime.clock import Timer
from postkeep.runtime.limits import ConnectionLimiter
from postkeep.runtime.tls import start_tls

READ_HIGH = 128 * 1024
"""Octets received and not yet obeyed at which reading stops."""
WRITE_HIGH = 128 * 1024
"""Octets of answers gathered before they go to the socket; also the socket's own high-water mark."""
CLOSE_SECONDS = 15.0
"""How long a client may take to read the last answer."""
LINGER_SECONDS = 5.0
LINGER_OCTETS = 4 * 1024 * 1024
"""What a client may still send after a BYE that it caused: closing at once would reset the connection and
the BYE would be lost with it."""
FAIR_SHARE = 64
"""Commands of one client that run before others get their turn."""


class ImapConnection(asyncio.Protocol):
    """Made by ImapServer.factory(). `gone` is called once when the connection has ended."""

    __slots__ = (
        "_closing",
        "_context",
        "_deadline",
        "_drained",
        "_eof",
        "_gone",
        "_held",
        "_last",
        "_limiter",
        "_linger",
        "_lost",
        "_out",
        "_out_size",
        "_paused",
        "_peer",
        "_stall",
        "_start_tls",
        "_stopping",
        "_task",
        "_timer",
        "_tls",
        "_transport",
        "_urgent",
        "_waiter",
        "_write_paused",
        "codec",
        "session",
    )

    def __init__(
        self,
        context: Context,
        limiter: ConnectionLimiter,
        gone: Callable[["ImapConnection"], None],
    ) -> None:
        self._context = context
        self._limiter = limiter
        self._gone = gone
        nonsync = 4096 if context.settings.literal_minus else None
        self.codec = Codec(COMMAND_LIMIT_BEFORE_LOGIN, nonsync)
        self.session = Session(context, self, HANDLERS)
        self._transport: asyncio.Transport | None = None
        self._peer = ""
        self._tls = False
        self._held = False  # counted by the limiter
        self._closing = False
        self._lost = False
        self._task: asyncio.Task[None] | None = None
        self._waiter: asyncio.Future[None] | None = None  # for input
        self._drained: asyncio.Future[None] | None = None
        self._out: list[bytes] = []
        self._out_size = 0
        self._paused = False
        self._write_paused = False
        self._eof = False
        self._linger = 0
        self._stopping = ""
        self._urgent = False
        self._start_tls = False
        self._timer: Timer | None = None
        self._stall: Timer | None = None
        self._last = 0.0
        self._deadline = float(context.settings.login_seconds)

    # --- asyncio ------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        peer = transport.get_extra_info("peername")
        self._peer = peer[0] if isinstance(peer, tuple) else ""
        self._tls = transport.get_extra_info("ssl_object") is not None
        self._transport.set_write_buffer_limits(high=WRITE_HIGH)
        if not self._limiter.acquire(self._peer):
            self._transport.write(b"* BYE Too many connections\r\n")
            self.close()
            return
        self._held = True
        clock = self._context.clock
        self._last = clock.monotonic()
        self._timer = clock.call_later(self._deadline, self._check_idle)
        self.write(b"* OK [CAPABILITY %b] Postkeep ready\r\n" % capabilities(self.session))
        self._flush()

    def data_received(self, data: bytes) -> None:
        if self._closing:
            self._linger -= len(data)
            if self._linger < 0:
                self.abort()
            return
        if self.session.state is not State.NOT_AUTHENTICATED:
            # Before that the time-out counts from the connection on, whatever is said.
            self._last = self._context.clock.monotonic()
        self.codec.feed(data)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
        elif self._task is None:
            self._start()
        if self.codec.buffered > READ_HIGH and not self._paused:
            self._paused = True
            self._wired().pause_reading()

    def eof_received(self) -> bool:
        """A client that has said all may still read the answers under way."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(Disconnected())
        self._eof = True
        return self._task is not None and not self._tls

    def stop(self, reason: str, *, urgent: bool = False) -> None:
        """BYE now, or after the command under way; `urgent`: as soon as that can be left."""
        if self._task is None or self._waiter is not None:
            self.session.bye(reason)
            return
        self._stopping = reason
        self._urgent = self._urgent or urgent
        if self._urgent and self._drained is not None and not self._drained.done():
            self._drained.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = self._closing = True
        for timer in (self._timer, self._stall):
            if timer is not None:
                timer.cancel()
        self._timer = self._stall = None
        if self._held:
            self._held = False
            self._limiter.release(self._peer)
        self._out.clear()
        self.session.closed()
        for future in (self._waiter, self._drained):
            if future is not None and not future.done():
                future.set_exception(Disconnected())
        self._gone(self)

    def pause_writing(self) -> None:
        self._write_paused = True
        seconds = float(self._context.settings.write_seconds)
        self._stall = self._context.clock.call_later(seconds, self.abort)

    def resume_writing(self) -> None:
        self._write_paused = False
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
        if self.session.has_news:
            self.wake()

    # --- session.Wire -------------------------------------------------------------------------------

    @property
    def peer(self) -> str:
        return self._peer

    @property
    def is_tls(self) -> bool:
        return self._tls

    @property
    def closing(self) -> bool:
        return self._closing

    def write(self, data: bytes) -> None:
        """Goes out when the command waits for something or all is answered, whatever is first."""
        if data and not self._lost:
            if not self._out:
                asyncio.get_running_loop().call_soon(self._flush)
            self._out.append(data)
            self._out_size += len(data)

    async def drain(self) -> None:
        self._flush()
        if self._lost:
            raise Disconnected
        if self._write_paused:
            self._drained = asyncio.get_running_loop().create_future()
            try:
                await self._drained
            finally:
                self._drained = None
        self._leave_if_urgent()

    async def turn(self) -> None:
        await asyncio.sleep(0)
        if self._closing:
            raise Disconnected
        self._leave_if_urgent()

    async def line(self) -> bytes:
        self.codec.expect_line()
        while True:
            event = self.codec.next()
            if isinstance(event, Line):
                return event.text
            if event is not None:  # Fatal
                await self.session.handle(event)
                raise Disconnected
            await self._input()

    async def literal(self) -> bytes:
        while True:
            data = self.codec.take_literal()
            self._resume_reading()
            if data or not self.codec.literal_left:
                return data
            await self._input()

    def start_tls(self) -> None:
        """Happens once the tagged answer is on its way."""
        self._start_tls = True

    def logged_in(self) -> None:
        self._deadline = self._context.settings.idle_minutes * 60.0
        self._last = self._context.clock.monotonic()

    def wake(self) -> None:
        if self._task is None and not self._closing and not self._write_paused:
            self._start()

    def close(self, *, linger: bool = False) -> None:
        if self._closing:
            return
        self._closing = True
        self._flush()
        transport = self._wired()
        linger = linger and transport.can_write_eof()
        if self._stall is None:
            seconds = LINGER_SECONDS if linger else CLOSE_SECONDS
            self._stall = self._context.clock.call_later(seconds, self.abort)
        if not linger:
            transport.close()
            return
        self._linger = LINGER_OCTETS
        transport.write_eof()
        if self._paused:
            self._paused = False
            transport.resume_reading()

    def abort(self) -> None:
        self._closing = True
        if self._transport is not None:
            self._transport.abort()

    # --- inside -------------------------------------------------------------------------------------

    def _wired(self) -> asyncio.Transport:
        assert self._transport is not None
        return self._transport

    def _start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        """Answer all that is complete, in order."""
        session, codec = self.session, self.codec
        handled = 0
        try:
            while not self._closing:
                if session.idle_tag is not None:
                    await session.push()
                    codec.expect_line()
                if self._stopping:
                    session.bye(self._stopping)
                    break
                event = codec.next()
                if event is not None:
                    await session.handle(event)
                    if self._start_tls:
                        self._upgrade()
                elif not session.has_news:
                    # Nothing is awaited from here to the end of the task: `wake` starts the next one.
                    break
                handled += 1
                if self._out_size > WRITE_HIGH or self._write_paused:
                    await self.drain()
                if handled % FAIR_SHARE == 0:
                    self._flush()
                    await asyncio.sleep(0)
            self._flush()
        except Disconnected:
            pass
        except Exception as error:
            self._context.logs.error.write(f"IMAP connection failed: {type(error).__name__}: {error}")
            self.abort()
        finally:
            self._task = None
            self._resume_reading()
            if self._eof:
                self.close()

    def _leave_if_urgent(self) -> None:
        """In the middle of a command whose client is to go. No BYE fits into a literal."""
        if self._urgent and not self._closing:
            if self.session.streaming:
                self.abort()
            else:
                self.session.bye(self._stopping)
            raise Disconnected

    async def _input(self) -> None:
        """Wait for more from the client."""
        self._flush()
        if self._closing:
            raise Disconnected
        self._resume_reading()
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _flush(self) -> None:
        if self._out:
            data = self._out[0] if len(self._out) == 1 else b"".join(self._out)
            self._out.clear()
            self._out_size = 0
            if not self._lost:
                self._wired().write(data)

    def _resume_reading(self) -> None:
        if self._paused and not self._closing and self.codec.buffered <= READ_HIGH // 2:
            self._paused = False
            self._wired().resume_reading()

    def _upgrade(self) -> None:
        """RFC 3501 §6.2.1: what came after STARTTLS in the clear is thrown away unread."""
        self._start_tls = False
        self._flush()
        self.codec.clear()
        context = self._context.certificates.server_context()
        self._transport = start_tls(self._wired(), self, context, clock=self._context.clock)
        self._tls = True
        self._paused = False

    def _check_idle(self) -> None:
        """One timer a connection, set again for the rest of the time rather than at every command."""
        clock = self._context.clock
        rest = self._last + self._deadline - clock.monotonic()
        if rest > 0.001:
            self._timer = clock.call_later(rest, self._check_idle)
        elif (
            self._task is not None
            and self._waiter is None
            and self.session.state is not State.NOT_AUTHENTICATED
        ):
            # It works on an answer; a client that does not read it is met by the write time-out.
            self._timer = clock.call_later(60.0, self._check_idle)
        else:
            self._timer = None
            late = self.session.state is State.NOT_AUTHENTICATED
            self.session.bye("Log in sooner" if late else "Autologout; idle for too long")
