"""A program on a pseudo terminal, its screen as pyte sees it."""

import asyncio
import fcntl
import os
import pty
import signal
import struct
import subprocess
import termios
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType

import pyte

KEYS = {
    "enter": "\r",
    "esc": "\x1b",
    "tab": "\t",
    "up": "\x1b[A",
    "down": "\x1b[B",
    "right": "\x1b[C",
    "left": "\x1b[D",
    "home": "\x1b[1~",
    "f2": "\x1b[[B",
    "f3": "\x1b[[C",
    "ctrl u": "\x15",
    "ctrl l": "\x0c",
}
"""What a Linux console sends."""


class Terminal:
    """`async with Terminal(argv) as terminal`: starts the program, ends it at the end.

    `columns` and `rows` of 0 are a serial line that does not know its size.
    """

    def __init__(
        self,
        argv: Sequence[str],
        environment: Mapping[str, str],
        columns: int = 80,
        rows: int = 25,
    ) -> None:
        self._argv, self._environment = argv, environment
        self._size = columns, rows
        self.screen = pyte.Screen(columns or 80, rows or 24)
        self._stream = pyte.ByteStream(self.screen)
        self._changed = asyncio.Event()
        self.closed = False

    async def __aenter__(self) -> "Terminal":
        self._master, slave = pty.openpty()
        self._set_size(*self._size)
        environment = {name: value for name, value in os.environ.items() if name != "COLORTERM"}
        self.process = subprocess.Popen(  # noqa: ASYNC220 - forks at once, nothing is waited for
            self._argv,
            stdin=slave,
            stdout=slave,
            stderr=subprocess.PIPE,
            env=environment | dict(self._environment),
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        self.slave = slave
        os.set_blocking(self._master, False)
        asyncio.get_running_loop().add_reader(self._master, self._read)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        asyncio.get_running_loop().remove_reader(self._master)
        os.close(self._master)
        os.close(self.slave)
        assert self.process.stderr is not None
        self.errors = self.process.stderr.read().decode()
        self.process.stderr.close()
        self.process.wait()

    def _read(self) -> None:
        try:
            octets = os.read(self._master, 65536)
        except OSError:
            octets = b""
        if octets:
            self._stream.feed(octets)
        else:
            self.closed = True
            asyncio.get_running_loop().remove_reader(self._master)
        self._changed.set()

    def _set_size(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def resize(self, columns: int, rows: int) -> None:
        self.screen.resize(rows, columns)
        self._set_size(columns, rows)
        os.kill(self.process.pid, signal.SIGWINCH)

    def text(self) -> str:
        return "\n".join(line.rstrip() for line in self.screen.display)

    async def until(self, what: str | Callable[[str], bool], seconds: float = 60) -> str:
        """Waits until a text is on the screen, and the screen drawn to its end (a frame comes in pieces)."""
        holds = what if callable(what) else lambda text: what in text
        try:
            async with asyncio.timeout(seconds):
                while not (holds(self.text()) and await self.quiet(0.1)):
                    if not holds(self.text()):
                        self._changed.clear()
                        await self._changed.wait()
        except TimeoutError:
            raise AssertionError(f"never saw {what!r} in\n{self.text()}") from None
        return self.text()

    async def quiet(self, seconds: float = 0.4) -> bool:
        """Whether nothing was drawn for so long: what was typed has been dealt with."""
        self._changed.clear()
        try:
            await asyncio.wait_for(self._changed.wait(), seconds)
        except TimeoutError:
            return True
        return False

    async def send(self, octets: bytes) -> None:
        """Raw; waits while the other side does not read."""
        while octets:
            try:
                octets = octets[os.write(self._master, octets) :]
            except BlockingIOError:
                self._changed.clear()
                await asyncio.wait_for(self._changed.wait(), 30)

    async def press(self, *keys: str) -> None:
        """Keys by name, or texts that are typed."""
        for key in keys:
            await self.send(KEYS.get(key, key).encode())
