"""The start screen (CON-1)."""

import pytest
from postkeep_appliance.agent.health import lines
from postkeep_appliance.api.types import EngineState, Health, Space, Status, StatusAnswer
from postkeep_appliance.host.port import Memory, UnitFacts

from tests.support.agentbench import Bench

GIB = 1 << 30


async def test_all_of_the_start_screen() -> None:
    bench = Bench()
    status = await bench.ask(Status(), StatusAnswer)
    assert status.product == "Postkeep"
    assert status.version
    assert status.hostname == "mail.example.com"
    assert status.addresses == ("192.0.2.10",)
    assert status.administration_urls == ("https://192.0.2.10:4040/admin",)
    assert status.client_urls == ("https://mail.example.com/", "https://192.0.2.10/")
    assert (status.engine, status.set_up, status.setup_code) == (EngineState.RUNNING, True, "")
    assert len(status.fingerprint) == 95
    assert status.time.startswith("2026-01-01T00:00:00")
    assert not status.first_password
    assert {one.level for one in status.health} == {"ok"}


async def test_asked_often_it_is_looked_up_once() -> None:
    bench = Bench()
    asked = 0
    unit = bench.host.engine.unit

    async def counting() -> UnitFacts:
        nonlocal asked
        asked += 1
        return await unit()

    bench.host.engine.unit = counting  # type: ignore[method-assign]
    answers = [await bench.agent.board.status(Status(), None) for _ in range(100)]  # type: ignore[arg-type]
    assert asked == 1
    assert len(set(map(id, answers))) == 1
    await bench.clock.advance(3)
    await bench.agent.board.status(Status(), None)  # type: ignore[arg-type]
    assert asked == 2


@pytest.mark.parametrize("fault", ["engine.unit", "system.time", "system.failed_units"])
async def test_one_thing_that_cannot_be_told_leaves_the_rest(fault: str) -> None:
    bench = Bench()
    bench.host.faults[fault] = "D-Bus is away"
    assert (await bench.ask(Status(), StatusAnswer)).hostname == "mail.example.com"


async def test_a_set_up_that_failed_half_way_is_asked_for_again() -> None:
    bench = Bench()
    bench.host.state.write("setup", b'{"complete":false}')
    assert not (await bench.ask(Status(), StatusAnswer)).set_up
    bench.host.state.write("setup", b'{"complete":true}')
    await bench.clock.advance(5)
    assert (await bench.ask(Status(), StatusAnswer)).set_up


async def test_the_deployment_s_domain_is_offered() -> None:
    bench = Bench()
    bench.host.state.write("suggested-domain", b"example.org")
    assert (await bench.ask(Status(), StatusAnswer)).suggested_domain == "example.org"


async def test_what_first_boot_has_to_say() -> None:
    bench = Bench()
    bench.host.state.write("notices", b'["The OVF property netmask is no netmask."]')
    assert (await bench.ask(Status(), StatusAnswer)).notices == ("The OVF property netmask is no netmask.",)
    bench.host.state.write("notices", b"[1")
    await bench.clock.advance(5)
    assert (await bench.ask(Status(), StatusAnswer)).notices == ()


def _health(**changed: object) -> dict[str, Health]:
    facts: dict[str, object] = {
        "engine": EngineState.RUNNING,
        "spaces": [Space("/", 16 * GIB, 8 * GIB), Space("/var/lib/postkeep/store", 64 * GIB, 32 * GIB)],
        "memory": Memory(4 * GIB, 2 * GIB),
        "synchronized": True,
        "failed_units": (),
        "first_password": False,
        "links": (("ens192", True, True),),
    }
    return {one.subject: one for one in lines(**(facts | changed))}  # type: ignore[arg-type]


def test_a_healthy_machine() -> None:
    assert {one.level for one in _health().values()} == {"ok"}
    assert _health()["disk store"].text == "Disk of the store: 32.0 GiB of 64.0 GiB free"


@pytest.mark.parametrize(
    ("changed", "subject", "level"),
    [
        ({"engine": EngineState.FAILED}, "engine", "error"),
        ({"engine": EngineState.STOPPED}, "engine", "warning"),
        ({"engine": EngineState.DISABLED}, "engine", "warning"),
        ({"engine": EngineState.NOT_SET_UP}, "engine", "warning"),
        ({"spaces": [Space("/", 100, 14)]}, "disk system", "warning"),
        ({"spaces": [Space("/", 100, 4)]}, "disk system", "error"),
        ({"spaces": [Space("/x", 0, 0)]}, "disk store", "error"),
        ({"memory": Memory(4 * GIB, GIB // 10)}, "memory", "warning"),
        ({"synchronized": False}, "time", "warning"),
        ({"failed_units": tuple(f"u{n}.service" for n in range(9))}, "services", "error"),
        ({"first_password": True}, "password", "warning"),
        ({"links": (("ens192", False, False),)}, "network", "error"),
        ({"links": (("ens192", True, False),)}, "network", "error"),
        ({"links": ()}, "network", "error"),
    ],
)
def test_what_is_wrong_has_a_line_with_advice(changed: dict[str, object], subject: str, level: str) -> None:
    line = _health(**changed)[subject]
    assert line.level == level
    assert line.advice.endswith(".")
    assert len(line.text) < 120
