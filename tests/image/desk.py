"""Somebody at tty1 of the virtual machine: sees the screen, types, and keeps pictures of what was there."""

import re
import time
from collections.abc import Sequence
from pathlib import Path

from tests.image.screen import UNKNOWN
from tests.image.vm import VirtualMachine

FIRST_WORD = "postkeep"
LINES = 50
_AROUND = f" [{UNKNOWN}"
"""Before the words of an entry or a button: the cursor's cell reads as unknown while it is lit."""
FOCUS = b"\xaa\xaa\xaa"
"""Background of what has the focus, and of the first and last line."""


class Desk:
    """`pictures`: the folder for PNGs."""

    def __init__(self, machine: VirtualMachine, pictures: Path) -> None:
        self.machine = machine
        self.pictures = pictures

    def see(self, pattern: str, patience: float = 90.0, picture: str = "") -> str:
        """The whole screen once it shows the pattern (wrapped lines and frames count as one blank)."""
        until = time.monotonic() + patience
        while True:
            lines = self.machine.screen()
            shown = "\n".join(lines)
            if re.search(pattern, shown) or re.search(pattern, flow(lines)):
                if picture:
                    self.machine.keep_screen(self.pictures / f"{picture}.png")
                return shown
            if time.monotonic() > until or not self.machine.running:
                self.machine.keep_screen(self.pictures / "unexpected.png")
                raise AssertionError(f"{pattern!r} is not on the screen:\n{shown}")
            time.sleep(1)

    def press(self, *names: str) -> None:
        """Keys one after the other; "ctrl-u" together."""
        for name in names:
            self.machine.press(*name.split("-"))

    def write(self, text: str) -> None:
        """Into the field with the cursor, in place of what is there."""
        self.press("ctrl-u")
        self.machine.type(text)

    def fill(self, *texts: str) -> None:
        """Fields from the focused one on, then Enter."""
        for index, text in enumerate(texts):
            if index:
                self.press("tab")
            self.write(text)
        self.press("ret")

    def choose(self, entry: str) -> None:
        """Down to the list's entry and Enter. The focused entry is found by the screen's reverse video."""
        self._walk("down", entry, first="home")

    def _walk(self, key: str, wanted: str, first: str = "") -> None:
        """Press the key until what is wanted has the focus; each time only when the screen has followed."""
        if first:
            self.press(first)
            time.sleep(1)
        for _ in range(40):
            before = self.focused()
            if before.strip(_AROUND).startswith(wanted):
                self.press("ret")
                return
            self.press(key)
            until = time.monotonic() + 5
            while self.focused() == before and time.monotonic() < until:
                time.sleep(0.2)
        raise AssertionError(f"{wanted!r} cannot be reached:\n" + "\n".join(self.machine.screen()))

    def turn(self, value: str) -> None:
        """The choice with the focus, to a value."""
        for _ in range(10):
            if value in self.focused():
                return
            self.press("spc")
            time.sleep(0.5)
        raise AssertionError(f"no choice {value!r}:\n" + "\n".join(self.machine.screen()))

    def button(self, name: str) -> None:
        """Tab to the form's button and Enter."""
        self._walk("tab", name)

    def focused(self) -> str:
        """The text with the focus, between the bars at top and bottom."""
        font, picture = self.machine.font, self.machine.picture()
        assert font is not None
        return font.marked(picture, FOCUS, range(1, min(picture.height // font.height, LINES) - 1))


def flow(lines: Sequence[str]) -> str:
    """The screen's text without frames and line ends."""
    return " ".join(" ".join(re.sub(r"[\u2500-\u257f|]", " ", line) for line in lines).split())
