"""The command line, with and without a running engine: the same commands, the same results."""

import csv
import imaplib
import json
import signal
import socket
import ssl
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.engine import POSTKEEP, Engine


@pytest.fixture(scope="module", params=["running", "stopped"])
def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    engine = Engine(tmp_path_factory.mktemp(request.param))
    try:
        if request.param == "running":
            engine.start()
        yield engine
        if engine.process is not None:
            engine.stop()
    finally:
        engine.close()


def cli(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(POSTKEEP), *arguments], input=stdin, capture_output=True, text=True, timeout=120
    )


def test_a_users_life(engine: Engine) -> None:
    run = engine.run
    run(
        "user",
        "add",
        "dora",
        "--password-stdin",
        "--full-name",
        "Dora Dřevěná",
        "--alias",
        "d",
        stdin="long enough\n",
    )
    shown = json.loads(run("user", "show", "dora", "--json").stdout)
    assert (shown["address"], shown["full_name"], shown["aliases"]) == (
        "dora@example.test",
        "Dora Dřevěná",
        ["d"],
    )
    assert "Dora Dřevěná" in run("user", "list").stdout
    run("user", "set", "dora", "--quota", "1000000", "--forward", "x@elsewhere.example", "--no-keep-copy")
    run("user", "disable", "dora")
    shown = json.loads(run("user", "show", "dora@example.test", "--json").stdout)
    assert (shown["enabled"], shown["quota_bytes"], shown["keep_copy"]) == (False, 1_000_000, False)
    run("user", "enable", "dora")
    run("user", "set", "dora", "--no-forwards", "--no-aliases")
    run("user", "password", "dora", "--password-file", "-", stdin="another one\n")
    assert run("user", "add", "dora", "--no-password", check=False).returncode == 1
    assert run("user", "remove", "dora", check=False).returncode == 2  # nobody to ask
    run("user", "remove", "dora", "--yes")
    gone = run("user", "show", "dora", check=False)
    assert gone.returncode == 1
    assert gone.stderr == "Error: there is no user “dora”\n"


def test_domains_and_aliases(engine: Engine) -> None:
    run = engine.run
    run("domain", "add", "second.test", "--description", "Another")
    assert run("domain", "alias", "second.test", "two.test", "zwei.test").stdout.endswith(
        "two.test, zwei.test.\n"
    )
    run("domain", "alias", "second.test", "zwei.test", "--remove")
    domains = {one["name"]: one for one in json.loads(run("domain", "list", "--json").stdout)}
    assert domains["second.test"]["aliases"] == ["two.test"]
    assert domains["example.test"]["primary"]
    assert run("domain", "remove", "second.test", "--yes", check=False).returncode == 1
    run("alias", "add", "in*", "admin", "far@elsewhere.example")
    run("alias", "add", "boss@second.test", "admin@example.test")
    assert (
        run("alias", "check", "info").stdout
        == "admin@example.test (mailbox)\nfar@elsewhere.example (sent on)\n"
    )
    assert run("alias", "check", "boss@two.test").stdout == "admin@example.test (mailbox)\n"
    unknown = run("alias", "check", "nobody", check=False)
    assert unknown.returncode == 1
    assert "is unknown" in unknown.stdout
    assert "boss@second.test" in run("alias", "list").stdout
    run("alias", "remove", "in*")
    run("alias", "remove", "boss@second.test")
    run("domain", "alias", "second.test", "two.test", "--remove")
    run("domain", "remove", "second.test", "--yes")
    assert "There are no aliases." in run("alias", "list").stdout


def test_settings(engine: Engine) -> None:
    run = engine.run
    run("setting", "set", "maxrecipients", "123")
    assert run("setting", "get", "MaxRecipients").stdout == "123\n"
    assert "MaxRecipients" in run("setting", "list", "recipients of one message").stdout
    for wrong in (("MaxRecipients", "0"), ("MaxRecipients", "x"), ("NoSuchThing", "1")):
        assert run("setting", "set", *wrong, check=False).returncode == 1
    assert "MaxRecipients" in run("setting", "set", "MaxRecipient", "1", check=False).stderr
    run("setting", "set", "RelayNetworks", "192.0.2.0/24,198.51.100.7")
    assert run("setting", "get", "RelayNetworks").stdout == "192.0.2.0/24,198.51.100.7\n"
    run("setting", "set", "RelayNetworks", "")
    assert run("setting", "get", "RelayNetworks").stdout == "\n"


def test_a_secret_setting_is_never_an_argument_nor_shown(engine: Engine) -> None:
    assert engine.run("setting", "set", "RelayPassword", "hunter22", check=False).returncode == 2
    engine.run("setting", "set", "RelayPassword", "--value-file", "-", stdin="hunter22\n")
    assert engine.run("setting", "get", "RelayPassword").stdout == "(set)\n"
    assert "hunter22" not in engine.run("setting", "list", "--json").stdout
    engine.run("setting", "set", "RelayPassword", "")


def test_import(engine: Engine, tmp_path: Path) -> None:
    file = tmp_path / "users.csv"
    with open(file, "w", newline="", encoding="utf-8") as out:
        writer = csv.writer(out, delimiter=";")
        writer.writerow(["FullName", "Name", "Password", "MailAddress"])
        writer.writerow(["Jiří; senior", "jiri", "long enough 1", "jiri@example.test,jirka"])
        writer.writerow(["Eva", "eva", "", ""])
    assert engine.run("user", "import", str(file)).stdout == "Added 2 users.\n"
    shown = json.loads(engine.run("user", "show", "jiri", "--json").stdout)
    assert (shown["full_name"], shown["aliases"]) == ("Jiří; senior", ["jirka"])
    assert engine.run("user", "import", str(file), check=False).returncode == 1  # all or none
    for text, line in (("a,b\n1,2\n", "line 1"), ("Name\nx,y\n", "line 2"), ('Name\n"x\n', "line 2")):
        file.write_text(text)
        refused = engine.run("user", "import", str(file), check=False)
        assert refused.returncode == 2
        assert line in refused.stderr
    engine.run("user", "remove", "jiri", "eva", "--yes")


def test_status_queue_log_verify(engine: Engine) -> None:
    engine.run("user", "add", "logged", "--no-password")
    status = json.loads(engine.run("status", "--json").stdout)
    assert status["running"] == (engine.process is not None)
    assert "version" in engine.run("status").stdout
    assert engine.run("queue", "list").stdout == "The queue is empty.\n"
    assert json.loads(engine.run("queue", "list", "--json").stdout) == []
    assert engine.run("queue", "remove", "nothing", "--yes", check=False).returncode == 1
    assert engine.run("queue", "retry", check=False).returncode == 2
    assert (
        "command line: added users logged@example.test"
        in engine.run("log", "tail", "config", "--search", "ADDED").stdout
    )
    assert engine.run("log", "tail", "nothing", check=False).returncode == 2
    assert engine.run("verify").stdout.endswith("clean\n")
    listing = engine.run("service", "list", check=False)
    assert listing.returncode == (0 if engine.process else 1)


def test_rebuild_wants_a_stopped_engine(engine: Engine) -> None:
    done = engine.run("rebuild", "--force", check=False)
    assert done.returncode == (1 if engine.process else 0), done.stderr


def test_hostile_names_are_one_line_errors(engine: Engine) -> None:
    for name in ("a b", "", "../../x", "a\nb", "x" * 5000, "a/b", "a@", "@example.test"):
        for command in (
            ("user", "show", name),
            ("user", "add", name, "--no-password"),
            ("alias", "remove", name),
        ):
            done = engine.run(*command, check=False)
            assert done.returncode in (1, 2), command
            assert "Traceback" not in done.stderr


# --- init and demo ----------------------------------------------------------------------------------------


def init(data: Path, *more: str, stdin: str = "a long password\n") -> subprocess.CompletedProcess[str]:
    options = {"--hostname": "mail.example.test", "--domain": "example.test", "--admin": "root"}
    options.update(zip(more[::2], more[1::2], strict=True))
    given = [word for pair in options.items() for word in pair]
    return cli("init", "--data", str(data), *given, "--password-file", "-", stdin=stdin)


def test_init_makes_the_layout(tmp_path: Path) -> None:
    data = tmp_path / "deep" / "data"
    assert init(data).returncode == 0
    for name in ("license", "sslcert", "sslca", "reports", "translations", "myspell", "UpgradeBackups",
                 "store/mail", "store/lists", "store/queue", "store/logs"):  # fmt: skip
        assert stat.S_IMODE((data / name).stat().st_mode) == 0o700
    assert (data / "sslcert" / "server.crt").read_bytes().startswith(b"-----BEGIN CERTIFICATE")
    assert stat.S_IMODE((data / "sslcert" / "server.key").stat().st_mode) == 0o600
    for name in ("mailserver.cfg", "users.cfg"):
        text = (data / name).read_text()
        assert text.startswith('<?xml version="1.0" encoding="UTF-8"?>')
        assert "a long password" not in text
        assert stat.S_IMODE((data / name).stat().st_mode) == 0o600


def test_init_never_changes_a_folder_that_is_set_up(tmp_path: Path) -> None:
    assert init(tmp_path / "data").returncode == 0
    before = {path: path.read_bytes() for path in (tmp_path / "data").rglob("*") if path.is_file()}
    again = init(tmp_path / "data", "--domain", "other.test")
    assert again.returncode == 1
    assert "is set up already" in again.stderr
    assert {path: path.read_bytes() for path in (tmp_path / "data").rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--hostname", "no host"),
        ("--domain", "[192.0.2.1]"),
        ("--domain", ""),
        ("--admin", "a b"),
        ("--admin", ""),
    ],
)
def test_init_refuses_what_cannot_be(tmp_path: Path, option: str, value: str) -> None:
    done = init(tmp_path / "data", option, value)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "data" / "mailserver.cfg").exists()


@pytest.mark.parametrize("stdin", ["", "\n", "short\n", "\x00" * 20 + "\n"])
def test_init_refuses_bad_passwords(tmp_path: Path, stdin: str) -> None:
    assert init(tmp_path / "data", stdin=stdin).returncode in (1, 2)
    assert not (tmp_path / "data" / "mailserver.cfg").exists()


def test_no_command_takes_a_password_as_an_argument() -> None:
    for command in (
        ("user", "add", "x", "--password", "y"),
        ("user", "password", "x", "y"),
        ("init", "--password", "y"),
    ):
        assert cli(*command).returncode == 2


@pytest.mark.parametrize(
    "command",
    ["", "init", "serve", "demo", "user", "user add", "user set", "user import", "domain", "domain alias", "alias",
     "alias check", "queue", "service", "setting", "setting set", "verify", "rebuild", "status", "log tail"],
)  # fmt: skip
def test_help_is_there(command: str) -> None:
    done = cli(*command.split(), "--help")
    assert done.returncode == 0
    assert "Usage: postkeep" in done.stdout
    assert len(done.stdout) > 150


def test_usage_errors_are_2_and_version() -> None:
    assert cli("nonsense").returncode == 2
    assert cli("serve", "--port-offset", "99999").returncode == 2
    assert cli("version").stdout.startswith("postkeep ")


def test_a_folder_that_is_not_set_up(tmp_path: Path) -> None:
    for command in (("user", "list"), ("verify",), ("status",)):
        done = cli(*command, "--data", str(tmp_path))
        assert done.returncode == 1
        assert "is not set up" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_demo_serves_mail_goes_on_and_keeps_to_its_folder(tmp_path: Path) -> None:
    engine = Engine(tmp_path)  # only for its free ports
    data = tmp_path / "demo"
    counts = []
    try:
        for _ in range(2):  # the second start goes on with the first one's folder
            command = [str(POSTKEEP), "demo", "--data", str(data), "--port-offset", str(engine.ports.offset)]
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            assert process.stdout is not None
            said: list[str] = []
            for line in process.stdout:
                said.append(line)
                if line == "ready\n":
                    break
            passwords = dict(line.split() for line in (data / "demo-passwords.txt").read_text().splitlines())
            assert stat.S_IMODE((data / "demo-passwords.txt").stat().st_mode) == 0o600
            assert all(password in "".join(said) for password in passwords.values())
            assert all(password.isalnum() and len(password) == 16 for password in passwords.values())
            assert "(STARTTLS, or no TLS at all)" in "".join(said)
            trusting = ssl.create_default_context(cafile=str(data / "sslcert" / "server.crt"))
            for name in ("localhost", "127.0.0.1", "mail.example.test"):
                with (
                    socket.create_connection(("127.0.0.1", engine.ports.imaps), timeout=30) as plain,
                    trusting.wrap_socket(plain, server_hostname=name) as secure,
                ):
                    assert secure.version() is not None
            with imaplib.IMAP4_SSL(
                "127.0.0.1", engine.ports.imaps, ssl_context=ssl._create_unverified_context(), timeout=30
            ) as imap:
                imap.login("alice", passwords["alice"])
                counts.append(imap.select("INBOX")[1])
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0
            process.stdout.close()
    finally:
        engine.close()
    assert counts[0] == counts[1] != [b"0"]
    refused = cli("demo", "--data", str(engine.data))
    assert refused.returncode == 1
    assert "is no demo folder" in refused.stderr
