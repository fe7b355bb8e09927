"""What the .vmx says, compared with the description of the machine."""

import re
from collections.abc import Iterator

from ovf import machine

_LINE = re.compile(r'([.A-Za-z][A-Za-z0-9_.:]*) = "((?:[^"|\x00-\x1f]|\|[0-9A-F]{2})*)"')
_FORBIDDEN = (
    "firmware",
    "nvram",
    "uuid.bios",
    "uuid.location",
    "ethernet0.address",
    "ethernet0.generatedAddress",
)
"""firmware: libvirt refuses "bios", which is the default. The others belong to one deployment."""


def parse(text: str) -> tuple[dict[str, str], list[str]]:
    """Keys and values, and complaints about lines that are neither."""
    values: dict[str, str] = {}
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        pair = _LINE.fullmatch(line)
        if not pair:
            found.append(f'line {number}: {line[:60]!r} is not key = "value"')
        elif pair[1].lower() in {key.lower() for key in values}:
            found.append(f"line {number}: {pair[1]} is given twice")
        else:
            values[pair[1]] = re.sub(r"\|([0-9A-F]{2})", lambda m: chr(int(m[1], 16)), pair[2])
    return values, found


def complaints(text: str) -> list[str]:
    """All about the file alone."""
    values, found = parse(text)
    return found + list(_values(values))


def disk_files(values: dict[str, str]) -> list[str]:
    """The files of the disks, by unit."""
    names = [(key, value) for key, value in values.items() if re.fullmatch(r"scsi0:\d+\.fileName", key)]
    return [value for _, value in sorted(names, key=lambda pair: int(re.findall(r":(\d+)", pair[0])[0]))]


def _values(values: dict[str, str]) -> Iterator[str]:
    wanted = {
        ".encoding": "UTF-8",
        "config.version": "8",
        "virtualHW.version": str(machine.HARDWARE),
        "guestOS": machine.VMX_GUEST,
        "numvcpus": str(machine.DEFAULT.cpus),
        "memsize": str(machine.DEFAULT.memory),
        "powerType.powerOff": "soft",
        "powerType.powerOn": "soft",
        "powerType.suspend": "soft",
        "powerType.reset": "soft",
        "scsi0.present": "TRUE",
        "scsi0.virtualDev": "pvscsi",
        "ethernet0.present": "TRUE",
        "ethernet0.virtualDev": "vmxnet3",
        "ethernet0.connectionType": "bridged",
        "ethernet0.networkName": machine.NETWORK,
        "ethernet0.addressType": "generated",
        "tools.syncTime": "FALSE",
        "floppy0.present": "FALSE",
        "sound.present": "FALSE",
    }
    for key, value in wanted.items():
        if values.get(key) != value:
            yield f"{key} is {values.get(key)!r}, not {value!r}"
    for key in _FORBIDDEN:
        if key in values:
            yield f"{key} must not be given"
    for key in values:
        if re.match(r"(ide|sata|nvme)\d", key):
            yield f"{key}: disks are on the SCSI controller alone"
    if len(disk_files(values)) != len(machine.DISKS):
        yield f"{len(disk_files(values))} disks, not {len(machine.DISKS)}"
    for disk in machine.DISKS:
        if values.get(f"scsi0:{disk.unit}.present") != "TRUE":
            yield f"the disk {disk.id} is not present"
    for key in ("displayName", "annotation"):
        if not values.get(key, "").strip():
            yield f"{key} is missing"
