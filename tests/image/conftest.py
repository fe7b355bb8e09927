"""What the image's tests start from: the built package (make appliance), unpacked once, and kept evidence.

`IMAGE_OUT` names another folder than build/appliance. Evidence (screens, serial logs) goes to build/evidence.
"""

import os
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ovf.check import descriptor
from tests.image.appliance import Appliance, set_up_at_the_console, set_up_unattended
from tests.image.screen import Font, load_font
from tests.image.vm import Disks, Hardware, VirtualMachine

ORDER = (
    "test_ovf", "test_playbook", "test_wizard", "test_inside", "test_console",
    "test_unattended", "test_power", "test_upgrade",
)  # fmt: skip
"""Of the modules: two machines go through all of it, the second one is upgraded and removed from at the end."""

ROOT = Path(__file__).parents[2]
FONT = "/usr/share/consolefonts/Uni2-Fixed16.psf.gz"
"""Of the appliance's console: ansible/roles/base, console-setup."""


@pytest.fixture(scope="session")
def built() -> Path:
    """The folder of the built package; without one nothing here can be tested."""
    folder = Path(os.environ.get("IMAGE_OUT", ROOT / "build/appliance"))
    if len(list(folder.glob("postkeep-*.ova"))) != 1:
        pytest.fail(f"{folder} does not hold one .ova: run make appliance first", pytrace=False)
    return folder


@pytest.fixture(scope="session")
def name(built: Path) -> str:
    """postkeep-VERSION."""
    return next(built.glob("postkeep-*.ova")).stem


@pytest.fixture(scope="session")
def evidence() -> Path:
    """Where screens and logs are kept for people."""
    folder = ROOT / "build/evidence"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def short_tmp(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder whose path is short enough for Unix sockets, on a disk with room."""
    base = tmp_path_factory.mktemp("i")
    yield base
    shutil.rmtree(base, ignore_errors=True)


@pytest.fixture(scope="session")
def disks(built: Path, name: str, short_tmp: Path) -> Disks:
    """The stream-optimized disks as they are in the OVA, not those that lie beside it."""
    folder = short_tmp / "ova"
    folder.mkdir()
    with tarfile.open(built / f"{name}.ova") as archive:
        archive.extractall(folder, filter="data")
    root = descriptor.parse((folder / f"{name}.ovf").read_text(encoding="utf-8"))
    system, store = (folder / file for file, _ in descriptor.references(root))
    return Disks(system, store)


@pytest.fixture(scope="session")
def font(disks: Disks, short_tmp: Path) -> Font:
    """The console's font, from the appliance's own disk."""
    return load_font(file_of_disk(disks.system, FONT, short_tmp))


def file_of_disk(disk: Path, path: str, scratch: Path) -> Path:
    """Copy one file out of the root file system of a disk that no machine uses."""
    from ovf.inventory import root_offset

    raw, target = scratch / "look.raw", scratch / Path(path).name
    subprocess.run(["qemu-img", "convert", "-O", "raw", str(disk), str(raw)], check=True)
    try:
        command = ["debugfs", "-R", f"dump {path} {target}", f"{raw}?offset={root_offset(raw)}"]
        subprocess.run(command, check=True, capture_output=True)
    finally:
        raw.unlink()
    assert target.stat().st_size, f"the appliance has no {path}"
    return target


Starter = Callable[..., VirtualMachine]


@pytest.fixture(scope="session")
def machines(disks: Disks, font: Font, short_tmp: Path, evidence: Path) -> Iterator[Starter]:
    """Makes machines, each from fresh overlays; at the end all are off and their logs kept."""
    made: list[VirtualMachine] = []

    def make(label: str, hardware: Hardware | None = None, of: Disks = disks) -> VirtualMachine:
        machine = VirtualMachine(short_tmp / label, of, hardware, font)
        made.append(machine)
        return machine

    yield make
    for machine in made:
        machine.power_cut()
        log = machine.folder / "serial.log"
        if log.exists():
            shutil.copy(log, evidence / f"{machine.folder.name}.serial.log")
        shutil.rmtree(machine.folder, ignore_errors=True)


@pytest.fixture(scope="session")
def attended(machines: Starter, evidence: Path) -> Iterator[Appliance]:
    """Set up at its console; no property was given. No way out to other networks."""
    appliance = set_up_at_the_console(machines("attended", Hardware(restrict=True)), evidence / "console")
    yield appliance
    appliance.shell.remove()


@pytest.fixture(scope="session")
def unattended(machines: Starter, evidence: Path, short_tmp: Path) -> Iterator[Appliance]:
    """Of the same disks, set up by the properties on an OVF environment's CD-ROM."""
    hardware = Hardware(restrict=True, mac="00:0c:29:5a:00:02", cdrom=short_tmp / "ovf-env.iso")
    appliance = set_up_unattended(machines("unattended", hardware), hardware, evidence / "unattended")
    yield appliance
    appliance.shell.remove()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Modules of the image in ORDER, others as they come."""

    def place(item: pytest.Item) -> int:
        name = item.path.stem
        return ORDER.index(name) if item.path.parent == Path(__file__).parent and name in ORDER else -1

    items.sort(key=place)
