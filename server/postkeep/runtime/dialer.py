"""Outgoing TCP connections, injected so that tests and closed labs lead them elsewhere."""

import asyncio
import socket
from collections.abc import Callable
from typing import Protocol, TypeVar

from postkeep.runtime.clock import Clock

P = TypeVar("P", bound=asyncio.Protocol)


class Dialer(Protocol):
    async def connect(
        self, factory: Callable[[], P], address: str, port: int, *, limit: float
    ) -> tuple[asyncio.Transport, P]:
        """Connect to an IPv4 or IPv6 address; OSError (TimeoutError after `limit` seconds)."""


class SystemDialer:
    """Connects from the machine's own addresses, or from the given one of the right family."""

    def __init__(self, clock: Clock, *, source_v4: str = "", source_v6: str = "") -> None:
        self._clock = clock
        self.come_from(source_v4, source_v6)

    def come_from(self, source_v4: str, source_v6: str) -> None:
        """Own addresses of the next connections; "" leaves the choice to the system."""
        self._source = {socket.AF_INET: source_v4, socket.AF_INET6: source_v6}

    async def connect(
        self, factory: Callable[[], P], address: str, port: int, *, limit: float
    ) -> tuple[asyncio.Transport, P]:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        source = self._source[family]
        loop = asyncio.get_running_loop()
        task = loop.create_task(
            loop.create_connection(
                factory, address, port, family=family, local_addr=(source, 0) if source else None
            )
        )

        def expire() -> None:
            task.cancel()

        timer = self._clock.call_later(limit, expire)
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:
            if not task.cancel() and not task.cancelled() and task.exception() is None:
                task.result()[0].abort()
            raise
        finally:
            timer.cancel()
        if task.cancelled():
            raise TimeoutError(f"no connection within {limit:.0f} seconds")
        return task.result()
