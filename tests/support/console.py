"""The console without a terminal: real controllers, views and screen over a FakeAgent, with a clock turned by hand.

console = ConsoleWorld(FakeAgent())
async with console.running():
    await console.press("f2", *"correct horse", "enter")
    assert "Menu" in console.text()
"""

import asyncio
import contextlib
import heapq
import itertools
from collections.abc import AsyncIterator

import urwid
from postkeep_console.controllers.console import Console
from postkeep_console.controllers.session import Session
from postkeep_console.desk import Desk, Shell
from postkeep_console.look import Look
from postkeep_console.words import Words

from tests.support.agent import FakeAgent

VGA = (80, 25)
VT = (80, 24)
TURNS = 500
"""Turns of the event loop that anything may take that happens without time passing."""


class ConsoleWorld:
    def __init__(
        self, agent: FakeAgent, language: str = "en", size: tuple[int, int] = VT, ascii_only: bool = False
    ) -> None:
        urwid.set_encoding("utf-8")
        self.agent, self.size = agent, size
        self._ascii = ascii_only
        self._now = 0.0
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._order = itertools.count()
        words = Words.load(language, ascii_only)
        look = Look(ascii_only)
        self.shell = Shell(words, lambda key: self.session.touch())
        self.desk = Desk(self.shell, look, self.sleep)
        self.session = Session(agent, self.desk, words, look, self.sleep, lambda: self._now)
        self.console = Console(self.session, self.desk.head, self._load)
        self.task: asyncio.Task[None] | None = None

    def _load(self, code: str) -> Words:
        self.shell.words = Words.load(code, self._ascii)
        return self.shell.words

    async def sleep(self, seconds: float) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._now + seconds, next(self._order), future))
        await future

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        self.task = asyncio.create_task(self.console.run())
        await self.settle()
        try:
            yield
        finally:
            self.task.cancel()
            results = await asyncio.gather(self.task, return_exceptions=True)
            for result in results:
                if isinstance(result, Exception):
                    raise result

    async def settle(self) -> None:
        """Lets happen what happens without time."""
        loop = asyncio.get_running_loop()
        for _ in range(TURNS):
            await asyncio.sleep(0)
            if not loop._ready:  # type: ignore[attr-defined]
                break
        if self.task is not None and self.task.done():
            self.task.result()

    async def advance(self, seconds: float) -> None:
        """Turns the clock, waking sleepers in their order."""
        end = self._now + seconds
        while self._sleepers and self._sleepers[0][0] <= end:
            self._now, _, future = heapq.heappop(self._sleepers)
            if not future.done():
                future.set_result(None)
            await self.settle()
        self._now = end
        await self.settle()

    async def press(self, *keys: str) -> None:
        """Keys by urwid's names, or texts to be typed."""
        for key in keys:
            for one in (
                [key] if len(key) == 1 or key in _NAMED or (" " in key and key.split()[0] in _WITH) else key
            ):
                self.shell.keypress(self.size, one)
            await self.settle()

    async def type(self, text: str) -> None:
        for one in text:
            self.shell.keypress(self.size, one)
        await self.settle()

    def lines(self) -> list[str]:
        canvas = self.shell.render(self.size, True)
        return [line.decode("utf-8") for line in canvas.text]

    def text(self) -> str:
        return "\n".join(line.rstrip() for line in self.lines())

    async def unlock(self) -> None:
        """From the start screen into the menu."""
        await self.press("f2")
        await self.type(self.agent.root_password)
        await self.press("enter")

    async def choose(self, label: str) -> None:
        """Moves to the entry of a menu or list that begins so, and takes it."""
        await self.press("home")
        for _ in range(40):
            if self.focused().strip().startswith(label):
                await self.press("enter")
                return
            await self.press("down")
        raise AssertionError(f"no entry {label!r} in\n{self.text()}")

    def focused(self) -> str:
        """The text that is drawn in the colours of the focus."""
        canvas = self.shell.render(self.size, True)
        found = []
        for row in canvas.content():
            for attribute, _, text in row:
                inner = getattr(attribute, "layers", (attribute,))[0]
                if inner in ("push focus", "edit focus"):
                    found.append(text.decode("utf-8"))
        return "".join(found)


_NAMED = frozenset(
    ("enter", "esc", "tab", "shift tab", "up", "down", "left", "right", "home", "end", "page up", "page down")
) | {"backspace", "delete", "ctrl u", "ctrl c", *(f"f{number}" for number in range(1, 13))}
_WITH = ("shift", "ctrl", "meta", "page")
