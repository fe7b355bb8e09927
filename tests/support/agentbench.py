"""The agent on a machine in memory, with a clock that tests turn."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TypeVar

from postkeep_appliance.agent.app import Agent
from postkeep_appliance.agent.work import Caller, Work
from postkeep_appliance.api.types import Answer, Call, Failure, Request, Unlock, Unlocked
from postkeep_appliance.host.dryrun import DryRunHost
from postkeep_appliance.host.run import Output, ProgramFailed

from tests.support.clock import FakeClock

T = TypeVar("T")
CONSOLE = Caller(997, 997, 411, "tty1")
GOOD = "correct horse"
"""Root's password on a DryRunHost that is set up."""


async def drive(clock: FakeClock, work: Awaitable[T], limit: float = 600.0) -> T:
    """`work` to its end, turning the clock while it waits; at most `limit` seconds."""
    task = asyncio.ensure_future(work)
    begin = clock.monotonic()
    while not task.done():
        await clock.advance(0.25)
        # What runs in a real thread (packing a bundle) needs the loop to wait for it.
        await asyncio.wait({task}, timeout=0.001)
        assert clock.monotonic() - begin <= limit, "it does not end"
    return await task


class Bench:
    """An Agent and what is around it. `host.machine` and `host.faults` are the test's to turn."""

    def __init__(self, *, set_up: bool = True) -> None:
        self.clock = FakeClock()
        self.host = DryRunHost(self.clock, set_up=set_up)
        self.machine = self.host.machine
        self.agent = Agent(self.host, self.clock)
        self.session = ""
        self.said: list[tuple[str, int, int]] = []
        self._number = 0

    def restart_agent(self) -> None:
        """As after a kill: the machine and the state folder stay, the memory does not."""
        self.agent = Agent(self.host, self.clock)

    async def reply(
        self, call: Call, session: str | None = None, caller: Caller = CONSOLE
    ) -> Answer | Failure:
        self._number += 1
        token = self.session if session is None else session
        work = Work(caller, token, lambda text, done, total: self.said.append((text, done, total)))
        return await drive(self.clock, self.agent.dispatcher.answer(Request(self._number, call, token), work))

    async def ask(self, call: Call, answer: type[T]) -> T:
        reply = await self.reply(call)
        assert isinstance(reply, Answer), reply
        assert isinstance(reply.result, answer)
        return reply.result

    async def refusal(self, call: Call, session: str | None = None) -> Failure:
        reply = await self.reply(call, session)
        assert isinstance(reply, Failure), reply
        return reply

    async def unlock(self, password: str = GOOD) -> Unlocked:
        unlocked = await self.ask(Unlock(password), Unlocked)
        self.session = unlocked.session
        return unlocked


class Recorder:
    """A Runner that runs nothing: it keeps the argument lists and answers what the test put in.

    `answers` maps the first words of a command to its output; the longest match counts.
    """

    def __init__(self) -> None:
        self.ran: list[list[str]] = []
        self.stdin: list[str] = []
        self.answers: dict[str, Output] = {}
        self.effects: dict[str, Callable[[list[str]], None]] = {}

    def say(self, command: str, out: str = "", *, status: int = 0, err: str = "") -> None:
        self.answers[command] = Output(status, out, err)

    @property
    def lines(self) -> list[str]:
        return [" ".join(argv) for argv in self.ran]

    async def __call__(
        self,
        argv: Sequence[str],
        *,
        stdin: str = "",
        seconds: float = 30.0,
        check: bool = True,
        line: Callable[[str], None] | None = None,
    ) -> Output:
        self.ran.append(list(argv))
        self.stdin.append(stdin)
        command = " ".join(argv)
        for start, effect in self.effects.items():
            if command.startswith(start):
                effect(list(argv))
        matching = [start for start in self.answers if command.startswith(start)]
        output = self.answers[max(matching, key=len)] if matching else Output(0, "", "")
        if line is not None:
            for text in output.out.splitlines():
                line(text)
        if check and output.status:
            raise ProgramFailed(argv, output)
        return output


def put(root: Path, name: str, text: str) -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path
