"""The connections of one line protocol's service: counted, hung up on, ended."""

import asyncio
from collections.abc import Callable

from postkeep.protocols.wire import LineConnection
from postkeep.runtime.clock import Clock

SHUTTING_DOWN = "Server is shutting down"
Gone = Callable[[LineConnection], None]


class LineServer:
    """The connections of one service. Give `factory()` to the listeners; wrap it in accept_tls for TLS."""

    def __init__(self, make: Callable[[Gone], LineConnection], clock: Clock) -> None:
        """`make(gone)` makes a connection."""
        self._make = make
        self._clock = clock
        self._connections: set[LineConnection] = set()
        self._leave = self._gone  # one bound method for all
        self._stopping = False
        self._empty: asyncio.Event | None = None

    @property
    def connections(self) -> int:
        return len(self._connections)

    def factory(self) -> Callable[[], asyncio.Protocol]:
        def make() -> asyncio.Protocol:
            connection = self._make(self._leave)
            self._connections.add(connection)
            if self._stopping:
                connection.stop(SHUTTING_DOWN)
            return connection

        return make

    def disconnect(self, account_key: str, reason: str) -> None:
        """Hang up on an account's sessions (it was disabled, removed or its password changed)."""
        for connection in list(self._connections):
            owner = connection.session.owner
            if owner is not None and owner.key == account_key:
                connection.stop(reason, urgent=True)

    async def shutdown(self, grace: float = 5.0) -> None:
        """A farewell to all; commands under way may finish for `grace` seconds, then they are cut.

        The listeners are closed before.
        """
        self._stopping = True
        for connection in list(self._connections):
            connection.stop(SHUTTING_DOWN)
        if self._connections and grace > 0:
            self._empty = asyncio.Event()
            timer = self._clock.call_later(grace, self._empty.set)
            await self._empty.wait()
            timer.cancel()
        for connection in list(self._connections):
            connection.abort()
        await asyncio.sleep(0)

    def _gone(self, connection: LineConnection) -> None:
        self._connections.discard(connection)
        if not self._connections and self._empty is not None:
            self._empty.set()
