"""What a maintainer script, a unit and a conffile have to say, without a chroot."""

import re
import subprocess
from pathlib import Path

import pytest
from postkeep.cli.upgrade import TooNew
from postkeep.storage import marker

DEBIAN = Path(__file__).parents[3] / "appliance" / "debian"
SCRIPTS = sorted(
    path for kind in ("preinst", "postinst", "prerm", "postrm") for path in DEBIAN.glob(f"*.{kind}")
)
SHELL = [*SCRIPTS, *DEBIAN.glob("*.sh"), DEBIAN / "postkeep.command", DEBIAN / "postkeep.initd"]


@pytest.mark.parametrize("path", SHELL, ids=lambda path: path.name)
def test_scripts_are_shell(path: Path) -> None:
    assert subprocess.run(["sh", "-n", path], check=False).returncode == 0


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_maintainer_scripts_stop_at_errors_and_let_debhelper_in(path: Path) -> None:
    text = path.read_text()
    assert text.startswith("#!/bin/sh\nset -e\n")
    assert text.count("#DEBHELPER#") == 1


def run_lib(code: str, data: Path) -> str:
    """A shell line with the shared functions, on another data folder."""
    lib = (DEBIAN / "maintainer.sh").read_text()
    done = subprocess.run(
        ["sh", "-ec", f"{lib}\nDATA={data}\n{code}"], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        (None, "DATA/store"),
        ("store", "DATA/store"),
        ("elsewhere", "DATA/elsewhere"),
        ("/srv/mail", "/srv/mail"),
        ("$(touch DATA/oops)", "DATA/$(touch DATA/oops)"),
    ],
)
def test_the_store_is_found_as_the_engine_finds_it(
    tmp_path: Path, setting: str | None, expected: str
) -> None:
    if setting is not None:
        line = f'    <variable name="MailStoreDirectory">{setting.replace("DATA", str(tmp_path))}</variable>'
        (tmp_path / "mailserver.cfg").write_text(f"<config>\n{line}\n</config>\n")
    assert run_lib("store_folder", tmp_path) == expected.replace("DATA", str(tmp_path))
    assert not (tmp_path / "oops").exists()


def test_the_preinst_reads_the_marker_that_the_store_writes(tmp_path: Path) -> None:
    """The very text, run on what runs in production writes."""
    from postkeep.runtime.files import SystemFiles

    marker.write_marker(SystemFiles(), tmp_path, 7, "1.2.3~beta1")
    preinst = (DEBIAN / "postkeep.preinst").read_text()
    found = re.search(r"(?ms)^refuse_newer_store\(\) \{.*?^\}\n", preinst)
    assert found is not None
    for known, refused in ((6, True), (7, False), (8, False)):
        script = (
            f"complain() {{ echo $*; }}\nstore_folder() {{ echo {tmp_path}; }}\nSCHEMA={known}\nVERSION=0.1\n"
            f"{found[0]}refuse_newer_store"
        )
        done = subprocess.run(["sh", "-ec", script], capture_output=True, text=True)
        assert (done.returncode != 0) is refused, known
        assert ("1.2.3~beta1" in done.stdout) is refused


@pytest.mark.parametrize("content", ["", "schema=\n", "schema=9; rm -rf /\n", "no marker\n"])
def test_a_strange_marker_refuses_nothing_and_runs_nothing(tmp_path: Path, content: str) -> None:
    (tmp_path / "version").write_text(content)
    found = re.search(r"(?ms)^refuse_newer_store\(\) \{.*?^\}\n", (DEBIAN / "postkeep.preinst").read_text())
    assert found is not None
    script = f"complain() {{ :; }}\nstore_folder() {{ echo {tmp_path}; }}\nSCHEMA=2\nVERSION=1\n{found[0]}"
    subprocess.run(["sh", "-ec", f"{script}refuse_newer_store"], check=True)


# --- power cuts and start limits -----------------------------------------------------------------------


def function(script: str, name: str) -> str:
    found = re.search(rf"(?ms)^{name}\(\) \{{.*?^\}}\n", (DEBIAN / script).read_text())
    assert found is not None, name
    return found[0]


def test_an_engine_that_reached_its_start_limit_starts_again_after_a_rollback(tmp_path: Path) -> None:
    code = "systemd_runs() { :; }\nsystemctl() { echo $*; }\ndeb-systemd-invoke() { echo $*; }\n"
    lib = function("maintainer.sh", "start_engine")
    done = subprocess.run(["bash", "-ec", f"{code}{lib}start_engine"], capture_output=True, text=True)
    assert done.stdout.splitlines() == [
        "daemon-reload",
        "reset-failed postkeep.service",
        "start postkeep.service",
    ]


def test_a_power_cut_before_the_mark_of_an_upgrade_leaves_the_code(tmp_path: Path) -> None:
    """After a rollback the code goes, so that dpkg unpacks into nothing: only once .upgrading says so."""
    code = tmp_path / "postkeep"
    (code / "venv").mkdir(parents=True)
    (code / "venv/code").write_text("code")
    (code / ".rolled-back").write_text("1\n")
    names = ("keep_old_code", "clear_the_place", "prepare")
    script = f"CODE={code} UNIT=none\nsay() {{ :; }}\nsync() {{ :; }}\nstop_engine() {{ :; }}\n" + (
        "copy_configuration() { :; }\n" + "".join(function("postkeep.preinst", name) for name in names)
    )
    cut = 'mv() { case $2 in */.upgrading) exit 9 ;; esac; command mv "$@"; }\n'
    done = subprocess.run(["sh", "-ec", f"{script}{cut}prepare 1"], check=False)
    assert done.returncode == 9
    assert (code / "venv/code").exists()
    for _ in range(2):  # and once more, when power went before the old code was away
        subprocess.run(["sh", "-ec", f"{script}prepare 1"], check=True)
        assert (code / ".upgrading").read_text() == "1\n"
        assert not (code / "venv").exists()
        assert (code / ".previous/venv/code").exists()
        assert (code / ".previous/superseded").exists()


@pytest.mark.parametrize("mark", [True, False])
def test_an_aborted_upgrade_brings_the_code_back_when_there_is_none(tmp_path: Path, mark: bool) -> None:
    (tmp_path / ".previous/venv").mkdir(parents=True)
    (tmp_path / ".previous/venv/code").write_text("code")
    if mark:
        (tmp_path / ".upgrading").write_text("1\n")
        (tmp_path / "venv").mkdir()
    restore = function("postkeep.postinst", "restore_old_code")
    script = f"CODE={tmp_path}\nsync() {{ :; }}\n{restore}restore_old_code"
    subprocess.run(["sh", "-ec", script], check=True)
    assert (tmp_path / "venv/code").exists()
    assert not (tmp_path / ".previous").exists()


def test_terminals_are_unmasked_before_they_start_when_the_console_goes() -> None:
    text = (DEBIAN / "postkeep-console.prerm").read_text().replace("[ -d /run/systemd/system ]", "true")
    code = "systemctl() { echo $*; }\ndeb-systemd-invoke() { :; }\n"
    done = subprocess.run(
        ["bash", "-ec", code + text, "prerm", "remove"], capture_output=True, text=True, check=True
    )
    terminals = "getty@tty1.service serial-getty@ttyS0.service"
    assert done.stdout.splitlines()[-2:] == [f"unmask {terminals}", f"start --no-block {terminals}"]


def test_a_purge_of_the_console_leaves_no_logs(tmp_path: Path) -> None:
    for folder in ("lib/postkeep-appliance", "log/postkeep-agent"):
        (tmp_path / folder).mkdir(parents=True)
    text = (DEBIAN / "postkeep-console.postrm").read_text().replace("/var/", f"{tmp_path}/")
    script = "id() { false; }\n" + text
    subprocess.run(["sh", "-ec", script, "postrm", "remove"], check=True)
    assert (tmp_path / "log/postkeep-agent").exists()
    subprocess.run(["sh", "-ec", script, "postrm", "purge"], check=True)
    assert list(tmp_path.glob("*/*")) == []


def unit() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in (DEBIAN / "postkeep.service").read_text().splitlines():
        name, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found.setdefault(name, []).append(value)
    return found


def test_the_service_has_the_least_privilege() -> None:
    settings = unit()
    assert settings["User"] == ["postkeep"]
    assert settings["CapabilityBoundingSet"] == settings["AmbientCapabilities"] == ["CAP_NET_BIND_SERVICE"]
    assert settings["ProtectSystem"] == ["strict"]
    assert settings["ReadWritePaths"] == ["/var/lib/postkeep"]
    for name in ("NoNewPrivileges", "PrivateTmp", "PrivateDevices", "MemoryDenyWriteExecute", "ProtectHome"):
        assert settings[name] == ["yes"], name
    assert settings["UMask"] == ["0077"]


def test_the_service_is_watched_and_not_restarted_over_a_newer_store() -> None:
    settings = unit()
    assert settings["Type"] == ["notify"]
    assert int(settings["WatchdogSec"][0]) > 0
    assert settings["RestartPreventExitStatus"] == [str(TooNew.exit_code)]
    assert settings["ConditionPathExists"] == ["!/opt/postkeep/.upgrading"]


def test_every_name_of_the_data_folder_has_a_link() -> None:
    from postkeep.services.setup import FOLDERS

    links = dict(line.split()[::-1] for line in (DEBIAN / "postkeep.links").read_text().splitlines())
    named = {folder.partition("/")[0] for folder in FOLDERS} - {"run"} | {"mailserver.cfg", "users.cfg"}
    assert {name for name in links if name.startswith("/opt/")} == {f"/opt/postkeep/{name}" for name in named}
    for name in named:
        assert links[f"/opt/postkeep/{name}"] == f"/var/lib/postkeep/{name}"
