"""What the OVF says, compared with the description of the machine (ovf/machine.py) and the properties."""

from collections.abc import Iterator
from xml.etree.ElementTree import Element, ParseError, fromstring

from ovf import machine
from ovf.check import schema
from ovf.check.schema import OVF, VMW
from ovf.properties import Properties

_NS = schema.SPACES
_UNITS = {"byte": 1, "byte * 2^10": 1 << 10, "byte * 2^20": 1 << 20, "byte * 2^30": 1 << 30}
_ALLOWED_DEVICES: dict[int, str] = {
    3: "CPU",
    4: "memory",
    6: "SCSI controller",
    10: "network adapter",
    17: "disk",
}


def parse(text: str) -> Element:
    """The Envelope. Raises ParseError."""
    return fromstring(text.encode())  # noqa: S314 – our own output


def complaints(text: str, properties: Properties) -> list[str]:
    """All about the descriptor alone."""
    try:
        root = parse(text)
    except ParseError as error:
        return [f"no XML: {error}"]
    found = schema.complaints(root)
    if found:
        return found
    for check in (_networks, _deployments, _product, _licence, _guest, _hardware, _power, _disks):
        found += check(root)
    return found + list(_properties(root, properties))


def _attribute(element: Element, name: str, space: str = OVF) -> str:
    return element.get(f"{{{space}}}{name}", "")


def _text(element: Element, path: str) -> str:
    return element.findtext(path, "", _NS)


def items(root: Element, kind: int, configuration: str = machine.DEFAULT.id) -> list[Element]:
    """The hardware of one CIM resource type in one deployment option."""
    found = []
    for item in root.iterfind(".//ovf:VirtualHardwareSection/ovf:Item", _NS):
        options = _attribute(item, "configuration").split()
        if _text(item, "rasd:ResourceType") == str(kind) and (not options or configuration in options):
            found.append(item)
    return found


def _networks(root: Element) -> Iterator[str]:
    declared = [
        _attribute(network, "name") for network in root.iterfind("ovf:NetworkSection/ovf:Network", _NS)
    ]
    used = [item.text or "" for item in root.iterfind(".//rasd:Connection", _NS)]
    if len(set(declared)) != len(declared):
        yield f"a network is declared twice: {declared}"
    for name in sorted(set(used) - set(declared)):
        yield f"the network {name!r} is connected but not declared in the NetworkSection"
    for name in sorted(set(declared) - set(used)):
        yield f"the network {name!r} is declared but nothing is connected to it"


def _deployments(root: Element) -> Iterator[str]:
    options = root.findall("ovf:DeploymentOptionSection/ovf:Configuration", _NS)
    if [_attribute(option, "id") for option in options] != [size.id for size in machine.DEPLOYMENTS]:
        yield "the deployment options are not those of the machine"
    defaults = [_attribute(option, "id") for option in options if _attribute(option, "default") == "true"]
    if defaults != [machine.DEFAULT.id]:
        yield f"the default deployment option is {defaults}, not {machine.DEFAULT.id}"
    for size in machine.DEPLOYMENTS:
        for kind, wanted in ((3, size.cpus), (4, size.memory)):
            amounts = [_text(item, "rasd:VirtualQuantity") for item in items(root, kind, size.id)]
            if amounts != [str(wanted)]:
                yield f"{size.id}: {_ALLOWED_DEVICES[kind]} is {amounts}, not {wanted}"
    known = {size.id for size in machine.DEPLOYMENTS}
    for item in root.iterfind(".//ovf:Item", _NS):
        for option in set(_attribute(item, "configuration").split()) - known:
            yield f"an Item is for the deployment option {option!r}, which there is not"


def _product(root: Element) -> Iterator[str]:
    section = root.find("ovf:VirtualSystem/ovf:ProductSection", _NS)
    if section is None:
        yield "there is no ProductSection in the VirtualSystem"
        return
    for name in ("Product", "Vendor", "Version", "FullVersion", "ProductUrl", "VendorUrl", "AppUrl"):
        if not _text(section, f"ovf:{name}").strip():
            yield f"the ProductSection has no {name}"


def _licence(root: Element) -> Iterator[str]:
    text = _text(root, "ovf:VirtualSystem/ovf:EulaSection/ovf:License")
    if "Apache License" not in text or "END OF TERMS AND CONDITIONS" not in text:
        yield "the EulaSection does not hold the licence's text"


def _guest(root: Element) -> Iterator[str]:
    section = root.find("ovf:VirtualSystem/ovf:OperatingSystemSection", _NS)
    if section is None:
        yield "there is no OperatingSystemSection"
        return
    given = (_attribute(section, "id"), _attribute(section, "osType", VMW))
    if given != (str(machine.CIM_DEBIAN_64), machine.OVF_GUEST):
        yield f"the guest is {given}, not {machine.OVF_GUEST}"


def _hardware(root: Element) -> Iterator[str]:
    section = root.find("ovf:VirtualSystem/ovf:VirtualHardwareSection", _NS)
    if section is None:
        yield "there is no VirtualHardwareSection"
        return
    if "com.vmware.guestInfo" not in _attribute(section, "transport").split():
        yield "the properties have no transport com.vmware.guestInfo: the guest would never see them"
    family = _text(section, "ovf:System/vssd:VirtualSystemType")
    if family != f"vmx-{machine.HARDWARE}":
        yield f"the hardware family is {family!r}, not vmx-{machine.HARDWARE}"
    for item in section.iterfind("ovf:Item", _NS):
        type_ = _text(item, "rasd:ResourceType")
        if not type_.isdecimal() or int(type_) not in _ALLOWED_DEVICES:
            yield f"a device of type {type_} ({_text(item, 'rasd:ElementName')}) is not wanted"
    for kind, subtype in ((6, "VirtualSCSI"), (10, "VmxNet3")):
        subtypes = [_text(item, "rasd:ResourceSubType") for item in items(root, kind)]
        if subtypes != [subtype]:
            yield f"{_ALLOWED_DEVICES[kind]}: {subtypes}, not {subtype}"
    for size in machine.DEPLOYMENTS:
        ids = [
            _text(item, "rasd:InstanceID") for kind in _ALLOWED_DEVICES for item in items(root, kind, size.id)
        ]
        if len(set(ids)) != len(ids):
            yield f"{size.id}: an InstanceID is used twice: {sorted(ids)}"


def _power(root: Element) -> Iterator[str]:
    given: dict[str, str] = {}
    for config in root.iterfind(".//ovf:VirtualHardwareSection/vmw:Config", _NS):
        key = _attribute(config, "key", VMW)
        if key in given:
            yield f"vmw:Config {key} is given twice"
        if _attribute(config, "required") != "false":
            yield f"vmw:Config {key} must have ovf:required=false: other hosts refuse it otherwise"
        given[key] = _attribute(config, "value", VMW)
    wanted = machine.CONFIG | {f"powerOpInfo.{key}": value for key, value in machine.POWER_OPERATIONS.items()}
    for key, value in wanted.items():
        if given.get(key) != value:
            yield f"vmw:Config {key} is {given.get(key)!r}, not {value!r}"
    for key in sorted(given.keys() - wanted.keys()):
        yield f"vmw:Config {key} is not wanted"


def capacity(disk: Element) -> int:
    """Of a Disk, in octets. Raises KeyError or ValueError."""
    unit = _attribute(disk, "capacityAllocationUnits") or "byte"
    return int(_attribute(disk, "capacity")) * _UNITS[unit]


def _disks(root: Element) -> Iterator[str]:
    files = {_attribute(file, "id") for file in root.iterfind("ovf:References/ovf:File", _NS)}
    disks = {_attribute(disk, "diskId"): disk for disk in root.iterfind("ovf:DiskSection/ovf:Disk", _NS)}
    referenced = [_attribute(disk, "fileRef") for disk in disks.values()]
    for name in referenced:
        if name not in files:
            yield f"a disk references the file {name!r}, which References does not list"
    for name in sorted(files - set(referenced)):
        yield f"the file {name} belongs to no disk"
    hosts = [_text(item, "rasd:HostResource") for item in items(root, 17)]
    if hosts != [f"ovf:/disk/{name}" for name in disks]:
        yield f"the disks {list(disks)} are attached as {hosts}"
    controllers = {_text(item, "rasd:InstanceID") for item in items(root, 6)}
    for item in items(root, 17):
        if _text(item, "rasd:Parent") not in controllers:
            yield f"{_text(item, 'rasd:ElementName')} hangs on no controller"
    sizes = []
    for name, disk in disks.items():
        if not _attribute(disk, "format").endswith("vmdk.html#streamOptimized"):
            yield f"{name}: the format is not stream-optimized"
        try:
            sizes.append(capacity(disk))
        except (KeyError, ValueError):
            yield f"{name}: the capacity is unreadable"
    if sizes != [disk.capacity for disk in machine.DISKS]:
        yield f"the capacities are {sizes}, not those of the machine"


def _properties(root: Element, properties: Properties) -> Iterator[str]:
    section = root.find("ovf:VirtualSystem/ovf:ProductSection", _NS)
    if section is None:
        return
    category = ""
    given: dict[str, tuple[str, ...]] = {}
    for child in section:
        name = schema.short(child.tag)
        if name == "Category":
            category = child.text or ""
        elif name == "Property":
            key = _attribute(child, "key")
            if key in given:
                yield f"the property {key} is given twice"
            given[key] = (
                category,
                *(_attribute(child, it) for it in ("type", "qualifiers", "userConfigurable", "value")),
                _attribute(child, "password") or "false",
                _text(child, "ovf:Label"),
                _text(child, "ovf:Description"),
            )
    wanted = {
        item.key: (
            item.category,
            item.ovf_type,
            item.qualifiers,
            str(item.user_configurable).lower(),
            item.default,
            str(item.secret).lower(),
            item.label,
            item.description,
        )
        for item in properties.properties
    }
    for key in wanted:
        if key not in given:
            yield f"the property {key} is missing"
        elif given[key] != wanted[key]:
            yield f"the property {key} is {given[key]}, properties.toml says {wanted[key]}"
    for key in given.keys() - wanted.keys():
        yield f"the property {key} is not in properties.toml"


def references(root: Element) -> list[tuple[str, int]]:
    """(file name, octets) as References lists them."""
    files = root.iterfind("ovf:References/ovf:File", _NS)
    return [(_attribute(file, "href"), int(_attribute(file, "size") or -1)) for file in files]


def capacities(root: Element) -> dict[str, int]:
    """File name → capacity of the disk in it, octets."""
    names = {
        _attribute(file, "id"): _attribute(file, "href")
        for file in root.iterfind("ovf:References/ovf:File", _NS)
    }
    disks = root.iterfind("ovf:DiskSection/ovf:Disk", _NS)
    return {names[_attribute(disk, "fileRef")]: capacity(disk) for disk in disks}
