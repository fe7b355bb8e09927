"""Logs, bundles, state and factory reset on a Debian machine (CON-9)."""

import os
import stat
from pathlib import Path

import pytest
from postkeep_appliance.host.debian import DebianHost
from postkeep_appliance.host.engine import DROP_IN
from postkeep_appliance.host.logs import AGENT_LOG, KEPT_BUNDLES
from postkeep_appliance.host.port import HostError

from tests.support.agentbench import Recorder, put
from tests.support.clock import FakeClock


class World:
    def __init__(self, root: Path) -> None:
        self.root, self.run = root, Recorder()
        self.host = DebianHost(root, self.run, FakeClock())
        self.store = root / "var/lib/postkeep/store"
        self.store.mkdir(parents=True)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


async def test_the_tail_of_a_log_of_the_engine(world: World) -> None:
    put(world.store, "logs/mail.log", "".join(f"line {n} {'odd' if n % 2 else 'even'}\n" for n in range(100)))
    assert await world.host.logs.read("mail", 2, "") == ("line 98 even", "line 99 odd")
    assert await world.host.logs.read("mail", 2, "EVEN") == ("line 96 even", "line 98 even")
    assert await world.host.logs.read("spam", 2, "") == ()


async def test_logs_of_a_store_elsewhere(world: World) -> None:
    put(world.root, DROP_IN, "[Service]\nReadWritePaths=/srv/mail\n")
    put(world.root, "srv/mail/logs/mail.log", "there\n")
    assert await world.host.logs.read("mail", 2, "") == ("there",)


@pytest.mark.parametrize("kind", ["file", "folder"])
async def test_a_link_instead_of_a_log_is_not_followed(world: World, kind: str) -> None:
    """The engine's user owns these folders; root's secrets must not come out by them."""
    put(world.root, "etc/mail.log", "TOPSECRET")
    if kind == "file":
        (world.store / "logs").mkdir()
        (world.store / "logs/mail.log").symlink_to(world.root / "etc/mail.log")
    else:
        (world.store / "logs").symlink_to(world.root / "etc")
    with pytest.raises(HostError):
        await world.host.logs.read("mail", 2, "")
    found = await world.host.logs.collect(lambda text, done, total: None)
    assert not any(b"TOPSECRET" in one.data for one in found)


async def test_a_log_of_gigabytes_is_read_from_its_end(world: World) -> None:
    path = put(world.store, "logs/mail.log", "")
    with path.open("r+b") as file:
        file.truncate(3 << 30)
        file.seek(0, os.SEEK_END)
        file.write(b"\nlast\n")
    assert (await world.host.logs.read("mail", 1, ""))[-1] == "last"


async def test_system_and_agent(world: World) -> None:
    world.run.say("journalctl", "one\ntwo\n")
    put(world.root, AGENT_LOG, "agent line\n")
    assert await world.host.logs.read("system", 1, "") == ("two",)
    assert await world.host.logs.read("agent", 1, "") == ("agent line",)


async def test_what_a_bundle_collects(world: World) -> None:
    put(world.root, "var/lib/postkeep/mailserver.cfg", "<config/>")
    put(world.root, "var/lib/postkeep/users.cfg", "<config>hashes</config>")
    world.run.say("nft", status=1, err="nft: not permitted")
    said: list[tuple[int, int]] = []
    found = {
        one.name: one.data
        for one in await world.host.logs.collect(lambda _, done, total: said.append((done, total)))
    }
    assert found["settings/mailserver.cfg"] == b"<config/>"
    assert found["network/firewall.txt"] == b"nft: not permitted"
    assert not any(b"hashes" in data for data in found.values())
    assert [done for done, _ in said] == sorted(done for done, _ in said)
    forbidden = ("cmd", "args", "environ")
    assert not any(word in argument for argv in world.run.ran for argument in argv for word in forbidden)


def test_bundles_are_roots_alone_and_few(world: World) -> None:
    folder = world.root / "var/lib/postkeep-appliance/support"
    for number in range(6):
        path = world.host.logs.keep_bundle(f"b{number}.tar.gz", b"x")
        os.utime(folder / f"b{number}.tar.gz", (number, number))
    assert path == "/var/lib/postkeep-appliance/support/b5.tar.gz"
    assert sorted(one.name for one in folder.iterdir()) == [
        f"b{n}.tar.gz" for n in range(6 - KEPT_BUNDLES, 6)
    ]
    assert stat.S_IMODE((folder / "b5.tar.gz").stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_state_is_whole_and_roots_alone(world: World) -> None:
    state = world.host.state
    assert state.read("setup") is None
    state.write("setup", b"1")
    state.write("setup", b"22")
    path = world.root / "var/lib/postkeep-appliance/setup"
    assert path.read_bytes() == b"22"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(path.parent) == ["setup"]
    state.remove("setup")
    state.remove("setup")
    with pytest.raises(ValueError, match=r"\.\./x"):
        state.read("../x")


# --- reset


def _image(world: World) -> None:
    for name in (
        "var/lib/postkeep/mailserver.cfg",
        "var/lib/postkeep/users.cfg",
        "var/lib/postkeep/store/mail/1.pack",
        "srv/mail/mail/1.pack",
        "etc/systemd/network/10-postkeep-ens192.network",
        "etc/systemd/network/90-postkeep-default.network",
        "etc/ssh/ssh_host_ed25519_key",
        "root/.ssh/authorized_keys",
        "usr/share/zoneinfo/UTC",
        "var/lib/postkeep-appliance/boot",
        "var/lib/postkeep-appliance/support/b.tar.gz",
        "var/log/postkeep-agent/agent.log.1",
    ):
        put(world.root, name, "x")
    put(world.root, DROP_IN, "[Service]\nReadWritePaths=/srv/mail\n")
    world.host.state.write("factory-reset", b"")


async def test_nothing_of_the_owner_is_left(world: World) -> None:
    _image(world)
    for step in world.host.reset.steps():
        await world.host.reset.do(step)
    left = sorted(
        str(path.relative_to(world.root))
        for path in world.root.rglob("*")
        if path.is_file() or path.is_symlink()
    )
    assert left == [
        "etc/hostname",
        "etc/hosts",
        "etc/localtime",
        "etc/systemd/network/90-postkeep-default.network",
        "etc/timezone",
        "usr/share/zoneinfo/UTC",
        "var/lib/postkeep-appliance/factory-reset",
        "var/lib/postkeep-appliance/first-password",
    ]
    assert world.host.system.hostname() == "postkeep"
    lines = world.run.lines
    assert lines[0] == "systemctl stop postkeep.service"
    assert lines.index("systemctl disable --now ssh.service") < lines.index("chpasswd"), "SSH is off first"
    assert "root:postkeep\n" in world.run.stdin
    assert "ssh-keygen -A" in lines


async def test_each_step_can_be_done_again(world: World) -> None:
    _image(world)
    for step in world.host.reset.steps():
        await world.host.reset.do(step)
        await world.host.reset.do(step)
    assert world.host.system.hostname() == "postkeep"


async def test_links_in_the_data_folder_lead_nowhere(world: World) -> None:
    _image(world)
    keep = put(world.root, "etc/keep/me", "x")
    (world.store / "outside").symlink_to(keep.parent)
    (world.root / "var/lib/postkeep/link").symlink_to(keep)
    for step in world.host.reset.steps():
        await world.host.reset.do(step)
    assert keep.read_text() == "x"


async def test_an_engine_that_does_not_stop_is_an_error(world: World) -> None:
    world.run.say("systemctl stop", status=1, err="Job timed out")
    with pytest.raises(HostError, match="timed out"):
        await world.host.reset.do(world.host.reset.steps()[0])
