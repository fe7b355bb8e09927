"""The other entries of the menu. Controllers, views and screen over values, the clock turned by hand."""

import asyncio

import pytest
from postkeep_appliance.api import types as api
from postkeep_appliance.api.client import AgentError
from postkeep_console.controllers.sizes import size_text

from tests.support.agent import FakeAgent
from tests.support.console import ConsoleWorld


async def test_each_switch_and_action_asks_first_and_no_is_the_default() -> None:
    world = ConsoleWorld(FakeAgent())
    async with world.running():
        await world.unlock()
        for entry in ("SSH", "Remote administration", "Restart", "Shut down", "Support bundle"):
            await world.choose(entry)
            await world.press("enter")
            assert "Factory reset" in world.text(), entry
        assert not world.agent.asked(api.Power)
        assert not world.agent.asked(api.SetSsh)
        await world.choose("SSH")
        await world.press("shift tab", "enter")
        assert "SSH is on." in world.text()
        await world.press("enter")
        await world.choose("Shut down")
        await world.press("left", "enter")
        assert world.agent.asked(api.Power) == [api.Power("shutdown")]
        await world.press("enter")
        await world.choose("Remote administration")
        await world.press("left", "enter")
        assert world.agent.asked(api.SetRemoteAdministration) == [api.SetRemoteAdministration(False)]


async def test_a_time_zone_is_found_by_a_part_of_its_name_and_a_restart_is_told() -> None:
    world = ConsoleWorld(FakeAgent())
    async with world.running():
        await world.unlock()
        await world.choose("Time")
        await world.press("f4")
        await world.type("prag")
        assert "Berlin" not in world.text().split("\n", 1)[1]
        await world.press("enter")
        assert "Europe/Prague" in world.text()
        await world.press("tab", "tab", "tab", "enter")
        assert world.agent.asked(api.SetTime) == [api.SetTime("Europe/Prague", ("time.example.com",))]
        assert "restart of the appliance" in world.text()
        assert "Running programs keep the old zone." in world.text()


async def test_the_engine_can_be_stopped_after_a_question_and_started_without() -> None:
    world = ConsoleWorld(FakeAgent())
    async with world.running():
        await world.unlock()
        await world.choose("Mail server")
        await world.choose("Stop")
        await world.press("enter")
        assert world.agent.asked(api.Engine) == []
        await world.choose("Stop")
        await world.press("left", "enter", "enter")
        assert "State now: stopped" in world.text()
        await world.choose("Start")
        assert [call.action for call in world.agent.asked(api.Engine)] == ["stop", "start"]


async def test_a_factory_reset_needs_the_host_name() -> None:
    world = ConsoleWorld(FakeAgent())
    async with world.running():
        await world.unlock()
        await world.choose("Factory reset")
        await world.type("mail.example.org")
        await world.press("enter")
        assert "This is not the host name" in world.text()
        assert world.agent.asked(api.FactoryReset) == []
        await world.press("ctrl u")
        await world.type("mail.example.com")
        await world.press("enter")
        assert world.agent.asked(api.FactoryReset) == [api.FactoryReset("mail.example.com")]


async def test_logs_are_followed_searched_and_scrolled() -> None:
    world = ConsoleWorld(FakeAgent())
    async with world.running():
        await world.unlock()
        await world.choose("Logs")
        assert "message 8" in world.text()
        world.agent.log_lines.append("[24/Nov/2026 20:40:00] a new one \x1b[2J")
        await world.advance(2)
        assert "a new one ?[2J" in world.text()
        await world.press("up")
        world.agent.log_lines.append("[24/Nov/2026 20:41:00] not seen")
        await world.advance(4)
        assert "not seen" not in world.text()
        await world.press("f7")
        await world.type("message 3")
        await world.press("enter")
        assert "message 3" in world.text()
        assert "message 4" not in world.text()
        await world.press("f4")
        await world.choose("security")
        assert world.agent.asked(api.ReadLog)[-1].name == "security"


async def test_a_network_test_can_be_left_while_it_runs() -> None:
    world = ConsoleWorld(FakeAgent())
    async with world.running():
        await world.unlock()
        await world.choose("Network test")
        await world.press("down")
        await world.type("example.com")
        world.agent.gate = asyncio.Event()
        await world.press("enter")
        await world.advance(1)
        assert "do not wait" in world.text()
        await world.press("esc")
        assert "Not waited for the end" in world.text()


async def test_what_may_not_be_left_half_done_is_waited_for() -> None:
    world = ConsoleWorld(FakeAgent())
    async with world.running():
        await world.unlock()
        await world.choose("Disks")
        world.agent.gate = asyncio.Event()
        await world.press("left", "enter")
        await world.advance(1)
        await world.press("esc")
        assert "Growing" in world.text()
        world.agent.gate.set()
        await world.settle()
        assert "64.0 GiB -> 100.0 GiB" in world.text()


async def test_every_call_that_is_refused_is_told_and_leads_back() -> None:
    world = ConsoleWorld(FakeAgent())
    async with world.running():
        await world.unlock()
        for entry, kind in (
            ("Network", api.ListAdapters),
            ("Time", api.GetTime),
            ("Disks", api.ListDisks),
            ("Logs", api.ReadLog),
            ("Keyboard layout", api.ListKeyboards),
            ("Host name", api.Status),
        ):
            world.agent.refuse(kind, AgentError("failed", "It broke."))
            await world.choose(entry)
            assert "It broke." in world.text(), entry
            await world.press("enter")
            assert "Factory reset" in world.text()


async def test_the_agent_may_go_in_the_middle_of_a_call() -> None:
    world = ConsoleWorld(FakeAgent())
    async with world.running():
        await world.unlock()
        world.agent.lost = True
        await world.choose("Disks")
        assert "agent does not answer" in world.text()
        await world.press("enter")
        assert "Factory reset" in world.text()


@pytest.mark.parametrize(
    ("octets", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (150 << 20, "150 MiB"),
        (64 << 30, "64.0 GiB"),
        (3 << 40, "3.0 TiB"),
        (-1, "0 B"),
    ],
)
def test_sizes(octets: int, text: str) -> None:
    assert size_text(octets) == text
