"""What controllers need from outside: the agent and the screen."""

from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

from postkeep_appliance.api.types import Call, Progress

from postkeep_console.views.view import View

R = TypeVar("R")
T = TypeVar("T")
OnProgress = Callable[[Progress], None]
Sleep = Callable[[float], Awaitable[None]]


class Left(Exception):
    """The one who waited for a call left it by Esc; the agent may go on with it."""


class Agent(Protocol):
    """As `postkeep_appliance.api.client.AgentClient`."""

    session: str

    async def call(self, call: Call, answer: type[R], progress: OnProgress | None = None) -> R:
        """Raises AgentError."""
        ...


class Ui(Protocol):
    async def show(self, view: View[T]) -> T:
        """Puts the view on top until it ends; its result. What was typed in it is wiped then."""
        ...

    async def busy(
        self, title: str, text: str, work: Callable[[OnProgress], Awaitable[R]], *, leave: bool
    ) -> R:
        """Waits for `work`, showing a sign of life. Raises Left (with `leave`), and as `work`."""
        ...

    def alarm(self, text: str) -> None:
        """A line above the footer that stays; "" takes it away."""
        ...
