"""Colours, lines and frames: what every screen has in common, within the 16 colours of a text console."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import urwid

PALETTE: Sequence[tuple[str, str, str, str]] = (
    ("screen", "light gray", "dark blue", ""),
    ("bar", "black", "light gray", "standout"),
    ("bar key", "dark red", "light gray", "standout"),
    ("banner", "yellow", "dark red", "standout"),
    ("line", "light cyan", "dark blue", ""),
    ("title", "white", "dark blue", "bold"),
    ("label", "light cyan", "dark blue", ""),
    ("strong", "white", "dark blue", "bold"),
    ("ok", "light green", "dark blue", ""),
    ("warning", "yellow", "dark blue", "bold"),
    ("error", "white", "dark red", "standout"),
    ("edit", "black", "dark cyan", "underline"),
    ("edit focus", "black", "light gray", "standout"),
    ("edit wrong", "white", "dark red", "underline"),
    ("push", "light gray", "dark blue", ""),
    ("push focus", "black", "light gray", "standout"),
)

COLUMNS, ROWS = 80, 24
"""What every screen fits."""

LEAST_COLUMNS, LEAST_ROWS = 60, 20
"""Below this nothing but a plea for a larger terminal is shown."""


@dataclass(frozen=True)
class Look:
    """Which characters draw lines and bars. `ascii_only` on terminals that may lack the others."""

    ascii_only: bool = False

    def panel(self, title: str, body: urwid.Widget) -> urwid.Widget:
        """`body` (a box) in a frame with its title."""
        lines = (
            {"tline": "-", "bline": "-", "lline": "|", "rline": "|"}
            | dict.fromkeys(("tlcorner", "trcorner", "blcorner", "brcorner"), "+")
            if self.ascii_only
            else {}
        )
        inner = urwid.AttrMap(urwid.Padding(body, left=1, right=1), "screen")
        return urwid.AttrMap(
            urwid.LineBox(inner, title=title, title_align="left", title_attr="title", **lines), "line"
        )

    def scrolled(self, rows: "urwid.ListBox[Any]") -> urwid.Widget:
        """`rows` with a bar at the right that shows up when there is more than fits."""
        return urwid.ScrollBar(rows, thumb_char="#", trough_char=":" if self.ascii_only else "│")

    def bar(self, done: int, total: int, width: int) -> str:
        """Progress as text, `width` characters; 0 of 0 is an empty bar."""
        filled = min(width, width * done // total) if total > 0 else 0
        return "[" + "#" * filled + "." * (width - filled) + "]"


class Centred(urwid.WidgetDecoration[urwid.Widget]):
    """A box widget of at most `columns` by `rows` in the middle of whatever room there is."""

    _selectable = True
    _sizing = frozenset((urwid.BOX,))

    def __init__(self, widget: urwid.Widget, columns: int, rows: int) -> None:
        super().__init__(widget)
        self._most = (columns, rows)

    def _inner(self, size: tuple[int, int]) -> tuple[int, int]:
        return min(size[0], self._most[0]), min(size[1], self._most[1])

    def render(self, size: tuple[int, int], focus: bool = False) -> urwid.Canvas:  # type: ignore[override]
        inner = self._inner(size)
        canvas = urwid.CompositeCanvas(self.original_widget.render(inner, focus))
        left, top = (size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2
        canvas.pad_trim_left_right(left, size[0] - inner[0] - left)
        canvas.pad_trim_top_bottom(top, size[1] - inner[1] - top)
        return canvas

    def keypress(self, size: tuple[int, int], key: str) -> str | None:  # type: ignore[override]
        return self.original_widget.keypress(self._inner(size), key)
