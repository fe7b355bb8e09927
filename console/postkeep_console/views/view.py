"""What all screens are: a box widget with hints for the footer that ends once with a result."""

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

import urwid

T = TypeVar("T")
Hint = tuple[str, str]
"""(key as the keyboard names it, what it does)"""


class View(urwid.WidgetWrap[urwid.Widget], Generic[T]):
    """`on_end` gets the result of `finish`; `on_change` is called when not a key changed it."""

    def __init__(self, body: urwid.Widget, hints: Sequence[Hint]) -> None:
        super().__init__(body)
        self.hints = tuple(hints)
        self.on_end: Callable[[T], None] | None = None
        self.on_change: Callable[[], None] | None = None

    def finish(self, result: T) -> None:
        """Ends the view; only the first time counts."""
        end, self.on_end = self.on_end, None
        if end is not None:
            end(result)

    def changed(self) -> None:
        """Says that it has to be drawn again."""
        if self.on_change is not None:
            self.on_change()

    def forget(self) -> None:
        """Wipes what was typed; called when the view has left the screen."""


class Push(urwid.WidgetWrap[urwid.Widget]):
    """A line that Enter or the space bar pushes: a button, an entry of a menu."""

    def __init__(self, text: str, pushed: Callable[[], None], *, wrap: str = "clip") -> None:
        self._text = urwid.SelectableIcon(text, 0)
        self._text.set_layout("left", wrap)  # type: ignore[arg-type]
        super().__init__(urwid.AttrMap(self._text, "push", "push focus"))
        self._pushed = pushed

    def keypress(self, size: tuple[int], key: str) -> str | None:  # type: ignore[override]
        if key in ("enter", " "):
            self._pushed()
            return None
        return key


def buttons(entries: Sequence[tuple[str, Callable[[], None]]]) -> urwid.Columns:
    """Pushes side by side, at the right."""
    row: list[tuple[int, urwid.Widget] | urwid.Widget] = [urwid.Text("")]
    row += [(len(label) + 4, Push(f"[ {label} ]", pushed)) for label, pushed in entries]
    return urwid.Columns(row, dividechars=2, focus_column=len(row) - 1)


def step(row: urwid.Columns, by: int) -> None:
    """The focus to the next or previous of `buttons`, round and round."""
    last = len(row.contents) - 1  # the first column is the room at the left
    row.focus_position = (row.focus_position - 1 + by) % last + 1
