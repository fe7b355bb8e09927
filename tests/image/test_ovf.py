"""The built package under independent tools; and that each of them refuses a package that is broken."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from ovf import machine, validate
from ovf.check import outside
from ovf.properties import load
from tests.image.conftest import ROOT
from tests.support.appliance import NAME, seal, small_package, vmx_text

pytestmark = pytest.mark.image

TOOLS = ROOT / "build/tools"


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_package(tmp_path_factory.mktemp("small")).parent


@pytest.fixture
def folder(small: Path, tmp_path: Path) -> Path:
    """A small package that a test may break."""
    return shutil.copytree(small, tmp_path / "package")


def rewrite(folder: Path, before: str, after: str) -> None:
    """Change the descriptor, then make manifest and OVA again: only this one thing is wrong."""
    path = folder / f"{NAME}.ovf"
    text = path.read_text(encoding="utf-8")
    assert before in text
    path.write_text(text.replace(before, after), encoding="utf-8")
    seal(path)


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 0xFF
    path.write_bytes(data)


def test_the_built_package_passes_all_checks(built: Path, name: str, tmp_path: Path) -> None:
    complaints = []
    for group in (validate.own(built, name, tmp_path), validate.independent(built, name, tmp_path, TOOLS)):
        for what, check in group:
            complaints += [f"{what}: {text}" for text in check()]
    assert complaints == []


def test_the_ova_has_at_most_500_megabytes(built: Path, name: str) -> None:
    assert (built / f"{name}.ova").stat().st_size <= 500_000_000


def test_the_small_package_passes(folder: Path) -> None:
    descriptor = folder / f"{NAME}.ovf"
    assert outside.virt_v2v(descriptor.with_suffix(".ova")) == []
    assert outside.vcenter(descriptor, load(), TOOLS) == []
    assert outside.sha256sum(descriptor.with_suffix(".mf")) == []
    for disk in machine.DISKS:
        assert outside.qemu_img(folder / f"{NAME}-{disk.id}.vmdk", disk.capacity) == []


# --- virt-v2v ---------------------------------------------------------------------------------------


def wrong_digest(folder: Path) -> None:
    path = folder / f"{NAME}.mf"
    text = path.read_text()
    path.write_text(text.replace(text[-65:-1], "0" * 64))
    repack(folder)


def repack(folder: Path, without: str = "") -> None:
    from ovf import package
    from tests.support.appliance import EPOCH

    names = [f"{NAME}.ovf", f"{NAME}.mf", *(f"{NAME}-{disk.id}.vmdk" for disk in machine.DISKS)]
    package.write_ova(folder / f"{NAME}.ova", tuple(folder / n for n in names if n != without), EPOCH)


V2V = {
    "wrong digest in the manifest": wrong_digest,
    "disk missing": lambda folder: repack(folder, without=f"{NAME}-store.vmdk"),
    "descriptor missing": lambda folder: repack(folder, without=f"{NAME}.ovf"),
    "XML cut": lambda folder: rewrite(folder, "</Envelope>", ""),
    "disk that is not described": lambda folder: rewrite(folder, "ovf:/disk/disk-store", "ovf:/disk/none"),
    "other adapter": lambda folder: rewrite(folder, ">VmxNet3<", ">E1000<"),
    "other memory": lambda folder: rewrite(
        folder, "<rasd:VirtualQuantity>4096<", "<rasd:VirtualQuantity>512<"
    ),
    "other name": lambda folder: rewrite(folder, "<Name>Postkeep</Name>", "<Name>Other</Name>"),
}


@pytest.mark.parametrize("breakage", V2V)
def test_virt_v2v_refuses(folder: Path, breakage: str) -> None:
    V2V[breakage](folder)
    assert outside.virt_v2v(folder / f"{NAME}.ova")


# --- govmomi's vCenter ------------------------------------------------------------------------------

VCENTER = {
    "XML cut": lambda folder: rewrite(folder, "</Envelope>", ""),
    "controller that there is not": lambda folder: rewrite(folder, ">VirtualSCSI<", ">quantum<"),
    "other controller": lambda folder: rewrite(folder, ">VirtualSCSI<", ">lsilogic<"),
    "adapter that there is not": lambda folder: rewrite(folder, ">VmxNet3<", ">VmxNet9<"),
    "other adapter": lambda folder: rewrite(folder, ">VmxNet3<", ">E1000<"),
    "sound card": lambda folder: rewrite(
        folder, "<rasd:ResourceType>6</rasd:ResourceType>", "<rasd:ResourceType>35</rasd:ResourceType>"
    ),
    "one CPU less": lambda folder: rewrite(folder, "<rasd:VirtualQuantity>8<", "<rasd:VirtualQuantity>7<"),
    "other memory": lambda folder: rewrite(
        folder, "<rasd:VirtualQuantity>16384<", "<rasd:VirtualQuantity>1<"
    ),
    "smaller disk": lambda folder: rewrite(folder, 'ovf:capacity="64"', 'ovf:capacity="6"'),
    "other hardware": lambda folder: rewrite(folder, ">vmx-13<", ">vmx-8<"),
    "other guest": lambda folder: rewrite(folder, "debian10_64Guest", "otherGuest"),
    "property gone": lambda folder: rewrite(folder, "guestinfo.postkeep.ntp", "guestinfo.postkeep.xyz"),
    "disk without its file": lambda folder: (folder / f"{NAME}-store.vmdk").unlink(),
    "adapter on no network": lambda folder: rewrite(
        folder, "        <rasd:Connection>VM Network</rasd:Connection>\n", ""
    ),
}


@pytest.mark.parametrize("breakage", VCENTER)
def test_vcenter_refuses(folder: Path, breakage: str) -> None:
    change: Callable[[Path], object] = VCENTER[breakage]
    change(folder)
    assert outside.vcenter(folder / f"{NAME}.ovf", load(), TOOLS)


# --- libvirt ----------------------------------------------------------------------------------------

LIBVIRT = {
    "firmware bios": ("numvcpus", 'firmware = "bios"\nnumvcpus'),
    "controller that there is not": ('"pvscsi"', '"quantum"'),
    "other controller": ('"pvscsi"', '"lsilogic"'),
    "adapter that there is not": ('"vmxnet3"', '"vmxnet9"'),
    "other adapter": ('"vmxnet3"', '"e1000"'),
    "no network": ('ethernet0.networkName = "VM Network"\n', ""),
    "memory that is no number": ('memsize = "4096"', 'memsize = "much"'),
    "other memory": ('memsize = "4096"', 'memsize = "1024"'),
    "other CPUs": ('numvcpus = "2"', 'numvcpus = "4"'),
    "one disk less": ('scsi0:1.present = "TRUE"', 'scsi0:1.present = "FALSE"'),
    "line without a value": ("numvcpus", "nonsense\nnumvcpus"),
}


def test_libvirt_takes_the_vmx(tmp_path: Path) -> None:
    (tmp_path / "a.vmx").write_text(vmx_text())
    assert outside.libvirt(tmp_path / "a.vmx") == []


@pytest.mark.parametrize("breakage", LIBVIRT)
def test_libvirt_refuses(tmp_path: Path, breakage: str) -> None:
    before, after = LIBVIRT[breakage]
    assert before in vmx_text()
    (tmp_path / "a.vmx").write_text(vmx_text().replace(before, after))
    assert outside.libvirt(tmp_path / "a.vmx")


# --- qemu-img, sha256sum ----------------------------------------------------------------------------


def test_qemu_img_refuses_a_disk_of_another_size(folder: Path) -> None:
    assert outside.qemu_img(folder / f"{NAME}-store.vmdk", machine.STORE.capacity - 512)


@pytest.mark.parametrize("at", [0, -1024, -1004], ids=["magic", "footer's magic", "footer's grain size"])
def test_qemu_img_refuses_spoiled_headers(folder: Path, at: int) -> None:
    disk = folder / f"{NAME}-system.vmdk"
    flip(disk, at)
    assert outside.qemu_img(disk, machine.SYSTEM.capacity)


def test_qemu_img_refuses_a_disk_cut_short(folder: Path) -> None:
    disk = folder / f"{NAME}-system.vmdk"
    disk.write_bytes(disk.read_bytes()[:70_000])
    assert outside.qemu_img(disk, machine.SYSTEM.capacity)


@pytest.mark.parametrize("end", ["ovf", "system.vmdk", "store.vmdk"])
def test_sha256sum_refuses_one_changed_octet(folder: Path, end: str) -> None:
    path = folder / (f"{NAME}.ovf" if end == "ovf" else f"{NAME}-{end}")
    flip(path, 1000)
    assert outside.sha256sum(folder / f"{NAME}.mf")


def test_sha256sum_refuses_a_missing_file(folder: Path) -> None:
    (folder / f"{NAME}-store.vmdk").unlink()
    assert outside.sha256sum(folder / f"{NAME}.mf")


def test_sha256sum_refuses_an_empty_manifest(folder: Path) -> None:
    (folder / f"{NAME}.mf").write_text("")
    assert outside.sha256sum(folder / f"{NAME}.mf")
