"""python -m ovf.validate: checks all that python -m ovf.build made, by own eyes and by independent tools."""

import argparse
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from ovf import machine
from ovf.check import files, outside
from ovf.progress import Progress
from ovf.properties import load

Check = tuple[str, Callable[[], list[str]]]
"""What is checked, and what says the complaints."""


def own(folder: Path, name: str, scratch: Path) -> tuple[Check, ...]:
    """Without any tool, in seconds. The archives are unpacked to the empty folder `scratch`."""
    properties = load()
    for part in ("ova", "zip"):
        (scratch / part).mkdir()
    return (
        ("OVF, manifest, disks", lambda: files.folder_complaints(folder / f"{name}.ovf", properties)),
        ("OVA", lambda: files.ova_complaints(folder / f"{name}.ova", scratch / "ova", properties)),
        ("ZIP, VMX", lambda: files.zip_complaints(folder / f"{name}.zip", scratch / "zip")),
    )


def independent(folder: Path, name: str, scratch: Path, tools: Path) -> tuple[Check, ...]:
    """The same with others' tools, after own() has unpacked the archives to `scratch`."""
    properties = load()
    unpacked = scratch / "zip" / name
    checks: list[Check] = [
        ("virt-v2v, OVA", lambda: outside.virt_v2v(folder / f"{name}.ova")),
        (
            "govmomi's vCenter, OVA unpacked",
            lambda: outside.vcenter(scratch / "ova" / f"{name}.ovf", properties, tools),
        ),
        ("libvirt, VMX", lambda: outside.libvirt(unpacked / f"{name}.vmx")),
        ("sha256sum, manifest", lambda: outside.sha256sum(folder / f"{name}.mf")),
    ]
    for disk in machine.DISKS:
        for where, label in ((folder, "OVF"), (unpacked, "ZIP")):
            check = partial(outside.qemu_img, where / f"{name}-{disk.id}.vmdk", disk.capacity)
            checks.append((f"qemu-img, {disk.id} disk of the {label}", check))
    return tuple(checks)


def main() -> int:
    """The command. Exit status 1 if anything is wrong."""
    parser = argparse.ArgumentParser(prog="python -m ovf.validate", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("build/appliance"))
    parser.add_argument("--tools", type=Path, default=Path("build/tools"), help="where built tools are kept")
    arguments = parser.parse_args()
    descriptors = sorted(arguments.out.glob("*.ovf"))
    if not descriptors:
        print(f"validate: there is no .ovf in {arguments.out}: run make ovf", file=sys.stderr)
        return 1
    progress = Progress()
    wrong = 0
    for descriptor in descriptors:
        with tempfile.TemporaryDirectory(prefix=".check-", dir=arguments.out) as folder:
            name, scratch = descriptor.stem, Path(folder)
            groups = (
                own(arguments.out, name, scratch),
                independent(arguments.out, name, scratch, arguments.tools),
            )
            for what, check in (item for group in groups for item in group):
                progress.begin(what)
                complaints = check()
                wrong += len(complaints)
                progress.end("; ".join(complaints) or "well")
    if wrong:
        print(f"validate: {wrong} complaints", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
