"""python -m ovf.build: from the provisioned disk to all that is handed out.

In the folder --out, for version V: postkeep-V.ovf, -system.vmdk, -store.vmdk, .mf (the OVF package), .ova
(the same as one file), .zip (VMX for Workstation and Fusion), .packages.txt, .cdx.json and .sha256.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from ovf import machine, package, sbom
from ovf.inventory import Inventory, InventoryError, from_disk
from ovf.progress import Progress
from ovf.properties import PropertyError, load
from ovf.render import DiskFile, Renderer
from ovf.vmdk import VmdkError, set_content_id, write_stream


class BuildError(Exception):
    """Says what went wrong and what to do."""


class Build:
    """One run. `scratch` is a folder for the raw disk: as large as what the system disk holds."""

    def __init__(self, out: Path, scratch: Path, version: str, epoch: int, progress: Progress) -> None:
        self._out = out
        self._scratch = scratch
        self._version = version
        self._epoch = epoch
        self._progress = progress
        self.name = f"postkeep-{version}"
        self._renderer = Renderer(load(), self.name, version)

    def run(self, system: Path, unprovisioned: bool = False) -> tuple[Path, ...]:
        """All steps; returns what was made, sorted. Raises BuildError and those of the parts."""
        self._out.mkdir(parents=True, exist_ok=True)
        raw = self._scratch / "system.raw"
        self._convert("system disk to raw", system, raw, "raw")
        if raw.stat().st_size != machine.SYSTEM.capacity:
            raise BuildError(
                f"{system} has {raw.stat().st_size} octets, the OVF says {machine.SYSTEM.capacity}: "
                "the sizes in ovf/machine.py and packer/ must agree"
            )
        made = [*self._lists(raw, unprovisioned), *self._ovf_package(raw), self._zip(raw)]
        sums = self._out / f"{self.name}.sha256"
        self._progress.begin("checksums")
        sums.write_text("".join(f"{package.sha256(file)}  {file.name}\n" for file in sorted(made)))
        self._progress.end()
        return tuple(sorted([*made, sums]))

    def _convert(self, label: str, source: Path, target: Path, kind: str, options: str = "") -> None:
        """qemu-img, with its percentage."""
        command = ["qemu-img", "convert", "-p", "-O", kind, *(["-o", options] if options else [])]
        self._progress.begin(label)
        with subprocess.Popen(
            [*command, str(source), str(target)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            text = b""
            while chunk := os.read(process.stdout.fileno(), 4096):
                text = (text + chunk)[-64:]
                if found := re.findall(rb"\((\d+)\.\d+/100%\)", text):
                    self._progress.report(int(found[-1]), 100)
            complaint = process.stderr.read().decode(errors="replace").strip()
        if process.returncode:
            raise BuildError(f"qemu-img convert {source} failed: {complaint}")
        self._progress.end()

    def _lists(self, raw: Path, unprovisioned: bool) -> list[Path]:
        self._progress.begin("list of packages, SBOM")
        with tempfile.TemporaryDirectory(dir=self._scratch) as folder:
            inventory = from_disk(raw, Path(folder))
        if not unprovisioned:
            self._check(inventory)
        packages = self._out / f"{self.name}.packages.txt"
        packages.write_text(inventory.lines(), encoding="utf-8")
        bill = self._out / f"{self.name}.cdx.json"
        text = sbom.render(inventory, "postkeep-appliance", self._version, self._epoch)
        bill.write_text(text, encoding="utf-8")
        self._progress.end(f"{len(inventory.packages)} of Debian, {len(inventory.python)} of Python")
        return [packages, bill]

    def _check(self, inventory: Inventory) -> None:
        versions = {item.name: item.version for item in inventory.packages}
        for name in ("postkeep", "postkeep-console", "open-vm-tools"):
            if name not in versions:
                raise BuildError(
                    f"the system disk lacks the package {name}: run make appliance to provision it"
                )
        if versions["postkeep"] != self._version:
            raise BuildError(
                f"the system disk holds postkeep {versions['postkeep']}, this tree is {self._version}: "
                "run make appliance again"
            )

    def _ovf_package(self, raw: Path) -> list[Path]:
        files = []
        for disk in machine.DISKS:
            target = self._out / f"{self.name}-{disk.id}.vmdk"
            self._progress.begin(f"stream-optimized VMDK, {disk.id}")
            populated = write_stream(
                raw if disk is machine.SYSTEM else None, target, disk.capacity, self._progress.report
            )
            size = target.stat().st_size
            files.append(
                DiskFile(disk.id, disk.label, disk.unit, target.name, size, disk.capacity, populated)
            )
            self._progress.end(megabytes(size))
        disks = [self._out / file.file for file in files]
        descriptor = self._out / f"{self.name}.ovf"
        descriptor.write_text(self._renderer.ovf(tuple(files)), encoding="utf-8")
        manifest = self._out / f"{self.name}.mf"
        self._progress.begin("manifest, OVA")
        manifest.write_text(package.manifest([descriptor, *disks]), encoding="utf-8")
        ova = self._out / f"{self.name}.ova"
        package.write_ova(ova, (descriptor, manifest, *disks), self._epoch, self._progress.report)
        self._progress.end(megabytes(ova.stat().st_size))
        return [descriptor, manifest, *disks, ova]

    def _zip(self, raw: Path) -> Path:
        files = []
        for disk in machine.DISKS:
            target = self._scratch / f"{self.name}-{disk.id}.vmdk"
            source = raw
            if disk is not machine.SYSTEM:
                source = self._scratch / f"{disk.id}.raw"
                with source.open("wb") as empty:
                    empty.truncate(disk.capacity)
            options = "subformat=monolithicSparse,adapter_type=lsilogic"
            self._convert(f"growable VMDK, {disk.id}", source, target, "vmdk", options)
            set_content_id(target)
            size = target.stat().st_size
            files.append(DiskFile(disk.id, disk.label, disk.unit, target.name, size, disk.capacity, 0))
        vmx = self._scratch / f"{self.name}.vmx"
        vmx.write_text(self._renderer.vmx(tuple(files)), encoding="utf-8")
        archive = self._out / f"{self.name}.zip"
        self._progress.begin("ZIP with the VMX")
        disks = [self._scratch / file.file for file in files]
        package.write_zip(archive, self.name, (vmx, *disks), self._epoch, self._progress.report)
        self._progress.end(megabytes(archive.stat().st_size))
        return archive


def megabytes(octets: int) -> str:
    """For people: decimal, as download pages say it."""
    return f"{octets / 1e6:.1f} MB" if octets >= 100_000 else f"{octets / 1e3:.1f} kB"


def source_epoch() -> int:
    """SOURCE_DATE_EPOCH, else the time of the last commit, else 2020-01-01."""
    if given := os.environ.get("SOURCE_DATE_EPOCH"):
        return int(given)
    done = subprocess.run(["git", "log", "-1", "--format=%ct"], capture_output=True, text=True, check=False)
    return int(done.stdout) if done.returncode == 0 and done.stdout.strip() else 1_577_836_800


def main() -> int:
    """The command. Exit status 1 with one line that says what to do."""
    from postkeep import __version__

    parser = argparse.ArgumentParser(prog="python -m ovf.build", description=__doc__)
    parser.add_argument(
        "--system", type=Path, default=Path("build/image/system.qcow2"), help="the provisioned disk"
    )
    parser.add_argument("--out", type=Path, default=Path("build/appliance"))
    parser.add_argument(
        "--unprovisioned", action="store_true", help="take a disk without the product, for trials"
    )
    arguments = parser.parse_args()
    progress = Progress()
    try:
        if not arguments.system.is_file():
            raise BuildError(f"there is no {arguments.system}: run make appliance")
        arguments.out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".scratch-", dir=arguments.out) as folder:
            build = Build(arguments.out, Path(folder), __version__, source_epoch(), progress)
            made = build.run(arguments.system, arguments.unprovisioned)
    except (BuildError, InventoryError, PropertyError, VmdkError, package.PackageError, OSError) as error:
        print(f"ovf: {error}", file=sys.stderr)
        return 1
    for file in made:
        print(f"{megabytes(file.stat().st_size):>12}  {file}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
