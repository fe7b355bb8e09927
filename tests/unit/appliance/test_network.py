"""A change of the network that nobody confirms goes back (CON-4)."""

import asyncio

import msgspec
import pytest
from postkeep_appliance.agent.network import CONFIRM_SECONDS, RETRY_SECONDS, STATE
from postkeep_appliance.api.types import (
    Adapters,
    AdapterSettings,
    Addressing,
    ConfirmNetwork,
    Done,
    ListAdapters,
    Method,
    Pending,
    SetNetwork,
    UndoNetwork,
)

from tests.support.agentbench import Bench
from tests.support.clock import settle

STATIC = AdapterSettings(Addressing(Method.STATIC, "192.0.2.77/24", "192.0.2.1"))


async def _bench() -> Bench:
    bench = Bench()
    await bench.unlock()
    return bench


async def test_adapters_are_listed_with_what_they_have() -> None:
    adapters = (await (await _bench()).ask(ListAdapters(), Adapters)).adapters
    assert [(one.name, one.mac, one.link) for one in adapters] == [
        ("ens192", "00:0c:29:5a:00:01", True),
        ("ens224", "00:0c:29:5a:00:02", False),
    ]
    assert adapters[0].addresses[0] == "192.0.2.10/24"
    assert adapters[0].settings == AdapterSettings()


async def test_confirmed_it_stays() -> None:
    bench = await _bench()
    pending = await bench.ask(SetNetwork("ens192", STATIC), Pending)
    assert (pending.seconds, pending.lost) == (60, False)
    await bench.ask(ConfirmNetwork(), Done)
    await bench.clock.advance(2 * CONFIRM_SECONDS)
    (one, _) = (await bench.ask(ListAdapters(), Adapters)).adapters
    assert one.settings == STATIC
    assert one.addresses[0] == "192.0.2.77/24"
    assert bench.host.state.read(STATE) is None


async def test_not_confirmed_in_time_the_old_settings_are_back() -> None:
    bench = await _bench()
    await bench.ask(SetNetwork("ens192", STATIC), Pending)
    await bench.clock.advance(CONFIRM_SECONDS - 1)
    assert bench.machine.network_files
    await bench.clock.advance(2)
    (one, _) = (await bench.ask(ListAdapters(), Adapters)).adapters
    assert one.settings == AdapterSettings()
    assert one.addresses[0] == "192.0.2.10/24"
    assert (await bench.refusal(ConfirmNetwork())).code == "failed"


async def test_undone_by_hand() -> None:
    bench = await _bench()
    await bench.ask(SetNetwork("ens192", STATIC), Pending)
    await bench.ask(ConfirmNetwork(), Done)
    other = AdapterSettings(Addressing(Method.STATIC, "192.0.2.88/24"))
    await bench.ask(SetNetwork("ens192", other), Pending)
    await bench.ask(UndoNetwork(), Done)
    assert bench.host.network.settings("ens192") == STATIC
    await bench.clock.advance(2 * CONFIRM_SECONDS)
    assert bench.host.network.settings("ens192") == STATIC


async def test_a_power_cut_while_it_waits_goes_back_at_the_next_start() -> None:
    bench = await _bench()
    await bench.ask(SetNetwork("ens192", STATIC), Pending)
    bench.restart_agent()
    assert bench.host.network.settings("ens192") == STATIC
    await bench.agent.recover()
    assert bench.host.network.settings("ens192") == AdapterSettings()
    assert bench.machine.applied == {}
    assert bench.host.state.read(STATE) is None


async def test_what_can_be_undone_is_durable_before_anything_is_changed() -> None:
    """A power cut between any two writes: the state is there before the file."""
    bench = await _bench()
    bench.host.faults["network.write"] = "the disk is full"
    bench.host.faults["network.restore"] = "the disk is full"
    failure = await bench.refusal(SetNetwork("ens192", STATIC))
    assert failure.code == "failed"
    assert bench.host.state.read(STATE) is not None
    bench.host.faults.clear()
    bench.restart_agent()
    await bench.agent.recover()
    assert bench.host.state.read(STATE) is None
    assert bench.machine.network_files == {}


async def test_a_state_that_cannot_be_written_changes_nothing() -> None:
    bench = await _bench()
    bench.host.faults["state.write"] = "the disk is full"
    assert (await bench.refusal(SetNetwork("ens192", STATIC))).text == "the disk is full"
    assert bench.machine.network_files == {}


async def test_settings_that_systemd_refuses_go_back_at_once() -> None:
    bench = await _bench()
    bench.host.faults["network.gateway_answers"] = "networkctl: no such link"
    assert (await bench.refusal(SetNetwork("ens192", STATIC))).code == "failed"
    assert bench.host.network.settings("ens192") == AdapterSettings()
    assert bench.host.state.read(STATE) is None


async def test_a_silent_gateway_is_said() -> None:
    bench = await _bench()
    bench.machine.gateway_answers = False
    pending = await bench.ask(SetNetwork("ens192", STATIC), Pending)
    assert pending.lost
    assert "undo" in pending.text


async def test_one_trial_at_a_time() -> None:
    bench = await _bench()
    await bench.ask(SetNetwork("ens192", STATIC), Pending)
    assert (await bench.refusal(SetNetwork("ens224", AdapterSettings()))).code == "busy"


async def test_wrong_entries_name_their_field_and_change_nothing() -> None:
    bench = await _bench()
    bad = AdapterSettings(Addressing(Method.STATIC, "192.0.2.5/24", "198.51.100.1"))
    failure = await bench.refusal(SetNetwork("ens192", bad))
    assert (failure.code, failure.field) == ("invalid", "ipv4.gateway")
    assert (await bench.refusal(SetNetwork("ens999", STATIC))).field == "adapter"
    assert bench.host.state.read(STATE) is None


async def test_a_damaged_state_does_not_stop_the_agent() -> None:
    bench = await _bench()
    bench.host.state.write(STATE, b"\xff{")
    bench.restart_agent()
    await bench.agent.recover()
    assert bench.host.state.read(STATE) is None


async def test_what_is_being_undone_cannot_be_kept_any_more() -> None:
    """networkctl takes its time: the file on disk is the old one already."""
    bench = await _bench()
    await bench.ask(SetNetwork("ens192", STATIC), Pending)
    began, gate = asyncio.Event(), asyncio.Event()
    apply = bench.host.network.apply

    async def slow(adapter: str) -> None:
        began.set()
        await gate.wait()
        await apply(adapter)

    bench.host.network.apply = slow  # type: ignore[method-assign]
    await bench.clock.advance(CONFIRM_SECONDS + 1)
    assert began.is_set()
    assert (await bench.refusal(ConfirmNetwork())).code == "failed"
    assert (await bench.refusal(SetNetwork("ens192", STATIC))).code == "busy"
    gate.set()
    await settle()
    assert bench.host.network.settings("ens192") == AdapterSettings()
    assert bench.host.state.read(STATE) is None
    bench.host.network.apply = apply  # type: ignore[method-assign]
    await bench.ask(SetNetwork("ens192", STATIC), Pending)
    await bench.ask(ConfirmNetwork(), Done)
    assert bench.host.network.settings("ens192") == STATIC


@pytest.mark.parametrize("fault", ["network.restore", "state.remove"])
async def test_settings_that_cannot_be_put_back_are_tried_again(
    fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    bench = await _bench()
    await bench.ask(SetNetwork("ens192", STATIC), Pending)
    bench.host.faults[fault] = "the disk is full"
    await bench.clock.advance(CONFIRM_SECONDS + 1)
    assert "the disk is full" in caplog.text
    assert (await bench.refusal(ConfirmNetwork())).code == "failed"
    assert bench.host.state.read(STATE) is not None
    bench.host.faults.clear()
    await bench.clock.advance(RETRY_SECONDS + 1)
    assert bench.host.network.settings("ens192") == AdapterSettings()
    assert bench.host.state.read(STATE) is None


async def test_undone_by_hand_while_the_time_runs_out_is_undone_once() -> None:
    bench = await _bench()
    await bench.ask(SetNetwork("ens192", STATIC), Pending)
    bench.host.faults["network.restore"] = "the disk is full"
    assert (await bench.refusal(UndoNetwork())).text == "the disk is full"
    bench.host.faults.clear()
    await bench.ask(UndoNetwork(), Done)
    other = AdapterSettings(Addressing(Method.STATIC, "192.0.2.88/24"))
    await bench.ask(SetNetwork("ens192", other), Pending)
    await bench.clock.advance(RETRY_SECONDS + 1)  # the second try of the undo before does not touch this one
    assert bench.host.network.settings("ens192") == other


def test_the_state_holds_no_secret_and_is_json() -> None:
    from postkeep_appliance.agent.network import _Trial

    assert msgspec.json.encode(_Trial("ens192", None)) == b'{"adapter":"ens192","saved":null}'
