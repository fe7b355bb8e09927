"""Start, stop, restart, on and off at boot (CON-8)."""

import pytest
from postkeep_appliance.agent.engine import state_of
from postkeep_appliance.api.types import (
    Answer,
    Done,
    Engine,
    EngineState,
    Failure,
    Power,
    Status,
    StatusAnswer,
)
from postkeep_appliance.host.port import UnitFacts

from tests.support.agentbench import Bench, drive


async def _bench() -> Bench:
    bench = Bench()
    await bench.unlock()
    return bench


@pytest.mark.parametrize(
    ("action", "active", "enabled"),
    [
        ("restart", "active", "enabled"),
        ("stop", "inactive", "enabled"),
        ("start", "active", "enabled"),
        ("disable", "inactive", "disabled"),
        ("enable", "active", "enabled"),
    ],
)
async def test_done_when_the_engine_is_there(action: str, active: str, enabled: str) -> None:
    bench = await _bench()
    await bench.ask(Engine(action), Done)  # type: ignore[arg-type]
    assert (bench.machine.active, bench.machine.enabled) == (active, enabled)


async def test_progress_comes_while_it_starts() -> None:
    bench = await _bench()
    await bench.ask(Engine("restart"), Done)
    assert any("activating" in text for text, _, _ in bench.said)


async def test_an_engine_that_does_not_start_says_why() -> None:
    bench = await _bench()
    bench.machine.starts = False
    failure = await bench.refusal(Engine("restart"))
    assert failure.text == "The engine does not start: port 25 is in use"
    assert (await bench.ask(Status(), StatusAnswer)).engine is EngineState.FAILED


async def test_an_engine_that_hangs_is_given_up() -> None:
    bench = await _bench()
    bench.host.engine._STARTING = 1e6
    failure = await bench.refusal(Engine("restart"))
    assert "activating" in failure.text


@pytest.mark.parametrize(
    ("unit", "set_up", "state"),
    [
        (UnitFacts("active", "running", "enabled"), True, EngineState.RUNNING),
        (UnitFacts("active", "running", "enabled"), False, EngineState.NOT_SET_UP),
        (UnitFacts("reloading", "reload", "enabled"), True, EngineState.RUNNING),
        (UnitFacts("activating", "start", "enabled"), True, EngineState.STARTING),
        (UnitFacts("activating", "auto-restart", "enabled"), True, EngineState.FAILED),
        (UnitFacts("deactivating", "stop-sigterm", "enabled"), True, EngineState.STOPPED),
        (UnitFacts("failed", "failed", "enabled"), True, EngineState.FAILED),
        (UnitFacts("inactive", "dead", "enabled"), True, EngineState.STOPPED),
        (UnitFacts("inactive", "dead", "disabled"), True, EngineState.DISABLED),
        (UnitFacts("inactive", "dead", "masked"), True, EngineState.DISABLED),
        (UnitFacts("inactive", "dead", "enabled"), False, EngineState.NOT_SET_UP),
        (UnitFacts("", "", ""), True, EngineState.STOPPED),
    ],
)
def test_states(unit: UnitFacts, set_up: bool, state: EngineState) -> None:
    assert state_of(unit, set_up) is state


async def test_two_consoles_do_not_change_the_machine_at_once() -> None:
    import asyncio

    from postkeep_appliance.agent.work import Work
    from postkeep_appliance.api.types import Request

    from tests.support.agentbench import CONSOLE

    bench = await _bench()
    work = Work(CONSOLE, bench.session, lambda text, done, total: None)
    dispatcher = bench.agent.dispatcher
    first = asyncio.ensure_future(dispatcher.answer(Request(1, Engine("restart"), bench.session), work))
    await bench.clock.advance(0)
    second = await dispatcher.answer(Request(2, Engine("stop"), bench.session), work)
    assert isinstance(second, Failure)
    assert second.code == "busy"
    # Power is allowed meanwhile: nothing breaks by it.
    assert isinstance(await dispatcher.answer(Request(3, Power("restart"), bench.session), work), Answer)
    assert isinstance(await drive(bench.clock, first), Answer)


async def test_what_changes_the_machine_runs_to_its_end_whoever_hangs_up() -> None:
    import asyncio

    from postkeep_appliance.agent.work import Work
    from postkeep_appliance.api.types import Request

    from tests.support.agentbench import CONSOLE

    bench = await _bench()
    work = Work(CONSOLE, bench.session, lambda text, done, total: None)
    task = asyncio.ensure_future(
        bench.agent.dispatcher.answer(Request(1, Engine("disable"), bench.session), work)
    )
    await bench.clock.advance(0)
    task.cancel()
    await drive(bench.clock, bench.agent.turn.finish())
    assert bench.machine.enabled == "disabled"
    assert bench.agent.turn.now == ""
