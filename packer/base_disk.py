"""The base: a minimal Debian tree as a tar, and a disk that boots it and lets the build's key in.

The tar is the same for both ways to build; only the disk that Packer provisions gets the key, and the `seal`
role takes it away again.

    python packer/base_disk.py --output build/image     base.tar, build_key, base.qcow2
"""

import argparse
import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import bootloader
import chroot

ROOT = Path(__file__).resolve().parents[1]
EXCLUDES = ROOT / "ansible/roles/base/files/dpkg-excludes.conf"
SUITE = "trixie"
DISK_GIB = 16

MIRROR = "http://deb.debian.org/debian"
SECURITY = "http://deb.debian.org/debian-security"
SNAPSHOT = "http://snapshot.debian.org/archive/{archive}/{date}"
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"

# What boots, gets an address and runs Ansible's modules; all else is the business of the roles.
PACKAGES = (
    "ca-certificates",
    "console-setup",
    "dbus",
    "grub-efi-amd64-bin",
    "grub-pc-bin",
    "grub2-common",
    "initramfs-tools",
    "iproute2",
    "keyboard-configuration",
    "kmod",
    "libpam-systemd",
    "linux-image-amd64",
    "openssh-server",
    "python3",
    "python3-apt",
    "systemd-sysv",
    "systemd-timesyncd",
    "udev",
    "zstd",
)

# The disk controllers of every hypervisor that people import a VMware appliance into.
INITRAMFS_MODULES = [
    "vmw_pvscsi",
    "mptspi",
    "mptsas",
    "ahci",
    "ata_piix",
    "nvme",
    "sd_mod",
    "sr_mod",
    "virtio_pci",
    "virtio_scsi",
    "virtio_blk",
    "hv_storvsc",
    "xen_blkfront",
    "ext4",
]

SOURCES = """Types: deb
URIs: http://deb.debian.org/debian
Suites: trixie trixie-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://deb.debian.org/debian-security
Suites: trixie-security
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
"""

FIRST_NETWORK = """[Match]
Type=ether

[Network]
DHCP=yes
"""
GUEST_NAMES = "nameserver 10.0.2.3\n"
"""QEMU's user network answers there."""


@dataclass(frozen=True)
class Archive:
    """Where Debian comes from. `snapshot` ("20261101T000000Z") pins every package to that moment."""

    mirror: str = MIRROR
    security: str = SECURITY
    snapshot: str = ""

    @classmethod
    def of_environment(cls) -> "Archive":
        get = os.environ.get
        return cls(
            get("DEBIAN_MIRROR", MIRROR),
            get("DEBIAN_SECURITY_MIRROR", SECURITY),
            get("DEBIAN_SNAPSHOT", ""),
        )

    def lines(self) -> list[str]:
        """apt's one-line sources for the bootstrap."""
        main, security = self.mirror, self.security
        options = f"signed-by={KEYRING}"
        if self.snapshot:
            main = SNAPSHOT.format(archive="debian", date=self.snapshot)
            security = SNAPSHOT.format(archive="debian-security", date=self.snapshot)
            options += " check-valid-until=no"
        return [
            f"deb [{options}] {main} {SUITE} main",
            f"deb [{options}] {main} {SUITE}-updates main",
            f"deb [{options}] {security} {SUITE}-security main",
        ]


def bootstrap(tar: Path, archive: Archive, say: Callable[[str], None]) -> None:
    """`tar`: the base tree, without keys, machine-id, or trace of the mirror it came from."""
    new = tar.with_suffix(".new.tar")
    hooks = tar.parent / "base.files"
    shutil.rmtree(hooks, ignore_errors=True)
    hooks.mkdir(parents=True)
    (hooks / "debian.sources").write_text(SOURCES)
    (hooks / "modules").write_text("".join(f"{name}\n" for name in INITRAMFS_MODULES))
    # The list above instead of every driver: a third of the size, seconds of each start.
    (hooks / "initramfs.conf").write_text("MODULES=list\nCOMPRESS=zstd\n")
    command = [
        "mmdebstrap",
        "--mode=root",
        "--variant=minbase",
        "--format=tar",
        f"--include={','.join(PACKAGES)}",
        f"--dpkgopt={EXCLUDES}",
        "--aptopt=APT::Install-Recommends false",
        "--aptopt=Acquire::Languages none",
        "--aptopt=Acquire::Retries 5",
        f"--essential-hook=mkdir -p $1/etc/initramfs-tools/conf.d && "
        f"cp {hooks}/initramfs.conf $1/etc/initramfs-tools/conf.d/postkeep && "
        f"cp {hooks}/modules $1/etc/initramfs-tools/modules",
        # What mmdebstrap wrote for itself becomes the image's own word, and the mirror is forgotten.
        "--customize-hook=mv $1/etc/dpkg/dpkg.cfg.d/99mmdebstrap $1/etc/dpkg/dpkg.cfg.d/postkeep",
        "--customize-hook=rm -f $1/etc/apt/apt.conf.d/99mmdebstrap $1/etc/apt/sources.list"
        " $1/etc/ssh/ssh_host_*",
        f"--customize-hook=cp {hooks}/debian.sources $1/etc/apt/sources.list.d/debian.sources",
        "--customize-hook=: > $1/etc/machine-id && rm -f $1/var/lib/dbus/machine-id $1/etc/resolv.conf",
        SUITE,
        str(new),
        *archive.lines(),
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    tail: list[str] = []
    for line in process.stdout:
        tail = [*tail[-30:], line]
        if line.startswith("I: "):
            say(line[3:].strip())
    if process.wait():
        raise RuntimeError("mmdebstrap failed:\n" + "".join(tail))
    new.replace(tar)
    shutil.rmtree(hooks)


def unpack(tar: Path, tree: Path) -> None:
    """A fresh `tree` out of the base."""
    chroot.remove(tree)
    tree.mkdir(parents=True)
    command = ["tar", "-C", str(tree), "--numeric-owner", "--xattrs", "--xattrs-include=*", "-xpf", str(tar)]
    subprocess.run(command, check=True)
    bootloader.write_boot_files(tree)


def make_key(key: Path) -> str:
    """The build's own ed25519 key pair, made once a build folder; the public line."""
    public = key.with_name(key.name + ".pub")
    if not (key.exists() and public.exists()):
        key.unlink(missing_ok=True)
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "postkeep-build", "-f", str(key)]
        subprocess.run(command, check=True)
    return public.read_text()


def admit(tree: Path, public_key: str) -> None:
    """Lets the build in: its key, host keys, DHCP, QEMU's name server. The `seal` role undoes each."""
    ssh = tree / "root/.ssh"
    ssh.mkdir(mode=0o700, exist_ok=True)
    keys = ssh / "authorized_keys"
    keys.write_text(public_key)
    keys.chmod(0o600)
    network = tree / "etc/systemd/network/99-build.network"
    network.write_text(FIRST_NETWORK)
    (tree / "etc/resolv.conf").write_text(GUEST_NAMES)
    chroot.run(tree, ["ssh-keygen", "-A"])
    chroot.run(tree, ["systemctl", "enable", "ssh.service", "systemd-networkd.service"])


def base_disk(folder: Path, say: Callable[[str], None]) -> None:
    """`folder`/base.qcow2 from `folder`/base.tar, with the key `folder`/build_key let in."""
    tree = folder / "base-tree"
    say("unpacking")
    unpack(folder / "base.tar", tree)
    try:
        admit(tree, make_key(folder / "build_key"))
        bootloader.make_disk(tree, folder / "base.qcow2", size_gib=DISK_GIB, say=say)
    finally:
        chroot.remove(tree)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--output", type=Path, default=ROOT / "build/image", metavar="FOLDER")
    options = parser.parse_args(arguments)
    if os.geteuid() != 0:
        print("base_disk: a tree has owners, so only root can make one. Use sudo.", file=sys.stderr)
        return 1
    options.output.mkdir(parents=True, exist_ok=True)

    def say(text: str) -> None:
        print(f"  {text}", flush=True)

    with contextlib.suppress(KeyboardInterrupt):
        bootstrap(options.output / "base.tar", Archive.of_environment(), say)
        base_disk(options.output, say)
        return 0
    return 130


if __name__ == "__main__":
    sys.exit(main())
