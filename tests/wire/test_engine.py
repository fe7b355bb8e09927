"""The engine as a process: start, stop, taken ports, one per folder, broken files, HTTP over real sockets."""

import contextlib
import json
import os
import signal
import smtplib
import socket
import ssl
import stat
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from postkeep.protocols.http.server import HEADER_LIMIT
from postkeep.runtime.unixsocket import reachable

from tests.support.engine import HOST, POSTKEEP, Engine


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    with Engine(tmp_path_factory.mktemp("engine"), users={"alice": "alice password"}) as engine:
        yield engine


@pytest.fixture
def stopped(tmp_path: Path) -> Iterator[Engine]:
    engine = Engine(tmp_path)
    yield engine
    engine.close()


def get(engine: Engine, path: str, **more: object) -> httpx.Response:
    return httpx.get(f"https://{HOST}:{engine.ports.admin}/api/v1{path}", verify=False, **more)  # type: ignore[arg-type]


def talk(port: int, data: bytes, *, tls: bool = False, limit: float = 20.0) -> bytes:
    """Send, then read until the server closes."""
    plain = socket.create_connection((HOST, port), timeout=limit)
    sock: socket.socket = plain
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        sock = context.wrap_socket(plain, server_hostname="mail.example.test")
    with sock:
        # The server may close before it has read all of a flood.
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            sock.sendall(data)
        received = b""
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            while piece := sock.recv(65_536):
                received += piece
        return received


# --- the running engine -------------------------------------------------------------------------------


def test_every_service_greets(engine: Engine) -> None:
    services = json.loads(engine.run("service", "list", "--json").stdout)
    assert {one["name"] for one in services if one["running"]} == {
        "smtp", "submission", "smtps", "imap", "imaps", "pop3", "pop3s", "http", "https", "admin",
    }  # fmt: skip
    assert talk(engine.ports.smtp, b"QUIT\r\n").startswith(b"220 mail.example.test")
    assert talk(engine.ports.smtps, b"QUIT\r\n", tls=True).startswith(b"220 mail.example.test")
    assert talk(engine.ports.imap, b"a LOGOUT\r\n").startswith(b"* OK")
    assert talk(engine.ports.pop3s, b"QUIT\r\n", tls=True).startswith(b"+OK")


def test_administration_over_tls(engine: Engine) -> None:
    answer = get(engine, "/status", auth=("admin", engine.passwords["admin"]))
    assert answer.status_code == 200
    assert answer.json()["running"] is True
    assert answer.json()["users"] == 2
    assert "date" in answer.headers
    assert get(engine, "/status").status_code == 401
    assert get(engine, "/status", auth=("alice", engine.passwords["alice"])).status_code == 403


def test_pages_at_the_clients_ports(engine: Engine) -> None:
    base = f"http://{HOST}:{engine.ports.of(80)}"
    page = httpx.get(base + "/")
    assert page.status_code == 200
    assert "mail.example.test" in page.text
    moved = httpx.get(base + "/admin")
    assert moved.headers["location"] == f"https://{HOST}:{engine.ports.admin}/admin"
    evil = httpx.get(base + "/admin", headers={"Host": 'evil.example/"><script>'})
    assert evil.headers["location"] == f"https://mail.example.test:{engine.ports.admin}/admin"
    secure = httpx.get(f"https://{HOST}:{engine.ports.of(443)}/admin", verify=False)
    assert secure.status_code == 302
    assert httpx.get(base + "/../../etc/passwd").status_code == 404
    assert httpx.post(base + "/").status_code == 405


def test_the_unix_socket_is_for_the_engines_user_alone(engine: Engine) -> None:
    path = engine.data / "run" / "admin.sock"
    mode = path.stat().st_mode
    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


@pytest.mark.skipif(os.getuid() != 0, reason="needs root to become somebody else")
def test_another_user_is_turned_away_even_with_the_folders_open(engine: Engine) -> None:
    path = engine.data / "run" / "admin.sock"
    opened = [folder for folder in (path, *path.parents) if folder.stat().st_uid == 0 and folder != Path("/")]
    modes = {folder: stat.S_IMODE(folder.stat().st_mode) for folder in opened}
    script = (
        "import os,socket,sys\nos.setgid(65534);os.setuid(65534)\ns=socket.socket(socket.AF_UNIX)\n"
        "s.settimeout(10)\ns.connect(sys.argv[1])\n"
        "try:\n s.sendall(b'GET /api/v1/users HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n')\n"
        " print(len(s.recv(100)))\nexcept ConnectionError: print(0)\n"
    )
    try:
        for folder in opened:
            folder.chmod(0o777)
        with reachable(path) as name:
            done = subprocess.run(
                ["/usr/bin/python3", "-c", script, name], capture_output=True, text=True, timeout=30,
                pass_fds=[int(name.split("/")[4])] if name.startswith("/proc") else [],
            )  # fmt: skip
    finally:
        for folder, mode in modes.items():
            folder.chmod(mode)
    assert done.stdout == "0\n", done.stderr


def test_a_header_without_end_is_refused(engine: Engine) -> None:
    for flood in (
        b"GET / HTTP/1.1\r\nX: " + b"x" * (HEADER_LIMIT * 4),
        b"GET /" + b"x" * (HEADER_LIMIT * 4),
        b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * HEADER_LIMIT,
    ):
        answer = talk(engine.ports.of(80), flood)
        assert answer == b"" or answer.startswith((b"HTTP/1.1 431", b"HTTP/1.1 400"))
    assert httpx.get(f"http://{HOST}:{engine.ports.of(80)}/").status_code == 200


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x00" * 1000, b"\x16\x03\x01" + b"\xff" * 500, b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"EHLO x\r\n",
        b"GET http://[::1 HTTP/1.1\r\n\r\n", b"GET /\xff\xfe HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: -5\r\n\r\n", b"POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", b"GET / HTTP/1.1\r\nA\x00B: c\r\n\r\n",
    ],
)  # fmt: skip
def test_what_is_not_http_is_refused(engine: Engine, garbage: bytes) -> None:
    answer = talk(engine.ports.of(80), garbage)
    assert answer == b"" or answer.startswith(b"HTTP/1.1 4")


def test_status_counts_connections(engine: Engine) -> None:
    with socket.create_connection((HOST, engine.ports.imap)) as sock:
        sock.recv(1000)
        assert json.loads(engine.run("status", "--json").stdout)["imap_connections"] == 1


def test_a_service_stops_and_starts(engine: Engine) -> None:
    engine.run("service", "stop", "pop3")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((HOST, engine.ports.pop3))
    engine.run("service", "start", "pop3")
    assert talk(engine.ports.pop3, b"QUIT\r\n").startswith(b"+OK")
    assert "POP3 was stopped" in engine.run("log", "tail", "operations").stdout


def test_disabling_a_user_ends_their_session(engine: Engine) -> None:
    engine.user_add("carl", "carl password")
    context = ssl._create_unverified_context()
    with context.wrap_socket(socket.create_connection((HOST, engine.ports.imaps), timeout=20)) as sock:
        file = sock.makefile("rwb")
        file.readline()
        file.write(b'a LOGIN carl "carl password"\r\n')
        file.flush()
        line = file.readline()
        while line.startswith(b"*"):
            line = file.readline()
        assert line.startswith(b"a OK")
        engine.run("user", "disable", "carl")
        rest = file.read()
        assert b"BYE" in rest


@pytest.mark.parametrize("end", ["disable", "password", "remove"])
def test_an_open_smtp_session_ends_with_its_login(engine: Engine, end: str) -> None:
    engine.user_add(f"dora-{end}", "dora password")
    with smtplib.SMTP_SSL(HOST, engine.ports.smtps, context=ssl._create_unverified_context()) as client:
        client.login(f"dora-{end}", "dora password")
        assert client.noop()[0] == 250
        if end == "password":
            engine.run("user", "password", f"dora-{end}", "--password-stdin", stdin="another password\n")
        else:
            engine.run("user", end, f"dora-{end}", *(["--yes"] if end == "remove" else []))
        code, text = client.getreply()
        assert code == 421
        assert text.startswith(b"4.7.0 Goodbye, the ")
        with pytest.raises(smtplib.SMTPServerDisconnected):
            client.mail(f"dora-{end}@example.test")


def test_memory_at_rest(engine: Engine) -> None:
    assert engine.memory() < 110 << 20


# --- starting and stopping ----------------------------------------------------------------------------------


def test_a_second_engine_on_the_folder_is_refused(engine: Engine) -> None:
    done = engine.run("serve", "--port-offset", "30000", check=False)
    assert done.returncode == 1
    assert f"another process ({engine.pid}) works on" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_taken_port_stops_that_service_alone(stopped: Engine) -> None:
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind((HOST, stopped.ports.imap))
        taken.listen()
        stopped.start()
        line = (
            f"imap does not run: cannot listen on {HOST} port {stopped.ports.imap}: another program uses it"
        )
        assert line in stopped.log
        assert line in stopped.log_file("error")
        assert talk(stopped.ports.smtp, b"QUIT\r\n").startswith(b"220")
        state = next(
            one
            for one in json.loads(stopped.run("service", "list", "--json").stdout)
            if one["name"] == "imap"
        )
        assert not state["running"]
        assert "another program uses it" in state["failure"]
        refused = stopped.run("service", "start", "imap", check=False)
        assert refused.returncode == 1
    stopped.run("service", "start", "imap")
    assert talk(stopped.ports.imap, b"a LOGOUT\r\n").startswith(b"* OK")
    stopped.stop()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_clean_stop_tells_the_sessions_and_leaves_nothing(stopped: Engine, number: signal.Signals) -> None:
    stopped.start()
    with (
        socket.create_connection((HOST, stopped.ports.smtp), timeout=20) as smtp,
        socket.create_connection((HOST, stopped.ports.imap), timeout=20) as imap,
        socket.create_connection((HOST, stopped.ports.of(80)), timeout=20) as http,
    ):
        assert smtp.recv(1000).startswith(b"220")
        assert imap.recv(1000).startswith(b"* OK")
        http.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert http.recv(100)
        process = stopped.process
        assert process is not None
        began = time.monotonic()
        process.send_signal(number)
        assert process.wait(20) == 0
        assert time.monotonic() - began < 10
        assert b"421" in smtp.recv(1000)
        assert b"BYE" in imap.recv(1000)
    stopped._ended()
    assert not (stopped.data / "run" / "admin.sock").exists()
    assert "Postkeep stopped" in stopped.log_file("operations")
    assert "Unexpected" not in stopped.log
    assert stopped.log_file("error") == ""
    assert stopped.run("verify").returncode == 0


def test_a_killed_engine_leaves_a_socket_that_the_next_one_replaces(stopped: Engine) -> None:
    stopped.start()
    stopped.kill()
    assert (stopped.data / "run" / "admin.sock").exists()
    assert "admin@example.test" in stopped.run("user", "list").stdout  # in the folder itself
    stopped.start()
    assert "admin@example.test" in stopped.run("user", "list").stdout
    stopped.stop()


def test_a_broken_file_is_reported_and_the_last_good_one_used(stopped: Engine) -> None:
    path = stopped.data / "mailserver.cfg"
    path.write_text(path.read_text().replace('"MaxRecipients">1000<', '"MaxRecipients">lots<'))
    stopped.start()
    assert "mailserver.cfg, line " in stopped.log
    assert "MaxRecipients takes a number" in stopped.log_file("error")
    assert stopped.run("setting", "get", "MaxRecipients").stdout == "1000\n"
    stopped.stop()


def test_an_edit_made_while_stopped_holds(stopped: Engine) -> None:
    path = stopped.data / "mailserver.cfg"
    path.write_text(
        path.read_text().replace(
            '"InternetHostname">mail.example.test<', '"InternetHostname">mx.example.org<'
        )
    )
    stopped.start()
    assert talk(stopped.ports.smtp, b"QUIT\r\n").startswith(b"220 mx.example.org")
    stopped.stop()


def test_a_folder_that_is_not_set_up_is_refused_with_what_to_do(tmp_path: Path) -> None:
    done = subprocess.run(
        [str(POSTKEEP), "serve", "--data", str(tmp_path / "none")], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1
    assert "postkeep init" in done.stderr
    assert not (tmp_path / "none").exists()


def test_an_engine_in_a_folder_with_a_very_long_name(tmp_path: Path) -> None:
    long = tmp_path / ("x" * 120)
    long.mkdir()
    with Engine(long) as engine:
        assert "admin@example.test" in engine.run("user", "list").stdout
