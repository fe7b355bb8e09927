"""First boot's steps on a machine in memory: what is done, once, and that no failure holds the start up."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest
from postkeep_appliance.api.types import Disk, Space
from postkeep_appliance.boot.deployment import Deployment
from postkeep_appliance.boot.firstboot import FirstBoot
from postkeep_appliance.boot.identity import COPY_NOTICE, Identity
from postkeep_appliance.boot.memory import Memory
from postkeep_appliance.guestinfo.declarations import load
from postkeep_appliance.host.dryrun import DryRunHost
from postkeep_appliance.host.port import HostError, Say

from tests.support.programs import FakePrograms
from tests.unit.appliance_boot.test_identity import SWAPPED, UUID, Keygen, host_keys, machine

OTHER = "564d0000-0000-0000-0000-000000000001"
GIB = 1 << 30


class QuickClock:
    """Time passes at once."""

    def now(self) -> float:
        return 1_800_000_000.0

    def monotonic(self) -> float:
        return 0.0

    async def sleep(self, delay: float) -> None:
        return

    def call_later(self, delay: float, callback: Callable[[], None]) -> SimpleNamespace:
        callback()
        return SimpleNamespace(cancel=lambda: None)


class FakeDisks:
    """Disks as `lsblk` would find them; what is asked for."""

    def __init__(self, *disks: Disk, mounted: bool = False) -> None:
        self.found = disks
        self.mounted = mounted
        self.used: list[str] = []
        self.trouble: HostError | None = None
        self.grown = 0
        self.tidied = 0

    async def disks(self) -> tuple[Disk, ...]:
        return self.found

    def spaces(self) -> tuple[Space, ...]:
        return (Space("/", 1, 1), Space("/var/lib/postkeep/store", 1, 1))[: 2 if self.mounted else 1]

    async def grow(self, say: Say) -> bool:
        self.grown += 1
        if self.trouble is not None:
            raise self.trouble
        return True

    async def use_as_store(self, device: str, say: Say) -> None:
        if self.trouble is not None:
            raise self.trouble
        say(f"A file system is made on {device}", 0, 4)
        self.used.append(device)
        self.mounted = True

    def tidy(self) -> None:
        assert self.mounted, "what is tidied away may be all that there is"
        self.tidied += 1


SYSTEM = Disk("/dev/sda", 16 * GIB, "system")


class World:
    """One virtual machine; `start` is what systemd does at each boot."""

    def __init__(self, tmp_path: Path, *, set_up: bool = False) -> None:
        self.root = machine(tmp_path)
        self.host = DryRunHost(QuickClock(), set_up=set_up)
        self.disks = FakeDisks(SYSTEM)
        self.host.disks = self.disks  # type: ignore[assignment]
        self.keygen = Keygen()
        self.programs = FakePrograms(**{"ssh-keygen": self.keygen})
        self.lines: list[str] = []
        self.devices: HostError | None = None
        self.is_image = True

    async def _prepare(self) -> None:
        if self.devices is not None:
            raise self.devices

    async def start(self, uuid: str = UUID) -> list[str]:
        (self.root / "sys/class/dmi/id/product_uuid").write_text(uuid)
        self.lines = []
        memory = Memory(self.host.state)
        deployment = Deployment(self.host, self.root, memory, [], load(), self.lines.append, lambda: False)
        identity = Identity(self.root, self.programs)
        parts = (self.host, identity, memory, deployment, self.lines.append, self._prepare)
        await FirstBoot(*parts, is_image=self.is_image).run()
        return self.lines

    @property
    def notices(self) -> list[str]:
        found: list[str] = msgspec.json.decode(self.host.state.read("notices") or b"[]")
        return found


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


async def test_identity_is_made_once(world: World) -> None:
    assert "This machine gets its identity" in await world.start()
    keys = host_keys(world.root)
    assert len(keys) == 6
    assert not any("identity" in line for line in await world.start())
    assert host_keys(world.root) == keys
    assert world.notices == []


async def test_a_copy_is_noticed_told_and_told_no_more_at_its_next_start(world: World) -> None:
    await world.start()
    keys, machine_id = host_keys(world.root), (world.root / "etc/machine-id").read_text()
    await world.start(OTHER)
    assert not set(keys.values()) & {text for text in host_keys(world.root).values() if "private" in text}
    assert (world.root / "etc/machine-id").read_text() != machine_id
    assert world.notices == [COPY_NOTICE]
    keys = host_keys(world.root)
    await world.start(OTHER)
    assert host_keys(world.root) == keys
    assert world.notices == []


async def test_a_raised_hardware_version_changes_nothing(world: World) -> None:
    await world.start()
    keys = host_keys(world.root)
    await world.start(SWAPPED)
    assert host_keys(world.root) == keys


async def test_a_power_cut_in_the_middle_of_a_new_identity_is_finished(world: World) -> None:
    world.keygen.after = 1
    await world.start()
    assert world.notices == ["This machine's identity could not be made new: the power was cut"]
    world.keygen.after = 1000
    await world.start()
    assert len(host_keys(world.root)) == 6
    assert world.notices == []


async def test_a_machine_that_somebody_runs_keeps_its_keys_and_disks_when_it_gets_the_package(
    world: World,
) -> None:
    world.host.state.remove("first-password")
    world.is_image = False
    world.disks = world.host.disks = FakeDisks(SYSTEM, Disk("/dev/sdb", 64 * GIB, "empty"))  # type: ignore[assignment]
    identity = Identity(world.root, world.programs)
    await identity.make_host_keys(fresh=True)
    keys = host_keys(world.root)
    await world.start()
    assert host_keys(world.root) == keys
    assert world.disks.used == []
    assert world.disks.grown == 0
    await world.start(OTHER)  # a copy of it is noticed all the same
    assert world.notices == [COPY_NOTICE]


# --- disks --------------------------------------------------------------------------------------------


async def test_disks_are_looked_at_on_each_start(world: World) -> None:
    await world.start()
    assert "The disks have grown" in await world.start()
    assert world.disks.grown == 2
    world.host.state.remove("first-password")  # root has a password of his own: it is our image all the same
    await world.start()
    assert world.disks.grown == 3


async def test_the_one_empty_disk_holds_the_store(world: World) -> None:
    world.disks = world.host.disks = FakeDisks(SYSTEM, Disk("/dev/sdb", 64 * GIB, "empty"))  # type: ignore[assignment]
    lines = await world.start()
    assert world.disks.used == ["/dev/sdb"]
    assert "The mail store gets the disk /dev/sdb (64.0 GiB)" in lines
    await world.start()
    assert world.disks.used == ["/dev/sdb"]  # it is mounted now


@pytest.mark.parametrize("role", ["other", "system"])
async def test_a_disk_that_holds_something_is_never_touched(world: World, role: str) -> None:
    world.disks = world.host.disks = FakeDisks(SYSTEM, Disk("/dev/sdb", 64 * GIB, role))  # type: ignore[assignment]
    await world.start()
    assert world.disks.used == []


async def test_a_store_of_before_is_taken_again_rather_than_an_empty_disk(world: World) -> None:
    """After a power cut in the middle of the first start, or when a new system disk is put to an old store."""
    found = (SYSTEM, Disk("/dev/sdb", 64 * GIB, "empty"), Disk("/dev/sdc", 64 * GIB, "store"))
    world.disks = world.host.disks = FakeDisks(*found)  # type: ignore[assignment]
    await world.start()
    assert world.disks.used == ["/dev/sdc"]


@pytest.mark.parametrize("role", ["empty", "store"])
async def test_of_several_disks_a_person_chooses(world: World, role: str) -> None:
    found = (SYSTEM, Disk("/dev/sdb", GIB, role), Disk("/dev/sdc", GIB, role))
    world.disks = world.host.disks = FakeDisks(*found)  # type: ignore[assignment]
    await world.start()
    assert world.disks.used == []
    assert world.notices == [
        "Several disks could hold the mail store: /dev/sdb, /dev/sdc. Choose one in the set-up."
    ]


async def test_an_empty_disk_beside_a_store_in_use_is_somebody_s_own_affair(tmp_path: Path) -> None:
    for number, set_up in enumerate((True, False)):
        world = World(tmp_path / str(number), set_up=set_up)
        disk = Disk("/dev/sdb", 64 * GIB, "empty")
        world.disks = world.host.disks = FakeDisks(SYSTEM, disk, mounted=not set_up)  # type: ignore[assignment]
        await world.start()
        assert world.disks.used == []


@pytest.mark.parametrize("set_up", [False, True])
async def test_what_a_power_cut_left_beside_a_store_on_its_disk_is_tidied(
    tmp_path: Path, *, set_up: bool
) -> None:
    world = World(tmp_path, set_up=set_up)
    await world.start()
    assert world.disks.tidied == 0
    world.disks.mounted = True
    await world.start()
    assert world.disks.tidied == 1


async def test_no_failure_holds_the_start_up_and_each_is_told(world: World) -> None:
    world.disks = world.host.disks = FakeDisks(SYSTEM, Disk("/dev/sdb", GIB, "empty"))  # type: ignore[assignment]
    world.disks.trouble = HostError("sfdisk: no")
    world.devices = HostError("udevadm: late")
    await world.start()
    assert world.notices == [
        "Devices were not ready in time: udevadm: late",
        "The disks could not be grown: sfdisk: no",
        "The disk for the store could not be used: sfdisk: no",
    ]
    assert len(host_keys(world.root)) == 6
    world.disks.trouble = world.devices = None
    await world.start()
    assert world.notices == []


async def test_a_state_folder_that_is_full_holds_nothing_up(world: World) -> None:
    world.host.faults["state.write"] = (
        "/var/lib/postkeep-appliance/boot cannot be written: No space left on device"
    )
    lines = await world.start()
    assert any("No space left" in line for line in lines)
    assert world.disks.grown == 1


async def test_a_damaged_memory_counts_as_none(world: World) -> None:
    await world.start()
    for octets in (b"", b"{", b'{"instance":5}', b"\xff"):
        world.host.state.write("boot", octets)
        assert "This machine gets its identity" in await world.start()


# --- factory reset ------------------------------------------------------------------------------------


async def test_a_reset_that_the_power_cut_off_is_finished_before_anything_else(world: World) -> None:
    await world.start()
    world.host.machine.set_up = True
    world.host.state.write("factory-reset", b"")
    await world.start()
    assert not world.host.machine.set_up
    assert world.host.machine.power == "restart"
    assert world.host.state.read("factory-reset") is None
    assert world.disks.grown == 1  # nothing but the reset was done
    world.host.machine.power = ""
    assert "This machine gets its identity" in await world.start()  # a reset one is a new one
    assert world.host.machine.power == ""


async def test_a_reset_that_fails_is_left_to_the_agent_and_keeps_its_mark(world: World) -> None:
    world.host.state.write("factory-reset", b"")
    world.host.faults["reset.do 1"] = "rm: I/O error"
    lines = await world.start()
    assert lines[-1] == "The factory reset could not be finished: rm: I/O error"
    assert world.host.state.read("factory-reset") is not None
    assert world.host.machine.power == ""
