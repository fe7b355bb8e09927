"""The console on tty1 of a server that is set up: refusals, the countdown, wrong passwords; every screen kept."""

import re
import time
from collections.abc import Iterator

import pytest

from tests.image.appliance import ADDRESS, GATEWAY, HOSTNAME, ROOT_PASSWORD, Appliance, static_address, unlock
from tests.image.desk import Desk
from tests.image.mail import inbox, submit

pytestmark = pytest.mark.image

ELSEWHERE = ("10.0.99.15", "10.0.99.1")
"""An address with a gateway that the network does not have."""


@pytest.fixture
def desk(attended: Appliance) -> Iterator[Desk]:
    """At the start screen, locked; and back there at the end, whatever is on the screen."""
    home(attended.desk)
    yield attended.desk
    home(attended.desk)


def home(desk: Desk) -> None:
    for _ in range(12):
        if "F2 actions" in "\n".join(desk.machine.screen()):
            return
        desk.press("esc")
        time.sleep(2)
    desk.see("F2 actions", 90)


def network_form(desk: Desk) -> None:
    unlock(desk)
    desk.choose("Network")
    desk.see("Choose an adapter", 60)
    desk.press("ret")
    desk.see("Applied settings have to be confirmed", 60)


@pytest.mark.parametrize(
    ("address", "gateway", "reason"),
    [
        ("10.0.2.0", GATEWAY, "This is the address of the network itself"),
        ("10.0.2.255", GATEWAY, "This is the broadcast address of the network"),
        (ADDRESS, "192.0.2.1", "The gateway is not in this network"),
        (ADDRESS, ADDRESS, "The gateway is another machine than this one"),
        ("10.0.2.999", GATEWAY, "Not an IPv4 address of a machine"),
        ("127.0.0.1", "", "loopback|Not an IPv4 address of a machine"),
    ],
)
def test_wrong_settings_are_refused_with_the_reason(
    attended: Appliance, desk: Desk, address: str, gateway: str, reason: str
) -> None:
    network_form(desk)
    static_address(desk, address, gateway)
    desk.button("Apply")
    desk.see(reason, 60, "network-refused")
    assert f"{ADDRESS}/24" in attended.shell.run("ip -4 -o address show scope global")


def test_an_address_that_cuts_the_link_is_taken_back(attended: Appliance, desk: Desk) -> None:
    """Nobody answers: after the countdown the old address is there, and so is the server."""
    network_form(desk)
    static_address(desk, *ELSEWHERE)
    desk.button("Apply")
    desk.see("gateway does not answer.*come back in", 120, "network-lost")
    assert "Undo" in desk.focused()
    desk.see("the old settings are back", 180, "network-expired")
    desk.press("ret")
    attended.shell.leave()
    attended.shell.wait(120)
    assert f"{ADDRESS}/24" in attended.shell.run("ip -4 -o address show scope global")
    assert f"via {GATEWAY} " in attended.shell.run("ip -4 route show default")
    submit(attended.port(587), attended.account, "after-rollback")
    assert "after-rollback" in inbox(attended.port(993), attended.account)


def test_a_wrong_password_of_root_is_answered_late_and_logged(attended: Appliance, desk: Desk) -> None:
    attended.shell.run("touch /run/before-guessing")
    waits = []
    desk.press("f2")
    desk.see("The actions need the password of root", 60)
    for guess in ("wrong-one-1", "wrong-one-2", "wrong-one-3"):
        desk.write(guess)
        desk.press("ret")
        began = time.monotonic()
        desk.see("One moment|Checking", 30, "unlock-wait")
        desk.see("not root's password|not the password", 60, "unlock-wrong")
        waits.append(time.monotonic() - began)
    assert waits[2] > 3.5, f"the third wrong one was answered after {waits[2]:.1f} s"
    log = attended.shell.run(
        "journalctl -q --no-pager -u postkeep-agent --since @$(stat -c %Y /run/before-guessing)"
    )
    assert len(re.findall(r"wrong password from .*number \d", log)) == 3
    for guess in ("wrong-one", ROOT_PASSWORD):
        assert guess not in log
    desk.write(ROOT_PASSWORD)
    desk.press("ret")
    desk.see("Factory reset", 90)


SCREENS = (
    ("Host name", "The name in the DNS", "hostname"),
    ("Time", "Wrong time breaks certificates", "time"),
    ("SSH", "SSH is on", "ssh"),
    ("Remote administration", "opens from other machines", "remote"),
    ("Password of root", "opens this console, terminals", "password"),
    ("Mail server", "State now: running", "engine"),
    ("Disks", "Grow makes its room usable", "disks"),
    ("Logs", "Log mail", "logs"),
    ("Network test", "ping shows whether", "nettest"),
    ("Support bundle", "Makes one file of logs", "bundle"),
    ("Keyboard layout", "Keyboard layout", "keyboard"),
    ("Language", "Choose the language", "language-later"),
    ("Restart", "Restart the appliance", "restart"),
    ("Shut down", "Shut the appliance down", "shutdown"),
    ("Factory reset", re.escape(f"Type the host name {HOSTNAME}"), "reset"),
)


def test_every_action_opens_and_is_left_by_esc(desk: Desk) -> None:
    unlock(desk)
    for entry, shows, picture in SCREENS:
        desk.choose(entry)
        desk.see(shows, 90, picture)
        desk.press("esc")
        assert desk.see("Menu.*Factory reset", 60)


def test_a_network_test_answers(desk: Desk) -> None:
    unlock(desk)
    desk.choose("Network test")
    desk.see("ping shows whether", 60)
    desk.press("tab")
    desk.write(GATEWAY)
    desk.press("ret")
    assert desk.see(rf"{re.escape(GATEWAY)}(.|\n)*(0% packet loss|bytes from|time=)", 120, "nettest-done")


def test_the_console_comes_back_when_it_is_killed(attended: Appliance, desk: Desk) -> None:
    before = attended.shell.run("systemctl show -P MainPID postkeep-console@tty1")
    attended.shell.run(f"kill -9 {before}")
    until = time.monotonic() + 120
    while (after := attended.shell.run("systemctl show -P MainPID postkeep-console@tty1")) in ("0", before):
        assert time.monotonic() < until, "no console any more"
        time.sleep(1)
    desk.see("F2 actions", 120)
    attended.shell.run(f"kill -0 {after}")
