"""Every screen of the console: how to get there. Tests render them in all languages; the documents show them.

`python -m tests.support.screens` writes the English ones into docs/admin/console.md, between its markers.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from msgspec.structs import replace
from postkeep_appliance.api import types as api
from postkeep_appliance.api.client import AgentError

from tests.support.agent import FRESH, FakeAgent
from tests.support.console import ConsoleWorld

DOCUMENT = Path(__file__).parents[2] / "docs" / "admin" / "console.md"
FIRST_WORD = "postkeep"

Steps = Callable[[ConsoleWorld], Awaitable[None]]


@dataclass(frozen=True)
class Scene:
    """`steps` lead from the start screen (or the choice of a language, when fresh) to the screen."""

    steps: Steps
    fresh: bool = False


async def _nothing(world: ConsoleWorld) -> None:
    return


def menu(entry: str, *keys: str) -> Scene:
    """An entry of the menu by its key in the catalogue, then some keys."""

    async def steps(world: ConsoleWorld) -> None:
        await world.unlock()
        await world.choose(world.session.words(f"menu.{entry}"))
        await world.press(*keys)

    return Scene(steps)


def wizard(page: int, *keys: str) -> Scene:
    """Page 0 to 6 (6 is the summary), then some keys."""

    async def steps(world: ConsoleWorld) -> None:
        await answer_wizard(world, page)
        await world.press(*keys)

    return Scene(steps, fresh=True)


async def answer_wizard(world: ConsoleWorld, pages: int) -> None:
    """From the choice of a language through so many pages of the first start."""
    await world.press("enter", "f2")
    answers = (
        (FIRST_WORD, "root secret", "root secret"),
        ("ctrl u", "mail.example.com"),
        ("ctrl u", "example.com"),
        ("ctrl u", "admin"),
        ("mail secret", "mail secret"),
        (),
    )
    for answer in answers[:pages]:
        for number, text in enumerate(answer):
            if text == "ctrl u":
                await world.press(text)
            else:
                await world.type(text)
                if number + 1 < len(answer):
                    await world.press("tab")
        await world.press(*(["enter"] if answer else ["tab", "tab", "enter"]))


async def _wrong_password(world: ConsoleWorld) -> None:
    await world.press("f2")
    await world.type("guess")
    await world.press("enter")


async def _must_change(world: ConsoleWorld) -> None:
    world.agent.status = api_replace(world.agent.status, set_up=True)
    await world.press("enter")
    await world.advance(6)
    await world.press("f2")
    await world.type(FIRST_WORD)
    await world.press("enter")


async def _refused(world: ConsoleWorld) -> None:
    await world.unlock()
    await world.choose(world.session.words("menu.network"))
    await world.press("enter", "down", "down", "down")
    await world.press("backspace")
    await world.type("9.1")


async def _countdown(world: ConsoleWorld) -> None:
    await world.unlock()
    await world.choose(world.session.words("menu.network"))
    await world.press("enter", *["tab"] * 8, "enter")
    await world.advance(3)


async def _lost(world: ConsoleWorld) -> None:
    world.agent.network_lost = True
    await _countdown(world)


async def _busy(world: ConsoleWorld) -> None:
    await world.unlock()
    world.agent.gate = asyncio.Event()
    await world.choose(world.session.words("menu.logs"))
    await world.advance(1)


async def _setting_up(world: ConsoleWorld) -> None:
    await answer_wizard(world, 6)
    world.agent.gate = asyncio.Event()
    await world.press(*["tab"] * 5, "enter")
    await world.advance(1)


async def _agent_gone(world: ConsoleWorld) -> None:
    world.agent.lost = True
    await world.advance(6)


async def _refusal(world: ConsoleWorld) -> None:
    await world.unlock()
    world.agent.refuse(api.ListDisks, AgentError("busy", "The disks grow just now."))
    await world.choose(world.session.words("menu.disks"))


def api_replace(status: api.StatusAnswer, **changes: object) -> api.StatusAnswer:
    return replace(status, **changes)


SCENES: Mapping[str, Scene] = {
    "language": Scene(_nothing, fresh=True),
    "start-fresh": Scene(lambda world: world.press("enter"), fresh=True),
    "start": Scene(_nothing),
    "start-lost": Scene(_agent_gone),
    "unlock": Scene(lambda world: world.press("f2")),
    "unlock-wrong": Scene(_wrong_password),
    "must-change": Scene(_must_change, fresh=True),
    "wizard-1": wizard(0),
    "wizard-2": wizard(1),
    "wizard-3": wizard(2),
    "wizard-4": wizard(3),
    "wizard-5": wizard(4),
    "wizard-6": wizard(5),
    "wizard-summary": wizard(6),
    "wizard-working": Scene(_setting_up, fresh=True),
    "wizard-finished": wizard(6, *["tab"] * 5, "enter"),
    "menu": Scene(lambda world: world.unlock()),
    "network": menu("network"),
    "network-automatic": menu("network", "down", "enter"),
    "network-static": menu("network", "enter"),
    "network-refused": Scene(_refused),
    "network-countdown": Scene(_countdown),
    "network-lost": Scene(_lost),
    "hostname": menu("hostname"),
    "hostname-done": menu("hostname", "a", "enter"),
    "time": menu("time"),
    "time-zone": menu("time", "f4"),
    "time-done": menu("time", "enter"),
    "ssh": menu("ssh"),
    "remote": menu("remote"),
    "password": menu("password"),
    "engine": menu("engine"),
    "engine-confirm": menu("engine", "home", "down", "enter"),
    "disks": menu("disks"),
    "logs": menu("logs"),
    "logs-choose": menu("logs", "f4"),
    "logs-search": menu("logs", "f7"),
    "nettest": menu("nettest"),
    "nettest-done": menu("nettest", "tab", "x", "enter"),
    "bundle": menu("bundle"),
    "bundle-done": menu("bundle", "shift tab", "enter"),
    "keyboard": menu("keyboard"),
    "keyboard-search": menu("keyboard", "z", "z", "z"),
    "restart": menu("restart"),
    "shutdown": menu("shutdown"),
    "reset": menu("reset"),
    "reset-wrong": menu("reset", "x", "enter"),
    "busy": Scene(_busy),
    "error": Scene(_refusal),
}


def make_world(
    name: str, language: str = "en", size: tuple[int, int] = (80, 24), ascii_only: bool = False
) -> ConsoleWorld:
    status = api_replace(FRESH if SCENES[name].fresh else FakeAgent().status, language=language)
    if SCENES[name].fresh:
        status = api_replace(status, language="")
        agent = FakeAgent(status=status, root_password=FIRST_WORD)
    else:
        agent = FakeAgent(status=status)
    return ConsoleWorld(agent, language, size, ascii_only)


async def shoot(name: str, language: str = "en", size: tuple[int, int] = (80, 24)) -> str:
    """The screen as text."""
    world = make_world(name, language, size)
    async with world.running():
        await SCENES[name].steps(world)
        return world.text()


async def illustrated(text: str) -> str:
    """`text` (of the document) with each block `<!-- screen: NAME -->` … `<!-- end -->` made anew."""
    for name in re.findall(r"<!-- screen: ([a-z0-9-]+) -->", text):
        block = f"<!-- screen: {name} -->\n```text\n{await shoot(name)}\n```\n<!-- end -->"
        pattern = rf"<!-- screen: {name} -->.*?<!-- end -->"
        text = re.sub(pattern, lambda match, block=block: block, text, flags=re.DOTALL)
    return text


if __name__ == "__main__":
    DOCUMENT.write_text(asyncio.run(illustrated(DOCUMENT.read_text(encoding="utf-8"))), encoding="utf-8")
