"""Controllers, views and screen together over values, with the clock turned by hand."""

import asyncio

import pytest
from msgspec.structs import replace
from postkeep_appliance.api import types as api
from postkeep_appliance.api.client import AgentError
from postkeep_console.controllers.sizes import size_text

from tests.support.agent import FRESH, STATUS, FakeAgent
from tests.support.console import ConsoleWorld
from tests.support.screens import answer_wizard

FIRST = "postkeep"


def fresh(**changes: object) -> ConsoleWorld:
    return ConsoleWorld(FakeAgent(status=replace(FRESH, **changes), root_password=FIRST))


# --- start screen ------------------------------------------------------------------------------------


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


# --- the lock ----------------------------------------------------------------------------------------


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


# --- first start -------------------------------------------------------------------------------------


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


# --- network -----------------------------------------------------------------------------------------


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


# --- the other entries -------------------------------------------------------------------------------


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
