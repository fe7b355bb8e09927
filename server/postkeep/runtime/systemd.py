"""What the service manager is told (sd_notify(3)): ready, status, still alive, stopping. No library needed.

Without NOTIFY_SOCKET in the environment every call does nothing, so the engine needs not know who started it.
"""

import contextlib
import os
import socket
import threading
from collections.abc import Iterator, Mapping, MutableMapping

from postkeep.runtime.clock import Clock, Timer

_EXTENSION = 60.0
"""Seconds of start-up time asked for at once, twice as long as the pause between two requests."""
START_LIMIT = 3_600.0
"""Seconds after which a start is no longer called slow but hung: no more time is asked for then."""
STOP_LIMIT = 120.0
"""The same of a stop. The watchdog sleeps by then, and a host that is switched off waits for it."""
_STATUS_LIMIT = 300
_SEND_SECONDS = 1.0


class ServiceManager:
    """One process's line to its service manager. Made by `from_environment`; `close` ends the watchdog."""

    def __init__(self, address: str, watchdog: float, clock: Clock) -> None:
        """`address` as in NOTIFY_SOCKET ("" for none); `watchdog`: seconds without a sign of life after which
        the manager kills this process, 0 for never."""
        self._clock = clock
        self._pause = watchdog / 2
        self._timer: Timer | None = None
        self._socket: socket.socket | None = None
        if address:
            # "@name" is an abstract socket: its first octet is zero (unix(7)).
            self._address = "\0" + address[1:] if address[0] == "@" else address
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            self._socket.settimeout(_SEND_SECONDS)

    @classmethod
    def from_environment(cls, environment: MutableMapping[str, str], clock: Clock) -> "ServiceManager":
        """Reads NOTIFY_SOCKET and WATCHDOG_USEC, and removes them: they are not meant for our children."""
        address = environment.pop("NOTIFY_SOCKET", "")
        watchdog = _watchdog_seconds(environment)
        for name in ("WATCHDOG_USEC", "WATCHDOG_PID"):
            environment.pop(name, None)
        if address[:1] not in ("/", "@"):
            address = ""
        return cls(address, watchdog, clock)

    def ready(self, status: str) -> None:
        """All is open. From here on the watchdog is fed by the event loop itself: a hung loop is noticed."""
        self._send(f"READY=1\nSTATUS={_line(status)}")
        if self._socket is not None and self._pause and self._timer is None:
            self._alive()

    def status(self, text: str) -> None:
        """One line for `systemctl status`."""
        self._send(f"STATUS={_line(text)}")

    def stopping(self, status: str) -> None:
        self._send(f"STOPPING=1\nSTATUS={_line(status)}")

    @contextlib.contextmanager
    def patience(self, status: str, limit: float = START_LIMIT) -> Iterator[None]:
        """Within the block, ask for more time to start or stop for as long as `limit` seconds.

        A thread asks: reading a large store back after a crash keeps the event loop busy.
        """
        if self._socket is None:
            yield
            return
        self._send(f"STATUS={_line(status)}")
        done = threading.Event()
        thread = threading.Thread(target=self._extend, args=(done, limit), name="patience", daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _extend(self, done: threading.Event, limit: float) -> None:
        left = limit
        while left > 0:
            self._send(f"EXTEND_TIMEOUT_USEC={int(_EXTENSION * 1e6)}")
            pause = min(_EXTENSION / 2, left)
            if done.wait(pause):
                return
            left -= pause

    def _alive(self) -> None:
        self._send("WATCHDOG=1")
        self._timer = self._clock.call_later(self._pause, self._alive)

    def _send(self, text: str) -> None:
        """A manager that does not listen is no reason to fail; one that stands still loses this message."""
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.sendto(text.encode(), self._address)


def _line(text: str) -> str:
    """One line: what follows a line end would be read as another assignment."""
    return " ".join(text.split())[:_STATUS_LIMIT]


def _watchdog_seconds(environment: Mapping[str, str]) -> float:
    """sd_watchdog_enabled(3): WATCHDOG_PID, when given, has to be us."""
    usec, pid = environment.get("WATCHDOG_USEC", ""), environment.get("WATCHDOG_PID", "")
    if not usec.isascii() or not usec.isdigit() or (pid and pid != str(os.getpid())):
        return 0.0
    return int(usec) / 1e6
