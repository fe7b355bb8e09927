"""The first start. Controllers, views and screen over values, the clock turned by hand."""

import pytest
from msgspec.structs import replace
from postkeep_appliance.api import types as api
from postkeep_appliance.api.client import AgentError

from tests.support.agent import FRESH, FakeAgent
from tests.support.console import ConsoleWorld
from tests.support.screens import answer_wizard

FIRST = "postkeep"


def fresh(**changes: object) -> ConsoleWorld:
    return ConsoleWorld(FakeAgent(status=replace(FRESH, **changes), root_password=FIRST))


async def test_the_first_start_asks_six_questions_and_sets_up() -> None:
    world = fresh()
    async with world.running():
        await answer_wizard(world, 6)
        assert "summary" in world.text()
        await world.press(*["tab"] * 5, "enter")
        assert "The server is set up" in world.text()
        await world.press("enter")
        assert "running" in world.text()
        assert world.agent.root_password == "root secret"
        assert world.agent.asked(api.SetUp) == [
            api.SetUp("mail.example.com", "example.com", "admin", "mail secret", "", True, False)
        ]
        assert world.agent.session == ""


async def test_the_domain_is_derived_from_the_host_name_until_it_is_changed() -> None:
    world = fresh()
    async with world.running():
        await answer_wizard(world, 2)
        assert "E-mail domain                example.com" in world.text()
        await world.press("ctrl u")
        await world.type("example.net")
        await world.press("enter", "esc", "esc", "ctrl u")
        await world.type("mx.example.org")
        await world.press("enter")
        assert "example.net" in world.text()


async def test_a_refusal_leads_to_the_page_that_asked() -> None:
    world = fresh()
    async with world.running():
        await answer_wizard(world, 6)
        world.agent.refuse(api.SetUp, AgentError("invalid", "That domain is taken.", "domain"))
        await world.press(*["tab"] * 5, "enter")
        assert "question 3 of 6" in world.text()
        assert "That domain is taken." in world.text()
        await world.press("ctrl u")
        await world.type("example.org")
        assert "That domain is taken." not in world.text()
        await world.press("enter", "enter", "enter", "enter", *["tab", "tab", "enter"])
        assert "summary" in world.text()
        await world.press(*["tab"] * 5, "enter")
        assert world.agent.asked(api.SetUp)[-1].domain == "example.org"
        assert world.agent.asked(api.SetUp)[-1].administrator_password == "mail secret"


@pytest.mark.parametrize(
    ("name", "page"),
    [("hostname", 2), ("domain", 3), ("administrator", 4), ("administrator_password", 5), ("store", 6)],
)
async def test_each_field_of_the_set_up_has_its_page(name: str, page: int) -> None:
    world = fresh()
    async with world.running():
        await answer_wizard(world, 6)
        world.agent.refuse(api.SetUp, AgentError("invalid", "Because.", name))
        await world.press(*["tab"] * 5, "enter")
        assert f"question {page} of 6" in world.text()
        assert "Because." in world.text()


async def test_a_failure_without_a_field_is_told_and_the_answers_stay() -> None:
    world = fresh()
    async with world.running():
        await answer_wizard(world, 6)
        world.agent.refuse(api.SetUp, AgentError("failed", "The mail server did not start."))
        await world.press(*["tab"] * 5, "enter")
        assert "The mail server did not start." in world.text()
        await world.press("enter", *["tab"] * 5, "enter")
        assert "The server is set up" in world.text()


async def test_an_empty_disk_or_a_folder_can_be_the_store() -> None:
    world = fresh()
    async with world.running():
        await answer_wizard(world, 5)
        assert "/dev/sdc, empty, 500 GiB" in world.text()
        assert "/dev/sdb" not in world.text()
        await world.press("down", "down", "tab")
        await world.type("srv")
        await world.press("enter")
        assert "A folder from the root on" in world.text()
        await world.press("ctrl u")
        await world.type("/srv/../etc")
        await world.press("enter")
        assert "A folder from the root on" in world.text()
        await world.press("ctrl u")
        await world.type("/srv/mail")
        await world.press("enter")
        await world.press(*["tab"] * 5, "enter")
        assert world.agent.asked(api.SetUp)[0].store == "/srv/mail"


async def test_switches_of_the_summary_go_along_and_network_and_time_can_be_changed_first() -> None:
    world = fresh()
    async with world.running():
        await answer_wizard(world, 6)
        await world.press(" ", "down", " ")
        await world.press("tab", "tab", "enter")
        assert "Choose an adapter" in world.text()
        await world.press("esc")
        await world.press(*["tab"] * 4, "enter")
        assert "Clock synchronized" in world.text()
        await world.press("esc")
        assert "Remote administration        < off >" in world.text()
        await world.press(*["tab"] * 5, "enter")
        call = world.agent.asked(api.SetUp)[0]
        assert (call.remote_administration, call.statistics) == (False, True)


async def test_another_language_in_the_middle_keeps_page_and_answers() -> None:
    world = fresh()
    async with world.running():
        await answer_wizard(world, 3)
        await world.press("f3")
        await world.choose("Deutsch")
        assert "Frage 4 von 6" in world.text()
        await world.press("esc", "esc")
        assert "mail.example.com" in world.text()


async def test_a_wrong_first_password_stays_on_page_one() -> None:
    world = fresh()
    async with world.running():
        await world.press("enter", "f2")
        for text in ("guess", "new secret", "new secret"):
            await world.type(text)
            await world.press("tab")
        await world.press("tab", "enter")
        assert "question 1 of 6" in world.text()
        assert "That is not the password of root" in world.text()
        assert world.agent.root_password == FIRST


async def test_who_leaves_the_wizard_has_to_give_the_password_again() -> None:
    world = fresh()
    async with world.running():
        await answer_wizard(world, 2)
        await world.press("esc", "esc", "esc")
        assert "Alt+F2" in world.text()
        assert world.agent.session == ""
        await world.press("f2")
        assert "question 1 of 6" in world.text()
        assert "as it is now" in world.text()
        await world.type("root secret")
        await world.press("enter", "enter", "enter")
        assert "question 2 of 6" in world.text()
        assert "mail.example.com" in world.text()


async def test_an_unattended_root_password_may_stay() -> None:
    world = ConsoleWorld(FakeAgent(status=replace(FRESH, first_password=False), root_password="from ovf"))
    async with world.running():
        await world.press("enter", "f2")
        await world.type("from ovf")
        await world.press("enter", "enter", "enter")
        assert "question 2 of 6" in world.text()
        assert world.agent.asked(api.ChangePassword) == []
