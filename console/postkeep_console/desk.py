"""The screen: header, the view on top of the stack, an alarm line, hints."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import urwid

from postkeep_console.look import LEAST_COLUMNS, LEAST_ROWS, Look
from postkeep_console.ports import Left, OnProgress, Sleep
from postkeep_console.views.messages import BusyView
from postkeep_console.views.view import View
from postkeep_console.words import Words

R = TypeVar("R")
T = TypeVar("T")

PATIENCE = 0.15
"""Seconds that a call may take before a spinner shows: less would only flicker."""
TURN = 0.25


class Shell(urwid.WidgetWrap[urwid.Widget]):
    """The outermost widget. `on_key` hears of every key before the view does."""

    def __init__(self, words: Words, on_key: Callable[[str], None]) -> None:
        self.words = words
        self._on_key = on_key
        self._blank: urwid.Widget = urwid.SolidFill(" ")
        self._name, self._clock = urwid.Text("", wrap="ellipsis"), urwid.Text("", align="right", wrap="clip")
        self._header = urwid.Columns([self._name, ("pack", self._clock)])
        self._alarm_text = urwid.Text("", wrap="ellipsis")
        self._alarm = urwid.AttrMap(self._alarm_text, "screen")
        self._hints = urwid.Text("", wrap="clip")
        self._foot = urwid.Pile([self._alarm, urwid.AttrMap(self._hints, "bar")])
        self._frame: Any = urwid.Frame(
            self._blank, urwid.AttrMap(self._header, "bar"), self._foot, focus_part="body"
        )
        super().__init__(urwid.AttrMap(self._frame, "screen"))

    _selectable = True

    def head(self, left: str, right: str) -> None:
        self._name.set_text(f" {left}")
        self._clock.set_text(f"  {right} ")

    def alarm(self, text: str) -> None:
        self._alarm_text.set_text(f" {text}" if text else "")
        self._alarm.set_attr_map({None: "banner" if text else "screen"})

    def put(self, view: View[Any] | None) -> None:
        self._frame.body = view or self._blank
        markup: list[str | tuple[str, str]] = [" "]
        for key, what in view.hints if view else ():
            markup += [("bar key", key), f" {what}  "]
        self._hints.set_text(markup)

    def _too_small(self, size: tuple[int, int]) -> bool:
        return size[0] < LEAST_COLUMNS or size[1] < LEAST_ROWS

    def render(self, size: tuple[int, int], focus: bool = False) -> urwid.Canvas:  # type: ignore[override]
        if self._too_small(size):
            plea = self.words("shell.too_small", columns=size[0], rows=size[1])
            return urwid.CompositeCanvas(urwid.Filler(urwid.Text(plea)).render(size))
        return super().render(size, focus)

    def selectable(self) -> bool:
        return True

    def keypress(self, size: tuple[int, int], key: str) -> str | None:  # type: ignore[override]
        self._on_key(key)
        if not self._too_small(size):
            # Esc twice in a moment comes as one key.
            super().keypress(size, "esc" if key == "meta esc" else key)
        return None


class Desk:
    """`Ui` over a Shell: a stack of views, the one on top is seen and gets the keys."""

    def __init__(self, shell: Shell, look: Look, sleep: Sleep) -> None:
        self.shell = shell
        self.redraw: Callable[[], None] = lambda: None
        self._look, self._sleep = look, sleep
        self._stack: list[View[Any]] = []

    async def show(self, view: View[T]) -> T:
        end: asyncio.Future[T] = asyncio.get_running_loop().create_future()

        def ended(result: T) -> None:
            if not end.done():
                end.set_result(result)

        view.on_end = ended
        self._push(view)
        try:
            return await end
        finally:
            self._drop(view)

    async def busy(
        self, title: str, text: str, work: Callable[[OnProgress], Awaitable[R]], *, leave: bool
    ) -> R:
        words = self.shell.words
        view = BusyView(title, text, [("Esc", words("hint.leave"))] if leave else [], self._look)
        task = asyncio.ensure_future(
            work(lambda step: view.step(words.shown(step.text), step.done, step.total))
        )
        waiting: asyncio.Task[None] | None = None
        turning: asyncio.Task[None] | None = None
        try:
            patience = asyncio.ensure_future(self._sleep(PATIENCE))
            await asyncio.wait({task, patience}, return_when=asyncio.FIRST_COMPLETED)
            patience.cancel()
            if not task.done():
                waiting = asyncio.create_task(self.show(view))
                turning = asyncio.create_task(self._turn(view))
                await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
                if not task.done():
                    raise Left
            return await task
        finally:
            for one in (task, waiting, turning):
                if one is not None and not one.done():
                    one.cancel()
            await asyncio.gather(*(one for one in (task, waiting, turning) if one), return_exceptions=True)

    async def _turn(self, view: BusyView) -> None:
        while True:
            await self._sleep(TURN)
            view.turn()

    def alarm(self, text: str) -> None:
        self.shell.alarm(text)
        self.redraw()

    def head(self, left: str, right: str) -> None:
        self.shell.head(left, right)
        self.redraw()

    def _push(self, view: View[Any]) -> None:
        view.on_change = self.redraw
        self._stack.append(view)
        self._top()

    def _drop(self, view: View[Any]) -> None:
        view.on_change = view.on_end = None
        view.forget()
        self._stack.remove(view)
        self._top()

    def _top(self) -> None:
        self.shell.put(self._stack[-1] if self._stack else None)
        self.redraw()
