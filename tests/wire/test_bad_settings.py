"""One bad setting or a broken file never locks the administrator out: what reads goes on, the way back works."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.engine import Engine


@pytest.fixture
def stopped(tmp_path: Path) -> Iterator[Engine]:
    engine = Engine(tmp_path)
    yield engine
    engine.close()


def refused(engine: Engine, *arguments: str) -> str:
    done = engine.run(*arguments, check=False)
    assert done.returncode == 1, done
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) <= 2
    return done.stderr


def edit(engine: Engine, variable: str, old: str, new: str) -> None:
    path = engine.data / "mailserver.cfg"
    text = path.read_text()
    before = f'<variable name="{variable}">{old}</variable>'
    assert before in text
    path.write_text(text.replace(before, f'<variable name="{variable}">{new}</variable>'))


def test_places_that_cannot_be_used_are_refused_when_set(stopped: Engine) -> None:
    before = (stopped.data / "mailserver.cfg").read_bytes()
    for variable, value, reason in (
        ("ResolverFile", "/nope", "No such file"),
        ("ResolverFile", "/dev/zero", "not a file"),
        ("NameServers", "x y", "not an IP address"),
        ("MailStoreDirectory", "/etc/passwd", "is not a folder"),
    ):
        said = refused(stopped, "setting", "set", variable, value)
        assert variable in said
        assert reason in said
    assert (stopped.data / "mailserver.cfg").read_bytes() == before


def test_a_resolver_file_that_is_gone_stops_neither_commands_nor_the_engine(stopped: Engine) -> None:
    edit(stopped, "ResolverFile", "", "/nope")
    for command in (("status",), ("user", "list"), ("setting", "get", "ResolverFile"), ("queue", "list")):
        done = stopped.run(*command)
        assert done.stderr.count("\n") == 1
        assert "Warning: ResolverFile: /nope: No such file" in done.stderr
    stopped.start()
    assert stopped.log_file("error").count("ResolverFile: /nope") >= 1
    assert len([line for line in stopped.log.splitlines() if "ResolverFile" in line]) == 1
    stopped.run("setting", "set", "ResolverFile", "")  # holds at once
    stopped.stop()
    edit(stopped, "ResolverFile", "", "/nope")
    stopped.run("setting", "set", "ResolverFile", "--default")
    assert stopped.run("status").stderr == ""


def test_a_store_that_cannot_be_opened_leaves_the_settings(stopped: Engine) -> None:
    edit(stopped, "MailStoreDirectory", "store", "/etc/passwd")
    said = refused(stopped, "user", "list")
    assert "/etc/passwd (setting MailStoreDirectory) cannot be opened" in said
    status = json.loads(stopped.run("status", "--json").stdout)
    assert status["users"] == 1
    assert "/etc/passwd" in status["failure"]
    assert stopped.run("setting", "get", "MailStoreDirectory").stdout == "/etc/passwd\n"
    assert "MailStoreDirectory" in refused(stopped, "user", "add", "x", "--no-password")
    assert "MailStoreDirectory" in refused(stopped, "queue", "list")
    with pytest.raises(AssertionError, match="setting MailStoreDirectory"):
        stopped.start(20)
    stopped.run("setting", "set", "MailStoreDirectory", "--default")
    assert "admin@example.test" in stopped.run("user", "list").stdout


def broken(engine: Engine) -> tuple[Path, bytes]:
    path = engine.data / "mailserver.cfg"
    edit(engine, "MaxRecipients", "1000", "lots")
    return path, path.read_bytes()


def check_that_nothing_changes(engine: Engine, path: Path, content: bytes) -> None:
    for command in (("setting", "set", "MaxHops", "40"), ("user", "add", "eve", "--no-password")):
        said = refused(engine, *command)
        assert "mailserver.cfg, line " in said
        assert "MaxRecipients takes a number" in said
        assert "move it away" in said
    assert path.read_bytes() == content
    assert not path.with_name("mailserver.cfg.broken").exists()


def test_a_broken_file_is_told_by_every_command_and_never_written_over(stopped: Engine) -> None:
    path, content = broken(stopped)
    for command in (("status",), ("setting", "get", "MaxRecipients"), ("user", "list"), ("domain", "list")):
        done: subprocess.CompletedProcess[str] = stopped.run(*command)
        (line,) = done.stderr.splitlines()
        assert line.startswith("Warning: mailserver.cfg, line ")
        assert "MaxRecipients takes a number, not “lots”" in line
        assert "mailserver.cfg.good, is used" in line
    check_that_nothing_changes(stopped, path, content)
    # The way on with the last good copy: to move the broken file away.
    path.rename(path.with_name("mine.cfg"))
    stopped.run("setting", "set", "MaxHops", "40")
    assert stopped.run("setting", "get", "MaxHops").stdout == "40\n"
    assert stopped.run("status").stderr == ""
    assert path.with_name("mine.cfg").read_bytes() == content


def test_nor_does_a_running_engine_write_over_it(stopped: Engine) -> None:
    path, content = broken(stopped)
    stopped.start()
    check_that_nothing_changes(stopped, path, content)
    assert "running" in stopped.run("status").stdout
    path.unlink()
    stopped.run("setting", "set", "MaxHops", "40")
    stopped.restart()
    assert stopped.run("setting", "get", "MaxHops").stdout == "40\n"


def test_a_broken_users_file_is_not_written_over_at_start(stopped: Engine) -> None:
    path = stopped.data / "users.cfg"
    path.write_text("<config><list")
    content = path.read_bytes()
    stopped.start()
    assert "admin@example.test" in stopped.run("user", "list").stdout
    assert "users.cfg" in refused(stopped, "user", "add", "eve", "--no-password")
    stopped.stop()
    assert path.read_bytes() == content


def test_misspelt_and_dangling_entries_are_in_the_warning_log(stopped: Engine) -> None:
    path = stopped.data / "mailserver.cfg"
    path.write_text(path.read_text().replace('name="MaxHops"', 'name="MaxHopz"'))
    users = stopped.data / "users.cfg"
    users.write_text(
        users.read_text().replace(
            "</list>",
            '<listitem><variable name="Name">lost</variable><variable name="Domain">gone.test</variable>'
            '<variable name="Password">secret text</variable></listitem></list>',
            1,
        )
    )
    stopped.start()
    stopped.stop()
    log = stopped.log_file("warning")
    assert "unknown variable “MaxHopz” in table SMTP: kept, not used; did you mean MaxHops?" in log
    assert "user lost@gone.test: there is no domain gone.test" in log
    assert "user lost@gone.test: the password is none of" in log
    assert "secret text" not in log
    assert len(log.splitlines()) == 3


def test_defaults_sizes_and_units(stopped: Engine) -> None:
    stopped.run("setting", "set", "MaxMessageSize", "10M")
    assert stopped.run("setting", "get", "MaxMessageSize").stdout == "10485760\n"
    assert "10485760 octets" in stopped.run("setting", "list", "MaxMessageSize").stdout
    stopped.run("setting", "set", "MaxMessageSize", "--default")
    assert stopped.run("setting", "get", "MaxMessageSize").stdout == "134217728\n"
    stopped.run("setting", "set", "RelayNetworks", "192.0.2.0/24")
    stopped.run("setting", "set", "RelayNetworks", "--default")
    assert stopped.run("setting", "get", "RelayNetworks").stdout == "\n"
    assert stopped.run("setting", "set", "MaxHops", "40", "--default", check=False).returncode == 2
    assert stopped.run("setting", "set", "MaxHops", check=False).returncode == 2
    stopped.run("user", "set", "admin", "--quota", "1G")
    assert json.loads(stopped.run("user", "show", "admin", "--json").stdout)["quota_bytes"] == 1 << 30
    assert stopped.run("user", "set", "admin", "--quota", "much", check=False).returncode == 2


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        (["ann", "o k"], "cannot be a user name"),
        (["ann", "n" * 80], "80 characters"),
        (["ann", "admin"], "admin@example.test"),
        (["ann", ""], "at least 1 character"),
        (["bob", "ann;short"], "at least 8 characters"),
    ],
)
def test_an_import_names_the_line_that_is_refused(
    stopped: Engine, tmp_path: Path, rows: list[str], reason: str
) -> None:
    file = tmp_path / "users.csv"
    # A line of its own for a field with a line end in it: lines are those of the file, not of the users.
    text = "\n".join(["Name;Password;FullName", 'first;;"a', 'b"', *(f"{row}" for row in rows)])
    file.write_text(text + (";;x\n" if rows[-1] == "" else "\n"))
    said = refused(stopped, "user", "import", str(file))
    assert f"{file}, line 5: " in said
    assert reason in said
