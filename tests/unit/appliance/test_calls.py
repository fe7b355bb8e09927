"""The smaller calls: name, time, SSH, keyboard, power, disks, logs, trials (CON-5 to CON-9, WEB-3)."""

import pytest
from postkeep_appliance.agent.logs import MAX_OCTETS
from postkeep_appliance.api.types import (
    Changed,
    Disks,
    Done,
    GetTime,
    GrowDisks,
    Keyboards,
    ListDisks,
    ListKeyboards,
    LogLines,
    Power,
    ReadLog,
    SetHostname,
    SetKeyboard,
    SetRemoteAdministration,
    SetSsh,
    SetTime,
    Status,
    StatusAnswer,
    TestNetwork,
    TimeSettings,
)

from tests.support.agentbench import Bench

GIB = 1 << 30


async def _bench(*, set_up: bool = True) -> Bench:
    bench = Bench(set_up=set_up)
    await bench.unlock("correct horse" if set_up else "postkeep")
    return bench


# --- host name


async def test_the_host_name_goes_to_linux_and_the_engine() -> None:
    bench = await _bench()
    changed = await bench.ask(SetHostname("MX.example.org."), Changed)
    assert changed.restart == "engine"
    assert bench.machine.hostname == "mx.example.org"
    assert bench.machine.settings["InternetHostname"] == "mx.example.org"
    assert (await bench.ask(Status(), StatusAnswer)).hostname == "mx.example.org"


async def test_an_engine_that_does_not_take_the_name_is_said() -> None:
    bench = await _bench()
    bench.host.faults["engine.set_setting"] = "The engine refuses: it is busy."
    assert "not yet" in (await bench.refusal(SetHostname("mx.example.org"))).text


@pytest.mark.parametrize(
    "name", ["", "mail", "a..b.example", "mail_1.example.com", "mail.example.com;reboot"]
)
async def test_bad_host_names(name: str) -> None:
    bench = await _bench()
    assert (await bench.refusal(SetHostname(name))).field == "hostname"
    assert bench.machine.hostname == "mail.example.com"


# --- time


async def test_time_zone_and_servers() -> None:
    bench = await _bench()
    now = await bench.ask(GetTime(), TimeSettings)
    assert (now.time_zone, now.ntp) == ("UTC", ())
    assert list(now.zones) == sorted(now.zones)
    changed = await bench.ask(SetTime("Europe/Berlin", ("ntp.example.com", "192.0.2.123")), Changed)
    assert changed.restart == "engine"
    status = await bench.ask(Status(), StatusAnswer)
    assert (status.time_zone, status.time[-6:]) == ("Europe/Berlin", "+01:00")
    again = await bench.ask(SetTime("Europe/Berlin", ()), Changed)
    assert again.restart == ""
    assert bench.machine.ntp == ()


@pytest.mark.parametrize(
    ("call", "field"),
    [
        (SetTime("Mars/Olympus", ()), "time_zone"),
        (SetTime("../../etc/shadow", ()), "time_zone"),
        (SetTime("UTC", ("-x",)), "ntp"),
        (SetTime("UTC", ("a b",)), "ntp"),
        (SetTime("UTC", ("ntp.example.com\nRootDistanceMaxSec=1",)), "ntp"),
        (SetTime("UTC", tuple(f"n{n}.example" for n in range(9))), "ntp"),
    ],
)
async def test_bad_time_settings(call: SetTime, field: str) -> None:
    assert (await (await _bench()).refusal(call)).field == field


# --- who may come in


async def test_ssh_on_and_off() -> None:
    bench = await _bench()
    assert not (await bench.ask(Status(), StatusAnswer)).ssh
    await bench.ask(SetSsh(True), Done)
    assert (await bench.ask(Status(), StatusAnswer)).ssh
    await bench.ask(SetSsh(False), Done)
    assert not (await bench.ask(Status(), StatusAnswer)).ssh


async def test_no_ssh_with_the_first_password() -> None:
    bench = await _bench(set_up=False)
    assert (await bench.refusal(SetSsh(True))).code == "denied"
    assert not bench.machine.ssh


async def test_no_ssh_when_the_first_password_came_back_in_an_open_session() -> None:
    bench = await _bench()
    bench.host.state.write("first-password", b"")
    assert (await bench.refusal(SetSsh(True))).code == "denied"
    assert not bench.machine.ssh


async def test_remote_administration_is_the_engines_setting() -> None:
    bench = await _bench()
    await bench.ask(SetRemoteAdministration(True), Changed)
    assert bench.machine.settings["RemoteAdministration"] == "1"
    await bench.ask(SetRemoteAdministration(False), Changed)
    assert bench.machine.settings["RemoteAdministration"] == "0"


async def test_remote_administration_before_the_set_up() -> None:
    bench = Bench()
    await bench.unlock()
    bench.machine.set_up = False
    assert "Set Postkeep up first" in (await bench.refusal(SetRemoteAdministration(True))).text


# --- keyboard


async def test_keyboards() -> None:
    bench = await _bench()
    found = await bench.ask(ListKeyboards(), Keyboards)
    assert found.current == "us"
    assert ("de", "German") in found.layouts
    await bench.ask(SetKeyboard("de"), Done)
    assert (await bench.ask(ListKeyboards(), Keyboards)).current == "de"
    assert (await bench.refusal(SetKeyboard('de"\nXKBOPTIONS="'))).field == "layout"


# --- power


@pytest.mark.parametrize("action", ["restart", "shutdown"])
async def test_power_comes_after_its_answer(action: str) -> None:
    bench = await _bench()
    from postkeep_appliance.agent.work import Work
    from postkeep_appliance.api.types import Answer, Request

    from tests.support.agentbench import CONSOLE

    work = Work(CONSOLE, bench.session, lambda text, done, total: None)
    call = Power(action)  # type: ignore[arg-type]
    assert isinstance(await bench.agent.dispatcher.answer(Request(1, call, bench.session), work), Answer)
    assert bench.machine.power == ""
    await bench.clock.advance(0)
    await bench.clock.advance(2)
    assert bench.machine.power == action


async def test_no_power_off_while_the_partition_table_changes() -> None:
    bench = await _bench()
    bench.agent.turn.now, bench.agent.turn.atomic = "GrowDisks", True
    assert (await bench.refusal(Power("shutdown"))).code == "busy"


# --- disks


async def test_disks_grow() -> None:
    bench = await _bench()
    disks = await bench.ask(ListDisks(), Disks)
    assert [(disk.device, disk.role) for disk in disks.disks] == [
        ("/dev/sda", "system"),
        ("/dev/sdb", "store"),
        ("/dev/sdc", "empty"),
    ]
    assert "Nothing to grow" in (await bench.ask(GrowDisks(), Changed)).text
    bench.machine.root_disk = 32 * GIB
    assert "have grown" in (await bench.ask(GrowDisks(), Changed)).text
    assert (await bench.ask(ListDisks(), Disks)).spaces[0].size == 32 * GIB


# --- logs


async def test_logs() -> None:
    bench = await _bench()
    found = await bench.ask(ReadLog("mail", 5), LogLines)
    assert len(found.lines) == 5
    assert found.names[-2:] == ("system", "agent")
    assert len(found.names) == 10
    assert (await bench.ask(ReadLog("mail", 50, "(7)"), LogLines)).lines[0].endswith("(7)")


@pytest.mark.parametrize(
    ("call", "field"),
    [
        (ReadLog("../../etc/shadow"), "name"),
        (ReadLog("mail", 0), "lines"),
        (ReadLog("mail", 10**9), "lines"),
        (ReadLog("mail", 5, "x" * 201), "search"),
    ],
)
async def test_bad_questions_for_logs(call: ReadLog, field: str) -> None:
    assert (await (await _bench()).refusal(call)).field == field


async def test_lines_cannot_steer_the_terminal_and_fit_one_line_of_the_protocol(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from postkeep_appliance.api.codec import encode
    from postkeep_appliance.api.types import Answer

    bench = await _bench()

    async def read(name: str, lines: int, search: str) -> tuple[str, ...]:
        return tuple(f"{number} \x1b]0;owned\x07\x1b[2J" + "€" * 2000 for number in range(2000))

    monkeypatch.setattr(bench.host.logs, "read", read)
    found = await bench.ask(ReadLog("mail", 2000), LogLines)
    assert not any("\x1b" in line or "\x07" in line for line in found.lines)
    assert found.lines[-1].startswith("1999 ")
    assert 10 < len(found.lines) < 2000
    assert len(encode(Answer(1, found))) < MAX_OCTETS * 2


# --- trials


async def test_a_ping_gives_its_lines_as_they_come() -> None:
    bench = await _bench()
    assert "does not answer" not in (await bench.ask(TestNetwork("ping", "192.0.2.1"), Done)).text
    assert len([text for text, _, _ in bench.said if "icmp_seq" in text]) == 4
    bench.machine.gateway_answers = False
    assert "does not answer" in (await bench.ask(TestNetwork("ping", "192.0.2.1"), Done)).text


async def test_a_look_up() -> None:
    bench = await _bench()
    await bench.ask(TestNetwork("dns", "example.com"), Done)
    assert [text for text, _, _ in bench.said][-1] == "example.com MX 10 mx.example.com."


@pytest.mark.parametrize("target", ["", "-f", "--help", "a b", "192.0.2.1; id", "$(id)", "x\ny", "a" * 300])
async def test_targets_cannot_be_options(target: str) -> None:
    bench = await _bench()
    for kind in ("ping", "dns"):
        assert (await bench.refusal(TestNetwork(kind, target))).field == "target"  # type: ignore[arg-type]


async def test_what_nobody_expected_is_a_failure_and_is_logged(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    import logging

    logging.getLogger("postkeep.agent").propagate = True
    bench = await _bench()

    async def broken() -> None:
        raise ZeroDivisionError("secret detail")

    monkeypatch.setattr(bench.host.disks, "disks", broken)
    failure = await bench.refusal(ListDisks())
    assert failure.code == "failed"
    assert "secret detail" not in failure.text
    assert "ZeroDivisionError" in caplog.text
