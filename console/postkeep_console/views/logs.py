"""A log: the newest lines at the bottom, wrapped, followed until one scrolls up."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

import urwid

from postkeep_console.look import Look
from postkeep_console.views.view import Hint, View


class LogView(View[str]):
    """Ends with "choose", "search" or "close". `following` says whether new lines are wanted."""

    KEYS: ClassVar[Mapping[str, str]] = {"esc": "close", "f4": "choose", "f7": "search", "/": "search"}

    def __init__(self, title: str, hints: Sequence[Hint], look: Look, nothing: str, follow: str) -> None:
        self.following = True
        self._nothing, self._follow = nothing, follow
        self._walker = urwid.SimpleFocusListWalker([urwid.Text("")])
        self._list = urwid.ListBox(self._walker)
        self._state = urwid.Text("")
        pile = urwid.Pile([look.scrolled(self._list), ("pack", urwid.AttrMap(self._state, "label"))])
        super().__init__(look.panel(title, pile), hints)

    def selectable(self) -> bool:
        return True

    def show(self, lines: Sequence[str]) -> None:
        self._walker[:] = [urwid.Text(line, wrap="any") for line in lines or [self._nothing]]
        self._end()

    def trouble(self, text: str) -> None:
        self._state.set_text(("warning", text))
        self.changed()

    def _end(self) -> None:
        self._walker.set_focus(len(self._walker) - 1)
        self._list.set_focus_valign("bottom")
        self._state.set_text(self._follow if self.following else "")
        self.changed()

    def keypress(self, size: tuple[int, int], key: str) -> str | None:  # type: ignore[override]
        if key in self.KEYS:
            self.finish(self.KEYS[key])
            return None
        if key in ("f6", "f", "end"):
            self.following = key == "end" or not self.following
            self._end()
            return None
        if key in ("up", "page up", "home"):
            self.following = False
            self._state.set_text("")
        return super().keypress(size, key)
