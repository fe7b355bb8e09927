"""The parts of a bootable disk, and where Debian comes from."""

import struct
from pathlib import Path

import pytest

from tests.support.scripts import ROOT, load

bootloader = load("packer/bootloader.py")
base_disk = load("packer/base_disk.py")
chroot = load("packer/chroot.py")


def test_the_boot_record_names_the_core_and_leaves_the_partition_table_alone() -> None:
    record = bootloader.boot_record(bytes(range(256)) * 2, 2048)
    assert len(record) == 440  # the disk's signature and the MBR's table begin there
    assert struct.unpack_from("<Q", record, 0x5C) == (2048,)
    assert record[0x66:0x68] == b"\x90\x90"
    assert record[:0x5C] == bytes(range(0x5C))


def test_the_core_says_where_its_other_sectors_are() -> None:
    core = bootloader.core_with_blocks(b"\x11" * 1000, 2048)
    assert len(core) == 1024
    assert struct.unpack_from("<QHH", core, 0x1F4) == (2049, 1, 0x820)


def test_a_core_too_large_for_its_partition_is_refused() -> None:
    with pytest.raises(ValueError, match="sectors"):
        bootloader.core_with_blocks(b"\0" * (1 << 20) + b"\0", 2048)


def test_fstab_and_grub_name_the_same_file_system(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    bootloader.write_boot_files(tmp_path)
    config = (tmp_path / "boot/grub/grub.cfg").read_text()
    assert f"UUID={bootloader.ROOT_UUID} / ext4" in (tmp_path / "etc/fstab").read_text()
    assert f"root=UUID={bootloader.ROOT_UUID}" in config
    assert bootloader.ROOT_UUID in bootloader.EARLY_CONFIG
    # The last console is the one that systemd writes to: the machine's screen.
    assert config.index("console=ttyS0") < config.index("console=tty0")


def test_what_update_grub_will_write_has_the_same_words(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    bootloader.write_boot_files(tmp_path)
    defaults = (tmp_path / "etc/default/grub.d/postkeep.cfg").read_text()
    for word in bootloader.COMMAND_LINE.split()[1:]:
        assert word in defaults


def test_a_snapshot_pins_all_sources() -> None:
    lines = base_disk.Archive(snapshot="20261101T000000Z").lines()
    assert len(lines) == 3
    assert all("20261101T000000Z" in line and "signed-by=" in line for line in lines)


def test_a_mirror_serves_the_build_and_not_the_image(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEBIAN_MIRROR", "http://mirror.invalid/debian")
    assert "mirror.invalid" in base_disk.Archive.of_environment().lines()[0]
    assert "mirror.invalid" not in base_disk.SOURCES
    role = (ROOT / "ansible/roles/base/tasks/packages.yml").read_text()
    for line in base_disk.SOURCES.split("\n"):
        assert line in role  # bootstrap and role write the same file


def test_the_build_lets_in_only_its_own_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "etc/systemd/network").mkdir(parents=True)
    said: list[list[str]] = []
    monkeypatch.setattr(base_disk.chroot, "run", lambda tree, command: said.append(command))
    base_disk.admit(tmp_path, "ssh-ed25519 AAAA build\n")
    keys = tmp_path / "root/.ssh/authorized_keys"
    assert keys.read_text() == "ssh-ed25519 AAAA build\n"
    assert keys.stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "root/.ssh").stat().st_mode & 0o777 == 0o700
    assert ["systemctl", "enable", "ssh.service", "systemd-networkd.service"] in said


def test_all_that_the_build_lets_in_is_taken_away_by_the_seal() -> None:
    seal = (ROOT / "ansible/roles/seal/tasks/clean.yml").read_text()
    for path in (
        "/root/.ssh",
        "/etc/systemd/network/99-build.network",
        "/etc/resolv.conf",
        f"/{chroot.BUILD_APT}",
        "/usr/sbin/policy-rc.d",
    ):
        assert path in seal


def test_names_of_a_sealed_tree_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    resolver = tmp_path / "etc/resolv.conf"
    resolver.write_text("nameserver 127.0.0.1\n")
    chroot._lend_names(resolver)
    assert resolver.read_text() == "nameserver 127.0.0.1\n"
    resolver.write_text("nameserver 10.0.2.3\n")
    chroot._lend_names(resolver)
    assert resolver.read_text() == Path("/etc/resolv.conf").read_text()
