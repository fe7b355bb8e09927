"""The start screen, the language, and an agent that comes and goes. Controllers, views and screen over values, the clock turned by hand."""

from msgspec.structs import replace
from postkeep_appliance.api import types as api

from tests.support.agent import FRESH, STATUS, FakeAgent
from tests.support.console import ConsoleWorld

FIRST = "postkeep"


def fresh(**changes: object) -> ConsoleWorld:
    return ConsoleWorld(FakeAgent(status=replace(FRESH, **changes), root_password=FIRST))


async def test_the_start_screen_follows_the_status() -> None:
    world = ConsoleWorld(FakeAgent())
    async with world.running():
        assert "running" in world.text()
        world.agent.status = replace(
            STATUS,
            engine=api.EngineState.FAILED,
            health=(api.Health("Disk", "error", "The disk is full.", "Make it larger."),),
        )
        await world.advance(4)
        assert "running" in world.text()
        await world.advance(1)
        assert "failed: see the logs" in world.text()
        assert "!! Disk: The disk is full. Make it larger." in world.text()


async def test_advice_is_a_sentence_of_its_own() -> None:
    health = (api.Health("engine", "warning", "The mail server is stopped", "Start it here."),)
    world = ConsoleWorld(FakeAgent(status=replace(STATUS, health=health)))
    async with world.running():
        assert "! engine: The mail server is stopped. Start it here." in world.text()


async def test_what_is_wrong_comes_first_and_long_lists_are_shortened() -> None:
    addresses = tuple(f"192.0.2.{number}/24" for number in range(1, 31))
    status = replace(STATUS, addresses=addresses, administration_urls=addresses)
    world = ConsoleWorld(FakeAgent(status=status))
    async with world.running():
        text = world.text()
        assert "(+26)" in text
        assert text.index("! DNS") < text.index("+ Disk")


async def test_hostile_text_of_the_agent_cannot_command_the_terminal() -> None:
    world = ConsoleWorld(FakeAgent(status=replace(STATUS, notices=("\x1b[2Jgone\x07",), hostname="a\x9bb")))
    async with world.running():
        assert "?[2Jgone?" in world.text()
        assert "a?b" in world.text()


async def test_a_language_is_chosen_first_and_kept_by_the_agent() -> None:
    world = fresh()
    async with world.running():
        assert "Español" in world.text()
        await world.choose("Čeština")
        assert "Zatím nenastaveno" in world.text()
        assert world.agent.asked(api.SetLanguage) == [api.SetLanguage("cs")]
        await world.press("f3")
        await world.choose("English")
        assert "Not set up yet" in world.text()


async def test_a_language_chosen_elsewhere_is_not_forced_upon_this_terminal() -> None:
    world = ConsoleWorld(FakeAgent())
    async with world.running():
        world.agent.status = replace(world.agent.status, language="de")
        await world.advance(5)
        assert "Host name" in world.text()


async def test_the_language_of_the_appliance_is_spoken_from_the_start() -> None:
    world = ConsoleWorld(FakeAgent(status=replace(STATUS, language="fr")))
    async with world.running():
        assert "Nom d'hôte" in world.text()


async def test_an_agent_that_is_gone_is_told_and_comes_back() -> None:
    world = ConsoleWorld(FakeAgent())
    async with world.running():
        world.agent.lost = True
        await world.advance(5)
        assert "The agent does not answer" in world.text()
        assert "mail.example.com" in world.text()
        world.agent.lost = False
        await world.advance(1)
        assert "does not answer" not in world.text()


async def test_without_an_agent_from_the_start_it_waits() -> None:
    world = ConsoleWorld(FakeAgent(lost=True))
    async with world.running():
        await world.advance(3)
        assert "Waiting for the appliance's agent" in world.text()
        await world.press("f2", "enter", "esc")
        world.agent.lost = False
        await world.advance(2)
        assert "Alt+F2" in world.text()
