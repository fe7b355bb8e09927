"""TLS for listeners, for STARTTLS and towards other servers (RFC 8446, RFC 8314, RFC 3207)."""

import asyncio
import ssl
from collections.abc import Callable
from typing import cast

from postkeep.runtime.clock import Clock, SystemClock
from postkeep.runtime.limits import ConnectionLimiter
from postkeep.runtime.tlstransport import ProtocolFactory, TlsTransport

ContextSource = ssl.SSLContext | Callable[[], ssl.SSLContext]
_SYSTEM_CLOCK = SystemClock()


def accept_tls(
    factory: ProtocolFactory,
    context: ContextSource,
    *,
    clock: Clock = _SYSTEM_CLOCK,
    pending: ConnectionLimiter | None = None,
) -> Callable[[], TlsTransport]:
    """A protocol factory for a listener with implicit TLS (RFC 8314 §3).

    `factory`'s protocol is made and connected once the handshake is done. `pending` bounds the handshakes
    under way; `context` may be a function, asked for each connection, so that a new certificate takes hold.
    """

    def accept() -> TlsTransport:
        chosen = context() if callable(context) else context
        return TlsTransport(factory, chosen, connected=False, clock=clock, pending=pending)

    return accept


def start_tls(
    transport: asyncio.BaseTransport,
    protocol: asyncio.BaseProtocol,
    context: ssl.SSLContext,
    leftover: bytes = b"",
    *,
    server_side: bool = True,
    server_hostname: str | None = None,
    clock: Clock = _SYSTEM_CLOCK,
    on_handshake: Callable[[Exception | None], None] | None = None,
) -> TlsTransport:
    """Put TLS under `protocol` (STARTTLS, STLS), which goes on with the transport returned here at once.

    connection_made is not called again; what is written before the end of the handshake waits for it.
    The caller has thrown away all plaintext that it had read before (RFC 3207 §4.2, RFC 9051 §6.2.1);
    `leftover` is fed to TLS as ciphertext. `on_handshake` hears None or why it failed; after a failure
    connection_lost follows.
    """
    raw = cast(asyncio.Transport, transport)
    tls = TlsTransport(
        protocol,
        context,
        connected=True,
        server_side=server_side,
        server_hostname=server_hostname,
        clock=clock,
        on_handshake=on_handshake,
    )
    if not raw.is_closing():
        raw.pause_reading()  # uvloop chooses how it reads when reading begins
    raw.set_protocol(tls)
    tls.connection_made(raw)
    if leftover:
        tls.feed(memoryview(leftover))
    if not tls.is_closing():
        raw.resume_reading()
    return tls


def client_context(*, verify: bool) -> ssl.SSLContext:
    """TLS towards other servers: opportunistic (nothing verified, RFC 7435) or against the system's roots."""
    context = ssl.create_default_context() if verify else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    return context
