"""The rows of a form: one line each, label at the left, entry at the right."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import urwid

LABEL_WIDTH = 27
"""Columns of a label; what follows it starts two further right."""

TEXT_LIMIT = 253
YES = "yes"
NO = ""


@dataclass(frozen=True)
class Field:
    """One entry. A "choice" or a "list" (with a line each) takes one of `options`
    (value, label), a "fact" is only read; see also `switch`.

    `when` shows the field only while another one has a value: (name, value).
    """

    name: str
    label: str
    value: str = ""
    kind: Literal["text", "password", "choice", "list", "fact"] = "text"
    hint: str = ""
    options: Sequence[tuple[str, str]] = ()
    when: tuple[str, str] | None = None
    limit: int = TEXT_LIMIT

    def shown(self, entries: Mapping[str, str]) -> bool:
        return self.when is None or entries[self.when[0]] == self.when[1]


class Row(urwid.WidgetWrap[urwid.Widget]):
    """A field's widget: `value`, and whether it is marked as wrong."""

    def __init__(self, field: Field, entry: urwid.Widget, changed: Callable[["Row"], None]) -> None:
        self.field = field
        self.touched = False
        self._changed = changed
        self._mark = urwid.Text(" ")
        self._entry = urwid.AttrMap(entry, self._colour(False), "edit focus")
        label = urwid.AttrMap(urwid.Text(field.label, wrap="clip"), "label")
        super().__init__(
            urwid.Columns([(LABEL_WIDTH, label), (2, urwid.AttrMap(self._mark, "warning")), self._entry])
        )

    def _colour(self, wrong: bool) -> str:
        return "edit wrong" if wrong else "edit"

    @property
    def value(self) -> str:
        return self.field.value

    def mark(self, wrong: bool) -> None:
        self._mark.set_text("!" if wrong else " ")
        self._entry.set_attr_map({None: self._colour(wrong)})

    def wipe(self) -> None:
        """Forgets what was typed."""

    def _touch(self) -> None:
        self.touched = True
        self._changed(self)


class TextRow(Row):
    """Typed text; a password shows stars."""

    def __init__(self, field: Field, changed: Callable[[Row], None]) -> None:
        mask = "*" if field.kind == "password" else None
        self._edit = urwid.Edit(edit_text=field.value, wrap="clip", mask=mask, max_length=field.limit)
        super().__init__(field, self._edit, changed)

    @property
    def value(self) -> str:
        text: str = self._edit.edit_text
        return text if self.field.kind == "password" else text.strip()

    def wipe(self) -> None:
        if self.field.kind == "password":
            self._edit.set_edit_text("")

    def keypress(self, size: tuple[int], key: str) -> str | None:  # type: ignore[override]
        before = self._edit.edit_text
        if key == "ctrl u":
            self._edit.set_edit_text("")
            left = None
        else:
            left = super().keypress(size, key)
        if self._edit.edit_text != before:
            self._touch()
        return left


class ChoiceRow(Row):
    """One of a few: the space bar and left and right change it."""

    def __init__(self, field: Field, changed: Callable[[Row], None]) -> None:
        values = [value for value, _ in field.options]
        self._at = values.index(field.value) if field.value in values else 0
        self._icon = urwid.SelectableIcon("", 0)
        self._icon.set_layout("left", "clip")
        super().__init__(field, self._icon, changed)
        self._show()

    def _colour(self, wrong: bool) -> str:
        return "edit wrong" if wrong else "push"

    def _show(self) -> None:
        self._icon.set_text(f"< {self.field.options[self._at][1]} >")

    @property
    def value(self) -> str:
        return self.field.options[self._at][0]

    def keypress(self, size: tuple[int], key: str) -> str | None:  # type: ignore[override]
        step = {"right": 1, " ": 1, "left": -1}.get(key)
        if step is None:
            return key
        self._at = (self._at + step) % len(self.field.options)
        self._show()
        self._touch()
        return None


class ListRow(Row):
    """One of several, a line each: up and down choose; beyond the ends they leave."""

    def __init__(self, field: Field, changed: Callable[[Row], None]) -> None:
        values = [value for value, _ in field.options]
        self._at = values.index(field.value) if field.value in values else 0
        self._icon = urwid.SelectableIcon("", 1)
        self._icon.set_layout("left", "clip")
        super().__init__(field, self._icon, changed)
        self._show()

    def _colour(self, wrong: bool) -> str:
        return "edit wrong" if wrong else "push"

    def _show(self) -> None:
        lines = [
            f"({'X' if index == self._at else ' '}) {label}"
            for index, (_, label) in enumerate(self.field.options)
        ]
        self._icon.set_text("\n".join(lines))

    @property
    def value(self) -> str:
        return self.field.options[self._at][0]

    def keypress(self, size: tuple[int], key: str) -> str | None:  # type: ignore[override]
        to = self._at + {"up": -1, "down": 1}.get(key, 0)
        if to == self._at or not 0 <= to < len(self.field.options):
            return key
        self._at = to
        self._show()
        self._touch()
        return None


class FactRow(Row):
    """Only to be read."""

    def __init__(self, field: Field, changed: Callable[[Row], None]) -> None:
        super().__init__(field, urwid.Text(field.value, wrap="any"), changed)

    def _colour(self, wrong: bool) -> str:
        return "strong"


def switch(field: Field, off: str, on: str) -> Field:
    """A switch as a choice between the words for off and on."""
    return Field(
        field.name, field.label, field.value, "choice", field.hint, ((NO, off), (YES, on)), field.when
    )


def make_row(field: Field, changed: Callable[[Row], None]) -> Row:
    if field.kind == "fact":
        return FactRow(field, changed)
    if field.kind == "list":
        return ListRow(field, changed)
    return ChoiceRow(field, changed) if field.kind == "choice" else TextRow(field, changed)


def with_entries(fields: Sequence[Field], entries: Mapping[str, str]) -> list[Field]:
    """The same fields with what was typed, passwords excepted."""
    return [
        field
        if field.kind in ("password", "fact")
        else replace(field, value=entries.get(field.name, field.value))
        for field in fields
    ]
