"""The socket side of one POP3 client: the only code of this protocol that awaits it.

An idle connection has no task: data_received feeds the codec and starts one that ends when all complete
commands are answered, in order (PIPELINING, RFC 2449 §6.6).
"""

import asyncio
from collections.abc import Callable
from typing import cast

from postkeep.protocols.pop3.codec import RESPONSE_LIMIT, Codec, Fault, err, ok
from postkeep.protocols.pop3.commands import HANDLERS
from postkeep.protocols.pop3.session import Context, Disconnected, Session
from postkeep.protocols.pop3.state import State
from postkeep.runtime.clock import Timer
from postkeep.runtime.limits import ConnectionLimiter
from postkeep.runtime.tls import start_tls

READ_HIGH = 32 * 1024
"""Octets received and not yet obeyed at which reading stops."""
WRITE_HIGH = 128 * 1024
"""Octets of answers gathered before they go to the socket; also the socket's own high-water mark."""
CLOSE_SECONDS = 15.0
"""How long a client may take to read the last answer."""
FAIR_SHARE = 64
"""Commands of one client that run before others get their turn."""


class Pop3Connection(asyncio.Protocol):
    """Made by Pop3Server.factory(). `gone` is called once when the connection has ended."""

    __slots__ = (
        "_closing",
        "_codec",
        "_context",
        "_deadline",
        "_drained",
        "_eof",
        "_gone",
        "_held",
        "_limiter",
        "_lost",
        "_out",
        "_out_size",
        "_paused",
        "_peer",
        "_stall",
        "_stopping",
        "_task",
        "_timer",
        "_tls",
        "_transport",
        "_upgrading",
        "_waiter",
        "_write_paused",
        "session",
    )

    def __init__(
        self, context: Context, limiter: ConnectionLimiter, gone: Callable[["Pop3Connection"], None]
    ) -> None:
        self._context = context
        self._limiter = limiter
        self._gone = gone
        self._codec = Codec()
        self.session = Session(context, self, HANDLERS)
        self._transport: asyncio.Transport | None = None
        self._peer = ""
        self._tls = False
        self._held = False  # counted by the limiter
        self._closing = False
        self._eof = False  # the client has said all
        self._stopping = False
        self._lost = False
        self._upgrading = False
        self._task: asyncio.Task[None] | None = None
        self._waiter: asyncio.Future[None] | None = None  # for a SASL response
        self._drained: asyncio.Future[None] | None = None
        self._out: list[bytes] = []
        self._out_size = 0
        self._paused = False
        self._write_paused = False
        self._timer: Timer | None = None
        self._stall: Timer | None = None
        self._deadline = 0.0  # monotonic

    # --- asyncio ------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        peer = transport.get_extra_info("peername")
        self._peer = peer[0] if isinstance(peer, tuple) else ""
        self._tls = transport.get_extra_info("ssl_object") is not None
        self._transport.set_write_buffer_limits(high=WRITE_HIGH)
        refusal = ""
        if self._stopping:
            refusal = "Server is shutting down"
        elif not self._limiter.acquire(self._peer):
            refusal = "Too many connections"
        else:
            self._held = True
        if refusal:
            self.write(err(refusal, "SYS/TEMP"))
            self.close()
            return
        clock = self._context.clock
        # Until login the deadline stands, whatever is said: a slow sender cannot move it.
        self._deadline = clock.monotonic() + self._context.settings.login_seconds
        self._timer = clock.call_later(self._context.settings.login_seconds, self._check_deadline)
        self.write(ok("Postkeep ready"))
        self._flush()

    def data_received(self, data: bytes) -> None:
        if self._closing:
            return
        self._codec.feed(data)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
        elif self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())
        if self._codec.buffered > READ_HIGH and not self._paused:
            self._paused = True
            self._wired().pause_reading()

    def eof_received(self) -> bool:
        """A client that has said all may still read the answers to it."""
        self._eof = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(Disconnected())
        return self._task is not None and not self._tls

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
        for future in (self._waiter, self._drained):
            if future is not None and not future.done():
                future.set_exception(Disconnected())
        if self._task is None:
            self._end()

    def pause_writing(self) -> None:
        self._write_paused = True
        if self._stall is None:
            seconds = float(self._context.settings.write_seconds)
            self._stall = self._context.clock.call_later(seconds, self.abort)

    def resume_writing(self) -> None:
        self._write_paused = False
        if self._stall is not None and not self._closing:
            self._stall.cancel()
            self._stall = None
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)

    # --- session.Wire -------------------------------------------------------------------------------

    @property
    def peer(self) -> str:
        return self._peer

    @property
    def is_tls(self) -> bool:
        return self._tls

    def write(self, data: bytes) -> None:
        if data and not self._lost:
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

    async def response(self) -> bytes | Fault:
        while True:
            line = self._codec.next(RESPONSE_LIMIT)
            if line is not None:
                return line
            self._flush()
            if self._closing or self._eof:
                raise Disconnected
            self._resume_reading()
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None

    def start_tls(self) -> None:
        self._upgrading = True

    def logged_in(self) -> None:
        self._touch()

    def close(self) -> None:
        """After what was written has been sent."""
        if self._closing:
            return
        self._closing = True
        self._flush()
        transport = self._wired()
        if self._stall is not None:
            self._stall.cancel()
        self._stall = self._context.clock.call_later(CLOSE_SECONDS, self.abort)
        transport.close()

    def abort(self) -> None:
        self._closing = True
        if self._transport is not None:
            self._transport.abort()

    # --- server -------------------------------------------------------------------------------------

    def stop(self, reason: str) -> None:
        """Hang up. A command under way is finished first; QUIT's removals too."""
        self._stopping = True
        if self._transport is None or (self._task is not None and self._waiter is None):
            return
        self.write(err(reason, "SYS/TEMP"))
        self.close()

    # --- inside -------------------------------------------------------------------------------------

    def _wired(self) -> asyncio.Transport:
        assert self._transport is not None
        return self._transport

    async def _run(self) -> None:
        handled = 0
        try:
            while not self._closing:
                line = self._codec.next()
                if line is None:
                    break
                await self.session.handle(line)
                self._touch()
                handled += 1
                if self._upgrading and not self._eof:
                    self._upgrade()
                if self._stopping and not self._closing:
                    self.write(err("Server is shutting down", "SYS/TEMP"))
                    self.close()
                if self._out_size > WRITE_HIGH or self._write_paused:
                    await self.drain()
                if handled % FAIR_SHARE == 0:
                    self._flush()
                    await asyncio.sleep(0)
            self._flush()
        except Disconnected:
            pass
        except Exception as error:
            self._context.logs.error.write(f"POP3 connection failed: {type(error).__name__}: {error}")
            self.abort()
        finally:
            self._task = None
            if self._lost:
                self._end()
            elif self._eof:
                self.close()
            else:
                self._resume_reading()

    def _end(self) -> None:
        """Lost, and no command under way any more: only then is the maildrop free."""
        self.session.closed()
        self._gone(self)

    def _flush(self) -> None:
        if self._out:
            data = self._out[0] if len(self._out) == 1 else b"".join(self._out)
            self._out.clear()
            self._out_size = 0
            if not self._lost:
                self._wired().write(data)

    def _resume_reading(self) -> None:
        if self._paused and not self._closing and self._codec.buffered <= READ_HIGH // 2:
            self._paused = False
            self._wired().resume_reading()

    def _upgrade(self) -> None:
        """What came after STLS in the clear is thrown away unread (RFC 3207 §6 tells why)."""
        self._upgrading = False
        self._flush()
        self._codec.clear()
        self.session.reset_authorization()
        context = self._context.certificates.server_context()
        self._transport = start_tls(self._wired(), self, context, clock=self._context.clock)
        self._tls = True
        self._paused = False

    def _touch(self) -> None:
        """A command was obeyed. Before login that moves no deadline."""
        if self.session.state is not State.AUTHORIZATION:
            self._deadline = self._context.clock.monotonic() + self._context.settings.idle_minutes * 60.0

    def _check_deadline(self) -> None:
        """One timer a connection, set again for the rest of the time rather than at every command."""
        clock = self._context.clock
        rest = self._deadline - clock.monotonic()
        working = (
            self._task is not None and self._waiter is None and self.session.state is not State.AUTHORIZATION
        )
        if rest > 0.001:
            self._timer = clock.call_later(rest, self._check_deadline)
        elif working:  # a client that does not read its answer is met by the write time-out
            self._timer = clock.call_later(60.0, self._check_deadline)
        else:
            # RFC 1939 §3: no response, nothing is removed.
            self._timer = None
            self.close()
