"""A bootable GPT disk out of a tree, for BIOS and UEFI, without loop devices.

Layout, in sectors of 512 octets: BIOS boot partition with GRUB's core image at 2048, EFI system partition at
4096, root (ext4) from 135168 to the end. GRUB's images carry every module they need, so an upgrade of GRUB
never leaves a core beside modules of another version.

GRUB's boot record is what grub-install would write (GRUB manual, "BIOS installation"; offsets from
grub/i386/pc/boot.h): the core's first sector at 0x5c, a jump patched out at 0x66, and in the core's first
sector the list of the blocks that follow, at 0x1f4.
"""

import shutil
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import chroot

SECTOR = 512
CORE_START = 2048
ESP_START = 4096
ROOT_START = 135168
ROOT_LABEL = "postkeep-root"
# Identities of a layout, no secrets: the same in every build, so that the same inputs give the same disk.
DISK_GUID = "6E1A5D2C-0F5B-4F43-9D8B-3F0B7C61A001"
PART_GUIDS = tuple(f"6E1A5D2C-0F5B-4F43-9D8B-3F0B7C61A1{number:02d}" for number in (1, 2, 3))
ROOT_UUID = "6e1a5d2c-0f5b-4f43-9d8b-3f0b7c61a003"
ESP_SERIAL = "6e1a5d2c"

MODULES = [
    "part_gpt",
    "part_msdos",
    "ext2",
    "fat",
    "normal",
    "linux",
    "echo",
    "all_video",
    "test",
    "configfile",
    "search",
    "search_fs_uuid",
    "search_label",
    "gzio",
    "loadenv",
    "minicmd",
    "reboot",
    "halt",
    "ls",
    "cat",
    "serial",
    "terminal",
    "font",
    "gfxterm",
    "gfxmenu",
    "png",
    "regexp",
    "true",
    "sleep",
]
COMMAND_LINE = "ro quiet loglevel=4 console=ttyS0,115200n8 console=tty0"

EARLY_CONFIG = f"""search --no-floppy --fs-uuid --set=root {ROOT_UUID}
set prefix=($root)/boot/grub
configfile ($root)/boot/grub/grub.cfg
"""
# /vmlinuz and /initrd.img are Debian's links to the newest kernel; update-grub replaces this file on the box.
FIRST_CONFIG = f"""# Written at the build; the first upgrade of the kernel replaces it (update-grub).
set default=0
set timeout=2
set timeout_style=countdown
search --no-floppy --fs-uuid --set=root {ROOT_UUID}
menuentry "Postkeep" {{
    linux /vmlinuz root=UUID={ROOT_UUID} {COMMAND_LINE}
    initrd /initrd.img
}}
menuentry "Postkeep (rescue shell; asks for root's password)" {{
    linux /vmlinuz root=UUID={ROOT_UUID} {COMMAND_LINE} systemd.unit=rescue.target
    initrd /initrd.img
}}
"""
FSTAB = f"""# <file system> <mount point> <type> <options> <dump> <pass>
UUID={ROOT_UUID} / ext4 defaults,errors=remount-ro 0 1
"""


def write_boot_files(tree: Path) -> None:
    """fstab, GRUB's settings and first configuration: what a tree needs to be the root of such a disk."""
    (tree / "etc/fstab").write_text(FSTAB)
    grub = tree / "boot/grub"
    grub.mkdir(parents=True, exist_ok=True)
    (grub / "grub.cfg").write_text(FIRST_CONFIG)
    defaults = tree / "etc/default/grub.d"
    defaults.mkdir(parents=True, exist_ok=True)
    words = COMMAND_LINE.removeprefix("ro quiet ")
    (defaults / "postkeep.cfg").write_text(
        "GRUB_DISTRIBUTOR=Postkeep\nGRUB_TIMEOUT=2\n"
        f'GRUB_CMDLINE_LINUX_DEFAULT="quiet"\nGRUB_CMDLINE_LINUX="{words}"\n'
        "GRUB_TERMINAL=console\nGRUB_DISABLE_OS_PROBER=true\n"
    )


def make_disk(tree: Path, output: Path, *, size_gib: int, say: Callable[[str], None]) -> None:
    """`output` (qcow2) with `size_gib` GiB, booting the tree. Written beside it, then renamed."""
    raw = output.with_suffix(".raw")
    raw.unlink(missing_ok=True)
    work = output.with_suffix(".work")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    try:
        sectors = size_gib * (1 << 30) // SECTOR
        with raw.open("wb") as disk:
            disk.truncate(sectors * SECTOR)
        say("partitions")
        root_sectors = _partition(raw, sectors)
        say("root file system")
        _make_root(raw, tree, root_sectors)
        say("boot loaders")
        _install_bios(raw, tree, work)
        _install_uefi(raw, tree, work)
        say("qcow2")
        done = output.with_suffix(".new")
        convert = ["qemu-img", "convert", "-f", "raw", "-O", "qcow2", str(raw), str(done)]
        subprocess.run(convert, check=True, capture_output=True)
        done.replace(output)
    finally:
        raw.unlink(missing_ok=True)
        shutil.rmtree(work, ignore_errors=True)


def _partition(raw: Path, sectors: int) -> int:
    """Writes the GPT; the root partition's length in sectors."""
    last = sectors - 2048  # the backup header's place, whole MiB
    root_sectors = last - ROOT_START
    bios, esp, root = PART_GUIDS
    table = (
        f"label: gpt\nlabel-id: {DISK_GUID}\nfirst-lba: 2048\n"
        f"start={CORE_START}, size={ESP_START - CORE_START}, uuid={bios}, name=bios,"
        " type=21686148-6449-6E6F-744E-656564454649\n"
        f"start={ESP_START}, size={ROOT_START - ESP_START}, uuid={esp}, name=efi,"
        " type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B\n"
        f"start={ROOT_START}, size={root_sectors}, uuid={root}, name=root,"
        " type=4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709\n"
    )
    subprocess.run(["sfdisk", "--quiet", str(raw)], input=table, text=True, check=True)
    return root_sectors


def _make_root(raw: Path, tree: Path, sectors: int) -> None:
    """An ext4 filled with the tree. Features that the GRUB of older hosts cannot read are left out."""
    command = ["mke2fs", "-q", "-F", "-t", "ext4", "-L", ROOT_LABEL, "-U", ROOT_UUID]
    command += ["-O", "^metadata_csum_seed,^orphan_file", "-m", "1"]
    command += ["-E", f"offset={ROOT_START * SECTOR},hash_seed={ROOT_UUID}", "-d", str(tree)]
    subprocess.run([*command, str(raw), f"{sectors // 2}k"], check=True, capture_output=True)


def _grub_image(tree: Path, work: Path, target: str, prefix: str) -> bytes:
    """GRUB's core for `target`, made by the tree's own GRUB."""
    inside = tree / "boot/grub/.build"
    inside.mkdir(parents=True)
    try:
        (inside / "early.cfg").write_text(EARLY_CONFIG)
        modules = [*MODULES, "biosdisk"] if target == "i386-pc" else [*MODULES, "efi_gop"]
        command = ["grub-mkimage", "-O", target, "-p", prefix, "-c", "/boot/grub/.build/early.cfg"]
        chroot.run(tree, [*command, "-o", "/boot/grub/.build/core.img", *modules])
        return (inside / "core.img").read_bytes()
    finally:
        shutil.rmtree(inside)


def boot_record(boot_img: bytes, core_sector: int) -> bytes:
    """The first 440 octets of the disk: GRUB's boot.img told where its core lies."""
    record = bytearray(boot_img[:440])
    record[0x5C:0x64] = struct.pack("<Q", core_sector)
    record[0x66:0x68] = b"\x90\x90"  # trust the BIOS about the drive
    return bytes(record)


def core_with_blocks(core: bytes, core_sector: int) -> bytes:
    """The core image, padded to sectors, its first sector naming where the others lie."""
    padded = bytearray(core.ljust(-(-len(core) // SECTOR) * SECTOR, b"\0"))
    count = len(padded) // SECTOR
    if count > ESP_START - CORE_START:
        raise ValueError(f"GRUB's core has {count} sectors; its partition only {ESP_START - CORE_START}")
    padded[0x1F4:0x200] = struct.pack("<QHH", core_sector + 1, count - 1, 0x820)
    return bytes(padded)


def _install_bios(raw: Path, tree: Path, work: Path) -> None:
    core = _grub_image(tree, work, "i386-pc", "/boot/grub")
    boot_img = (tree / "usr/lib/grub/i386-pc/boot.img").read_bytes()
    with raw.open("r+b") as disk:
        disk.write(boot_record(boot_img, CORE_START))
        disk.seek(CORE_START * SECTOR)
        disk.write(core_with_blocks(core, CORE_START))


def _install_uefi(raw: Path, tree: Path, work: Path) -> None:
    loader = work / "BOOTX64.EFI"
    loader.write_bytes(_grub_image(tree, work, "x86_64-efi", "/boot/grub"))
    esp = work / "esp.img"
    size = (ROOT_START - ESP_START) * SECTOR
    with esp.open("wb") as image:
        image.truncate(size)
    subprocess.run(
        ["mkfs.vfat", "-F", "32", "-n", "EFI", "-i", ESP_SERIAL, "--invariant", str(esp)],
        check=True,
        capture_output=True,
    )
    subprocess.run(["mmd", "-i", str(esp), "::EFI", "::EFI/BOOT"], check=True)
    subprocess.run(["mcopy", "-i", str(esp), str(loader), "::EFI/BOOT/BOOTX64.EFI"], check=True)
    with esp.open("rb") as source, raw.open("r+b") as disk:
        disk.seek(ESP_START * SECTOR)
        shutil.copyfileobj(source, disk, 1 << 20)
