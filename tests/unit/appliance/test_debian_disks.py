"""Growth and the store's disk on a Debian machine (APP-5): what is run, in which order, and what is not."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from postkeep_appliance.host.disks import MOUNT_UNIT, DebianDisks
from postkeep_appliance.host.port import HostError, Invalid
from postkeep_appliance.host.run import SystemRunner

from tests.support.agentbench import Recorder, put

GIB = 1 << 30
SECTORS = GIB // 512
UUID = "0b3ab2a4-2c7e-4f0c-9a51-3d6b6c1f7e90"


def _block(path: str, size: int = 64 * GIB, **more: Any) -> dict[str, Any]:
    return {
        "name": path[5:],
        "path": path,
        "type": "disk",
        "size": size,
        "ro": False,
        "mountpoints": [None],
    } | more


SDA = _block(
    "/dev/sda",
    32 * GIB,
    pttype="gpt",
    model="Virtual disk    ",
    children=[{"name": "sda3", "fstype": "ext4", "mountpoints": ["/"]}],
)


class World:
    def __init__(self, root: Path) -> None:
        self.root, self.run = root, Recorder()
        self.disks = DebianDisks(root, self.run)
        self.said: list[str] = []
        self.store = root / "var/lib/postkeep/store"
        self.store.mkdir(parents=True)
        self.run.say("findmnt", status=1)
        self.run.say("blkid", status=2)
        self.run.say("blkid --probe -o value -s UUID", f"{UUID}\n")

    def say(self, text: str, done: int, total: int) -> None:
        self.said.append(text)

    def blocks(self, *blocks: dict[str, Any]) -> None:
        self.run.say("lsblk", json.dumps({"blockdevices": list(blocks)}))

    def partitions(self, disk: str, whole: int, *parts: tuple[int, int, int]) -> None:
        """/sys as the kernel has it: (number, start, size) in sectors."""
        devices = self.root / "sys/devices" / disk
        put(self.root, f"sys/devices/{disk}/size", f"{whole}\n")
        for number, start, size in parts:
            name = f"{disk}{number}"
            for key, value in (("partition", number), ("start", start), ("size", size)):
                put(devices, f"{name}/{key}", f"{value}\n")
            link = self.root / "sys/class/block" / name
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(devices / name)
        link = self.root / "sys/class/block" / disk
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(devices)

    def changes(self) -> list[str]:
        quiet = ("lsblk", "findmnt", "dumpe2fs", "blkid", "dd ")
        return [line for line in self.run.lines if not line.startswith(quiet)]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


async def test_roles(world: World) -> None:
    world.blocks(
        SDA,
        _block("/dev/sdb", fstype="ext4", label="postkeep-store"),
        _block("/dev/sdc"),
        _block("/dev/sdd", fstype="ntfs"),
        _block("/dev/sde", pttype="dos"),
        _block("/dev/sdf", 0),
        _block("/dev/sr0", type="rom"),
        _block("/dev/zram0"),
        _block("/dev/sdg", ro=True),
    )
    found = await world.disks.disks()
    assert [(one.device, one.role) for one in found] == [
        ("/dev/sda", "system"),
        ("/dev/sdb", "store"),
        ("/dev/sdc", "empty"),
        ("/dev/sdd", "other"),
        ("/dev/sde", "other"),
    ]
    assert found[0].description == "Virtual disk"


async def test_lsblk_that_says_nonsense(world: World) -> None:
    world.run.say("lsblk", "[]")
    with pytest.raises(HostError):
        await world.disks.disks()


# --- growth


def _root_on(world: World, device: str, blocks: int = 4_000_000) -> None:
    world.run.say("findmnt --noheadings --output SOURCE --mountpoint /", f"{device}\n")
    world.run.say("findmnt --noheadings --output SOURCE --mountpoint /var/lib/postkeep/store", status=1)
    world.run.say("findmnt --noheadings --output FSTYPE", "ext4\n")
    world.run.say("dumpe2fs", f"Filesystem state: clean\nBlock count:   {blocks}\nBlock size:    4096\n")


@pytest.mark.parametrize("disk", ["sda", "vda"])
async def test_partition_backup_header_and_file_system_grow(world: World, disk: str) -> None:
    world.partitions(
        disk, 32 * SECTORS, (1, 2048, 2048), (2, 4096, 131072), (3, 135168, 16 * SECTORS - 135168 - 34)
    )
    _root_on(world, f"/dev/{disk}3")

    def grown(argv: list[str]) -> None:
        put(world.root, f"sys/devices/{disk}/{disk}3/size", f"{32 * SECTORS - 135168 - 34}\n")

    world.run.effects["partx"] = grown
    await world.disks.grow(world.say)
    assert world.changes() == [
        f"sfdisk --no-reread --force --relocate gpt-bak-std /dev/{disk}",
        f"sfdisk --no-reread --no-tell-kernel --force -N 3 /dev/{disk}",
        f"partx --update --nr 3 /dev/{disk}",
        f"resize2fs /dev/{disk}3",
    ]
    assert ", +\n" in world.run.stdin
    assert any("32.0 GiB" in text or "31.9 GiB" in text for text in world.said)


async def test_a_disk_that_is_full_already_is_left_alone(world: World) -> None:
    world.partitions("sda", 16 * SECTORS, (3, 135168, 16 * SECTORS - 135168 - 34))
    _root_on(world, "/dev/sda3", (16 * SECTORS - 135168 - 34) // 8)
    assert not await world.disks.grow(world.say)
    assert world.changes() == []


async def test_a_partition_with_another_behind_it_is_left_alone(world: World) -> None:
    world.partitions("sda", 32 * SECTORS, (1, 2048, 8 * SECTORS), (2, 9 * SECTORS, SECTORS))
    _root_on(world, "/dev/sda1", 8 * SECTORS // 8)
    assert not await world.disks.grow(world.say)
    assert world.changes() == []


async def test_cut_off_after_the_partition_only_the_file_system_grows(world: World) -> None:
    world.partitions("sda", 32 * SECTORS, (3, 135168, 32 * SECTORS - 135168 - 34))
    _root_on(world, "/dev/sda3")
    await world.disks.grow(world.say)
    assert world.changes() == ["resize2fs /dev/sda3"]


@pytest.mark.parametrize("kind", ["xfs", "btrfs", ""])
async def test_under_a_file_system_that_we_cannot_grow_the_partition_is_left_alone(
    world: World, kind: str
) -> None:
    world.partitions("sda", 32 * SECTORS, (3, 135168, 16 * SECTORS - 135168 - 34))
    _root_on(world, "/dev/sda3")
    world.run.say("findmnt --noheadings --output FSTYPE", f"{kind}\n")
    assert not await world.disks.grow(world.say)
    assert world.changes() == []


async def test_a_store_on_a_whole_disk_grows(world: World) -> None:
    world.partitions("sdb", 128 * SECTORS)
    world.run.say("findmnt --noheadings --output SOURCE --mountpoint /", status=1)
    world.run.say("findmnt --noheadings --output SOURCE --mountpoint /var/lib/postkeep/store", "/dev/sdb\n")
    world.run.say("findmnt --noheadings --output FSTYPE", "ext4\n")
    world.run.say("dumpe2fs", f"Block count: {64 * GIB // 4096}\nBlock size: 4096\n")
    await world.disks.grow(world.say)
    assert world.changes() == ["resize2fs /dev/sdb"]


def test_sfdisk_does_what_is_asked_of_it(tmp_path: Path) -> None:
    """The same two commands on a disk image: the partition grows, the backup header is at the end."""
    image = tmp_path / "disk.img"

    def sfdisk(*arguments: str, stdin: str = "") -> str:
        return subprocess.run(
            ["/usr/sbin/sfdisk", *arguments], input=stdin, text=True, capture_output=True, check=True
        ).stdout

    with image.open("wb") as file:
        file.truncate(100 << 20)
    sfdisk("-q", str(image), stdin="label: gpt\n,20M,L\n,20M,L\n")
    with image.open("r+b") as file:
        file.truncate(200 << 20)
    sfdisk("--no-reread", "--force", "--relocate", "gpt-bak-std", str(image))
    sfdisk("--no-reread", "--no-tell-kernel", "--force", "-N", "2", str(image), stdin=", +\n")
    table = json.loads(sfdisk("--json", str(image)))["partitiontable"]
    last = table["partitions"][1]
    assert (200 << 20) // 512 - (last["start"] + last["size"]) < 2048
    with image.open("rb") as file:
        file.seek(-512, 2)
        assert file.read(8) == b"EFI PART"


# --- the store's disk


def _mounted(world: World) -> list[str]:
    return [line for line in world.run.lines if line.startswith(("mount", "cp", "sync", "umount"))]


async def test_an_empty_disk_becomes_the_store(world: World) -> None:
    world.blocks(SDA, _block("/dev/sdb"))
    put(world.store, "logs/mail.log", "x")
    await world.disks.use_as_store("/dev/sdb", world.say)
    place = world.root / "run/postkeep-agent/store"
    assert world.changes() == [
        "mkfs.ext4 -q -m 1 -L postkeep-store /dev/sdb",
        f"mount -t ext4 -o noatime,nodev,nosuid,noexec /dev/sdb {place}",
        f"cp -a -T {world.store} {place}",
        f"chown postkeep:postkeep {place}",
        f"chmod 0700 {place}",
        f"sync -f {place}",
        f"umount {place}",
        "systemctl daemon-reload",
        "udevadm settle --timeout=20",
        f"systemctl enable --now {MOUNT_UNIT}",
    ]
    unit = (world.root / "etc/systemd/system" / MOUNT_UNIT).read_text()
    assert f"What=/dev/disk/by-uuid/{UUID}\n" in unit  # a second disk may have the same label
    assert "Where=/var/lib/postkeep/store\n" in unit
    # As `systemd-escape --path` says it. Without these a store whose power was cut is mounted unchecked.
    check = f"systemd-fsck@dev-disk-by\\x2duuid-{UUID.replace('-', chr(92) + 'x2d')}.service"
    assert f"\nRequires={check}\nAfter={check}\n" in unit
    assert not world.store.with_name("store.before-disk").exists()
    assert world.said[-1] == "The store has its disk"


async def test_an_empty_disk_is_taken_at_first_boot_before_the_engine_has_made_a_store(world: World) -> None:
    world.blocks(SDA, _block("/dev/sdb"))
    if world.store.exists():
        world.store.rmdir()
    await world.disks.use_as_store("/dev/sdb", world.say)
    assert world.said[-1] == "The store has its disk"
    assert not any(line.startswith("cp") for line in world.run.lines)
    assert world.store.is_dir()


@pytest.mark.parametrize("program", ["mkfs", "mount", "cp", "sync", "systemctl enable"])
async def test_cut_off_anywhere_nothing_is_lost_and_it_can_be_repeated(world: World, program: str) -> None:
    world.blocks(SDA, _block("/dev/sdb"))
    put(world.store, "logs/mail.log", "x")
    world.run.say(program, status=1, err="the power is gone")
    with pytest.raises(HostError):
        await world.disks.use_as_store("/dev/sdb", world.say)
    places = [world.store, world.store.with_name("store.before-disk")]
    assert any((place / "logs/mail.log").exists() for place in places)
    if program == "cp":
        assert world.run.lines[-1].startswith("umount")
    del world.run.answers[program]
    label = {} if program == "mkfs" else {"fstype": "ext4", "label": "postkeep-store"}
    world.blocks(SDA, _block("/dev/sdb", **label))
    world.run.ran.clear()
    await world.disks.use_as_store("/dev/sdb", world.say)
    assert any(line.startswith("mkfs") for line in world.run.lines) is (program == "mkfs")
    source = next(line for line in world.run.lines if line.startswith("cp")).split()[3]
    expected = "store.before-disk" if program == "systemctl enable" else "store"
    assert Path(source).name == expected


@pytest.mark.parametrize(
    "block",
    [_block("/dev/sdb", fstype="ext4"), _block("/dev/sdb", pttype="gpt"), SDA, _block("/dev/sdc")],
    ids=["file system", "partitions", "system", "another"],
)
async def test_a_disk_that_holds_something_is_never_formatted(world: World, block: dict[str, Any]) -> None:
    world.blocks(block)
    device = "/dev/sda" if block is SDA else "/dev/sdb"
    with pytest.raises(Invalid) as caught:
        await world.disks.use_as_store(device, world.say)
    assert caught.value.field == "store"
    assert world.changes() == []


async def test_what_blkid_finds_counts_more_than_what_udev_knows(world: World) -> None:
    world.blocks(_block("/dev/sdb"))
    world.run.say("blkid", '/dev/sdb: TYPE="xfs"', status=0)
    with pytest.raises(Invalid, match="xfs"):
        await world.disks.use_as_store("/dev/sdb", world.say)
    assert world.changes() == []


async def test_a_second_store_is_refused(world: World) -> None:
    world.blocks(SDA, _block("/dev/sdb"), _block("/dev/sdc"))
    world.run.say("findmnt", "/dev/sdb\n")
    with pytest.raises(Invalid, match="already"):
        await world.disks.use_as_store("/dev/sdc", world.say)
    await world.disks.use_as_store("/dev/sdb", world.say)
    assert world.changes() == []


# --- a disk that held a store before


OLD_STORE = _block("/dev/sdb", fstype="ext4", label="postkeep-store")


def _copy(argv: list[str]) -> None:
    subprocess.run(argv, check=True)


async def test_a_store_on_the_disk_is_not_written_over_by_the_one_here(world: World) -> None:
    world.blocks(SDA, OLD_STORE)
    world.run.effects["cp"] = _copy
    there = put(world.root, "run/postkeep-agent/store/postkeep.db", "five years of mail")
    put(world.store, "postkeep.db", "of a set-up that failed")
    with pytest.raises(Invalid, match="neither is written over") as caught:
        await world.disks.use_as_store("/dev/sdb", world.say)
    assert caught.value.field == "store"
    assert there.read_text() == "five years of mail"
    assert (world.store / "postkeep.db").read_text() == "of a set-up that failed"
    assert world.run.lines[-1].startswith("umount")
    assert not (world.root / "etc/systemd/system" / MOUNT_UNIT).exists()


async def test_a_store_on_the_disk_is_taken_as_it_is_when_there_is_none_here(world: World) -> None:
    world.blocks(SDA, OLD_STORE)
    world.run.effects["cp"] = _copy
    there = put(world.root, "run/postkeep-agent/store/logs/mail.log", "old")
    put(world.root, "run/postkeep-agent/store/postkeep.db", "five years of mail")
    put(world.store, "logs/mail.log", "new")
    await world.disks.use_as_store("/dev/sdb", world.say)
    assert there.read_text() == "old"
    assert not any(line.startswith("cp") for line in world.run.lines)
    assert not (there.parent.parent / ".filling").exists()
    assert world.said[-1] == "The store has its disk"


async def test_a_half_copy_of_ours_is_marked_from_the_first_octet_and_done_again(world: World) -> None:
    world.blocks(SDA, _block("/dev/sdb"))
    place = world.root / "run/postkeep-agent/store"
    put(world.root, "run/postkeep-agent/store/lost+found/x", "")

    def cut(argv: list[str]) -> None:
        assert (place / ".filling").stat().st_mode & 0o777 == 0o600
        (place / "postkeep.db").write_text("half")

    world.run.effects["cp"] = cut
    world.run.say("cp", status=1, err="the power is gone")
    put(world.store, "postkeep.db", "whole")
    with pytest.raises(HostError):
        await world.disks.use_as_store("/dev/sdb", world.say)
    world.blocks(SDA, OLD_STORE)
    del world.run.answers["cp"]
    world.run.effects["cp"] = _copy

    def mounted(argv: list[str]) -> None:
        place.rename(world.root / "disk")
        world.store.rmdir()
        (world.root / "disk").rename(world.store)

    world.run.effects["systemctl enable"] = mounted
    await world.disks.use_as_store("/dev/sdb", world.say)
    assert (world.store / "postkeep.db").read_text() == "whole"
    assert not (world.store / ".filling").exists()  # in use: from now on it is mail


@pytest.mark.parametrize("planted", ["link", "folder", "another's"])
async def test_a_mark_that_root_did_not_make_counts_for_nothing(world: World, planted: str) -> None:
    """The engine's user owns the store: it must not have root write over, or through, what it planted."""
    world.blocks(SDA, OLD_STORE)
    there = put(world.root, "run/postkeep-agent/store/postkeep.db", "five years of mail")
    mark = there.with_name(".filling")
    if planted == "link":
        mark.symlink_to(there)
    elif planted == "folder":
        mark.mkdir()
    else:
        if os.geteuid() != 0:
            pytest.skip("only root can give a file away")
        mark.touch()
        os.chown(mark, 4711, 4711)
    put(world.store, "postkeep.db", "x")
    with pytest.raises(Invalid, match="neither is written over"):
        await world.disks.use_as_store("/dev/sdb", world.say)
    assert not any(line.startswith("cp") for line in world.run.lines)


@pytest.mark.parametrize("said", ["", "x\n", f"{UUID}\nOptions=suid", "../sda1"])
async def test_a_disk_whose_uuid_cannot_be_told_is_not_taken_into_use(world: World, said: str) -> None:
    world.blocks(SDA, OLD_STORE)
    world.run.say("blkid --probe -o value -s UUID", said)
    with pytest.raises(HostError, match="UUID"):
        await world.disks.use_as_store("/dev/sdb", world.say)
    assert not (world.root / "etc/systemd/system" / MOUNT_UNIT).exists()
    assert world.store.is_dir()
    assert not world.store.with_name("store.before-disk").exists()


# --- a disk that cannot be read


@pytest.mark.parametrize("start", [0, 64 * GIB - (1 << 20)])
async def test_a_disk_that_cannot_be_read_is_never_formatted(world: World, start: int) -> None:
    """blkid ends with 2 for it as for an empty one."""
    world.blocks(SDA, _block("/dev/sdb"))
    command = f"dd if=/dev/sdb of=/dev/null bs=1048576 count=1 skip={start} "
    world.run.say(command, status=1, err="dd: error reading '/dev/sdb': Input/output error")
    with pytest.raises(HostError, match=r"/dev/sdb cannot be read.*Input/output error"):
        await world.disks.use_as_store("/dev/sdb", world.say)
    assert world.changes() == []


async def test_a_disk_that_is_smaller_than_it_says_is_never_formatted(tmp_path: Path) -> None:
    """With dd itself, on a file that stands for the disk."""
    disk = tmp_path / "disk"
    disk.write_bytes(b"\0" * (2 << 20))
    run = SystemRunner()
    disks = DebianDisks(tmp_path, run)
    await disks._read_ends(str(disk), 2 << 20)
    with pytest.raises(HostError, match="to its end"):
        await disks._read_ends(str(disk), 64 << 20)
    with pytest.raises(HostError, match="No such file"):
        await disks._read_ends(str(tmp_path / "gone"), 2 << 20)


def test_tidying_takes_the_copy_beside_the_store_and_the_mark_and_follows_no_link(world: World) -> None:
    left = put(world.root, "var/lib/postkeep/store.before-disk/postkeep.db", "moved").parent
    kept = put(world.store, "postkeep.db", "mail")
    put(world.store, ".filling", "")
    world.disks.tidy()
    assert not left.exists()
    assert list(world.store.iterdir()) == [kept]
    left.symlink_to(world.store)
    world.disks.tidy()
    assert kept.exists()
