"""A small OVF package and VMX archive, as large as a test can carry: empty disks but real descriptors."""

from pathlib import Path

from ovf import machine, package
from ovf.properties import load
from ovf.render import DiskFile, Renderer
from ovf.vmdk import write_stream

NAME = "postkeep-1.2.3"
EPOCH = 1_800_000_000


def small_package(folder: Path, raw: bytes = b"boot sector") -> Path:
    """Make NAME.ovf, its disks, .mf and .ova in `folder`; return the descriptor."""
    source = folder / "system.raw"
    source.write_bytes(raw)
    disks = []
    for disk in machine.DISKS:
        target = folder / f"{NAME}-{disk.id}.vmdk"
        populated = write_stream(source if disk is machine.SYSTEM else None, target, disk.capacity)
        size = target.stat().st_size
        disks.append(DiskFile(disk.id, disk.label, disk.unit, target.name, size, disk.capacity, populated))
    source.unlink()
    descriptor = folder / f"{NAME}.ovf"
    descriptor.write_text(renderer().ovf(tuple(disks)), encoding="utf-8")
    seal(descriptor)
    return descriptor


def renderer() -> Renderer:
    return Renderer(load(), NAME, "1.2.3", "1.2.3+4")


def seal(descriptor: Path) -> Path:
    """Write manifest and OVA (again) from the files as they are now; return the OVA."""
    files = [descriptor, *(descriptor.with_name(f"{NAME}-{disk.id}.vmdk") for disk in machine.DISKS)]
    manifest = descriptor.with_suffix(".mf")
    manifest.write_text(package.manifest(files), encoding="utf-8")
    ova = descriptor.with_suffix(".ova")
    package.write_ova(ova, (files[0], manifest, *files[1:]), EPOCH)
    return ova


def vmx_text() -> str:
    disks = tuple(
        DiskFile(disk.id, disk.label, disk.unit, f"{NAME}-{disk.id}.vmdk", 1, disk.capacity, 0)
        for disk in machine.DISKS
    )
    return renderer().vmx(disks)
