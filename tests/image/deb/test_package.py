"""The Debian package in a box without systemd: every maintainer script, and the real engine started by it.

Needs root and what `make deb` makes; `make test-deb` runs it.
"""

import os
import smtplib
import stat
from pathlib import Path

import pytest

from tests.image.deb.box import DATA, HOST, PASSWORD, Box

pytestmark = pytest.mark.deb
BASE = "0.1.0"
LINKS = (
    "mailserver.cfg", "users.cfg", "license", "sslcert", "sslca", "reports", "translations", "myspell",
    "UpgradeBackups", "store",
)  # fmt: skip


def deliver(box: Box, subject: str) -> None:
    with smtplib.SMTP(HOST, box.ports.smtp, timeout=30) as client:
        client.sendmail(
            "someone@far.example",
            ["root@example.test"],
            f"From: someone@far.example\r\nSubject: {subject}\r\nMessage-ID: <{subject}@far.example>\r\n\r\nhello\r\n",
        )


def messages(box: Box) -> int:
    with box.client() as client:
        return int(client.get("/users/root").raise_for_status().json()["used_items"])


def served(box: Box, deb: Path) -> None:
    """Installed, set up, with two messages."""
    box.prepare()
    box.install(deb)
    box.set_up()
    box.run("systemctl", "restart", "postkeep.service")
    deliver(box, "first")
    deliver(box, "second")
    assert messages(box) == 2


def owned_by_root(box: Box) -> list[Path]:
    return [path for path in box.path(DATA).rglob("*") if path.lstat().st_uid == 0]


# --- installation -------------------------------------------------------------------------------------


def test_it_installs_and_waits_for_its_set_up(box: Box, deb: Path) -> None:
    box.prepare()
    done = box.install(deb)
    assert "postkeep init" in done.stdout
    assert box.state() == f"ii {BASE}"
    assert box.engine_pid()
    code = box.path(f"{DATA}/run/setup-code")
    assert stat.S_IMODE(code.stat().st_mode) == 0o600
    setup = {"hostname": "mail.example.test", "domain": "example.test", "administrator": "root"}
    with box.client() as client:
        body = setup | {"password": PASSWORD, "code": code.read_text().strip()}
        assert client.post("/setup", json=body).status_code == 201
    box.wait()
    deliver(box, "one")
    assert messages(box) == 1
    assert not code.exists()
    assert stat.S_IMODE(box.path(DATA).stat().st_mode) == 0o700
    assert owned_by_root(box) == []
    assert "Postkeep on Debian" in box.path("/usr/share/doc/postkeep/README.Debian").read_text()


def test_the_code_is_roots_and_the_data_is_where_the_links_say(box: Box, deb: Path) -> None:
    served(box, deb)
    for name in LINKS:
        link = box.path(f"/opt/postkeep/{name}")
        assert link.is_symlink()
        assert os.readlink(link) == f"{DATA}/{name}"
    for name in (
        "license",
        "sslcert",
        "sslca",
        "reports",
        "translations",
        "myspell",
        "UpgradeBackups",
        "store",
    ):
        assert box.path(f"{DATA}/{name}").is_dir()
    for path in box.path("/opt/postkeep").rglob("*"):
        status = path.lstat()
        assert status.st_uid == 0, path
        assert path.is_symlink() or not status.st_mode & 0o022, path
    assert not list(box.path("/opt/postkeep").rglob("pip")), "pip is not part of it"


def test_root_leaves_no_files_of_its_own(box: Box, deb: Path) -> None:
    served(box, deb)
    box.run("postkeep", "user", "list")  # of the running engine
    box.run("systemctl", "stop", "postkeep.service")
    box.run("postkeep", "setting", "set", "GuessingLimit", "12")
    box.run("postkeep", "verify")
    box.run("postkeep", "user", "add", "carol", "--password-file", "-", stdin="Sehr-geheim2\n")
    assert owned_by_root(box) == []
    assert "run this as its owner" in box.run("postkeep", "serve", ok=False).stderr
    box.run("systemctl", "start", "postkeep.service")
    assert messages(box) == 2


def test_the_init_script_answers_through_systemd(box: Box, deb: Path) -> None:
    box.prepare()
    box.install(deb)
    for action in ("stop", "start", "restart", "status"):
        box.run("/etc/init.d/postkeep", action)
        assert box.calls()[-1] == f"{action} postkeep.service"
    assert "Usage" in box.run("/etc/init.d/postkeep", "dance", ok=False).stderr


# --- upgrades -----------------------------------------------------------------------------------------


def test_an_upgrade_keeps_everything(box: Box, deb: Path, versions: dict[str, Path]) -> None:
    served(box, deb)
    box.run("runuser", "-u", "postkeep", "--", "sh", "-c", f"echo mine >{DATA}/reports/mine.html")
    before = box.path(f"{DATA}/users.cfg").read_bytes()
    done = box.install(versions["newer"])
    assert f"UpgradeBackups/{BASE}" in done.stdout
    assert "schema 2 → 3, 2 messages checked" in done.stdout
    assert box.state() == "ii 0.9.2"
    assert box.version() == "0.9.2"
    assert messages(box) == 2
    backup = box.path(f"{DATA}/UpgradeBackups/{BASE}")
    assert (backup / "users.cfg").read_bytes() == before
    assert {"mailserver.cfg", "users.cfg", "sslcert", "sslca", "license"} <= {
        p.name for p in backup.iterdir()
    }
    assert box.path(f"{DATA}/reports/mine.html").read_text() == "mine\n"
    assert "schema=3\nversion=0.9.2\n" in box.path(f"{DATA}/store/version").read_text()
    assert not [path.name for path in box.path("/opt/postkeep").iterdir() if path.name.startswith(".")]
    assert not box.path(f"{DATA}/store/postkeep.db.before").exists()
    assert owned_by_root(box) == []
    deliver(box, "third")
    assert messages(box) == 3


def test_the_engine_is_stopped_before_its_code_goes(box: Box, deb: Path, versions: dict[str, Path]) -> None:
    served(box, deb)
    box.path("/var/log/systemctl.log").unlink()
    box.install(versions["plain"])
    calls = [call for call in box.calls() if call.startswith(("stop", "start"))]
    assert calls[0] == "stop postkeep.service"
    assert calls[-1] == "start postkeep.service"


@pytest.mark.parametrize("kind", ["failing", "losing"])
def test_a_failed_migration_runs_the_old_version_on(
    box: Box, deb: Path, versions: dict[str, Path], kind: str
) -> None:
    served(box, deb)
    done = box.install(versions[kind], ok=False)
    assert f"version {BASE} is back in place with its data" in done.stderr
    assert "nowhere" in done.stderr or "changed the mail itself" in done.stderr or "problems" in done.stderr
    assert box.state().startswith("iF")
    assert box.version() == BASE
    assert messages(box) == 2
    assert "schema=2" in box.path(f"{DATA}/store/version").read_text()
    deliver(box, "third")
    # Trying again is refused again, and again nothing is lost.
    again = box.run("dpkg", "--configure", "postkeep", ok=False)
    assert again.returncode != 0
    assert box.version() == BASE
    assert messages(box) == 3
    # The mended package then does it.
    box.install(versions["mended"])
    assert box.state() == "ii 0.9.6"
    assert box.version() == "0.9.6"
    assert messages(box) == 3
    assert not [path.name for path in box.path("/opt/postkeep").iterdir() if path.name.startswith(".")]


def test_an_engine_that_does_not_start_is_rolled_back_with_its_data(
    box: Box, deb: Path, versions: dict[str, Path]
) -> None:
    served(box, deb)
    done = box.install(versions["dead"], ok=False)
    assert "does not start" in done.stderr
    assert f"version {BASE} is back in place" in done.stderr
    assert box.version() == BASE
    assert messages(box) == 2
    assert box.run("dpkg", "--configure", "postkeep", ok=False).returncode != 0
    assert box.version() == BASE
    box.install(versions["mended"])
    assert box.version() == "0.9.6"
    assert messages(box) == 2


def test_a_removal_after_a_rollback_leaves_no_code(box: Box, deb: Path, versions: dict[str, Path]) -> None:
    served(box, deb)
    box.install(versions["failing"], ok=False)
    box.run("dpkg", "--remove", "postkeep")
    assert not box.path("/opt/postkeep").exists()
    assert not box.engine_pid()
    box.install(deb)
    assert messages(box) == 2


def test_a_downgrade_over_a_newer_store_is_refused(box: Box, deb: Path, versions: dict[str, Path]) -> None:
    served(box, deb)
    box.install(versions["newer"])
    engine = box.engine_pid()
    done = box.install(deb, ok=False)
    assert "was written by the newer version 0.9.2" in done.stderr
    assert box.engine_pid() == engine, "it was not even stopped"
    assert box.state() == "ii 0.9.2"
    assert messages(box) == 2


def test_a_downgrade_within_a_schema_works(box: Box, deb: Path, versions: dict[str, Path]) -> None:
    served(box, versions["plain"])
    box.install(deb)
    assert box.version() == BASE
    assert messages(box) == 2


def test_an_old_engine_refuses_a_newer_store_by_itself(
    box: Box, deb: Path, versions: dict[str, Path]
) -> None:
    """The marker that the preinst reads is gone: the engine still looks into the database."""
    served(box, deb)
    box.install(versions["newer"])
    box.run("systemctl", "stop", "postkeep.service")
    box.path(f"{DATA}/store/version").unlink()
    done = box.install(deb, ok=False)
    assert "newer version" in done.stderr
    assert box.version() == "0.9.2", "what was installed before runs on"
    assert messages(box) == 2


# --- interruptions ------------------------------------------------------------------------------------


def interrupt_unpacking(box: Box, deb: Path) -> None:
    """As a power cut in the middle of unpacking leaves it: the new preinst was run, half of the code is new."""
    box.run("sh", "-c", f"mkdir /tmp/new && dpkg-deb -R /tmp/{deb.name} /tmp/new")
    box.run("env", "DPKG_MAINTSCRIPT_PACKAGE=postkeep", "/tmp/new/DEBIAN/preinst", "upgrade", BASE)
    box.run("sh", "-c", "cd /tmp/new/opt/postkeep/venv/lib/python3*/site-packages/postkeep && cp -r --remove-destination storage "
            "/opt/postkeep/venv/lib/python3*/site-packages/postkeep/")  # fmt: skip
    box.run("sed", "-i", "/^Package: postkeep$/,/^$/s/^Status: .*/Status: install reinstreq half-installed/",
            "/var/lib/dpkg/status")  # fmt: skip


def test_an_interrupted_unpacking_is_done_again(box: Box, deb: Path, versions: dict[str, Path]) -> None:
    served(box, deb)
    newer = versions["newer"]
    box.path(f"/tmp/{newer.name}").write_bytes(newer.read_bytes())
    interrupt_unpacking(box, newer)
    box.run("systemctl", "start", "postkeep.service")
    assert not box.engine_pid(), "half-unpacked code must not run"
    box.install(newer)
    assert box.state() == "ii 0.9.2"
    assert box.version() == "0.9.2"
    assert messages(box) == 2


def test_after_an_interrupted_unpacking_a_failed_upgrade_still_finds_the_old_code(
    box: Box, deb: Path, versions: dict[str, Path]
) -> None:
    served(box, deb)
    failing = versions["failing"]
    box.path(f"/tmp/{failing.name}").write_bytes(failing.read_bytes())
    interrupt_unpacking(box, failing)
    box.install(failing, ok=False)
    assert box.version() == BASE
    assert messages(box) == 2


def test_a_package_that_cannot_be_unpacked_leaves_the_old_one_running(
    box: Box, deb: Path, versions: dict[str, Path]
) -> None:
    served(box, deb)
    damaged = box.path("/tmp/damaged.deb")
    data = bytearray(versions["newer"].read_bytes())
    middle = len(data) * 3 // 4
    data[middle : middle + 4096] = bytes(4096)
    damaged.write_bytes(data)
    done = box.run("dpkg", "-i", "/tmp/damaged.deb", ok=False)
    assert done.returncode != 0
    assert box.state() == f"ii {BASE}"
    assert box.version() == BASE
    assert messages(box) == 2
    assert not [path.name for path in box.path("/opt/postkeep").iterdir() if path.name.startswith(".")]
    box.install(versions["newer"])
    assert box.version() == "0.9.2"


# --- removal ------------------------------------------------------------------------------------------


def test_removal_keeps_reinstallation_finds_purge_removes(
    box: Box, deb: Path, versions: dict[str, Path]
) -> None:
    served(box, deb)
    changed = box.path("/etc/default/postkeep")
    changed.write_text(changed.read_text() + "# mine\n")
    box.path(f"{DATA}/translations/xx.json").write_text("{}")
    box.run("dpkg", "--remove", "postkeep")
    assert not box.engine_pid()
    assert not box.path("/opt/postkeep").exists()
    assert not box.path("/usr/bin/postkeep").exists()
    assert box.path(f"{DATA}/translations/xx.json").exists()
    assert "# mine" in changed.read_text()
    box.install(versions["newer"])
    assert box.path(f"{DATA}/UpgradeBackups/{BASE}/users.cfg").exists()
    assert "# mine" in changed.read_text()
    assert box.version() == "0.9.2"
    assert messages(box) == 2
    refused = box.run("dpkg", "--remove", "postkeep") and box.install(deb, ok=False)
    assert "was written by the newer version" in refused.stderr
    box.run("dpkg", "--purge", "postkeep")
    assert not box.path(DATA).exists()
    assert not changed.exists()
    assert "postkeep" not in box.path("/etc/passwd").read_text()
    box.prepare()
    box.install(deb)
    assert box.path(f"{DATA}/run/setup-code").exists()


def test_a_purge_empties_a_store_disk_and_leaves_a_store_elsewhere(box: Box, deb: Path) -> None:
    served(box, deb)
    box.run("systemctl", "stop", "postkeep.service")
    box.run("sh", "-c", "install -d -o postkeep -m 700 /srv/mail && mv /var/lib/postkeep/store/* /srv/mail/")
    box.run("postkeep", "setting", "set", "MailStoreDirectory", "/srv/mail")
    box.run("systemctl", "start", "postkeep.service")
    assert messages(box) == 2
    done = box.run("dpkg", "--purge", "postkeep")
    assert "/srv/mail lies outside" in done.stderr
    assert box.path("/srv/mail/postkeep.db").exists()
    assert not box.path(DATA).exists()


def test_links_in_the_data_folder_lead_root_nowhere(box: Box, deb: Path, versions: dict[str, Path]) -> None:
    """An attacker who has the engine's user cannot have an upgrade write elsewhere as root."""
    served(box, deb)
    box.path("/srv/victim").mkdir()
    box.run(
        "sh",
        "-c",
        f"runuser -u postkeep -- sh -c 'rmdir {DATA}/UpgradeBackups && ln -s /srv/victim {DATA}/UpgradeBackups'",
    )
    box.path("/tmp/" + versions["plain"].name).write_bytes(versions["plain"].read_bytes())
    done = box.run("dpkg", "-i", "/tmp/" + versions["plain"].name, ok=False)
    assert done.returncode != 0
    assert list(box.path("/srv/victim").iterdir()) == []
    assert box.version() == BASE


# --- the console's package ----------------------------------------------------------------------------


def test_the_console_installs_upgrades_and_goes(box: Box, deb: Path, console_deb: Path) -> None:
    box.prepare()
    box.install(deb)
    box.install(console_deb)
    assert "postkeep-console:" in box.path("/etc/passwd").read_text()
    assert stat.S_IMODE(box.path("/var/lib/postkeep-appliance").stat().st_mode) == 0o700
    modules = "import postkeep_appliance.api, postkeep_console, urwid, netifaces"
    box.run("/opt/postkeep-console/venv/bin/python", "-I", "-c", modules)
    box.install(console_deb)
    assert "try-restart postkeep-agent.service" in box.calls()
    box.run("dpkg", "--purge", "postkeep-console")
    assert not box.path("/opt/postkeep-console").exists()
    assert not box.path("/var/lib/postkeep-appliance").exists()
