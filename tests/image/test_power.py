"""Power-off and power cut while mail is flowing: what was acknowledged is there, once."""

from collections import Counter

import pytest

from tests.image.appliance import DATA, Appliance
from tests.image.mail import Load, inbox

pytestmark = pytest.mark.image

LOADS = 2


def loads(appliance: Appliance, label: str) -> list[Load]:
    """Running, each with at least ten messages acknowledged."""
    started = [Load(appliance.port(587), appliance.account, f"{label}{number}") for number in range(LOADS)]
    for load in started:
        load.start()
    for load in started:
        assert load.flowing.wait(240)
        assert len(load.acknowledged) >= 10, load.end
    return started


def nothing_is_lost(appliance: Appliance, finished: list[Load]) -> None:
    found = Counter(inbox(appliance.port(993), appliance.account))
    acknowledged = [number for load in finished for number in load.acknowledged]
    tried = {number for load in finished for number in load.tried}
    print(f"\n{len(acknowledged)} acknowledged, {sum(found[n] for n in tried)} there of {len(tried)} sent")
    lost = [number for number in acknowledged if not found[number]]
    assert lost == [], f"{len(lost)} of {len(acknowledged)} acknowledged messages are lost"
    assert {number: count for number, count in found.items() if number in tried and count > 1} == {}


def verified(appliance: Appliance) -> None:
    appliance.shell.run("systemctl stop postkeep.service")
    try:
        print(appliance.shell.run(f"postkeep verify --data {DATA}"))
    finally:
        appliance.shell.run("systemctl start postkeep.service")
    appliance.machine.wait_port(587, 300)


@pytest.mark.parametrize("mode", ["power button", "power cut"])
def test_nothing_acknowledged_is_lost(unattended: Appliance, mode: str) -> None:
    appliance = unattended
    flowing = loads(appliance, mode.split()[1])
    if mode == "power button":
        took = appliance.machine.power_button(120)
        print(f"\nsoft power-off under load: {took:.1f} s")
        assert took < 30
    else:
        appliance.machine.power_cut()
    for load in flowing:
        load.join(90)
        assert not load.is_alive()
        assert load.end, "it was cut off"
    appliance.start()
    print(f"\npower-on to ready: {appliance.notes['last start']}")
    assert appliance.shell.run("systemctl --failed --plain --no-legend") == ""
    nothing_is_lost(appliance, flowing)
    verified(appliance)


def test_the_journal_tells_of_a_clean_end(unattended: Appliance) -> None:
    """Of the boot that the power button ended: the engine stopped by itself, nothing was killed."""
    journal = unattended.shell.run("journalctl -q --no-pager -u postkeep.service")
    assert "Stopped postkeep.service" in journal
    for trouble in ("State 'stop-sigterm' timed out", "Killing process", "status=6/ABRT"):
        assert trouble not in journal
