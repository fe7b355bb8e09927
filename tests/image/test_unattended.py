"""Deployed with properties, the appliance asks nothing: a second machine of the same disks, with a CD-ROM."""

import pytest

from tests.image.appliance import ADDRESS, DATA, HOSTNAME, NAMESERVER, ROOT_PASSWORD, ZONE, Appliance
from tests.image.mail import inbox, submit
from tests.image.test_wizard import expect_no_secret

pytestmark = pytest.mark.image


def test_it_is_ready_without_a_question(unattended: Appliance) -> None:
    print(f"\npower-on to ready, set-up included: {unattended.notes['ready']}")
    assert unattended.shell.run("systemctl is-active postkeep.service") == "active"
    assert unattended.shell.run("test -e /var/lib/postkeep/run/setup-code", ok=False) == ""


def test_the_console_shows_the_start_screen_in_its_language(unattended: Appliance) -> None:
    shown = unattended.desk.see("F2 ", 120, "start")
    assert f"https://{HOSTNAME}/" in shown
    assert f"https://{ADDRESS}:4040/admin" in shown
    assert "Jazyk" not in shown
    assert "Čas" in shown or "Poštovní server" in shown, "the console speaks Czech"


def test_what_was_asked_for_holds(unattended: Appliance) -> None:
    shell = unattended.shell
    assert shell.run("hostname --fqdn") == HOSTNAME
    assert shell.run("timedatectl show -P Timezone") == ZONE
    assert "dynamic" in shell.run("ip -4 -o address show scope global")
    settings = shell.run("postkeep setting get DefaultDomain || cat /var/lib/postkeep/mailserver.cfg")
    assert "example.test" in settings
    assert NAMESERVER in shell.run(
        "cat /etc/systemd/network/10-postkeep-* /run/postkeep-resolver/* /etc/unbound/unbound.conf.d/* 2>/dev/null || true"
    )


def test_mail_is_submitted_and_read(unattended: Appliance) -> None:
    submit(unattended.port(587), unattended.account, "unattended-1")
    assert "unattended-1" in inbox(unattended.port(993), unattended.account)


def test_only_the_given_key_opens_ssh(unattended: Appliance) -> None:
    """By key; the password for root is for the console."""
    keys = unattended.shell.run("cat /root/.ssh/authorized_keys").splitlines()
    assert [key.split()[1] for key in keys] == [unattended.shell.key.split()[1]]
    unattended.shell.run("test ! -e /var/lib/postkeep-appliance/first-password")


def test_no_secret_of_the_deployment_is_left(unattended: Appliance) -> None:
    expect_no_secret(unattended, ROOT_PASSWORD, unattended.account.password)
    journal = unattended.shell.run("journalctl -q --no-pager -u postkeep-firstboot -u postkeep-unattended")
    assert "administrator_password" in journal or "password" in journal
    drives = unattended.machine.qmp("query-block")
    assert [drive["tray_open"] for drive in drives if drive["device"] == "cdrom"] == [True], "it is ejected"


def test_identities_are_its_own(attended: Appliance, unattended: Appliance) -> None:
    first, second = attended.identities, unattended.identities
    assert first.keys() == second.keys()
    for name in first:
        assert first[name] != second[name], f"two machines with one {name}"


def test_the_properties_do_not_count_twice(unattended: Appliance) -> None:
    shell = unattended.shell
    shell.run("timedatectl set-timezone Europe/Berlin")
    shell.run(f"touch {DATA}/store/.before && sync")
    unattended.machine.qmp("system_reset")
    unattended.machine.wait_port(587, 600)
    shell.leave()
    shell.wait()
    assert shell.run("timedatectl show -P Timezone") == "Europe/Berlin"
    assert shell.run("systemctl --failed --plain --no-legend") == ""
    assert "unattended-1" in inbox(unattended.port(993), unattended.account)
