"""The first set-up over REST: a one-time code, once, and then the engine (rows SET-1, WEB-3)."""

import contextlib
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from postkeep.protocols.http.first_start import CODE_TRIES, OneTimeCode

from tests.support.engine import POSTKEEP, PortReservation

SETUP = {
    "hostname": "mail.example.test",
    "domain": "example.test",
    "administrator": "root",
    "password": "Sehr-geheim1",
}


class Fresh:
    """`postkeep serve` on an empty folder."""

    def __init__(self, data: Path, ports: PortReservation) -> None:
        self.data = data
        offset = ports.ports.offset
        self.process = subprocess.Popen(
            [POSTKEEP, "serve", "--data", data, "--port-offset", str(offset), "--address", "127.0.0.1"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.client = httpx.Client(base_url=f"https://127.0.0.1:{offset + 4040}", verify=False)
        assert self.process.stderr is not None
        self.code = self.process.stderr.readline().rsplit(" ", 1)[-1].strip()
        assert "is not set up" in self.process.stderr.readline()

    def ready(self) -> bool:
        assert self.process.stdout is not None
        return self.process.stdout.readline() == "ready\n"

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        self.process.communicate(timeout=30)
        return self.process.returncode


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Fresh]:
    ports = PortReservation()
    server = Fresh(tmp_path, ports)
    try:
        yield server
    finally:
        server.client.close()
        with contextlib.suppress(ProcessLookupError):
            server.process.kill()
        server.process.communicate(timeout=30)
        ports.release()


def test_set_up_over_rest_then_the_engine_runs(fresh: Fresh) -> None:
    assert fresh.client.get("/api/v1/setup").json()["configured"] is False
    assert fresh.client.get("/api/v1/users").status_code == 503
    wrong = fresh.client.post("/api/v1/setup", json=SETUP | {"code": "AAAA-AAAA-AAAA"})
    assert wrong.status_code == 403
    assert not (fresh.data / "mailserver.cfg").exists()
    weak = fresh.client.post("/api/v1/setup", json=SETUP | {"code": fresh.code, "password": "short"})
    assert weak.status_code == 422
    done = fresh.client.post("/api/v1/setup", json=SETUP | {"code": fresh.code.lower()})
    assert done.status_code == 201
    assert done.json() == {"administrator": "root@example.test"}
    assert fresh.ready()
    users = fresh.client.get("/api/v1/users", auth=("root", SETUP["password"])).json()
    assert [user["address"] for user in users["items"]] == ["root@example.test"]
    assert fresh.client.post("/api/v1/setup", json=SETUP | {"code": fresh.code}).status_code in (
        401,
        404,
        405,
    )
    assert SETUP["password"] not in "".join(
        path.read_text() for path in (fresh.data / "store" / "logs").glob("*.log")
    )
    assert fresh.stop() == 0


def test_init_from_the_command_line_ends_the_waiting(fresh: Fresh) -> None:
    names = ["--hostname", "mail.example.test", "--domain", "example.test", "--admin", "root"]
    subprocess.run(
        [POSTKEEP, "init", "--data", fresh.data, *names, "--password-file", "-"],
        input="Sehr-geheim1\n",
        text=True,
        check=True,
        capture_output=True,
    )
    assert fresh.ready()
    assert fresh.stop() == 0


def test_the_code_lies_where_root_can_read_it_while_it_is_good(fresh: Fresh) -> None:
    path = fresh.data / "run" / "setup-code"
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.read_text() == fresh.code + "\n"
    for _ in range(CODE_TRIES):
        fresh.client.post("/api/v1/setup", json=SETUP | {"code": "AAAA-AAAA-AAAA"})
    renewed = path.read_text().strip()
    assert renewed != fresh.code
    assert path.stat().st_mode & 0o777 == 0o600
    assert fresh.client.post("/api/v1/setup", json=SETUP | {"code": renewed}).status_code == 201
    assert fresh.ready()
    assert not path.exists()


@pytest.mark.parametrize("remote", [False, True])
def test_remote_administration_is_chosen_at_the_set_up(fresh: Fresh, remote: bool) -> None:
    chosen = {"remote_administration": True} if remote else {}
    assert fresh.client.post("/api/v1/setup", json=SETUP | chosen | {"code": fresh.code}).status_code == 201
    assert fresh.ready()
    shown = subprocess.run(
        [POSTKEEP, "setting", "get", "RemoteAdministration", "--data", fresh.data],
        capture_output=True,
        text=True,
        check=True,
    )
    assert shown.stdout.strip() == str(int(remote))


@pytest.mark.parametrize("option", ["", "--no-remote-administration", "--remote-administration"])
def test_remote_administration_is_an_option_of_init(tmp_path: Path, option: str) -> None:
    names = ["--hostname", "mail.example.test", "--domain", "example.test", "--admin", "root"]
    subprocess.run(
        [POSTKEEP, "init", "--data", tmp_path, *names, "--password-file", "-", *([option] if option else [])],
        input="Sehr-geheim1\n",
        text=True,
        check=True,
        capture_output=True,
    )
    shown = subprocess.run(
        [POSTKEEP, "setting", "get", "RemoteAdministration", "--data", tmp_path],
        capture_output=True,
        text=True,
        check=True,
    )
    assert shown.stdout.strip() == str(int(option == "--remote-administration"))


def test_it_can_be_stopped_while_it_waits(fresh: Fresh) -> None:
    assert fresh.stop() == 0
    assert not (fresh.data / "mailserver.cfg").exists()


def test_a_request_too_large_is_refused(fresh: Fresh) -> None:
    answer = fresh.client.post("/api/v1/setup", content=b'{"code":"' + b"x" * 100_000 + b'"}')
    assert answer.status_code in (413, 422)


def test_guessing_the_code_makes_a_new_one() -> None:
    told: list[str] = []
    code = OneTimeCode(told.append)
    first = told[0]
    assert re.fullmatch(r"[2-9A-Z]{4}-[2-9A-Z]{4}-[2-9A-Z]{4}", first)
    assert code.check(f" {first.lower()} ")
    for _ in range(CODE_TRIES):
        assert not code.check("wrong")
    assert len(told) == 2
    assert not code.check(first)
    assert code.check(told[1])
