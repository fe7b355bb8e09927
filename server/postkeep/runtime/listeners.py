"""Listening sockets by service name. A port that cannot be had never stops the other services."""

import asyncio
import errno
import os
import socket
from collections.abc import Callable
from typing import Protocol

from postkeep.runtime.clock import Clock, SystemClock
from postkeep.runtime.limits import ConnectionLimiter
from postkeep.runtime.tls import ContextSource, accept_tls

BACKLOG = 512
WILDCARD = ("", "*")
_HANDSHAKES = 2048
_HANDSHAKES_PER_ADDRESS = 128
_LOOPBACK = ("127.0.0.1", "::/64")
_NO_IPV6 = {errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.EPROTONOSUPPORT}


class LogWriter(Protocol):
    """One of runtime.logs' logs."""

    def write(self, text: str) -> None: ...


class Listeners:
    """Opens, lists and closes listeners. Open connections go on after close(): their servers end them."""

    def __init__(self, error: LogWriter, clock: Clock | None = None) -> None:
        self._error = error
        self._clock = clock or SystemClock()
        self._servers: dict[str, list[asyncio.Server]] = {}
        self._failures: dict[str, str] = {}
        self._handshakes = ConnectionLimiter(_HANDSHAKES, _HANDSHAKES_PER_ADDRESS, _LOOPBACK)

    async def open(
        self,
        name: str,
        factory: Callable[[], asyncio.BaseProtocol],
        host: str,
        port: int,
        tls: ContextSource | None = None,
    ) -> None:
        """Listen for service `name` on host:port.

        Host "" or "*" means all addresses, IPv4 and IPv6; port 0 a free one. With `tls` the connections begin
        with a TLS handshake. When the port cannot be had, one line goes to the error log, failure(name) gives
        it, and nothing is raised.
        """
        if tls is not None:
            factory = accept_tls(factory, tls, clock=self._clock, pending=self._handshakes)
        try:
            sockets = _bind(host, port)
        except OSError as error:
            self._fail(name, host, port, error)
            return
        loop = asyncio.get_running_loop()
        servers = self._servers.setdefault(name, [])
        for sock in sockets:
            servers.append(await loop.create_server(factory, sock=sock, backlog=BACKLOG))
        self._failures.pop(name, None)

    def addresses(self, name: str) -> list[tuple[str, int]]:
        """Where service `name` listens."""
        found = []
        for server in self._servers.get(name, []):
            for sock in server.sockets:
                host, port = sock.getsockname()[:2]
                found.append((host, port))
        return found

    def failure(self, name: str) -> str | None:
        """Why service `name` does not listen, if opening failed."""
        return self._failures.get(name)

    async def close(self, name: str) -> None:
        """Accept no more connections for service `name`."""
        for server in self._servers.pop(name, []):
            server.close()
        self._failures.pop(name, None)
        await asyncio.sleep(0)

    async def stop(self) -> None:
        for name in list(self._servers):
            await self.close(name)

    def _fail(self, name: str, host: str, port: int, error: OSError) -> None:
        place = f"port {port}" if host in WILDCARD else f"{host} port {port}"
        match error.errno:
            case errno.EADDRINUSE:
                reason = "another program uses it"
            case errno.EACCES | errno.EPERM:
                reason = "this process may not open it (ports below 1024 need a privilege)"
            case errno.EADDRNOTAVAIL:
                reason = "this machine has no such address"
            case _:
                # socket.gaierror has numbers of its own
                number = error.errno or 0
                reason = os.strerror(number) if number > 0 else str(error.strerror or error)
        line = f"{name} does not run: cannot listen on {place}: {reason}"
        self._failures[name] = line
        self._error.write(line)


def _bind(host: str, port: int) -> list[socket.socket]:
    """Bound sockets, all or none."""
    if host in WILDCARD:
        first = _bound(socket.AF_INET, "0.0.0.0", port)  # noqa: S104 - all addresses were asked for
        try:
            return [first, _bound(socket.AF_INET6, "::", first.getsockname()[1])]
        except OSError as error:
            if error.errno in _NO_IPV6:
                return [first]  # a machine without IPv6
            first.close()
            raise
    sockets: list[socket.socket] = []
    try:
        # Addresses and names in /etc/hosts only need no network; AI_PASSIVE lookups are immediate.
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, _, _, _, address in dict.fromkeys(found):
            sockets.append(_bound(family, str(address[0]), port))
    except OSError:
        for sock in sockets:
            sock.close()
        raise
    return sockets


def _bound(family: int, host: str, port: int) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.setblocking(False)
        sock.bind((host, port))
        # Here, not in create_server: of two sockets bound with SO_REUSEADDR the second listen() fails.
        sock.listen(BACKLOG)
    except OSError:
        sock.close()
        raise
    return sock
