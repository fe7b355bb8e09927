"""Upgrade in the machine, as docs/admin/upgrade.md says: scp, dpkg -i. And what stands in its way."""

from pathlib import Path

import pytest

from tests.image.appliance import DATA, Appliance
from tests.image.conftest import ROOT
from tests.image.mail import inbox, submit
from tests.support.debs import add_migration, repack

pytestmark = pytest.mark.image

COLUMN = add_migration("ALTER TABLE mailbox ADD COLUMN colour TEXT NOT NULL DEFAULT 'blue'")


@pytest.fixture(scope="module")
def current(unattended: Appliance) -> str:
    return unattended.shell.run("dpkg-query -W -f '${Version}' postkeep")


@pytest.fixture(scope="module")
def packages(current: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The one of the image, and newer ones made of it."""
    deb = ROOT / f"build/deb/postkeep_{current}_amd64.deb"
    folder = tmp_path_factory.mktemp("upgrade")
    return {
        "current": deb,
        "newer": repack(deb, folder, "0.9.1", COLUMN),
        "failing": repack(deb, folder, "0.9.2", COLUMN, add_second),
    }


add_second = add_migration("ALTER TABLE nowhere ADD COLUMN x")


@pytest.fixture(scope="module")
def served(unattended: Appliance) -> Appliance:
    """With a message, an account and a setting that an upgrade has to keep."""
    submit(unattended.port(587), unattended.account, "before-upgrade")
    unattended.shell.run("postkeep user add carol --password-file -", stdin="Sehr-geheim2\n")
    unattended.shell.run("postkeep setting set GuessingLimit 12")
    return unattended


def install(appliance: Appliance, deb: Path, *, ok: bool = True) -> str:
    appliance.shell.put(deb, f"/root/{deb.name}")
    return appliance.shell.run(
        f"DEBIAN_FRONTEND=noninteractive dpkg -i /root/{deb.name}", ok=ok, timeout=1200
    )


def installed(appliance: Appliance) -> str:
    return appliance.shell.run("dpkg-query -W -f '${db:Status-Abbrev} ${Version}' postkeep").replace(
        "  ", " "
    )


def all_is_there(appliance: Appliance, version: str) -> None:
    """Mail, accounts, settings; and the engine of that version serves them."""
    appliance.machine.wait_port(587, 300)
    assert version in appliance.shell.run("postkeep version")
    assert "before-upgrade" in inbox(appliance.port(993), appliance.account)
    assert "carol" in appliance.shell.run("postkeep user list")
    assert "12" in appliance.shell.run("postkeep setting get GuessingLimit")
    submit(appliance.port(587), appliance.account, f"after-{version}")
    assert f"after-{version}" in inbox(appliance.port(993), appliance.account)


def test_a_migration_that_fails_rolls_back_to_the_running_old_version(
    served: Appliance, packages: dict[str, Path], current: str
) -> None:
    said = install(served, packages["failing"], ok=False)
    assert "could not be brought to the new version" in said
    assert f"version {current} is back in place with its data" in said
    assert installed(served) == "iF 0.9.2"
    assert served.shell.run("systemctl is-active postkeep.service") == "active"
    all_is_there(served, current)


def test_the_newer_package_keeps_everything(
    served: Appliance, packages: dict[str, Path], current: str
) -> None:
    install(served, packages["newer"])
    assert installed(served) == "ii 0.9.1"
    all_is_there(served, "0.9.1")
    backups = served.shell.run(f"ls {DATA}/UpgradeBackups/{current}").split()
    assert {"mailserver.cfg", "users.cfg", "sslcert"} <= set(backups)
    assert served.shell.run("systemctl --failed --plain --no-legend") == ""


def test_a_downgrade_over_a_newer_store_is_refused(served: Appliance, packages: dict[str, Path]) -> None:
    said = install(served, packages["current"], ok=False)
    assert "was written by the newer version 0.9.1" in said
    assert installed(served) == "ii 0.9.1"
    all_is_there(served, "0.9.1")


def test_removal_keeps_the_data_and_a_new_installation_finds_them(
    served: Appliance, packages: dict[str, Path]
) -> None:
    shell = served.shell
    removed = shell.run("DEBIAN_FRONTEND=noninteractive dpkg --remove --force-depends postkeep", timeout=600)
    assert "Removing postkeep" in removed
    shell.run("test ! -e /opt/postkeep/venv")
    assert "postkeep.db" in shell.run(f"ls {DATA}/store")
    install(served, packages["newer"])
    all_is_there(served, "0.9.1")


def test_it_starts_again_after_all_that(served: Appliance) -> None:
    assert served.machine.power_button() < 30
    served.start()
    all_is_there(served, "0.9.1")
