"""Unattended set-up: all, some or wrong properties; once for each machine; no secret is left anywhere."""

from collections.abc import Callable
from pathlib import Path

import pytest
from postkeep_appliance.api.types import Addressing, Method, SetUp
from postkeep_appliance.boot.deployment import Deployment
from postkeep_appliance.boot.identity import KEYS_ONLY
from postkeep_appliance.boot.memory import Memory
from postkeep_appliance.guestinfo.declarations import load
from postkeep_appliance.guestinfo.rpctool import Output, RpcTool
from postkeep_appliance.guestinfo.sources import OvfVariable, PlainVariables
from postkeep_appliance.host.dryrun import DryRunHost
from postkeep_appliance.host.port import HostError

from tests.support.vmware import FakeRpcTool, full, ovf_environment
from tests.unit.appliance_boot.test_firstboot import QuickClock
from tests.unit.appliance_boot.test_values import ED25519

DECLARATIONS = load()
OVF = "guestinfo.ovfEnv"
DEFAULTS = {one.name: one.default for one in DECLARATIONS.values()}
"""What vCenter writes when nobody fills anything in."""
WHOLE = DEFAULTS | {
    "hostname": "mail.example.com",
    "address": "192.0.2.10/24",
    "gateway": "192.0.2.1",
    "domain": "example.com",
    "administrator_password": "geheim-admin",
    "root_password": "geheim-root",
    "time_zone": "Europe/Prague",
    "ntp": "ntp.example.com",
    "language": "cs",
}


class World:
    """One machine and its hypervisor. `start` is a boot: the part before the network, then the one after."""

    def __init__(self, tmp_path: Path, texts: dict[str, str] | None = None, *, set_up: bool = False) -> None:
        self.root = tmp_path
        (tmp_path / "etc/ssh/sshd_config.d").mkdir(parents=True)
        self.host = DryRunHost(QuickClock(), set_up=set_up)
        self.tool = FakeRpcTool({} if texts is None else {OVF: ovf_environment(texts)})
        self.calls: list[SetUp] = []
        self.lines: list[str] = []
        self.trouble: HostError | None = None
        self.unfinished = False
        self.instance = "one"

    async def _set_up(self, call: SetUp) -> None:
        self.calls.append(call)
        if self.trouble is not None:
            raise self.trouble
        self.host.machine.set_up = True
        self.host.machine.administrator = f"{call.administrator}@{call.domain}"

    def deployment(self) -> tuple[Deployment, Memory]:
        memory = Memory(self.host.state)
        rpc = RpcTool(self.tool)
        sources = [OvfVariable(rpc), PlainVariables(rpc, DECLARATIONS)]
        say = self.lines.append
        return (
            Deployment(self.host, self.root, memory, sources, DECLARATIONS, say, lambda: self.unfinished),
            memory,
        )

    async def before_network(self) -> list[str]:
        deployment, _ = self.deployment()
        return list(await deployment.apply(self.instance))

    async def after_network(self) -> tuple[str, ...]:
        deployment, memory = self.deployment()
        await deployment.finish(self.instance, self._set_up)
        return memory.notices

    async def start(self) -> tuple[str, ...]:
        return (*await self.before_network(), *await self.after_network())

    def everything(self) -> str:
        """All that is to be seen after it: hypervisor, arguments, state, files, lines."""
        files = [path.read_bytes() for path in self.root.rglob("*") if path.is_file()]
        state = list(self.host.state.files.values())
        said = "\n".join([*self.lines, *self.tool.commands]).encode()
        return b"\n".join([*self.tool.values.values(), *files, *state, said]).decode("utf-8", "replace")


def _read_only(world: World) -> Callable[[str], Output | None]:
    """The hypervisor answers what is asked and lets nothing be set."""
    before = world.tool.trouble
    return lambda words: (
        Output(1, b"", b"Permission denied\n") if words.startswith("info-set") else before(words)
    )


async def test_all_of_it(tmp_path: Path) -> None:
    world = World(tmp_path, WHOLE)
    assert await world.start() == ()
    machine = world.host.machine
    assert machine.hostname == "mail.example.com"
    assert machine.password == "geheim-root"
    assert world.host.state.read("first-password") is None
    assert (machine.zone, machine.ntp) == ("Europe/Prague", ("ntp.example.com",))
    first = world.host.network.adapters()[0].name
    assert world.host.network.settings(first).ipv4 == Addressing(Method.STATIC, "192.0.2.10/24", "192.0.2.1")
    assert world.host.state.read("language") == b"cs"
    assert machine.ssh
    (call,) = world.calls
    assert call == SetUp("mail.example.com", "example.com", "admin", "geheim-admin", "", True)
    assert "geheim" not in world.everything()


async def test_network_and_access_are_there_before_the_network_starts(tmp_path: Path) -> None:
    world = World(tmp_path, WHOLE)
    await world.before_network()
    assert world.host.machine.network_files
    assert world.host.machine.password == "geheim-root"
    assert not world.host.machine.ssh  # it comes when there is a network
    assert world.calls == []


async def test_heeded_once(tmp_path: Path) -> None:
    world = World(tmp_path, WHOLE)
    await world.start()
    world.host.machine.hostname = "other.example.com"
    world.host.machine.ssh = False
    world.tool.values[OVF] = ovf_environment(WHOLE | {"root_password": "a newer one"})
    await world.start()
    assert world.host.machine.hostname == "other.example.com"
    assert not world.host.machine.ssh
    assert world.host.machine.password == "geheim-root"
    assert len(world.calls) == 1


async def test_passwords_that_the_host_gives_again_at_a_later_start_are_wiped_and_told(
    tmp_path: Path,
) -> None:
    """vCenter writes the OVF environment anew at each power-on; any user of the machine can read it."""
    world = World(tmp_path, WHOLE)
    assert await world.start() == ()
    for _ in range(2):
        world.tool.values[OVF] = ovf_environment(WHOLE)
        (notice,) = await world.before_network()
        assert "vApp options" in notice
        assert "geheim" not in world.everything()
        assert await world.after_network() == ()
    world.tool.values[OVF] = ovf_environment(WHOLE | {"administrator_password": "", "root_password": ""})
    assert await world.before_network() == []


async def test_passwords_that_come_again_and_cannot_be_wiped_are_told(tmp_path: Path) -> None:
    world = World(tmp_path, WHOLE)
    await world.start()
    world.tool.values[OVF] = ovf_environment(WHOLE)
    world.tool.trouble = _read_only(world)
    assert await world.before_network() == [
        "Deployment: the passwords could not be wiped; remove the passwords from the virtual machine's vApp options."
    ]


async def test_heeded_again_for_a_copy_which_keeps_its_data(tmp_path: Path) -> None:
    world = World(tmp_path, WHOLE)
    await world.start()
    world.instance = "two"
    world.tool.values[OVF] = ovf_environment(
        WHOLE | {"hostname": "two.example.com", "root_password": "geheim-2"}
    )
    assert await world.start() == ()
    assert world.host.machine.hostname == "two.example.com"
    assert world.host.machine.password == "geheim-2"
    assert len(world.calls) == 1
    assert "geheim" not in world.everything()


async def test_a_machine_that_was_set_up_by_hand_listens_no_more_but_wipes(tmp_path: Path) -> None:
    world = World(tmp_path)
    await world.start()
    world.host.machine.set_up = True
    world.tool.values[OVF] = ovf_environment(WHOLE)
    assert await world.start() == ()
    assert world.host.machine.hostname == "postkeep"
    assert not world.host.machine.ssh
    assert "geheim" not in world.everything()


@pytest.mark.parametrize(
    "texts", [None, DEFAULTS, dict.fromkeys(DEFAULTS, "null"), dict.fromkeys(DEFAULTS, "")]
)
async def test_nothing_said_changes_nothing(tmp_path: Path, texts: dict[str, str] | None) -> None:
    world = World(tmp_path, texts)
    before = (str(world.host.machine), dict(world.host.state.files))
    assert await world.start() == ()
    assert (str(world.host.machine), dict(world.host.state.files)) == before
    assert world.calls == []
    world.tool.values[full("hostname")] = b"late.example.com"  # a standalone ESXi: set after the first start
    await world.start()
    assert world.host.machine.hostname == "late.example.com"


@pytest.mark.parametrize("missing", ["hostname", "domain", "administrator_password", "root_password"])
async def test_too_little_is_applied_and_the_console_asks_for_the_rest(tmp_path: Path, missing: str) -> None:
    world = World(tmp_path, WHOLE | {missing: ""})
    assert await world.start() == ()
    assert world.calls == []
    assert world.host.machine.network_files
    assert not world.host.machine.set_up
    assert world.host.machine.ssh == (missing != "root_password")
    if missing != "domain":
        assert world.host.state.read("suggested-domain") == b"example.com"
    assert "geheim" not in world.everything()


async def test_a_wrong_property_is_told_and_the_rest_counts(tmp_path: Path) -> None:
    world = World(tmp_path, WHOLE | {"gateway": "198.51.100.1", "time_zone": "Europe/Atlantis"})
    notices = await world.start()
    assert notices == (
        "Deployment, Time zone: “Europe/Atlantis” is no time zone; write it like Europe/Prague.",
        "Deployment, Default gateway: The gateway 198.51.100.1 is not in 192.0.2.0/24, so cannot be reached.",
    )
    assert world.host.machine.network_files == {}
    assert world.host.machine.set_up


async def test_a_wrong_secret_is_told_without_it(tmp_path: Path) -> None:
    world = World(tmp_path, WHOLE | {"administrator_password": "geheim", "root_password": "geheim" * 99})
    notices = await world.start()
    assert len(notices) == 2
    assert "geheim" not in "".join(notices)
    assert world.calls == []
    assert "geheim" not in world.everything()


async def test_a_misspelt_property_is_told(tmp_path: Path) -> None:
    world = World(tmp_path, {"hostname": "mail.example.com", "guestinfo.postkeep.host_name": "x"})
    assert await world.start() == ("Deployment: there is no property “guestinfo.postkeep.host_name”.",)


async def test_a_set_up_that_fails_is_told_and_secrets_go_all_the_same(tmp_path: Path) -> None:
    world = World(tmp_path, WHOLE)
    world.trouble = HostError("The engine refuses: the disk is full")
    assert await world.start() == (
        "The unattended set-up failed: The engine refuses: the disk is full. Finish it on the console.",
    )
    assert "geheim" not in world.everything()
    assert world.host.machine.ssh


@pytest.mark.parametrize(
    ("fault", "title"),
    [
        ("network.write", "Network"),
        ("system.set_hostname", "Host name"),
        ("system.set_password", "Root's access"),
        ("system.set_time", "Time"),
    ],
)
async def test_one_part_that_fails_does_not_stop_the_others(tmp_path: Path, fault: str, title: str) -> None:
    world = World(tmp_path, WHOLE)
    world.host.faults[fault] = "it did not work"
    assert await world.before_network() == [f"Deployment, {title}: it did not work"]
    assert (world.host.machine.hostname == "mail.example.com") == (title != "Host name")
    assert (world.host.machine.zone == "Europe/Prague") == (title != "Time")


# --- access (CON-3) -----------------------------------------------------------------------------------


async def test_without_password_or_key_ssh_stays_off(tmp_path: Path) -> None:
    world = World(tmp_path, WHOLE | {"root_password": ""})
    await world.start()
    assert not world.host.machine.ssh
    assert world.host.state.read("first-password") is not None


async def test_a_key_alone_opens_ssh_for_keys_only_since_the_first_password_is_known_to_all(
    tmp_path: Path,
) -> None:
    world = World(tmp_path, WHOLE | {"root_password": "", "ssh_key": ED25519 + " me@here"})
    assert await world.start() == ()
    assert world.host.machine.ssh
    assert world.host.state.read("first-password") is not None
    keys = tmp_path / "root/.ssh/authorized_keys"
    assert keys.read_text() == ED25519 + " me@here\n"
    assert keys.stat().st_mode & 0o777 == 0o600
    assert keys.parent.stat().st_mode & 0o777 == 0o700
    assert "PasswordAuthentication no" in (tmp_path / KEYS_ONLY).read_text()
    assert len(world.calls) == 1


async def test_the_rule_for_keys_only_is_there_before_ssh_is(tmp_path: Path) -> None:
    world = World(tmp_path, WHOLE | {"root_password": "", "ssh_key": ED25519})
    await world.before_network()
    assert (tmp_path / KEYS_ONLY).exists()
    assert not world.host.machine.ssh


async def test_key_and_password_allow_both(tmp_path: Path) -> None:
    world = World(tmp_path, WHOLE | {"ssh_key": ED25519})
    await world.start()
    assert not (tmp_path / KEYS_ONLY).exists()
    assert world.host.machine.ssh


async def test_a_power_cut_before_the_rule_for_keys_only_goes_away(tmp_path: Path) -> None:
    world = World(tmp_path, WHOLE | {"ssh_key": ED25519})
    (tmp_path / KEYS_ONLY).write_text("PasswordAuthentication no\n")
    world.host.state.remove("first-password")
    await world.start()
    assert not (tmp_path / KEYS_ONLY).exists()


async def test_a_key_is_added_once_to_those_of_the_owner(tmp_path: Path) -> None:
    keys = tmp_path / "root/.ssh/authorized_keys"
    keys.parent.mkdir(parents=True)
    keys.write_text("ssh-ed25519 AAAA owner")
    world = World(tmp_path, WHOLE | {"ssh_key": ED25519})
    await world.before_network()
    await world.before_network()
    assert keys.read_text() == f"ssh-ed25519 AAAA owner\n{ED25519}\n"


@pytest.mark.parametrize("key", ["", ED25519])
async def test_a_password_that_could_not_be_set_opens_nothing_for_the_first_one(
    tmp_path: Path, key: str
) -> None:
    world = World(tmp_path, WHOLE | {"ssh_key": key})
    world.host.faults["system.set_password"] = "chpasswd: no"
    await world.start()
    assert world.host.state.read("first-password") is not None
    assert world.host.machine.ssh == bool(key)
    assert (tmp_path / KEYS_ONLY).exists() == bool(key)


async def test_a_rule_for_keys_only_that_could_not_be_written_opens_nothing(tmp_path: Path) -> None:
    world = World(tmp_path, WHOLE | {"ssh_key": ED25519, "root_password": ""})
    (tmp_path / "etc/ssh/sshd_config.d").rmdir()
    (tmp_path / "etc/ssh/sshd_config.d").write_text("in the way")
    assert len(await world.before_network()) == 1
    await world.after_network()
    assert not world.host.machine.ssh


# --- power cuts ---------------------------------------------------------------------------------------


async def test_a_power_cut_between_the_two_parts(tmp_path: Path) -> None:
    world = World(tmp_path, WHOLE)
    await world.before_network()
    assert await world.start() == ()
    assert len(world.calls) == 1
    assert "geheim" not in world.everything()


async def test_a_power_cut_in_the_middle_of_the_set_up(tmp_path: Path) -> None:
    world = World(tmp_path, WHOLE)
    await world.before_network()
    world.host.machine.set_up = world.unfinished = True  # the agent's set-up came so far
    assert await world.start() == ()
    assert len(world.calls) == 1
    assert "geheim" not in world.everything()


async def test_a_power_cut_after_the_set_up_before_the_wiping(tmp_path: Path) -> None:
    world = World(tmp_path, WHOLE)
    await world.before_network()
    world.host.machine.set_up = True
    assert await world.start() == ()
    assert world.calls == []
    assert "geheim" not in world.everything().replace(str(world.host.machine), "")


async def test_secrets_that_cannot_be_wiped_are_told_where_they_lie(tmp_path: Path) -> None:
    world = World(tmp_path, WHOLE)
    world.tool.trouble = _read_only(world)
    assert await world.start() == (
        "Deployment: the passwords could not be wiped; remove the passwords from the virtual machine's vApp options.",
    )
