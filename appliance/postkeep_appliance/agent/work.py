"""What a handler gets and raises."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Literal, NamedTuple

from postkeep_appliance.api.types import Result

Code = Literal["locked", "denied", "invalid", "busy", "failed"]


class Refused(Exception):
    """A call ends as Failure with these words. `field` names the entry to correct."""

    def __init__(self, code: Code, text: str, field: str = "") -> None:
        super().__init__(text)
        self.code: Code = code
        self.text = text
        self.field = field


class Caller(NamedTuple):
    """The process at the other end, by SO_PEERCRED; `terminal` like "tty1", "" when it has none."""

    uid: int
    gid: int
    pid: int
    terminal: str

    def __str__(self) -> str:
        return f"{self.terminal or 'no terminal'} (uid {self.uid}, pid {self.pid})"


class Work:
    """One call under way: who asks, and where its progress goes."""

    def __init__(self, caller: Caller, session: str, say: Callable[[str, int, int], None]) -> None:
        self.caller = caller
        self.session = session
        self._say = say

    def say(self, text: str, done: int = 0, total: int = 0) -> None:
        self._say(text, done, total)


Handler = Callable[[Any, Work], Awaitable[Result]]
"""Takes the call of its type. Raises Refused, HostError (Invalid names the field)."""


class Rule(NamedTuple):
    """How a type of call is handled.

    `changes`: one at a time, and it runs to its end whoever hangs up. `atomic`: power stays on meanwhile.
    """

    handler: Handler
    changes: bool = False
    atomic: bool = False


class Turn:
    """Of the calls that change the machine only one runs; two consoles may be open (tty1 and ttyS0)."""

    def __init__(self) -> None:
        self.now = ""
        """What runs, by type of call; "" when nothing does."""
        self.atomic = False
        self._tasks: set[asyncio.Task[Result]] = set()

    async def run(self, name: str, atomic: bool, work: Callable[[], Awaitable[Result]]) -> Result:
        """Raises Refused("busy") when another one is under way. Cancelling stops the waiting only."""
        if self.now:
            raise Refused("busy", f"Something else is under way ({self.now}); try again when it is done.")
        self.now, self.atomic = name, atomic

        async def whole() -> Result:
            try:
                return await work()
            finally:
                self.now, self.atomic = "", False

        task = asyncio.create_task(whole())
        self._tasks.add(task)
        task.add_done_callback(self._forget)
        return await asyncio.shield(task)

    def _forget(self, task: "asyncio.Task[Result]") -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # its caller may have gone

    async def finish(self) -> None:
        """Until nothing is under way."""
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)
