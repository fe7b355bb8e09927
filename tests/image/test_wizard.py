"""The first start at the console of the virtual machine, as somebody who has just imported the OVA."""

import time
from pathlib import Path

import pytest

from tests.image.appliance import (
    ADDRESS,
    BOOT,
    GATEWAY,
    HOSTNAME,
    MOST_MEMORY,
    ROOT_PASSWORD,
    ZONE,
    Appliance,
)
from tests.image.mail import fingerprint, inbox, submit

pytestmark = pytest.mark.image


def test_the_start_screen_tells_where_the_server_is(attended: Appliance) -> None:
    shown = attended.notes["start screen"]
    assert f"https://{HOSTNAME}/" in shown
    assert f"https://{ADDRESS}:4040/admin" in shown
    assert "Set-up code" not in shown
    assert "first password" not in shown
    assert ZONE in shown.splitlines()[0]


def test_its_fingerprint_is_that_of_the_certificate(attended: Appliance) -> None:
    shown = "".join(c for c in attended.notes["start screen"] if c in "0123456789ABCDEF")
    assert fingerprint(attended.port(4040)) in shown
    assert fingerprint(attended.port(993)) in shown


def test_the_static_address_holds(attended: Appliance) -> None:
    shell = attended.shell
    assert f"{ADDRESS}/24" in shell.run("ip -4 -o address show scope global")
    assert f"default via {GATEWAY} " in shell.run("ip -4 route show default")
    assert "dynamic" not in shell.run("ip -4 -o address show scope global")
    networkctl = shell.run("networkctl --no-pager status 'en*' 'eth*'")
    assert "/etc/systemd/network/10-postkeep-" in networkctl


def test_the_time_zone_holds(attended: Appliance) -> None:
    assert attended.shell.run("timedatectl show -P Timezone") == ZONE
    assert attended.shell.run("date +%Z") in ("CET", "CEST")


def test_the_name_holds(attended: Appliance) -> None:
    assert attended.shell.run("hostname --fqdn") == HOSTNAME
    assert attended.shell.run("hostnamectl hostname") in (HOSTNAME, HOSTNAME.partition(".")[0])


def test_a_message_is_submitted_and_read_from_outside(attended: Appliance) -> None:
    submit(attended.port(587), attended.account, "wizard-1")
    assert "wizard-1" in inbox(attended.port(993), attended.account)


def test_less_than_700_mb_are_in_use(attended: Appliance) -> None:
    total, available = attended.shell.run("awk '/^MemTotal|^MemAvailable/ {print $2}' /proc/meminfo").split()
    used = (int(total) - int(available)) * 1024 / 1e6
    print(f"\nmemory in use: {used:.0f} MB of {int(total) / 1e3:.0f}")
    assert used < MOST_MEMORY


def test_no_password_is_in_journal_or_files(attended: Appliance) -> None:
    """Neither that of root nor the administrator's, nowhere on the disks."""
    expect_no_secret(attended, ROOT_PASSWORD, attended.account.password)


def expect_no_secret(appliance: Appliance, *secrets: str) -> None:
    """The needles come by standard input: no file and no process list has them."""
    folders = "/etc /root /var /home /opt/postkeep /run /tmp"
    search = f"grep -r -l -F -f /dev/stdin --devices=skip {folders} 2>/dev/null || true"
    assert appliance.shell.run(search, stdin="\n".join(secrets) + "\n") == ""
    journal = (
        "journalctl --no-pager -q -o export > /tmp/journal; grep -c -a -F -f /dev/stdin /tmp/journal || true"
    )
    assert appliance.shell.run(f"{journal}; rm /tmp/journal", stdin="\n".join(secrets) + "\n") == "0"


def test_it_powers_down_softly_and_starts_within_three_minutes(attended: Appliance, evidence: Path) -> None:
    took = attended.machine.power_button()
    assert took < 30, f"switched off after {took:.1f} s"
    seconds = attended.start()
    line = (
        f"soft off {took:.1f} s; power-on to ready {attended.notes['last start']}; "
        f"first boot to the console {attended.notes['console']}, to the set-up code "
        f"{attended.notes['waiting for its set-up']}"
    )
    print(f"\n{line}")
    (evidence / "boot.txt").write_text(f"{time.strftime('%F %T')} {line}\n")
    assert "wizard-1" in inbox(attended.port(993), attended.account)
    assert seconds < BOOT
