"""Root's password, the session and its end. Controllers, views and screen over values, the clock turned by hand."""

import asyncio

from msgspec.structs import replace
from postkeep_appliance.api import types as api
from postkeep_appliance.api.client import AgentError

from tests.support.agent import FRESH, FakeAgent
from tests.support.console import ConsoleWorld

FIRST = "postkeep"


def fresh(**changes: object) -> ConsoleWorld:
    return ConsoleWorld(FakeAgent(status=replace(FRESH, **changes), root_password=FIRST))


async def test_a_wrong_password_is_refused_with_the_agents_words() -> None:
    world = ConsoleWorld(FakeAgent())
    async with world.running():
        world.agent.refuse(api.Unlock, AgentError("denied", "Wrong. The next answer takes 8 s.", "password"))
        await world.unlock()
        assert "Wrong. The next answer takes 8 s." in world.text()
        await world.type(world.agent.root_password)
        await world.press("enter")
        assert "Factory reset" in world.text()


async def test_while_the_password_is_checked_the_delay_is_explained_and_may_be_left() -> None:
    world = ConsoleWorld(FakeAgent())
    async with world.running():
        world.agent.gate = asyncio.Event()
        await world.unlock()
        await world.advance(1)
        assert "After a wrong one this takes longer" in world.text()
        await world.type("typed ahead")
        await world.press("esc", "esc")
        assert "Alt+F2" in world.text()


async def test_passwords_are_never_on_the_screen_and_wiped_after_use() -> None:
    world = ConsoleWorld(FakeAgent())
    async with world.running():
        await world.press("f2")
        await world.type("correct horse")
        assert "correct" not in world.text()
        assert "*" * 13 in world.text()
        view = world.desk._stack[-1]
        await world.press("enter")
        assert view.entries == {"password": ""}


async def test_the_first_password_must_be_changed_before_the_menu() -> None:
    world = fresh(set_up=True, language="en")
    async with world.running():
        await world.press("f2")
        await world.type(FIRST)
        await world.press("enter")
        assert "Choose a new one" in world.text()
        for wrong, reason in (("short", "At least 8"), ("postkeep", "known to everybody")):
            await world.press("ctrl u")
            await world.type(wrong)
            await world.press("tab", "ctrl u")
            await world.type(wrong)
            await world.press("enter")
            assert reason in world.text()
        await world.press("ctrl u")
        await world.type("a new secret")
        await world.press("tab", "ctrl u")
        await world.type("a new secret")
        await world.press("enter")
        assert "was changed" in world.text()
        await world.press("enter")
        assert "Factory reset" in world.text()
        assert world.agent.root_password == "a new secret"


async def test_who_does_not_change_the_first_password_gets_nothing() -> None:
    world = fresh(set_up=True, language="en")
    async with world.running():
        await world.press("f2")
        await world.type(FIRST)
        await world.press("enter", "esc")
        assert "Alt+F2" in world.text()
        assert world.agent.session == ""


async def test_the_idle_lock_leads_back_to_the_start_screen() -> None:
    world = ConsoleWorld(FakeAgent(idle_seconds=300))
    async with world.running():
        await world.unlock()
        await world.choose("Password of root")
        await world.type("correct horse")
        view = world.desk._stack[-1]
        await world.advance(299)
        assert "Current password" in world.text()
        await world.advance(2)
        assert "Alt+F2" in world.text()
        assert world.agent.session == ""
        assert set(view.entries.values()) == {""}
        await world.press("f2")
        assert "need the password of root" in world.text()


async def test_keys_keep_the_session_and_followed_logs_do_not() -> None:
    world = ConsoleWorld(FakeAgent(idle_seconds=300))
    async with world.running():
        await world.unlock()
        for _ in range(5):
            await world.advance(200)
            await world.press("down")
        assert "Factory reset" in world.text()
        await world.choose("Logs")
        await world.advance(302)
        assert "Alt+F2" in world.text()


async def test_a_session_that_the_agent_ended_is_opened_again_and_the_call_goes_on() -> None:
    world = ConsoleWorld(FakeAgent())
    async with world.running():
        await world.unlock()
        world.agent.end_sessions()
        await world.choose("Disks")
        assert "need the password of root" in world.text()
        await world.type("correct horse")
        await world.press("enter")
        assert "/dev/sda" in world.text()


async def test_leaving_the_menu_locks() -> None:
    world = ConsoleWorld(FakeAgent())
    async with world.running():
        await world.unlock()
        await world.press("esc")
        assert world.agent.asked(api.Lock) == [api.Lock()]
        assert world.agent.session == ""
