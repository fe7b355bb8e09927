"""A form: fields, what is wrong with the one in focus, buttons."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import urwid

from postkeep_console.look import COLUMNS, ROWS, Centred, Look
from postkeep_console.views.fields import Field, Row, make_row
from postkeep_console.views.view import Hint, View, buttons

Check = Callable[[Mapping[str, str]], Mapping[str, str]]
"""From entries to texts: name of the field -> what is wrong with it."""

_LIST, _MESSAGE, _BUTTONS = 2, 3, 4


@dataclass(frozen=True)
class Submitted:
    """How a form ended: the button's (or key's) action, and all entries."""

    action: str
    entries: Mapping[str, str] = field(repr=False)


@dataclass(frozen=True)
class FormTexts:
    title: str
    intro: str
    buttons: Sequence[tuple[str, str]]
    """(action, label) from left to right. The last needs entries without mistakes; Enter in the last field
    pushes it (or goes there)."""
    hints: Sequence[Hint]
    keys: Mapping[str, str] = field(default_factory=dict)
    """Further keys -> action, such as "esc" -> "back"."""


class FormView(View[Submitted]):
    """Shows mistakes once a field was touched or the last button was pushed."""

    def __init__(self, texts: FormTexts, fields: Sequence[Field], check: Check, look: Look) -> None:
        self._texts, self._check = texts, check
        self._rows = {field.name: make_row(field, self._row_changed) for field in fields}
        self._wrong: dict[str, str] = {}
        self._refused: dict[str, tuple[str, str]] = {}
        self._asked = False
        self._shown: list[Row] = []
        self._walker: urwid.SimpleFocusListWalker[Any] = urwid.SimpleFocusListWalker([])
        self._message = urwid.Text("", wrap="space")
        self._message_colour = urwid.AttrMap(self._message, "label")
        self._buttons = buttons([(label, partial(self._push, action)) for action, label in texts.buttons])
        self._pile = urwid.Pile(
            [
                ("pack", urwid.Text(texts.intro)),
                ("pack", urwid.Divider()),
                look.scrolled(urwid.ListBox(self._walker)),
                (3, urwid.Filler(self._message_colour, valign="bottom")),
                ("pack", self._buttons),
            ],
            focus_item=_LIST,
        )
        panel = look.panel(texts.title, self._pile)
        super().__init__(Centred(panel, COLUMNS, ROWS - 3), texts.hints)
        self._arrange()
        self._judge()
        if not any(row.selectable() for row in self._shown):
            self._pile.focus_position = _BUTTONS

    @property
    def entries(self) -> dict[str, str]:
        return {name: row.value for name, row in self._rows.items()}

    def refuse(self, name: str, text: str) -> None:
        """Says at the field why the agent did not take it; stays until it is changed."""
        if name in self._rows:
            self._refused[name] = (self._rows[name].value, text)
            self._judge()
            self._focus(name)
        else:
            self._message.set_text(text)
            self._message_colour.set_attr_map({None: "warning"})

    def forget(self) -> None:
        for row in self._rows.values():
            row.wipe()

    def keypress(self, size: tuple[int, int], key: str) -> str | None:  # type: ignore[override]
        if key in self._texts.keys:
            self.finish(Submitted(self._texts.keys[key], self.entries))
            return None
        if key in ("tab", "shift tab"):
            self._step(1 if key == "tab" else -1)
        else:
            left = super().keypress(size, key)
            if left == "enter" and self._pile.focus_position == _LIST:
                self._enter()
            elif left is not None:
                self._tell()
                return left
        self._tell()
        return None

    def _row_changed(self, row: Row) -> None:
        self._arrange()
        self._judge()

    def _arrange(self) -> None:
        """Puts the rows that are to be seen into the list."""
        entries = self.entries
        shown = [row for row in self._rows.values() if row.field.shown(entries)]
        if shown == self._shown:
            return
        at = self._shown[self._walker.focus or 0] if self._shown else None
        self._shown = shown
        self._walker[:] = shown
        selectable = [index for index, row in enumerate(shown) if row.selectable()]
        if at in shown:
            self._walker.set_focus(shown.index(at))
        elif shown:
            self._walker.set_focus(selectable[0] if selectable else 0)

    def _judge(self) -> None:
        wrong = dict(self._check(self.entries))
        for name, (value, text) in self._refused.items():
            if self._rows[name].value == value:
                wrong[name] = text
        self._wrong = {name: text for name, text in wrong.items() if self._rows[name] in self._shown}
        for name, row in self._rows.items():
            row.mark(name in self._wrong and (row.touched or self._asked or name in self._refused))
        self._tell()

    def _tell(self) -> None:
        """The line below the fields: the mistake in the one in focus, else its hint."""
        row = self._current()
        if row is None:
            self._message.set_text("")
            return
        name = row.field.name
        visible = name in self._wrong and (row.touched or self._asked or name in self._refused)
        self._message.set_text(self._wrong[name] if visible else row.field.hint)
        self._message_colour.set_attr_map({None: "warning" if visible else "label"})

    def _current(self) -> Row | None:
        if self._pile.focus_position != _LIST or not self._shown:
            return None
        return self._shown[self._walker.focus or 0]

    def _enter(self) -> None:
        """Enter in a field: on to the next one. In the last one, if it is typed in: the last button."""
        selectable = [row for row in self._shown if row.selectable()]
        current = self._current()
        if current is None or current is not selectable[-1]:
            self._step(1)
        elif current.field.kind in ("text", "password"):
            self._push(self._texts.buttons[-1][0])
        else:
            self._pile.focus_position = _BUTTONS
            self._buttons.focus_position = len(self._buttons.contents) - 1

    def _step(self, by: int) -> None:
        """Focus to the next or previous of all fields and buttons, round and round."""
        stops = [(_LIST, index) for index, row in enumerate(self._shown) if row.selectable()]
        row_of_buttons = self._buttons
        stops += [(_BUTTONS, index) for index in range(1, len(row_of_buttons.contents))]
        part = self._pile.focus_position
        now = (part, self._walker.focus if part == _LIST else row_of_buttons.focus_position)
        at = stops.index(now) if now in stops else 0
        part, index = stops[(at + by) % len(stops)]
        self._pile.focus_position = part
        if part == _LIST:
            self._walker.set_focus(index)
        else:
            row_of_buttons.focus_position = index

    def _focus(self, name: str) -> None:
        row = self._rows[name]
        if row in self._shown and row.selectable():
            self._pile.focus_position = _LIST
            self._walker.set_focus(self._shown.index(row))
        self._tell()

    def _push(self, action: str) -> None:
        if action == self._texts.buttons[-1][0]:
            self._asked = True
            self._judge()
            if self._wrong:
                self._focus(next(name for name in self._rows if name in self._wrong))
                return
        self.finish(Submitted(action, self.entries))
