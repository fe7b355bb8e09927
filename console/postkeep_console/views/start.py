"""The start screen (CON-1)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import urwid

from postkeep_console.look import Look
from postkeep_console.views.view import Hint, View

LABEL_WIDTH = 17
_COLOURS = {"ok": "ok", "warning": "warning", "error": "error"}


@dataclass(frozen=True)
class Line:
    """One row: a label at the left (or none) and a text with its colour."""

    label: str
    text: str
    colour: str = "strong"


class StartView(View[str]):
    """Ends with the action of a key: "actions", "language", "set up"."""

    def __init__(self, title: str, hints: Sequence[Hint], keys: dict[str, str], look: Look) -> None:
        self._keys = keys
        self._lines: tuple[Line, ...] = ()
        self._walker: urwid.SimpleListWalker[Any] = urwid.SimpleListWalker([urwid.Text("")])
        self._list = urwid.ListBox(self._walker)
        super().__init__(look.panel(title, look.scrolled(self._list)), hints)

    def selectable(self) -> bool:
        return True

    def show(self, lines: Sequence[Line]) -> None:
        """Replaces what is shown; keeps what was scrolled."""
        if tuple(lines) != self._lines:
            self._lines = tuple(lines)
            self._walker[:] = [_row(line) for line in lines]
            self.changed()

    def keypress(self, size: tuple[int, int], key: str) -> str | None:  # type: ignore[override]
        if key in self._keys:
            self.finish(self._keys[key])
            return None
        return super().keypress(size, key)


def _row(line: Line) -> urwid.Widget:
    text = urwid.AttrMap(urwid.Text(line.text, wrap="space"), line.colour)
    if not line.label:
        return urwid.Padding(text, left=LABEL_WIDTH) if line.colour == "strong" else text
    label = urwid.AttrMap(urwid.Text(line.label, wrap="clip"), "label")
    return urwid.Columns([(LABEL_WIDTH, label), text])
