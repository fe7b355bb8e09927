"""Telling systemd (sd_notify(3)) that the console stands and is alive; nothing happens outside of a unit."""

import asyncio
import contextlib
import socket
from collections.abc import Mapping

from postkeep_console.ports import Sleep


class Notifier:
    """Of the service manager at NOTIFY_SOCKET."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._address = environment.get("NOTIFY_SOCKET", "")
        microseconds = environment.get("WATCHDOG_USEC", "")
        self.pause = int(microseconds) / 2_000_000 if microseconds.isdigit() else 0.0
        """Seconds between two signs of life; 0 when none are wanted."""

    def send(self, state: str) -> None:
        if not self._address:
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
            line.sendto(state.encode(), address)

    async def live(self, sleep: Sleep = asyncio.sleep) -> None:
        """READY, then signs of life from the loop that also draws: a console that hangs is started anew."""
        self.send("READY=1")
        while self.pause:
            await sleep(self.pause)
            self.send("WATCHDOG=1")
