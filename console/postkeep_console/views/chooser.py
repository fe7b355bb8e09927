"""Lists to choose from: languages, adapters, time zones, keyboard layouts, logs, actions."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import urwid

from postkeep_console.look import COLUMNS, ROWS, Centred, Look
from postkeep_console.views.view import Hint, Push, View

MENU_WIDTH = 30
"""Columns of a menu's entries; what they do stands beside them."""


@dataclass(frozen=True)
class Option:
    value: str
    label: str
    description: str = ""


@dataclass(frozen=True)
class ChooserTexts:
    title: str
    intro: str
    hints: Sequence[Hint]
    search: str = ""
    """Label of the line to search in; without it there is none."""
    nothing: str = ""
    """Shown when nothing matches."""


class ChooserView(View[str | None]):
    """Ends with the value chosen, or None. Typing narrows the list when there is a line to search in."""

    def __init__(
        self, texts: ChooserTexts, options: Sequence[Option], look: Look, current: str = "", keys: str = ""
    ) -> None:
        self._texts, self._options, self._keys = texts, options, keys.split()
        self._walker: urwid.SimpleFocusListWalker[Any] = urwid.SimpleFocusListWalker([])
        self._listed: list[Option] = []
        self._search = urwid.Edit(wrap="clip", max_length=64)
        parts: list[Any] = [("pack", urwid.Text(texts.intro))]
        if texts.search:
            width = len(texts.search) + 2
            line = urwid.Columns(
                [(width, urwid.Text(("label", texts.search))), urwid.AttrMap(self._search, "edit")]
            )
            parts += [("pack", urwid.Divider()), ("pack", line)]
        parts += [("pack", urwid.Divider()), look.scrolled(urwid.ListBox(self._walker))]
        self._pile = urwid.Pile(parts, focus_item=len(parts) - 1)
        super().__init__(Centred(look.panel(texts.title, self._pile), COLUMNS, ROWS - 3), texts.hints)
        self._list(current)

    def _list(self, current: str = "") -> None:
        words = self._search.edit_text.lower().split()
        self._listed = [
            option
            for option in self._options
            if all(word in f"{option.label} {option.description}".lower() for word in words)
        ]
        rows: list[urwid.Widget] = [self._row(option) for option in self._listed]
        self._walker[:] = rows or [urwid.Text(("warning", self._texts.nothing))]
        # A walker keeps its old focus in the middle of what replaces its rows.
        values = [option.value for option in self._listed]
        self._walker.set_focus(values.index(current) if current in values else 0)

    def _row(self, option: Option) -> Push:
        text = f" {option.label}" + (f"  {option.description}" if option.description else "")
        return Push(text, partial(self.finish, option.value))

    def keypress(self, size: tuple[int, int], key: str) -> str | None:  # type: ignore[override]
        if key == "esc":
            self.finish(None)
        elif key in self._keys:
            self.finish(key)
        elif self._texts.search and ((len(key) == 1 and key.isprintable()) or key in ("backspace", "ctrl u")):
            if key == "ctrl u":
                self._search.set_edit_text("")
            elif key == "backspace":
                self._search.set_edit_text(self._search.edit_text[:-1])
            else:
                self._search.insert_text(key)
            self._list()
        else:
            return super().keypress(size, key)
        return None


class MenuView(View[str | None]):
    """Entries at the left, what the one in focus does at the right. Ends with its value, None on Esc."""

    def __init__(
        self,
        title: str,
        options: Sequence[Option],
        hints: Sequence[Hint],
        look: Look,
        current: str,
        keys: str,
    ) -> None:
        self._options, self._keys = options, keys.split()
        self._walker = urwid.SimpleFocusListWalker(
            [Push(f" {option.label}", partial(self.finish, option.value)) for option in options]
        )
        values = [option.value for option in options]
        if current in values:
            self._walker.set_focus(values.index(current))
        self._description = urwid.Text("")
        columns = urwid.Columns(
            [
                (MENU_WIDTH, look.scrolled(urwid.ListBox(self._walker))),
                urwid.Filler(self._description, valign="top"),
            ],
            dividechars=2,
            focus_column=0,
        )
        super().__init__(Centred(look.panel(title, columns), COLUMNS, ROWS - 3), hints)
        self._tell()

    def keypress(self, size: tuple[int, int], key: str) -> str | None:  # type: ignore[override]
        if key == "esc":
            self.finish(None)
            return None
        if key in self._keys:
            self.finish(key)
            return None
        left = super().keypress(size, {"tab": "down", "shift tab": "up"}.get(key, key))
        self._tell()
        return left

    def _tell(self) -> None:
        self._description.set_text(self._options[self._walker.focus or 0].description)
