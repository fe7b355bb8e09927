"""Adapters and the countdown. Controllers, views and screen over values, the clock turned by hand."""

from postkeep_appliance.api import types as api
from postkeep_appliance.api.client import AgentError

from tests.support.agent import FakeAgent
from tests.support.console import ConsoleWorld


async def to_adapter(world: ConsoleWorld) -> None:
    await world.unlock()
    await world.choose("Network")
    await world.press("enter")


async def test_static_settings_are_tried_and_kept() -> None:
    world = ConsoleWorld(FakeAgent())
    async with world.running():
        await to_adapter(world)
        await world.press("down", "ctrl u")
        await world.type("192.0.2.20")
        await world.press("down", "ctrl u")
        await world.type("255.255.255.0")
        await world.press(*["tab"] * 6, "enter")
        assert world.agent.asked(api.SetNetwork) == [
            api.SetNetwork(
                "ens192",
                api.AdapterSettings(
                    ipv4=api.Addressing(api.Method.STATIC, "192.0.2.20/24", "192.0.2.1"),
                    dns=("192.0.2.53",),
                ),
            )
        ]
        assert "come back in 60 seconds" in world.text()
        await world.advance(1)
        assert "come back in 59 seconds" in world.text()
        assert "Undo" in world.focused()
        await world.press("left", "enter")
        assert "The new settings stay" in world.text()
        assert world.agent.asked(api.ConfirmNetwork) == [api.ConfirmNetwork()]


async def test_a_countdown_that_nobody_answers_says_that_the_old_settings_are_back() -> None:
    world = ConsoleWorld(FakeAgent(countdown=30))
    async with world.running():
        await to_adapter(world)
        await world.press(*["tab"] * 8, "enter")
        await world.advance(29)
        assert "in 1 seconds" in world.text()
        await world.advance(1)
        assert "Nobody confirmed" in world.text()
        assert world.agent.asked(api.ConfirmNetwork) == []
        assert world.agent.asked(api.UndoNetwork) == []


async def test_tab_goes_round_the_buttons_of_the_countdown() -> None:
    world = ConsoleWorld(FakeAgent())
    async with world.running():
        await to_adapter(world)
        await world.press(*["tab"] * 8, "enter")
        assert "Undo" in world.focused()
        await world.press("tab")
        assert "Keep" in world.focused()
        await world.press("shift tab")
        assert "Undo" in world.focused()
        await world.press("tab", "enter")
        assert "The new settings stay" in world.text()


async def test_a_lost_link_advises_to_undo_and_undo_has_the_focus() -> None:
    world = ConsoleWorld(FakeAgent(network_lost=True))
    async with world.running():
        await to_adapter(world)
        await world.press(*["tab"] * 8, "enter")
        assert "the gateway does not answer" in world.text()
        assert "Undo" in world.focused()
        await world.press("enter")
        assert world.agent.asked(api.UndoNetwork) == [api.UndoNetwork()]


async def test_the_fields_of_a_family_show_only_when_it_is_static() -> None:
    world = ConsoleWorld(FakeAgent())
    async with world.running():
        await to_adapter(world)
        assert "IPv4 address" in world.text()
        await world.press("left")
        assert "automatic (DHCP)" in world.text()
        assert "IPv4 address" not in world.text()
        await world.press(*["tab"] * 4, "tab", "enter")
        assert world.agent.asked(api.SetNetwork)[0].settings.ipv4 == api.Addressing()


async def test_a_setting_that_the_agent_refuses_is_told_at_its_field() -> None:
    world = ConsoleWorld(FakeAgent())
    async with world.running():
        await to_adapter(world)
        error = AgentError("invalid", "Another machine has this address.", "settings.ipv4.address")
        world.agent.refuse(api.SetNetwork, error)
        await world.press(*["tab"] * 8, "enter")
        assert "Another machine has this address." in world.text()
        assert "192.0.2.10" in world.focused()
        await world.press("end", "backspace")
        await world.type("5")
        assert "Another machine has this address." not in world.text()


async def test_a_wrong_entry_is_refused_before_it_is_tried() -> None:
    world = ConsoleWorld(FakeAgent())
    async with world.running():
        await to_adapter(world)
        await world.press("down", "ctrl u")
        await world.type("192.0.2.255")
        await world.press(*["tab"] * 7, "enter")
        assert "broadcast address" in world.text()
        assert "192.0.2.255" in world.focused()
        assert world.agent.asked(api.SetNetwork) == []
