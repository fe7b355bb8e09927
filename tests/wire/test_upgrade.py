"""`postkeep upgrade` and what the other commands say of a store of another version."""

import json
import os
import pwd
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from postkeep.storage import database
from postkeep.storage.migrations import MIGRATIONS

from tests.support.engine import POSTKEEP, PortReservation
from tests.support.house import make_data

NOW = len(MIGRATIONS)


def postkeep(data: Path, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    command = [POSTKEEP, words[0], *words[1:], "--data", data]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=120)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A set-up folder with a store of this version."""
    folder = make_data(tmp_path / "data")
    assert postkeep(folder, "status").returncode == 0
    return folder


def make_old(data: Path) -> None:
    connection = database.open_writer(data / "store" / database.NAME)
    connection.execute("ALTER TABLE mailbox DROP COLUMN forgotten")
    connection.pragma("user_version", 1)
    connection.close()


def make_new(data: Path) -> None:
    connection = database.open_writer(data / "store" / database.NAME)
    connection.pragma("user_version", NOW + 5)
    connection.close()


def test_the_marker_says_the_schema(data: Path) -> None:
    assert (data / "store" / "version").read_text().startswith(f"schema={NOW}\nversion=")


def test_an_old_store_wants_its_upgrade_and_gets_it(data: Path) -> None:
    make_old(data)
    refused = postkeep(data, "user", "list")
    assert refused.returncode == 1
    assert f"postkeep upgrade --data {data}" in refused.stderr
    done = postkeep(data, "upgrade")
    assert done.returncode == 0
    assert f"schema 1 → {NOW}" in done.stdout
    assert "migrating to schema" in done.stderr
    assert postkeep(data, "user", "list").returncode == 0
    assert "nothing was done" in postkeep(data, "upgrade").stdout


def test_json_for_programs(data: Path) -> None:
    make_old(data)
    answer = json.loads(postkeep(data, "upgrade", "--json").stdout)
    assert answer == {
        "before": 1,
        "after": NOW,
        "changed": True,
        "messages": 0,
        "kept": str(data / "store" / "postkeep.db.before"),
        "older": 0,
    }
    assert json.loads(postkeep(data, "upgrade", "--back", "--json").stdout) == {"schema": 1}
    assert postkeep(data, "upgrade", "--back").returncode == 1


def test_a_newer_store_has_an_exit_status_of_its_own(data: Path) -> None:
    make_new(data)
    for command in ("upgrade", "serve"):
        refused = postkeep(data, command)
        assert refused.returncode == 3, command
        assert "newer version" in refused.stderr


def test_a_broken_configuration_stops_it_before_the_store(data: Path) -> None:
    make_old(data)
    for name in ("mailserver.cfg", "mailserver.cfg.good"):
        (data / name).write_text("<config>\n<oops>")
    refused = postkeep(data, "upgrade")
    assert refused.returncode == 1
    assert "mailserver.cfg, line" in refused.stderr
    connection = database.open_reader(data / "store" / database.NAME)
    assert connection.pragma("user_version") == 1
    connection.close()


def test_serve_upgrades_first_and_forgets_the_old_database_when_ready(data: Path) -> None:
    make_old(data)
    ports = PortReservation()
    offset = str(ports.ports.offset)
    engine = subprocess.Popen(
        [POSTKEEP, "serve", "--data", data, "--port-offset", offset, "--address", "127.0.0.1"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert engine.stdout is not None
        assert engine.stdout.readline() == "ready\n"
        busy = postkeep(data, "upgrade")
        assert busy.returncode == 1
        assert "works on" in busy.stderr
        engine.send_signal(signal.SIGTERM)
        _, errors = engine.communicate(timeout=60)
        assert engine.returncode == 0
        assert "of an older version" in errors
        assert not (data / "store" / "postkeep.db.before").exists()
    finally:
        engine.kill()
        engine.communicate(timeout=30)
        ports.release()


# --- root on a folder of somebody else ------------------------------------------------------------------

root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture
def foreign(data: Path) -> Path:
    """The folder belongs to nobody, who may reach it and the program."""
    nobody = pwd.getpwnam("nobody")
    for path in (data, *data.rglob("*")):
        os.chown(path, nobody.pw_uid, nobody.pw_gid)
    for path in data.parents:
        if str(path).startswith("/tmp/"):
            path.chmod(path.stat().st_mode | 0o055)
    return data


def reachable() -> bool:
    """Whether another user may run this interpreter at all."""
    command = [sys.executable, "-c", "import postkeep"]
    try:
        return subprocess.run(command, user="nobody", capture_output=True, check=False).returncode == 0
    except PermissionError:
        return False


@root
def test_root_works_as_the_owner(foreign: Path) -> None:
    if not reachable():
        pytest.skip("nobody cannot run this interpreter")
    added = postkeep(foreign, "user", "add", "dora", "--password-file", "-", stdin="Sehr-geheim1\n")
    assert added.returncode == 0, added.stderr
    make_old(foreign)
    os.chown(foreign / "store" / database.NAME, *os.stat(foreign)[4:6])
    for path in (foreign / "store").iterdir():
        os.chown(path, *os.stat(foreign)[4:6])
    assert postkeep(foreign, "upgrade").returncode == 0
    assert [path for path in foreign.rglob("*") if path.stat().st_uid == 0] == []


@root
def test_root_does_not_serve_somebody_elses_folder(foreign: Path) -> None:
    refused = postkeep(foreign, "serve")
    assert refused.returncode == 1
    assert "run this as its owner" in refused.stderr
