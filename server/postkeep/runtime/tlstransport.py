"""TLS as an ordinary asyncio transport, at the cheapest memory we could measure.

asyncio's own TLS keeps a 256 KiB read buffer a connection. Here every connection of a loop reads into the
same 16 KiB buffer (the bytes are used up before the loop reads from another socket), ciphertext passes
through OpenSSL's memory BIOs in small slices (a BIO never gives back what it once grew to), and writes go
straight into the socket's transport, whose flow control is passed on unchanged.
"""

import asyncio
import contextlib
import ssl
import threading
from collections.abc import Callable
from typing import Any, cast

from postkeep.runtime.clock import Clock, SystemClock, Timer
from postkeep.runtime.limits import ConnectionLimiter

HANDSHAKE_LIMIT = 30.0
"""Seconds from the accepted connection to the finished handshake."""
CLOSE_LIMIT = 30.0
"""Seconds that a peer may take to read what was written before close()."""
READ_SIZE = 16 * 1024
_IN_SLICE = 4 * 1024
_RECORD = 4 * 1024
_WRITE_BLOCK = 16 * _RECORD
_PENDING_HIGH = 64 * 1024

ProtocolFactory = Callable[[], asyncio.BaseProtocol]


class _SharedBuffers(threading.local):
    """One pair of buffers a thread, that is: a loop. Nothing stays in them between two callbacks."""

    def __init__(self) -> None:
        self.cipher = memoryview(bytearray(READ_SIZE))
        self.plain = memoryview(bytearray(READ_SIZE))


_shared = _SharedBuffers()
system_clock = SystemClock()


class TlsTransport(asyncio.Transport, asyncio.BufferedProtocol):
    """Protocol of the socket's transport on one side, transport of the inner protocol on the other.

    The inner protocol is an asyncio.Protocol (data_received). Its connection_made is called after the
    handshake (accept_tls) or not at all (start_tls: it is connected already); its connection_lost exactly
    once if it was connected. A failed handshake ends the connection quietly.
    """

    __slots__ = (
        "__weakref__", "_clock", "_connected", "_done", "_in", "_inner", "_limiter", "_lost", "_on_handshake",
        "_out", "_paused", "_pending", "_pending_size", "_raw", "_shut", "_ssl", "_timer", "_write_paused",
    )  # fmt: skip

    def __init__(
        self,
        inner: asyncio.BaseProtocol | ProtocolFactory,
        context: ssl.SSLContext,
        *,
        connected: bool,
        server_side: bool = True,
        server_hostname: str | None = None,
        clock: Clock = system_clock,
        on_handshake: Callable[[Exception | None], None] | None = None,
        pending: ConnectionLimiter | None = None,
    ) -> None:
        super().__init__()
        self._inner = inner
        self._connected = connected
        self._clock = clock
        self._on_handshake = on_handshake
        self._in = ssl.MemoryBIO()
        self._out = ssl.MemoryBIO()
        self._ssl = context.wrap_bio(
            self._in, self._out, server_side=server_side, server_hostname=server_hostname
        )
        self._raw: asyncio.Transport | None = None
        self._timer: Timer | None = None
        self._done = False  # the handshake
        self._shut = False  # close() or abort() was called, or the peer ended it
        self._lost = False
        self._paused = False
        self._write_paused = False
        self._pending: list[bytes] | None = None
        self._pending_size = 0
        self._limiter = pending

    # --- protocol side: called by the socket's transport -----------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        raw = self._raw = cast(asyncio.Transport, transport)
        if self._limiter is not None:
            peer = raw.get_extra_info("peername")
            if not self._limiter.acquire(peer[0] if isinstance(peer, tuple) else ""):
                self._limiter = None
                self.abort()
                return
        self._timer = self._clock.call_later(HANDSHAKE_LIMIT, self._handshake_expired)
        self._handshake()

    def get_buffer(self, sizehint: int) -> memoryview:
        return _shared.cipher

    def buffer_updated(self, nbytes: int) -> None:
        self.feed(_shared.cipher[:nbytes])

    def eof_received(self) -> bool:
        """The peer closed without close_notify; for line protocols that is a plain end."""
        if not self._done:
            self._fail(ConnectionResetError("the peer closed during the TLS handshake"))
        else:
            self._end_of_input()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        if self._lost:
            return
        self._lost = self._shut = True
        self._stop_timer()
        self._release_limiter()
        self._pending = None
        if not self._done:
            self._report(exc or ConnectionResetError("the connection ended during the TLS handshake"))
        if self._connected:
            self._protocol.connection_lost(exc)

    def pause_writing(self) -> None:
        if self._connected and not self._write_paused:
            self._write_paused = True
            self._protocol.pause_writing()

    def resume_writing(self) -> None:
        if self._write_paused:
            self._write_paused = False
            self._protocol.resume_writing()

    # --- transport side: called by the inner protocol ------------------------------------------------------

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._shut or not data:
            return
        if not self._done:
            self._hold(bytes(data))
            return
        view = memoryview(data).cast("B") if isinstance(data, memoryview) else memoryview(data)
        raw = self._transport
        if raw.is_closing():
            return  # uvloop's transports raise here; connection_lost is on its way
        for start in range(0, len(view), _WRITE_BLOCK):
            try:
                block = self._encrypt(view[start : start + _WRITE_BLOCK])
            except ssl.SSLError as error:
                self._fail(error)
                return
            raw.write(block)

    def writelines(self, list_of_data: Any) -> None:
        self.write(b"".join(list_of_data))

    def close(self) -> None:
        """Send what was written and close_notify, then close; a peer that does not read is cut off."""
        if self._shut:
            return
        self._shut = True
        self._stop_timer()
        self._pending = None
        raw = self._transport
        if self._done:
            with contextlib.suppress(ssl.SSLError):
                self._ssl.unwrap()  # the peer's close_notify is not waited for (RFC 8446 §6.1)
            self._flush()
        raw.close()
        if raw.get_write_buffer_size() and not self._lost:
            self._timer = self._clock.call_later(CLOSE_LIMIT, self.abort)

    def abort(self) -> None:
        self._shut = True
        self._stop_timer()
        if self._raw is not None:
            self._raw.abort()

    def is_closing(self) -> bool:
        return self._shut or self._transport.is_closing()

    def pause_reading(self) -> None:
        if not self._paused and not self._shut:
            self._paused = True
            if not self._transport.is_closing():
                self._transport.pause_reading()

    def resume_reading(self) -> None:
        if self._paused and not self._shut:
            self._paused = False
            # What is decrypted already comes first, but never from inside the caller's frame.
            asyncio.get_running_loop().call_soon(self._continue)

    def is_reading(self) -> bool:
        return not self._paused and not self._shut

    def get_write_buffer_size(self) -> int:
        return self._pending_size + self._transport.get_write_buffer_size()

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._transport.get_write_buffer_limits()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._transport.set_write_buffer_limits(high, low)

    def can_write_eof(self) -> bool:
        return False

    def write_eof(self) -> None:
        raise NotImplementedError("TLS has no half-close")

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._inner = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._protocol

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        match name:
            case "ssl_object":
                return self._ssl
            case "sslcontext":
                return self._ssl.context
            case "cipher":
                return self._ssl.cipher()
            case "compression":
                return None
            case "peercert":
                return self._ssl.getpeercert()
        return default if self._raw is None else self._raw.get_extra_info(name, default)

    # --- inside --------------------------------------------------------------------------------------------

    @property
    def _transport(self) -> asyncio.Transport:
        if self._raw is None:
            raise RuntimeError("the TLS transport is not connected yet")
        return self._raw

    @property
    def _protocol(self) -> asyncio.Protocol:
        return cast(asyncio.Protocol, self._inner)

    def feed(self, data: memoryview) -> None:
        """Ciphertext from the socket, at most READ_SIZE octets."""
        for start in range(0, len(data), _IN_SLICE):
            self._in.write(data[start : start + _IN_SLICE])
            if not self._paused and not self._shut:
                self._advance()
            if self._shut:
                return

    def _advance(self) -> None:
        if self._done or self._handshake():
            self._decrypt()

    def _continue(self) -> None:
        if self._paused or self._shut:
            return
        self._decrypt()
        if not self._paused and not self._shut and not self._transport.is_closing():
            self._transport.resume_reading()

    def _handshake(self) -> bool:
        try:
            self._ssl.do_handshake()
        except ssl.SSLWantReadError:
            self._flush()
            return False
        except ssl.SSLError as error:
            self._flush()  # the alert
            self._fail(error)
            return False
        self._done = True
        self._stop_timer()
        self._release_limiter()
        self._flush()
        if not self._connected:
            # The factory is called only now: until here the connection costs no server state.
            self._inner = cast(ProtocolFactory, self._inner)()
            self._connected = True
            self._protocol.connection_made(self)
        self._report(None)
        held, self._pending, self._pending_size = self._pending, None, 0
        if held and not self._shut:
            self.write(b"".join(held))
        if not self._transport.get_write_buffer_size():
            self.resume_writing()
        return not self._shut

    def _decrypt(self) -> None:
        """Give the inner protocol what is there, until it pauses, closes or the records end."""
        plain = _shared.plain
        while not self._paused and not self._shut:
            try:
                count = cast(int, self._ssl.read(READ_SIZE, plain))
            except ssl.SSLWantReadError:
                break
            except ssl.SSLError as error:
                if isinstance(error, ssl.SSLZeroReturnError):
                    self._end_of_input()
                else:
                    self._flush()
                    self._fail(error)
                return
            if count == 0:
                self._end_of_input()
                return
            try:
                self._protocol.data_received(bytes(plain[:count]))
            except Exception as error:
                self._broken(error)
                return
        if self._out.pending and not self._shut:
            self._flush()  # an answer of TLS itself (KeyUpdate)

    def _encrypt(self, view: memoryview) -> bytes:
        pieces = []
        for start in range(0, len(view), _RECORD):
            self._ssl.write(view[start : start + _RECORD])
            pieces.append(self._out.read())
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _hold(self, data: bytes) -> None:
        if self._pending is None:
            self._pending = []
        self._pending.append(data)
        self._pending_size += len(data)
        if self._pending_size > _PENDING_HIGH:
            self.pause_writing()

    def _flush(self) -> None:
        if self._out.pending and not self._transport.is_closing():
            self._transport.write(self._out.read())

    def _end_of_input(self) -> None:
        if self._shut:
            return
        try:
            self._protocol.eof_received()
        except Exception as error:
            self._broken(error)
            return
        self.close()

    def _broken(self, error: Exception) -> None:
        """The inner protocol raised: tell the loop as asyncio's transports do, end the connection."""
        context = {"message": "a protocol failed", "exception": error, "transport": self}
        asyncio.get_running_loop().call_exception_handler(context)
        self.abort()

    def _fail(self, error: Exception) -> None:
        """The peer broke TLS: close quietly (it may read the alert)."""
        if self._shut:
            return
        self._shut = True
        self._stop_timer()
        raw = self._transport
        raw.close()
        if raw.get_write_buffer_size() and not self._lost:
            self._timer = self._clock.call_later(CLOSE_LIMIT, self.abort)
        if not self._done:
            self._report(error)

    def _handshake_expired(self) -> None:
        self._timer = None
        self._report(TimeoutError("the TLS handshake took too long"))
        self.abort()

    def _report(self, error: Exception | None) -> None:
        callback, self._on_handshake = self._on_handshake, None
        if callback is not None:
            callback(error)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _release_limiter(self) -> None:
        if self._limiter is not None:
            peer = self._transport.get_extra_info("peername")
            self._limiter.release(peer[0] if isinstance(peer, tuple) else "")
            self._limiter = None
