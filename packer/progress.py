"""What a person sees while the appliance is built: stages, what goes on in them, and how long it takes."""

import sys
import time
from collections.abc import Callable
from typing import TextIO


def shown(seconds: float) -> str:
    """Minutes and seconds: 3:07."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


class Display:
    """On a terminal one line that changes; elsewhere (a log) a line each, at most one in `every` seconds."""

    def __init__(
        self, out: TextIO = sys.stderr, clock: Callable[[], float] = time.monotonic, every: float = 5
    ) -> None:
        self._out = out
        self._clock = clock
        self._every = every
        self._terminal = out.isatty()
        self._start = clock()
        self._last = 0.0
        self._stage = ""

    def _write(self, text: str, *, stays: bool) -> None:
        if self._terminal:
            self._out.write("\r\x1b[K" + text + ("\n" if stays else ""))
        else:
            self._out.write(text + "\n")
        self._out.flush()

    def begin(self, number: int, total: int, name: str) -> None:
        self._stage = f"[{number}/{total}] {name}"
        self._last = self._clock() - self._every
        self._write(f"{self._stage} …", stays=not self._terminal)

    def say(self, text: str) -> None:
        """What the running stage does now. Control characters of programs' output are left out."""
        now = self._clock()
        if not self._terminal and now - self._last < self._every:
            return
        self._last = now
        clean = "".join(letter for letter in text if letter.isprintable())
        self._write(f"{self._stage}  {shown(now - self._start)}  {clean}"[:118], stays=False)

    def end(self, name: str, seconds: float, skipped: bool) -> None:
        what = "unchanged, kept" if skipped else f"done in {shown(seconds)}"
        self._write(f"{self._stage}: {what}", stays=True)

    def report(self, done: list[tuple[str, float, bool]], products: list[tuple[str, int]]) -> None:
        """Timings and sizes (octets) at the end."""
        self._write("", stays=True)
        for name, seconds, skipped in done:
            self._write(f"  {name:<24}{'kept' if skipped else shown(seconds):>8}", stays=True)
        self._write(f"  {'in all':<24}{shown(self._clock() - self._start):>8}", stays=True)
        for name, size in products:
            self._write(f"  {name:<40}{size / 1e6:>10.1f} MB", stays=True)
