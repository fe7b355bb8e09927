"""DisksPort for Debian, also used at first boot: growth online, and the disk of the store (row APP-5)."""

import json
import os
import re
import shutil
import stat
from pathlib import Path
from typing import Any

from postkeep_appliance.api.types import Disk, Space
from postkeep_appliance.host.files import read_small, remove, sync_folder, write_atomically
from postkeep_appliance.host.port import HostError, Invalid, Say
from postkeep_appliance.host.run import Runner

STORE = "var/lib/postkeep/store"
STORE_LABEL = "postkeep-store"
MOUNT_UNIT = "var-lib-postkeep-store.mount"
_SECTOR = 512
_WORTH = 8 << 20
"""Octets: less is not worth a change of the partition table."""
_END = 1 << 20
"""Octets at either end of a disk, where signatures and partition tables lie."""
_LONG = 3600.0
_TRY = "run/postkeep-agent/store"
"""Where a new store is filled, in the agent's own mount namespace, before it is taken into use."""
_FILLING = ".filling"
"""Lies on a disk that we fill, from before the first octet is copied until it is in use: only such a half
copy of ours may be written over. What lies on any other disk is somebody's mail."""
_DATABASE = "postkeep.db"
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_UNIT = """# Written by the appliance's console.
[Unit]
Description=Disk of the mail store
Before=postkeep.service
# /etc/fstab would bring this; a unit has to ask for the check itself.
Requires={fsck}
After={fsck}

[Mount]
What={device}
Where=/{store}
Type=ext4
Options=noatime,nodev,nosuid,noexec

[Install]
RequiredBy=postkeep.service
WantedBy=local-fs.target
"""


class DebianDisks:
    """Files below `root` (sys, etc, var); programs by `run`."""

    def __init__(self, root: Path, run: Runner) -> None:
        self._root = root
        self._run = run

    # --- what there is

    async def _blocks(self) -> list[dict[str, Any]]:
        columns = "NAME,PATH,TYPE,SIZE,FSTYPE,PTTYPE,LABEL,MOUNTPOINTS,MODEL,RO"
        said = await self._run(["lsblk", "--json", "--bytes", "--output", columns])
        try:
            found: list[dict[str, Any]] = json.loads(said.out)["blockdevices"]
        except (ValueError, KeyError, TypeError) as error:
            raise HostError("lsblk said nothing that can be understood.") from error
        return [one for one in found if one.get("type") == "disk" and int(one.get("size") or 0) > 0]

    async def disks(self) -> tuple[Disk, ...]:
        return tuple(
            Disk(one["path"], int(one["size"]), _role(one), (one.get("model") or "").strip())
            for one in await self._blocks()
            if not one.get("ro") and not one["name"].startswith(("ram", "zram", "loop", "fd", "sr"))
        )

    def spaces(self) -> tuple[Space, ...]:
        found = [_space(self._root, "/")]
        store = self._root / STORE
        if store.is_mount():
            found.append(_space(store, f"/{STORE}"))
        return tuple(found)

    async def store_is_mounted(self) -> bool:
        return await self._device_at(f"/{STORE}") is not None

    async def _device_at(self, mount_point: str) -> str | None:
        argv = ["findmnt", "--noheadings", "--output", "SOURCE", "--mountpoint", mount_point]
        said = await self._run(argv, check=False)
        source = said.out.strip().partition("[")[0]
        return source if said.status == 0 and source.startswith("/dev/") else None

    # --- growth

    async def grow(self, say: Say) -> bool:
        places = ["/", f"/{STORE}"]
        grew = False
        for number, place in enumerate(places):
            device = await self._device_at(place)
            if device is not None:
                say(f"Looking at the disk of {place}", number, len(places))
                grew = await self._grow_place(place, device, say) or grew
        say("Disks are looked at", len(places), len(places))
        return grew

    async def _grow_place(self, place: str, device: str, say: Say) -> bool:
        """First the disk's size as the hypervisor has it now, then the partition, then the file system.

        Only with ext4, which resize2fs knows: under another file system the partition stays as it is too.
        """
        argv = ["findmnt", "--noheadings", "--output", "FSTYPE", "--mountpoint", place]
        said = await self._run(argv, check=False)
        if said.out.strip() != "ext4":
            return False
        name = Path(os.path.realpath(device)).name
        block = self._root / "sys/class/block" / name
        number = read_small(block / "partition")
        disk = name if number is None else Path(os.path.realpath(block)).parent.name
        self._rescan(disk)
        if number is not None:
            await self._grow_partition(disk, name, number.strip(), say)
        size = self._sectors(name, "size") * _SECTOR
        before = _space(self._root if place == "/" else self._root / place[1:], place)
        filesystem = await self._filesystem_size(f"/dev/{name}")
        if filesystem is not None and size - filesystem < _WORTH:
            return False
        say(f"The file system of {place} grows to {size / 2**30:.1f} GiB", 0, 0)
        await self._run(["resize2fs", f"/dev/{name}"], seconds=_LONG)
        return _space(self._root if place == "/" else self._root / place[1:], place).size > before.size

    async def _filesystem_size(self, device: str) -> int | None:
        """Octets of an ext4 file system, by its superblock; None when that cannot be told."""
        said = await self._run(["dumpe2fs", "-h", device], check=False)
        facts = dict(line.split(":", 1) for line in said.out.splitlines() if ":" in line)
        try:
            return int(facts["Block count"]) * int(facts["Block size"])
        except (KeyError, ValueError):
            return None

    def _rescan(self, disk: str) -> None:
        """A virtual disk that was enlarged while we run is only seen so (SCSI; virtio tells by itself)."""
        path = self._root / "sys/class/block" / disk / "device/rescan"
        try:
            if path.exists():
                path.write_text("1", encoding="ascii")
        except OSError:
            return  # its size is what we knew before

    async def _grow_partition(self, disk: str, name: str, number: str, say: Say) -> None:
        whole, start, length = self._sectors(disk, "size"), self._start(name), self._sectors(name, "size")
        end = start + length
        if any(other > start for other in self._starts(disk)):
            return  # something lies behind it
        if (whole - end) * _SECTOR < _WORTH:
            return
        say(f"Partition {number} of {disk} grows to the end of its disk", 0, 0)
        path = f"/dev/{disk}"
        # The backup GPT lies in the middle of a disk that was enlarged: first to the end with it.
        await self._run(
            ["sfdisk", "--no-reread", "--force", "--relocate", "gpt-bak-std", path], check=False
        )  # an MBR has none
        grow = ["sfdisk", "--no-reread", "--no-tell-kernel", "--force", "-N", number, path]
        await self._run(grow, stdin=", +\n")
        await self._run(["partx", "--update", "--nr", number, path])

    def _number(self, path: Path) -> int:
        text = read_small(path)
        if text is None or not text.strip().isdigit():
            raise HostError(f"{path} says nothing: is the disk gone?")
        return int(text)

    def _sectors(self, block: str, what: str) -> int:
        return self._number(self._root / "sys/class/block" / block / what)

    def _start(self, partition: str) -> int:
        return self._sectors(partition, "start")

    def _starts(self, disk: str) -> list[int]:
        folder = self._root / "sys/class/block" / disk
        return [self._number(path) for path in folder.glob(f"{disk}*/start")]

    # --- the store's disk

    async def use_as_store(self, device: str, say: Say) -> None:
        """Steps that can each be done again: file system, copy, unit, change of place, tidying up."""
        if await self._device_at(f"/{STORE}") == device:
            self.tidy()
            return
        if await self.store_is_mounted():
            raise Invalid("store", "The store lies on a disk of its own already.")
        block = next((one for one in await self._blocks() if one["path"] == device), None)
        if block is None:
            raise Invalid("store", f"There is no disk {device[:40]}.")
        if not (block.get("fstype") == "ext4" and block.get("label") == STORE_LABEL):
            await self._make_file_system(device, block, say)
        await self._fill(device, say)
        unit = _mount_unit(f"/dev/disk/by-uuid/{await self._uuid(device)}")
        try:
            write_atomically(self._root / "etc/systemd/system" / MOUNT_UNIT, unit.encode())
        except OSError as error:
            raise HostError(f"The unit of the store's disk cannot be written: {error.strerror}") from error
        say("The disk is taken into use", 3, 4)
        store, old = self._root / STORE, self._root / f"{STORE}.before-disk"
        if store.exists() and not old.exists():  # at first boot the engine has not made it yet
            store.rename(old)
        store.mkdir(mode=0o700, exist_ok=True)
        await self._run(["systemctl", "daemon-reload"])
        await self._run(["udevadm", "settle", "--timeout=20"], check=False)
        await self._run(["systemctl", "enable", "--now", MOUNT_UNIT], seconds=120)
        self.tidy()
        say("The store has its disk", 4, 4)

    async def _make_file_system(self, device: str, block: dict[str, Any], say: Say) -> None:
        if _role(block) != "empty":
            raise Invalid("store", f"{device} is not empty: something of somebody may be on it.")
        await self._read_ends(device, int(block["size"]))
        # blkid reads the disk itself: what udev knows may be old. 2: it found nothing, or could not read.
        probe = await self._run(["blkid", "--probe", device], check=False)
        if probe.status != 2:
            raise Invalid(
                "store", f"{device} is not empty: {probe.out.strip()[:200] or 'blkid finds something'}"
            )
        say(f"A file system is made on {device}", 0, 4)
        await self._run(["mkfs.ext4", "-q", "-m", "1", "-L", STORE_LABEL, device], seconds=600)

    async def _read_ends(self, device: str, size: int) -> None:
        """Where signatures lie. Raises HostError when they cannot be read: who knows then what is there."""
        for start in (0, max(0, size - _END)):
            argv = ["dd", f"if={device}", "of=/dev/null", f"bs={_END}", "count=1", f"skip={start}"]
            try:
                said = await self._run([*argv, "iflag=skip_bytes,fullblock"], seconds=60)
            except HostError as error:
                raise HostError(f"{device} cannot be read, so is left alone: {error}") from error
            if "0+0 records in" in said.err:  # nothing there: it is smaller than lsblk says
                raise HostError(f"{device} cannot be read to its end, so is left alone.")

    async def _uuid(self, device: str) -> str:
        """Of its file system, from the disk itself. Two disks may have one label, but not one UUID."""
        said = await self._run(["blkid", "--probe", "-o", "value", "-s", "UUID", device], check=False)
        found = said.out.strip()
        if said.status != 0 or not _UUID.fullmatch(found):
            raise HostError(f"The file system on {device} has no UUID that can be read; nothing was changed.")
        return found

    async def _fill(self, device: str, say: Say) -> None:
        """Copies what is in the store; mounted for us alone, so that nobody sees half of it.

        A disk that held a store before keeps what it holds, and is refused when there is mail here too.
        """
        place, store = self._root / _TRY, self._root / STORE
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        say("What is in the store moves to the disk", 1, 4)
        await self._run(["mount", "-t", "ext4", "-o", "noatime,nodev,nosuid,noexec", device, str(place)])
        try:
            old = self._root / f"{STORE}.before-disk"
            source = old if old.exists() else store
            if source.is_dir() and _may_copy(source, place):
                _mark(place)
                await self._run(["cp", "-a", "-T", str(source), str(place)], seconds=_LONG)
            await self._run(["chown", "postkeep:postkeep", str(place)])
            await self._run(["chmod", "0700", str(place)])
            say("What was copied is written to the disk", 2, 4)
            await self._run(["sync", "-f", str(place)], seconds=600)
        except OSError as error:
            raise HostError(f"{device} cannot be used: {error.strerror or error}") from error
        finally:
            await self._run(["umount", str(place)])

    def tidy(self) -> None:
        """Only when the disk is in use: what was needed to do it again goes, first the dangerous mark."""
        try:
            remove(self._root / STORE / _FILLING)
        except OSError as error:
            raise HostError(f"{_FILLING} cannot be removed from the store: {error.strerror}") from error
        shutil.rmtree(self._root / f"{STORE}.before-disk", ignore_errors=True)


def _mount_unit(device: str) -> str:
    """`device` of plain characters. Hyphens are escaped as systemd-escape(1) does it."""
    instance = device.lstrip("/").replace("-", "\\x2d").replace("/", "-")
    return _UNIT.format(device=device, store=STORE, fsck=f"systemd-fsck@{instance}.service")


def _may_copy(source: Path, target: Path) -> bool:
    """Whether `source` is to be copied onto the disk at `target`. Raises Invalid when both hold mail."""
    marked = _is_marked(target)
    if marked or not set(os.listdir(target)) - {"lost+found"}:
        # A half copy of nothing is none: whatever has the database is the store.
        return not (marked and (target / _DATABASE).exists() and not (source / _DATABASE).exists())
    if (source / _DATABASE).exists():
        raise Invalid(
            "store",
            f"This disk holds a mail store already, and so does /{STORE}: neither is written over. "
            "Choose an empty disk, or move one of the two stores away.",
        )
    return False


def _is_marked(target: Path) -> bool:
    """The mark counts only when root made it: the engine's user owns the folder it lies in."""
    try:
        found = os.lstat(target / _FILLING)
    except FileNotFoundError:
        return False
    return stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid()


def _mark(target: Path) -> None:
    if _is_marked(target):
        return
    fd = os.open(
        target / _FILLING, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600
    )
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
    sync_folder(target)


def _role(block: dict[str, Any]) -> str:
    mounts, labels = _all(block)
    if "/" in mounts:
        return "system"
    if f"/{STORE}" in mounts or STORE_LABEL in labels:
        return "store"
    empty = not (block.get("fstype") or block.get("pttype") or block.get("children") or mounts)
    return "empty" if empty else "other"


def _all(block: dict[str, Any]) -> tuple[set[str], set[str]]:
    mounts = {one for one in block.get("mountpoints") or [] if one}
    labels = {block["label"]} if block.get("label") else set()
    for child in block.get("children") or []:
        inner_mounts, inner_labels = _all(child)
        mounts |= inner_mounts
        labels |= inner_labels
    return mounts, labels


def _space(path: Path, name: str) -> Space:
    found = os.statvfs(path)
    return Space(name, found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize)
