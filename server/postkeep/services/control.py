"""Services and their listeners: seen, started and stopped while the engine runs (row SRV-1)."""

import asyncio
from collections.abc import Callable, Mapping
from typing import NamedTuple

from postkeep.config.services import SERVICES, ServiceKind, ServiceSettings
from postkeep.domain.errors import NotFound, PostkeepError
from postkeep.runtime.listeners import Listeners
from postkeep.runtime.logs import Logs
from postkeep.runtime.tls import ContextSource

_KINDS = {kind.name: kind for kind in SERVICES}
_HIGHEST_PORT = 65_535


class CannotListen(PostkeepError):
    """A service could not be started; says why."""


class ServiceState(NamedTuple):
    """A service as it is now. `listening` are the addresses it really has, `failure` why it has none."""

    name: str
    title: str
    tls: bool
    running: bool
    listening: tuple[tuple[str, int], ...]
    configured: tuple[str, ...]
    failure: str


class ServiceControl:
    """`factories` makes the protocol of each service's connections; `offset` is added to every port.

    `address` takes the place of the ListenAddress setting (for `postkeep demo`).
    """

    def __init__(
        self,
        settings: Callable[[], ServiceSettings],
        listeners: Listeners,
        factories: Mapping[str, Callable[[], asyncio.BaseProtocol]],
        context: ContextSource,
        logs: Logs,
        *,
        offset: int = 0,
        address: str | None = None,
    ) -> None:
        self._settings = settings
        self._listeners = listeners
        self._factories = factories
        self._context = context
        self._logs = logs
        self._offset = offset
        self._address = address

    async def start_all(self) -> None:
        """Start what is not off. A port that cannot be had stops that service alone (see ServiceState)."""
        for kind in SERVICES:
            if kind.name in self._factories:
                await self._open(kind)

    async def start(self, name: str) -> ServiceState:
        """Raises NotFound, or CannotListen with the reason. Starting what runs changes nothing."""
        kind = self._kind(name)
        if not self._listeners.addresses(name):
            if not self._settings().listeners(kind):
                raise CannotListen(f"{kind.title} is off in the settings: give it a port first")
            await self._open(kind)
            failure = self._listeners.failure(name)
            if failure is not None and not self._listeners.addresses(name):
                raise CannotListen(failure)
        return self.state(name)

    async def stop(self, name: str) -> ServiceState:
        """Accept no more connections; open ones go on."""
        kind = self._kind(name)
        if self._listeners.addresses(name):
            await self._listeners.close(name)
            self._logs.operations.write(f"{kind.title} was stopped")
        return self.state(name)

    def states(self) -> list[ServiceState]:
        return [self.state(kind.name) for kind in SERVICES if kind.name in self._factories]

    def state(self, name: str) -> ServiceState:
        kind = self._kind(name)
        listening = tuple(self._listeners.addresses(name))
        configured = tuple(f"{host or '*'}:{port}" for host, port in self._places(kind))
        failure = self._listeners.failure(name) or ""
        return ServiceState(name, kind.title, kind.tls, bool(listening), listening, configured, failure)

    def port(self, name: str) -> int:
        """The first port that the service listens on; 0 when it does not run."""
        addresses = self._listeners.addresses(name)
        return addresses[0][1] if addresses else 0

    async def _open(self, kind: ServiceKind) -> None:
        context = self._context if kind.tls else None
        for host, port in self._places(kind):
            await self._listeners.open(kind.name, self._factories[kind.name], host, port, context)
        where = ", ".join(f"{host} port {port}" for host, port in self._listeners.addresses(kind.name))
        if where:
            self._logs.operations.write(f"{kind.title} listens on {where}")

    def _places(self, kind: ServiceKind) -> list[tuple[str, int]]:
        settings = self._settings()
        places = []
        for listener in settings.listeners(kind):
            host = listener.host
            if self._address is not None and host == settings.address:
                host = self._address
            places.append((host, min(listener.port + self._offset, _HIGHEST_PORT)))
        return places

    def _kind(self, name: str) -> ServiceKind:
        kind = _KINDS.get(name)
        if kind is None or name not in self._factories:
            raise NotFound(f"there is no service “{name[:80]}”; there are {', '.join(self._factories)}")
        return kind
