"""What a person who waits for the build sees: one line a step, with a percentage where one is known."""

import sys
import time
from collections.abc import Callable
from typing import TextIO


class Progress:
    """On a terminal the line of the running step is overwritten; elsewhere a line at each tenth is enough."""

    def __init__(self, out: TextIO = sys.stderr, clock: Callable[[], float] = time.monotonic) -> None:
        self._out = out
        self._clock = clock
        self._terminal = out.isatty()
        self._label = ""
        self._began = 0.0
        self._shown = -1

    def begin(self, label: str) -> None:
        """A step begins."""
        self._label, self._began, self._shown = label, self._clock(), -1
        if self._terminal:
            self._out.write(f"  {label} …")
        else:
            self._out.write(f"{label}\n")
        self._out.flush()

    def report(self, done: int, total: int) -> None:
        """How far the step is."""
        percent = 100 * done // total if total else 100
        step = percent if self._terminal else percent // 10 * 10
        if step == self._shown:
            return
        self._shown = step
        if self._terminal:
            self._out.write(f"\r  {self._label} … {percent} %\x1b[K")
        elif 0 < step < 100:
            self._out.write(f"  {step} %\n")
        self._out.flush()

    def end(self, text: str = "") -> None:
        """The step is done; `text` says what came of it."""
        seconds = self._clock() - self._began
        line = f"{self._label}: {text + ', ' if text else ''}{seconds:.0f} s"
        self._out.write(f"\r  {line}\x1b[K\n" if self._terminal else f"  {line}\n")
        self._out.flush()
