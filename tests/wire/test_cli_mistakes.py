"""The command line when things go wrong: what it tells, and what it says to do next."""

import imaplib
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.engine import POSTKEEP, Engine


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    engine = Engine(tmp_path_factory.mktemp("mistakes"), users={"alice": "long enough"})
    with engine:
        yield engine


def test_a_user_who_never_had_mail_is_removed(tmp_path: Path) -> None:
    """Also the administrator whom `init` made, for whom the store has nothing yet."""
    engine = Engine(tmp_path)
    try:
        refused = engine.run("user", "remove", "admin", "--yes", check=False)
        assert refused.returncode == 1
        assert "the last administrator" in refused.stderr
        second = ("user", "add", "second", "--rights", "write", "--password-stdin")
        engine.run(*second, stdin="long enough\n")
        assert engine.run("user", "remove", "admin", "--yes").stdout == "Removed admin.\n"
        assert engine.run("user", "show", "admin", check=False).returncode == 1
    finally:
        engine.close()


def test_an_alias_that_is_a_mistake(engine: Engine) -> None:
    refused = engine.run("alias", "add", "alice", "admin", check=False)
    assert refused.returncode == 1
    assert "there is a user alice@example.test" in refused.stderr
    engine.run("alias", "add", "alice", "admin", "--override")
    engine.run("alias", "remove", "alice")
    engine.run("alias", "add", "one", "two")
    added = engine.run("alias", "add", "two", "one")
    assert added.stdout == "Added two@example.test.\n"
    assert added.stderr == "Warning: two@example.test leads in a loop, mail to it is refused.\n"
    checked = engine.run("alias", "check", "one", check=False)
    assert checked.returncode == 1
    assert checked.stdout == "one@example.test leads in a loop: mail to it is refused.\n"
    checked = engine.run("alias", "check", "nobody", check=False)
    assert checked.stdout == "nobody@example.test is unknown: mail to it is refused.\n"


def test_blocks_are_listed_and_ended(engine: Engine) -> None:
    assert engine.run("block", "list").stdout == "Nothing is blocked.\n"
    engine.set("GuessingLimit", 2)
    for _ in range(2):
        with (
            imaplib.IMAP4_SSL(engine.host, engine.ports.imaps, ssl_context=_trusting()) as client,
            pytest.raises(imaplib.IMAP4.error),
        ):
            client.login("alice", "wrong password")
    listed = engine.run("block", "list").stdout
    assert "alice@example.test" in listed
    assert "all (user locked)" in listed
    assert "locked" in engine.run("user", "list", "--search", "alice").stdout
    assert "Failed IMAP login from 127.0.0.1" in engine.log_file("security")
    assert engine.run("block", "remove", "alice").stdout == "Unlocked alice.\n"
    assert engine.run("block", "remove", "alice", check=False).returncode == 1
    assert "locked" not in engine.run("user", "list", "--search", "alice").stdout
    engine.run("block", "remove", "--all")
    assert engine.run("block", "list").stdout == "Nothing is blocked.\n"
    assert engine.run("block", "remove", check=False).returncode == 2


def _trusting() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


@pytest.mark.parametrize("way", ["engine", "folder"])
def test_an_import_shows_how_far_it_is(engine: Engine, tmp_path: Path, way: str) -> None:
    other = engine if way == "engine" else Engine(tmp_path)
    file = tmp_path / "users.csv"
    lines = [f"{way}{number},long enough {number}" for number in range(60)]
    file.write_text("\n".join(["Name,Password", *lines]))
    try:
        done = other.run("user", "import", str(file))
        assert done.stdout == "Added 60 users.\n"
        assert " of 60 passwords are hashed" in done.stderr
    finally:
        if other is not engine:
            other.close()


def test_a_damaged_database_names_the_file_and_the_way_out(tmp_path: Path) -> None:
    engine = Engine(tmp_path, users={"alice": "long enough"})
    try:
        database = engine.data / "store" / "postkeep.db"
        database.write_bytes(b"not a database at all " * 1000)
        for tail in ("-wal", "-shm"):
            database.with_name(database.name + tail).unlink(missing_ok=True)
        said = engine.run("user", "list", check=False)
        serve = subprocess.run(
            [str(POSTKEEP), "serve", "--data", str(engine.data), "--port-offset", str(engine.ports.offset)],
            capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        for done in (said, serve):
            assert done.returncode == 1
            assert f"the database {database} is damaged" in done.stderr
            assert f"postkeep verify --data {engine.data}" in done.stderr
            assert f"postkeep rebuild --data {engine.data}" in done.stderr
        assert engine.run("verify", check=False).returncode == 1
        engine.run("rebuild")
        assert "alice@example.test" in engine.run("user", "list").stdout
    finally:
        engine.close()
