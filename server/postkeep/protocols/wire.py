"""The socket side of a line protocol: buffers, back-pressure, deadlines, clean ends. IMAP, POP3 stand on it.

An idle connection has no task, no stream reader and no buffers: data_received feeds the codec and starts a
task that ends when all complete commands are answered, in order.
"""

import asyncio
from collections.abc import Callable
from typing import ClassVar, Protocol, cast

from postkeep.domain.account import Account
from postkeep.runtime.certificates import Certificates
from postkeep.runtime.clock import Clock, Timer
from postkeep.runtime.limits import ConnectionLimiter
from postkeep.runtime.logs import Logs
from postkeep.runtime.tls import start_tls

WRITE_HIGH = 128 * 1024
"""Octets of answers gathered before they go to the socket; also the socket's own high-water mark."""
CLOSE_SECONDS = 15.0
"""How long a client may take to read the last answer."""
LINGER_SECONDS = 5.0
LINGER_OCTETS = 4 * 1024 * 1024
"""What a client may still send after a farewell that it caused: closing at once would reset the connection
and the farewell would be lost with it."""
FAIR_SHARE = 64
"""Commands of one client that run before others get their turn."""
WORKING_SECONDS = 60.0
"""How often the deadline is looked at again while a command is at work."""


class Disconnected(Exception):
    """The client is gone, nobody waits for an answer: unwinds the command under way."""


class LineCodec(Protocol):
    """What a connection needs of its protocol's codec."""

    @property
    def buffered(self) -> int:
        """Octets received and not yet obeyed."""

    def feed(self, data: bytes) -> None: ...
    def clear(self) -> None:
        """Forget all that was not obeyed."""


class LineSession(Protocol):
    """What a connection needs of its protocol's session."""

    @property
    def owner(self) -> Account | None:
        """Who is logged in."""

    @property
    def streaming(self) -> bool:
        """The beginning of a reply is out and its rest must follow: nothing else can be said."""


class LineSettings(Protocol):
    """Times of a protocol, in seconds and minutes."""

    @property
    def login_seconds(self) -> int: ...
    @property
    def idle_minutes(self) -> int: ...
    @property
    def write_seconds(self) -> int: ...


class LineContext(Protocol):
    """What all connections of a server share."""

    @property
    def settings(self) -> LineSettings: ...
    @property
    def certificates(self) -> Certificates: ...
    @property
    def clock(self) -> Clock: ...
    @property
    def logs(self) -> Logs: ...


class LineConnection(asyncio.Protocol):
    """One client. `gone` is called once, when the connection has ended and no command is at work for it.

    A protocol adds its codec and session and what they say: `_greet`, `_step`, `_farewell`, `_timed_out`.
    """

    NAME: ClassVar[str]
    READ_HIGH: ClassVar[int]
    """Octets received and not yet obeyed at which reading stops."""

    __slots__ = (
        "_closing", "_context", "_deadline", "_drained", "_eof", "_gone", "_held", "_limiter",
        "_linger", "_lost", "_out", "_out_size", "_paused", "_peer", "_stall", "_stopping", "_task",
        "_timer", "_tls", "_transport", "_upgrading", "_urgent", "_waiter", "_write_paused",
        "codec", "session",
    )  # fmt: skip

    codec: LineCodec
    session: LineSession

    def __init__(
        self, context: LineContext, limiter: ConnectionLimiter, gone: Callable[["LineConnection"], None]
    ) -> None:
        self._context = context
        self._limiter = limiter
        self._gone = gone
        self._transport: asyncio.Transport | None = None
        self._peer = ""
        self._tls = False
        self._held = False  # counted by the limiter
        self._closing = False
        self._lost = False
        self._eof = False  # the client has said all
        self._stopping = ""  # why
        self._urgent = False
        self._upgrading = False
        self._task: asyncio.Task[None] | None = None
        self._waiter: asyncio.Future[None] | None = None  # for input
        self._drained: asyncio.Future[None] | None = None
        self._out: list[bytes] = []
        self._out_size = 0
        self._paused = False
        self._write_paused = False
        self._linger = 0
        self._timer: Timer | None = None
        self._stall: Timer | None = None
        self._deadline = 0.0  # monotonic

    # --- what a protocol adds -----------------------------------------------------------------------

    def _greet(self) -> None:
        """Write the greeting."""
        raise NotImplementedError

    async def _step(self) -> bool:
        """Obey one command; False when none is complete. Then nothing was awaited since that was seen."""
        raise NotImplementedError

    def _farewell(self, reason: str) -> None:
        """Say it and close."""
        raise NotImplementedError

    def _timed_out(self) -> None:
        """The deadline has passed."""
        raise NotImplementedError

    @property
    def _authorized(self) -> bool:
        """Logged in: the longer time-out holds, and what is said moves it."""
        raise NotImplementedError

    # --- asyncio ------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        peer = transport.get_extra_info("peername")
        self._peer = peer[0] if isinstance(peer, tuple) else ""
        self._tls = transport.get_extra_info("ssl_object") is not None
        self._transport.set_write_buffer_limits(high=WRITE_HIGH)
        if self._stopping:
            self._farewell(self._stopping)
            return
        if not self._limiter.acquire(self._peer):
            self._farewell("Too many connections")
            return
        self._held = True
        clock, seconds = self._context.clock, float(self._context.settings.login_seconds)
        # Until login the deadline stands, whatever is said: a slow sender cannot move it.
        self._deadline = clock.monotonic() + seconds
        self._timer = clock.call_later(seconds, self._check_deadline)
        self._greet()
        self._flush()

    def data_received(self, data: bytes) -> None:
        if self._closing:
            if self._linger:
                self._linger = max(0, self._linger - len(data))
                if not self._linger:
                    self.abort()
            return
        self.codec.feed(data)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
        elif self._task is None:
            self._start()
        if self.codec.buffered > self.READ_HIGH and not self._paused:
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
            self._ended()

    def pause_writing(self) -> None:
        self._write_paused = True
        if self._stall is None:
            seconds = float(self._context.settings.write_seconds)
            self._stall = self._context.clock.call_later(seconds, self.abort)

    def resume_writing(self) -> None:
        self._write_paused = False
        if self._stall is not None and not self._closing:  # a close has its own time, whatever is read
            self._stall.cancel()
            self._stall = None
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)

    # --- for the session ----------------------------------------------------------------------------

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
        """Hand over what was written; waits for a slow reader. Raises Disconnected."""
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
        """Let others run. Raises Disconnected."""
        await asyncio.sleep(0)
        if self._closing:
            raise Disconnected
        self._leave_if_urgent()

    def start_tls(self) -> None:
        """Happens once the answer is on its way."""
        self._upgrading = True

    def logged_in(self) -> None:
        """The longer time-out holds from now on."""
        self._touch()

    def close(self, *, linger: bool = False) -> None:
        """Send what was written, then hang up; `linger` while the client is still sending."""
        if self._closing:
            return
        self._closing = True
        self._flush()
        transport = self._wired()
        linger = linger and transport.can_write_eof()
        if self._stall is not None:
            self._stall.cancel()
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
        """Hang up in the middle of whatever it is."""
        self._closing = True
        if self._transport is not None:
            self._transport.abort()

    # --- for the server -----------------------------------------------------------------------------

    def stop(self, reason: str, *, urgent: bool = False) -> None:
        """Hang up now, or after the command under way; `urgent`: as soon as that can be left."""
        self._stopping = reason
        self._urgent = self._urgent or urgent
        if self._transport is not None and not self._working:
            self._farewell(reason)
        elif self._urgent and self._drained is not None and not self._drained.done():
            self._drained.set_result(None)

    # --- inside -------------------------------------------------------------------------------------

    def _wired(self) -> asyncio.Transport:
        assert self._transport is not None
        return self._transport

    @property
    def _working(self) -> bool:
        """A command is under way, and it is not the client that it waits for."""
        return self._task is not None and self._waiter is None

    def _start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        """Answer all that is complete, in order."""
        handled = 0
        try:
            while not self._closing:
                more = await self._step()
                if self._upgrading:
                    if self._eof:
                        break  # nobody is there to shake hands with
                    self._upgrade()
                if self._stopping and not self._closing:
                    self._farewell(self._stopping)
                if not more:
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
            self._context.logs.error.write(f"{self.NAME} connection failed: {type(error).__name__}: {error}")
            self.abort()
        finally:
            self._task = None
            if self._lost:
                self._ended()
            elif self._eof:
                self.close()
            else:
                self._resume_reading()

    def _ended(self) -> None:
        """Lost, and no command is at work any more."""
        self._gone(self)

    def _leave_if_urgent(self) -> None:
        """In the middle of a command whose client is to go. No farewell fits into a reply half said."""
        if self._urgent and not self._closing:
            if self.session.streaming:
                self.abort()
            else:
                self._farewell(self._stopping)
            raise Disconnected

    async def _input(self) -> None:
        """Send what was written and wait for more from the client. Raises Disconnected."""
        self._flush()
        if self._closing or self._eof:
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
        if self._paused and not self._closing and self.codec.buffered <= self.READ_HIGH // 2:
            self._paused = False
            self._wired().resume_reading()

    def _upgrade(self) -> None:
        """What came after STARTTLS or STLS in the clear is thrown away unread (RFC 3501 §6.2.1, RFC 2595 §4;
        RFC 3207 §6 tells why)."""
        self._upgrading = False
        self._flush()
        self.codec.clear()
        context = self._context.certificates.server_context()
        self._transport = start_tls(self._wired(), self, context, clock=self._context.clock)
        self._tls = True
        self._paused = False

    def _touch(self) -> None:
        """The client lives. Before login that moves no deadline."""
        if self._authorized:
            self._deadline = self._context.clock.monotonic() + self._context.settings.idle_minutes * 60.0

    def _check_deadline(self) -> None:
        """One timer a connection, set again for the rest of the time rather than at every command."""
        clock = self._context.clock
        rest = self._deadline - clock.monotonic()
        if rest > 0.001:
            self._timer = clock.call_later(rest, self._check_deadline)
        elif self._working and self._authorized:
            # A client that does not read its answer is met by the write time-out.
            self._timer = clock.call_later(WORKING_SECONDS, self._check_deadline)
        else:
            self._timer = None
            self._timed_out()
