"""The descriptor as rendered, and that each check sees what it is there for: one spoiled copy a check."""

import re
from pathlib import Path

import pytest

from ovf import machine
from ovf.check import descriptor
from ovf.properties import load
from ovf.render import DiskFile
from tests.support.appliance import renderer, small_package

TEXT_CHANGES = {
    "no XML": ("<References>", "<References"),
    "foreign root": ("dmtf.org/ovf/envelope/1", "dmtf.org/ovf/envelope/2"),
    "NetworkSection before References": (
        "<References>",
        "<NetworkSection><Info/></NetworkSection><References>",
    ),
    "Info missing": ("<Info>The virtual hardware</Info>", ""),
    "Vendor before Product": (
        "<Product>Postkeep</Product>\n      <Vendor>The Postkeep project</Vendor>",
        "<Vendor>The Postkeep project</Vendor>\n      <Product>Postkeep</Product>",
    ),
    "Description before Label": (
        "<Label>Small</Label>",
        "<Description>Small</Description><Label>Small</Label>",
    ),
    "InstanceID before ElementName": (
        "<rasd:ElementName>SCSI controller 0</rasd:ElementName>\n        <rasd:InstanceID>3</rasd:InstanceID>",
        "<rasd:InstanceID>3</rasd:InstanceID>\n        <rasd:ElementName>SCSI controller 0</rasd:ElementName>",
    ),
    "unknown element": ("<rasd:Parent>3</rasd:Parent>", "<rasd:Parents>3</rasd:Parents>"),
    "Item after vmw:Config": (
        "    </VirtualHardwareSection>",
        "      <Item><rasd:ElementName/><rasd:InstanceID>9</rasd:InstanceID></Item>\n    </VirtualHardwareSection>",
    ),
    "attribute without a namespace": ('ovf:diskId="disk-store"', 'diskId="disk-store"'),
    "boolean in VMware's spelling": ('ovf:default="true"', 'ovf:default="True"'),
    "network not declared": (
        "<rasd:Connection>VM Network</rasd:Connection>",
        "<rasd:Connection>Bridged</rasd:Connection>",
    ),
    "network not used": (
        '<Network ovf:name="VM Network">',
        '<Network ovf:name="Other"/><Network ovf:name="VM Network">',
    ),
    "no default size": (' ovf:default="true"', ""),
    "size without its memory": ("<rasd:VirtualQuantity>8192</", "<rasd:VirtualQuantity>819</"),
    "Item of an unknown size": ('<Item ovf:configuration="large">', '<Item ovf:configuration="huge">'),
    "no product URL": ("https://www.postkeep.example/<", "<"),
    "no licence": ("END OF TERMS AND CONDITIONS", ""),
    "other guest": ("debian10_64Guest", "otherGuest"),
    "older hardware": (">vmx-13<", ">vmx-10<"),
    "VirtualBox's hardware": (">vmx-13<", ">virtualbox-2.2<"),
    "LSI controller": (">VirtualSCSI<", ">lsilogic<"),
    "E1000 adapter": (">VmxNet3<", ">E1000<"),
    "SATA controller": ("<rasd:ResourceType>6</", "<rasd:ResourceType>20</"),
    "no transport": (' ovf:transport="com.vmware.guestInfo"', ""),
    "InstanceID twice": ("<rasd:InstanceID>6</", "<rasd:InstanceID>5</"),
    "hard power-off": (
        'vmw:key="powerOpInfo.powerOffType" vmw:value="soft"',
        'vmw:key="powerOpInfo.powerOffType" vmw:value="hard"',
    ),
    "hard reset": (
        'vmw:key="powerOpInfo.resetType" vmw:value="soft"',
        'vmw:key="powerOpInfo.resetType" vmw:value="hard"',
    ),
    "suspend as preset": (
        'vmw:key="powerOpInfo.suspendType" vmw:value="soft"',
        'vmw:key="powerOpInfo.suspendType" vmw:value="preset"',
    ),
    "no stand-by action": ("powerOpInfo.standbyAction", "powerOpInfo.standby"),
    "required vmw:Config": (
        'ovf:required="false" vmw:key="firmware"',
        'ovf:required="true" vmw:key="firmware"',
    ),
    "disk of no file": ('ovf:fileRef="file-store"', 'ovf:fileRef="file-stone"'),
    "disk not attached": ("ovf:/disk/disk-store", "ovf:/disk/disk-stone"),
    "disk on no controller": ("<rasd:Parent>3</", "<rasd:Parent>30</"),
    "other capacity": ('ovf:capacity="64"', 'ovf:capacity="63"'),
    "other format": ("vmdk.html#streamOptimized", "vmdk.html#sparse"),
    "property missing": ("guestinfo.postkeep.time_zone", "guestinfo.postkeep.zone"),
    "password in clear": (' ovf:password="true"', ""),
    "other default": ('ovf:value="Etc/UTC"', 'ovf:value="UTC"'),
    "other category": ("<Category>Network</Category>", "<Category>Net</Category>"),
}


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> str:
    return small_package(tmp_path_factory.mktemp("ovf")).read_text(encoding="utf-8")


def test_nothing_to_complain_about(text: str) -> None:
    assert descriptor.complaints(text, load()) == []


@pytest.mark.parametrize("change", TEXT_CHANGES)
def test_complains_about(text: str, change: str) -> None:
    before, after = TEXT_CHANGES[change]
    assert before in text, "the test's own text has drifted from the template"
    assert descriptor.complaints(text.replace(before, after), load())


def test_same_inputs_same_octets(tmp_path: Path, text: str) -> None:
    assert small_package(tmp_path).read_text(encoding="utf-8") == text


def test_markup_in_values_is_escaped(text: str) -> None:
    root = descriptor.parse(text)
    assert "Administrator&#39;s user name" in text
    labels = [element.text for element in root.iter("{http://schemas.dmtf.org/ovf/envelope/1}Label")]
    assert "Administrator's user name" in labels


def test_the_note_names_the_version() -> None:
    assert "1.2.3" in renderer().annotation()


def test_instance_ids_stay_apart_however_many_disks_there_are() -> None:
    files = tuple(
        DiskFile(f"d{unit}", f"disk {unit}", unit, f"{unit}.vmdk", 1, 1 << 30, 0) for unit in range(5)
    )
    found = re.findall(r"<rasd:InstanceID>(\d+)<", renderer().ovf(files))
    assert len(found) == 2 * len(machine.DEPLOYMENTS) + 1 + len(files) + 1
    assert sorted(set(map(int, found))) == list(range(1, 3 + 1 + len(files) + 1))
