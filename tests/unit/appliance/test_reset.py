"""Factory reset (CON-9): only with the host's name, and a power cut does not leave half of it."""

import pytest
from postkeep_appliance.api.types import Done, FactoryReset, ListDisks, SetSsh, Status, StatusAnswer
from postkeep_appliance.host.reset import RESET_MARK

from tests.support.agentbench import Bench


async def _bench() -> Bench:
    bench = Bench()
    await bench.unlock()
    await bench.ask(SetSsh(True), Done)
    return bench


async def test_all_is_as_in_the_image() -> None:
    bench = await _bench()
    await bench.ask(FactoryReset("mail.example.com"), Done)
    await bench.clock.advance(2)
    machine = bench.machine
    assert (machine.set_up, machine.hostname, machine.password, machine.ssh) == (
        False,
        "postkeep",
        "postkeep",
        False,
    )
    assert machine.settings == {}
    assert machine.power == "restart"
    assert bench.host.state.read(RESET_MARK) is None
    assert bench.host.state.read("first-password") is not None
    bench.restart_agent()
    assert (await bench.ask(Status(), StatusAnswer)).first_password
    assert (await bench.refusal(ListDisks())).code == "locked"


@pytest.mark.parametrize("confirm", ["", "mail.example.co", "MAIL.EXAMPLE.COM", "mail.example.com "])
async def test_without_the_exact_name_nothing_is_removed(confirm: str) -> None:
    bench = await _bench()
    failure = await bench.refusal(FactoryReset(confirm))
    assert (failure.code, failure.field) == ("invalid", "confirm")
    assert bench.machine.set_up
    assert bench.host.state.read(RESET_MARK) is None


@pytest.mark.parametrize("step", [1, 2])
async def test_cut_off_at_any_step_the_next_start_finishes_it(step: int) -> None:
    bench = await _bench()
    bench.host.faults[f"reset.do {step}"] = "the power is gone"
    assert (await bench.refusal(FactoryReset("mail.example.com"))).code == "failed"
    assert bench.machine.power == ""
    assert bench.host.state.read(RESET_MARK) is not None
    bench.host.faults.clear()
    bench.restart_agent()
    from tests.support.agentbench import drive

    await drive(bench.clock, bench.agent.recover())
    await bench.clock.advance(2)
    assert not bench.machine.set_up
    assert bench.machine.power == "restart"
    assert bench.host.state.read(RESET_MARK) is None


async def test_under_an_engine_that_cannot_be_stopped_nothing_is_removed() -> None:
    bench = await _bench()
    bench.host.faults["reset.do 0"] = "systemctl: timeout"
    failure = await bench.refusal(FactoryReset("mail.example.com"))
    assert "Nothing was removed" in failure.text
    assert bench.machine.set_up
