"""The first start (CON-2): checked first, done in steps, repeatable."""

from dataclasses import dataclass

import pytest
from msgspec import structs
from postkeep_appliance.api.types import (
    Answer,
    ChangePassword,
    Done,
    EngineState,
    Failure,
    SetUp,
    Status,
    StatusAnswer,
)

from tests.support.agentbench import Bench

CALL = SetUp("Mail.Example.com", "example.com", "admin", "secret-4711", "", True)


async def _bench() -> Bench:
    bench = Bench(set_up=False)
    await bench.unlock("postkeep")
    await bench.ask(ChangePassword("postkeep", "a much better 1"), Done)
    return bench


async def test_all_of_it() -> None:
    bench = await _bench()
    before = await bench.ask(Status(), StatusAnswer)
    assert (before.engine, before.set_up, before.setup_code) == (
        EngineState.NOT_SET_UP,
        False,
        "K7QF-2M9X-TB4C",
    )
    await bench.ask(CALL, Done)
    machine = bench.machine
    assert machine.hostname == "mail.example.com"
    assert machine.administrator == "admin@example.com"
    assert machine.settings == {"InternetHostname": "mail.example.com", "RemoteAdministration": "1"}
    assert (machine.active, machine.enabled) == ("active", "enabled")
    after = await bench.ask(Status(), StatusAnswer)
    assert (after.engine, after.set_up, after.setup_code) == (EngineState.RUNNING, True, "")


async def test_progress_never_goes_back() -> None:
    bench = await _bench()
    await bench.ask(structs.replace(CALL, store="/dev/sdc"), Done)
    done = [number for _, number, total in bench.said if total == 6]
    assert done == sorted(done)
    assert done[-1] == 6
    assert len(bench.said) == len(done)


@dataclass
class Wrong:
    field: str
    value: str


@pytest.mark.parametrize(
    "wrong",
    [
        Wrong("hostname", "mail"),
        Wrong("hostname", "-mail.example.com"),
        Wrong("hostname", "localhost.localdomain.localhost"),
        Wrong("hostname", "192.0.2.5"),
        Wrong("hostname", "a" * 64 + ".example.com"),
        Wrong("hostname", "x." * 33 + "example.com"),
        Wrong("hostname", "mail.example.com\nroot"),
        Wrong("domain", ""),
        Wrong("domain", "exa mple.com"),
        Wrong("domain", "--data=/etc"),
        Wrong("administrator", ""),
        Wrong("administrator", "--password-file=/etc/shadow"),
        Wrong("administrator", "a@b"),
        Wrong("administrator_password", "short"),
        Wrong("administrator_password", "with\nnewline"),
        Wrong("store", "relative"),
        Wrong("store", "/dev/sda"),
        Wrong("store", "/dev/nothing"),
    ],
    ids=lambda wrong: f"{wrong.field}={wrong.value[:20]!r}",
)
async def test_wrong_entries_are_named_and_nothing_is_begun(wrong: Wrong) -> None:
    bench = await _bench()
    failure = await bench.refusal(structs.replace(CALL, **{wrong.field: wrong.value}))
    assert (failure.code, failure.field) == ("invalid", wrong.field)
    assert bench.machine.active == "active"
    assert not bench.machine.set_up
    if wrong.field.endswith("password"):
        assert wrong.value not in failure.text


@pytest.mark.parametrize(
    "fault",
    ["system.set_hostname", "disks.use_as_store", "engine.init", "engine.set_setting", "engine.command"],
)
async def test_after_any_failure_the_same_call_can_be_repeated(fault: str) -> None:
    bench = await _bench()
    call = structs.replace(CALL, store="/dev/sdc")
    bench.host.faults[fault] = "the disk is full"
    assert (await bench.refusal(call)).text == "the disk is full"
    bench.host.faults.clear()
    await bench.ask(call, Done)
    assert bench.machine.administrator == "admin@example.com"
    assert bench.machine.store == "/dev/sdc"
    assert bench.machine.active == "active"


async def test_after_a_failure_corrected_entries_count() -> None:
    """The engine did not start: its data folder is there already, with the entries of the first try."""
    bench = await _bench()
    bench.machine.starts = False
    failure = await bench.refusal(CALL)
    assert "port 25 is in use" in failure.text
    bench.machine.starts = True
    await bench.ask(structs.replace(CALL, domain="example.org", administrator="boss"), Done)
    assert bench.machine.administrator == "boss@example.org"


async def test_a_restart_of_the_agent_in_between_changes_nothing() -> None:
    bench = await _bench()
    bench.machine.starts = False
    await bench.refusal(CALL)
    bench.restart_agent()
    bench.machine.starts = True
    await bench.unlock("a much better 1")
    await bench.ask(CALL, Done)
    assert bench.machine.active == "active"


async def test_a_server_that_is_set_up_is_not_set_up_again() -> None:
    bench = await _bench()
    await bench.ask(CALL, Done)
    again = await bench.reply(structs.replace(CALL, administrator="mallory"))
    assert isinstance(again, Failure)
    assert again.code == "failed"
    assert bench.machine.administrator == "admin@example.com"


async def test_a_server_set_up_over_the_network_is_not_set_up_again() -> None:
    bench = await _bench()
    bench.machine.set_up = True
    bench.machine.administrator = "by-rest@example.com"
    assert isinstance(await bench.reply(CALL), Failure)
    assert bench.machine.administrator == "by-rest@example.com"


async def test_a_folder_as_store() -> None:
    bench = await _bench()
    await bench.ask(structs.replace(CALL, store="/srv/mail", remote_administration=False), Done)
    assert bench.machine.settings["MailStoreDirectory"] == "/srv/mail"
    assert bench.machine.settings["RemoteAdministration"] == "0"


async def test_statistics_that_do_not_exist_are_not_promised() -> None:
    bench = await _bench()
    assert (await bench.refusal(structs.replace(CALL, statistics=True))).field == "statistics"


async def test_a_name_of_another_script_becomes_its_ascii_form() -> None:
    bench = await _bench()
    assert isinstance(await bench.reply(structs.replace(CALL, domain="bücher.example")), Answer)
    assert bench.machine.administrator == "admin@xn--bcher-kva.example"
