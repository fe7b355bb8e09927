"""Short ones: a message, a question, a wait, a countdown."""

from collections.abc import Sequence
from functools import partial

import urwid

from postkeep_console.look import COLUMNS, ROWS, Centred, Look
from postkeep_console.views.view import Hint, View, buttons, step

_BAR = 40
_LINES = 500
"""Lines of progress that are kept."""


class MessageView(View[str]):
    """A text and buttons (action, label). Ends with the action; the last has the focus and is also Esc."""

    def __init__(
        self,
        title: str,
        text: str,
        actions: Sequence[tuple[str, str]],
        hints: Sequence[Hint],
        look: Look,
        colour: str = "screen",
    ) -> None:
        self._escape = actions[-1][0]
        row = buttons([(label, partial(self.finish, action)) for action, label in actions])
        words = urwid.AttrMap(urwid.Text(text), colour)
        self._pile = urwid.Pile(
            [look.scrolled(urwid.ListBox(urwid.SimpleListWalker([words]))), ("pack", row)], focus_item=1
        )
        self._buttons = row
        super().__init__(Centred(look.panel(title, self._pile), COLUMNS - 8, 15), hints)

    def keypress(self, size: tuple[int, int], key: str) -> str | None:  # type: ignore[override]
        if key == "esc":
            self.finish(self._escape)
            return None
        if key in ("tab", "shift tab"):
            step(self._buttons, 1 if key == "tab" else -1)
            return None
        return super().keypress(size, key)


class BusyView(View[None]):
    """A call under way. Ends (with None) when the one who waits leaves by Esc; keys do nothing else."""

    def __init__(self, title: str, text: str, hints: Sequence[Hint], look: Look) -> None:
        self._look = look
        self._spins = 0
        self._may_leave = bool(hints)
        self._turning = urwid.Text("")
        self._bar = urwid.Text("")
        self._walker = urwid.SimpleFocusListWalker([urwid.Text(text)])
        self._list = urwid.ListBox(self._walker)
        pile = urwid.Pile(
            [("pack", self._turning), ("pack", urwid.Divider()), self._list, ("pack", self._bar)]
        )
        super().__init__(Centred(look.panel(title, pile), COLUMNS - 8, 15), hints)
        self.turn()

    _selectable = True

    def turn(self) -> None:
        """One step of the sign that something is alive."""
        self._turning.set_text(("strong", "|/-\\"[self._spins % 4]))
        self._spins += 1
        self.changed()

    def step(self, text: str, done: int, total: int) -> None:
        """What the agent says on its way."""
        if text:
            self._walker.append(urwid.Text(text))
            del self._walker[:-_LINES]
            self._walker.set_focus(len(self._walker) - 1)
        percent = f" {min(100, 100 * done // total)} %" if total > 0 else ""
        self._bar.set_text(("ok", self._look.bar(done, total, _BAR) + percent) if total > 0 else "")
        self.changed()

    @property
    def lines(self) -> list[str]:
        """All that was shown, to keep it on the screen when the call has ended."""
        return [str(row.text) for row in self._walker]

    def selectable(self) -> bool:
        return True

    def keypress(self, size: tuple[int, int], key: str) -> str | None:  # type: ignore[override]
        if key == "esc" and self._may_leave:
            self.finish(None)
        return None


class CountdownView(View[str]):
    """Keep or undo before the time is over. Ends with "keep" or "undo"; undo has the focus."""

    def __init__(
        self, title: str, text: str, labels: tuple[str, str], hints: Sequence[Hint], look: Look, lost: bool
    ) -> None:
        keep, undo = labels
        row = buttons([(keep, lambda: self.finish("keep")), (undo, lambda: self.finish("undo"))])
        self._buttons = row
        self._left = urwid.Text("")
        pile = urwid.Pile(
            [
                urwid.Filler(urwid.AttrMap(urwid.Text(text), "warning" if lost else "screen"), valign="top"),
                ("pack", urwid.AttrMap(self._left, "strong")),
                ("pack", urwid.Divider()),
                ("pack", row),
            ],
            focus_item=3,
        )
        super().__init__(Centred(look.panel(title, pile), COLUMNS - 8, ROWS - 6), hints)

    def tell(self, text: str) -> None:
        self._left.set_text(text)
        self.changed()

    def keypress(self, size: tuple[int, int], key: str) -> str | None:  # type: ignore[override]
        if key == "esc":
            self.finish("undo")
            return None
        if key in ("tab", "shift tab"):
            step(self._buttons, 1 if key == "tab" else -1)
            return None
        return super().keypress(size, key)
