"""The .vmx as rendered, and spoiled."""

import pytest

from ovf.check import vmx
from ovf.render import vmx_quoted
from tests.support.appliance import NAME, vmx_text

CHANGES = {
    "hard power-off": ('powerType.powerOff = "soft"', 'powerType.powerOff = "hard"'),
    "no suspend": ('powerType.suspend = "soft"\n', ""),
    "reset by default": ('powerType.reset = "soft"', 'powerType.reset = "default"'),
    "LSI controller": ('"pvscsi"', '"lsilogic"'),
    "E1000 adapter": ('"vmxnet3"', '"e1000"'),
    "firmware": ("numvcpus", 'firmware = "bios"\nnumvcpus'),
    "nvram": ("numvcpus", 'nvram = "x.nvram"\nnumvcpus'),
    "address of one deployment": ("numvcpus", 'ethernet0.generatedAddress = "00:0c:29:00:00:01"\nnumvcpus'),
    "key twice": ("numvcpus", 'MemSize = "1"\nnumvcpus'),
    "SATA disk": ("numvcpus", 'sata0.present = "TRUE"\nnumvcpus'),
    "value without quotes": ('memsize = "4096"', "memsize = 4096"),
    "quote in a value": ('"Postkeep 1.2.3"', '"Post"keep 1.2.3"'),
    "older hardware": ('virtualHW.version = "13"', 'virtualHW.version = "8"'),
    "one disk alone": ("scsi0:1.", "scsi1:1."),
    "store switched off": ('scsi0:1.present = "TRUE"', 'scsi0:1.present = "FALSE"'),
    "other guest": ("debian10-64", "other"),
}


def test_nothing_to_complain_about() -> None:
    assert vmx.complaints(vmx_text()) == []


@pytest.mark.parametrize("change", CHANGES)
def test_complains_about(change: str) -> None:
    before, after = CHANGES[change]
    assert before in vmx_text(), "the test's own text has drifted from the template"
    assert vmx.complaints(vmx_text().replace(before, after))


def test_disks_by_unit() -> None:
    values, _ = vmx.parse(vmx_text())
    assert vmx.disk_files(values) == [f"{NAME}-system.vmdk", f"{NAME}-store.vmdk"]


def test_the_note_survives_quoting() -> None:
    values, _ = vmx.parse(vmx_text())
    assert values["annotation"].count("\n") == 2
    assert "Leave them so; a hard power-off" in values["annotation"]


def test_hostile_values_stay_one_value() -> None:
    hostile = 'a"\nscsi0.virtualDev = "x|#'
    values, complaints = vmx.parse(f"key = {vmx_quoted(hostile)}")
    assert not complaints
    assert values == {"key": hostile}
