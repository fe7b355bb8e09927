"""The engine's unit and command on a Debian machine (CON-2, CON-8, WEB-3)."""

import base64
import hashlib
import os
import pwd
from pathlib import Path

import pytest
from postkeep_appliance.host.engine import DROP_IN, DebianEngine, _give_to_engine, store_folder
from postkeep_appliance.host.port import HostError, Invalid, UnitFacts

from tests.support.agentbench import Recorder, put


class World:
    def __init__(self, root: Path) -> None:
        self.root, self.run = root, Recorder()
        self.given: list[Path] = []
        self.engine = DebianEngine(root, self.run, self.given.append)
        self.data = root / "var/lib/postkeep"


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


async def test_the_unit(world: World) -> None:
    world.run.say("systemctl show", "ActiveState=active\nSubState=running\nUnitFileState=enabled\n")
    assert await world.engine.unit() == UnitFacts("active", "running", "enabled")


@pytest.mark.parametrize(
    ("action", "lines"),
    [
        ("start", ["reset-failed postkeep.service", "--no-block start postkeep.service"]),
        ("restart", ["reset-failed postkeep.service", "--no-block restart postkeep.service"]),
        ("stop", ["--no-block stop postkeep.service"]),
        ("disable", ["disable postkeep.service", "--no-block stop postkeep.service"]),
        (
            "enable",
            ["enable postkeep.service", "reset-failed postkeep.service", "--no-block start postkeep.service"],
        ),
    ],
)
async def test_commands(world: World, action: str, lines: list[str]) -> None:
    await world.engine.command(action)  # type: ignore[arg-type]
    assert world.run.lines == [f"systemctl {line}" for line in lines]


async def test_init_as_the_engines_user_with_the_password_on_standard_input(world: World) -> None:
    await world.engine.init("mail.example.com", "example.com", "admin", "secret-4711")
    assert world.run.ran == [
        [
            "runuser",
            "-u",
            "postkeep",
            "--",
            "/usr/bin/postkeep",
            "init",
            "--hostname=mail.example.com",
            "--domain=example.com",
            "--admin=admin",
            "--password-file=-",
            "--data",
            "/var/lib/postkeep",
        ]
    ]
    assert world.run.stdin == ["secret-4711\n"]
    assert world.given == [world.data]


async def test_the_engines_refusal_in_its_words(world: World) -> None:
    world.run.say("runuser", status=1, err="Error: “x” is not a domain name\n")
    with pytest.raises(HostError, match="The engine refuses: “x” is not a domain name"):
        await world.engine.init("mail.example.com", "example.com", "admin", "secret-4711")


def test_an_unfinished_set_up_is_moved_away_and_no_mail_is_touched(world: World) -> None:
    for name in (
        "mailserver.cfg",
        "mailserver.cfg.good",
        "users.cfg",
        "sslcert/server.crt",
        "sslcert/own.crt",
        "store/mail/1.pack",
    ):
        put(world.data, name, "x")
    assert world.engine.is_set_up()
    world.engine.undo_init()
    assert not world.engine.is_set_up()
    left = sorted(str(path.relative_to(world.data)) for path in world.data.rglob("*") if path.is_file())
    assert [name for name in left if "unfinished" not in name] == ["sslcert/own.crt", "store/mail/1.pack"]
    assert len(left) == 5


# --- what the engine's user could have planted


def test_a_link_instead_of_the_certificates_folder_removes_nothing_elsewhere(world: World) -> None:
    key = put(world.root, "etc/nginx/tls/server.key", "somebody's")
    certificate = put(world.root, "etc/nginx/tls/server.crt", "somebody's")
    put(world.data, "mailserver.cfg", "x")
    (world.data / "sslcert").symlink_to(key.parent)
    with pytest.raises(HostError, match="sslcert cannot be moved away"):
        world.engine.undo_init()
    assert key.exists()
    assert certificate.exists()


def test_a_link_instead_of_the_certificate_goes_itself(world: World) -> None:
    key = put(world.root, "etc/nginx/tls/server.key", "somebody's")
    (world.data / "sslcert").mkdir(parents=True)
    (world.data / "sslcert/server.key").symlink_to(key)
    world.engine.undo_init()
    assert key.exists()
    assert not (world.data / "sslcert/server.key").is_symlink()


def test_the_code(world: World) -> None:
    assert world.engine.setup_code() == ""
    put(world.data, "run/setup-code", "K7QF-2M9X\n")
    assert world.engine.setup_code() == "K7QF-2M9X"


def test_a_link_instead_of_the_code_shows_nothing(world: World) -> None:
    """The engine's user could point it at a file that only root may read."""
    secret = put(world.root, "etc/secret", "TOPSECRET")
    (world.data / "run").mkdir(parents=True)
    (world.data / "run/setup-code").symlink_to(secret)
    assert world.engine.setup_code() == ""
    (world.data / "run/setup-code").unlink()
    (world.data / "run").rmdir()
    (world.data / "run").symlink_to(world.root / "etc")
    put(world.root, "etc/setup-code", "TOPSECRET")
    assert world.engine.setup_code() == ""


def test_a_pipe_instead_of_the_code_does_not_hang(world: World) -> None:
    (world.data / "run").mkdir(parents=True)
    os.mkfifo(world.data / "run/setup-code")
    assert world.engine.setup_code() == ""


def test_something_else_instead_of_the_code(world: World) -> None:
    put(world.data, "run/setup-code", "\x1b[2Jowned")
    assert world.engine.setup_code() == ""


async def test_the_fingerprint_of_what_lies_there(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def nothing_is_served() -> None:
        return None

    monkeypatch.setattr(world.engine, "_served", nothing_is_served)
    assert await world.engine.fingerprint() == ""
    der = b"\x30\x82 a certificate"
    pem = f"-----BEGIN CERTIFICATE-----\n{base64.b64encode(der).decode()}\n-----END CERTIFICATE-----\n"
    put(world.data, "sslcert/server.crt", pem)
    digest = hashlib.sha256(der).hexdigest().upper()
    assert (await world.engine.fingerprint()).replace(":", "") == digest
    put(world.data, "sslcert/broken.crt", "-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----")
    assert (await world.engine.fingerprint()).replace(":", "") == digest


# --- a folder as store


async def test_a_folder_becomes_the_store(world: World) -> None:
    await world.engine.use_folder("/srv/mail")
    path = world.root / "srv/mail"
    assert path.is_dir()
    assert world.given == [path]
    assert "ReadWritePaths=/srv/mail\n" in (world.root / DROP_IN).read_text()
    assert world.run.lines == ["systemctl daemon-reload"]
    assert store_folder(world.root) == path


def test_without_one_the_store_is_in_the_data_folder(world: World) -> None:
    assert store_folder(world.root) == world.data / "store"
    put(world.root, DROP_IN, "[Service]\nReadWritePaths=relative\n")
    assert store_folder(world.root) == world.data / "store"


@pytest.mark.parametrize(
    "folder",
    [
        "/",
        "//srv/mail",
        "/etc",
        "/etc/mail",
        "/var/lib/x",
        "/root",
        "/srv",
        "/mnt",
        "/srv/../etc",
        "/srv/mail/",
        "relative",
        "/srv/a b",
        "/srv/x\nReadWritePaths=/",
    ],
)
async def test_places_that_cannot_be_the_store(world: World, folder: str) -> None:
    with pytest.raises(Invalid) as caught:
        await world.engine.use_folder(folder)
    assert caught.value.field == "store"
    assert not (world.root / DROP_IN).exists()


async def test_a_folder_with_something_else_in_it(world: World) -> None:
    put(world.root, "srv/photos/cat.jpg", "x")
    with pytest.raises(Invalid, match="holds something else"):
        await world.engine.use_folder("/srv/photos")
    assert world.given == []


async def test_a_link_on_the_way_to_the_store(world: World) -> None:
    (world.root / "etc").mkdir()
    (world.root / "srv").mkdir()
    (world.root / "srv/mail").symlink_to(world.root / "etc")
    with pytest.raises(Invalid, match="symbolic link"):
        await world.engine.use_folder("/srv/mail")
    assert world.given == []


async def test_a_link_on_the_way_makes_nothing_where_it_leads(world: World) -> None:
    (world.root / "etc").mkdir()
    (world.root / "srv").symlink_to(world.root / "etc")
    with pytest.raises(Invalid, match="symbolic link"):
        await world.engine.use_folder("/srv/mail")
    assert list((world.root / "etc").iterdir()) == []


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o775])
async def test_a_folder_below_one_that_others_write_in_is_not_given_away(world: World, mode: int) -> None:
    """They could put a link to /etc there between the look at it and the change of its owner."""
    (world.root / "srv/shared/x").mkdir(parents=True)
    (world.root / "srv/shared").chmod(mode)
    with pytest.raises(Invalid, match="may write in /srv/shared"):
        await world.engine.use_folder("/srv/shared/x/mail")
    assert world.given == []
    assert not (world.root / "srv/shared/x/mail").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
async def test_a_folder_below_somebody_s_own_is_not_given_away(world: World) -> None:
    (world.root / "srv/theirs").mkdir(parents=True)
    os.chown(world.root / "srv/theirs", 4711, 4711)
    with pytest.raises(Invalid, match="may write in /srv/theirs"):
        await world.engine.use_folder("/srv/theirs/mail")
    assert world.given == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_the_owner_of_what_a_link_leads_to_is_never_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("postkeep_appliance.host.engine.USER", "nobody")
    (tmp_path / "etc").mkdir()
    (tmp_path / "mail").symlink_to(tmp_path / "etc")
    with pytest.raises(OSError, match="Not a directory"):
        _give_to_engine(tmp_path / "mail")
    assert (tmp_path / "etc").stat().st_uid == 0
    _give_to_engine(tmp_path / "etc")
    assert (tmp_path / "etc").stat().st_uid == pwd.getpwnam("nobody").pw_uid
