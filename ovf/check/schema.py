"""Order, number and attributes of the OVF's elements: the sequences of DMTF's DSP8023 (ovf-envelope.xsd
1.1.0) and of the CIM schemas that it draws in, as a table. None of the free tools looks at them; hosts do.
"""

from dataclasses import dataclass
from xml.etree.ElementTree import Element

OVF = "http://schemas.dmtf.org/ovf/envelope/1"
RASD = "http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData"
VSSD = "http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_VirtualSystemSettingData"
VMW = "http://www.vmware.com/schema/ovf"
SPACES = {"ovf": OVF, "rasd": RASD, "vssd": VSSD, "vmw": VMW}

_MANY = 1 << 20


@dataclass(frozen=True, slots=True)
class _Part:
    """One particle of a sequence: any of these names, so many times."""

    names: frozenset[str]
    least: int
    most: int


def _sequence(text: str) -> tuple[_Part, ...]:
    """ "Info Product? (Category|Property)*" as particles."""
    parts = []
    for word in text.split():
        mark = word[-1] if word[-1] in "?*+" else ""
        names = word.rstrip("?*+").strip("()").split("|")
        bounds = {"": (1, 1), "?": (0, 1), "*": (0, _MANY), "+": (1, _MANY)}[mark]
        parts.append(_Part(frozenset(names), *bounds))
    return tuple(parts)


_SECTIONS = (
    "AnnotationSection|ProductSection|EulaSection|OperatingSystemSection|VirtualHardwareSection|"
    "DiskSection|NetworkSection|DeploymentOptionSection|ResourceAllocationSection|StartupSection|InstallSection"
)
_ENVELOPE_ONLY = frozenset({"DiskSection", "NetworkSection", "DeploymentOptionSection"})
_SYSTEM_ONLY = frozenset({"VirtualHardwareSection", "OperatingSystemSection", "InstallSection"})

_CHILDREN = {
    "Envelope": f"References ({_SECTIONS})* (VirtualSystem|VirtualSystemCollection)? Strings*",
    "References": "File*",
    "File": "",
    "DiskSection": "Info Disk*",
    "Disk": "",
    "NetworkSection": "Info Network+",
    "Network": "Description*",
    "DeploymentOptionSection": "Info Configuration+",
    "Configuration": "Label Description",
    "VirtualSystem": f"Info Name* ({_SECTIONS})*",
    "AnnotationSection": "Info Annotation",
    "ProductSection": "Info Product? Vendor? Version? FullVersion? ProductUrl? VendorUrl? AppUrl? Icon* "
    "(Category|Property)*",
    "Property": "Label? Description* Value*",
    "EulaSection": "Info License",
    "OperatingSystemSection": "Info Description*",
    "VirtualHardwareSection": "Info System? Item*",
    "System": "vssd:AutomaticRecoveryAction? vssd:AutomaticShutdownAction? vssd:AutomaticStartupAction? "
    "vssd:AutomaticStartupActionDelay? vssd:AutomaticStartupActionSequenceNumber? vssd:Caption? "
    "vssd:ConfigurationDataRoot? vssd:ConfigurationFile? vssd:ConfigurationID? vssd:CreationTime? "
    "vssd:Description? vssd:ElementName vssd:InstanceID vssd:LogDataRoot? vssd:Notes* vssd:RecoveryFile? "
    "vssd:SnapshotDataRoot? vssd:SuspendDataRoot? vssd:SwapFileDataRoot? vssd:VirtualSystemIdentifier? "
    "vssd:VirtualSystemType?",
    "Item": "rasd:Address? rasd:AddressOnParent? rasd:AllocationUnits? rasd:AutomaticAllocation? "
    "rasd:AutomaticDeallocation? rasd:Caption? rasd:Connection* rasd:ConsumerVisibility? rasd:Description? "
    "rasd:ElementName rasd:HostResource* rasd:InstanceID rasd:Limit? rasd:MappingBehavior? "
    "rasd:OtherResourceType? rasd:Parent? rasd:PoolID? rasd:Reservation? rasd:ResourceSubType? "
    "rasd:ResourceType? rasd:VirtualQuantity? rasd:VirtualQuantityUnits? rasd:Weight?",
}
_SEQUENCES = {name: _sequence(text) for name, text in _CHILDREN.items()}
_OPEN = frozenset({"VirtualHardwareSection", "Item", "System"})
"""Elements whose sequence ends in xs:any namespace="##other"; here that is VMware's."""

_ATTRIBUTES = {
    "File": ({"id", "href"}, {"size", "compression", "chunkSize"}),
    "Disk": (
        {"diskId", "capacity"},
        {"fileRef", "capacityAllocationUnits", "format", "populatedSize", "parentRef"},
    ),
    "Network": ({"name"}, set()),
    "Configuration": ({"id"}, {"default"}),
    "VirtualSystem": ({"id"}, set()),
    "ProductSection": (set(), {"class", "instance", "required"}),
    "Property": ({"key", "type"}, {"qualifiers", "userConfigurable", "value", "password", "required"}),
    "OperatingSystemSection": ({"id"}, {"version", "required"}),
    "VirtualHardwareSection": (set(), {"id", "transport", "required"}),
    "Item": (set(), {"required", "configuration", "bound"}),
}
_BOOLEANS = frozenset({"default", "userConfigurable", "password", "required"})
_NUMBERS = frozenset({"size", "populatedSize", "chunkSize"})


def short(tag: str) -> str:
    """ "{namespace}Name" as "Name" (OVF's) or "prefix:Name"."""
    space, _, name = tag.rpartition("}")
    for prefix, uri in SPACES.items():
        if space == "{" + uri:
            return name if prefix == "ovf" else f"{prefix}:{name}"
    return tag


def complaints(root: Element) -> list[str]:
    """Of a whole descriptor."""
    if short(root.tag) != "Envelope":
        return [f"the root is {root.tag}, not the Envelope of OVF 1"]
    found: list[str] = []
    _walk(root, "Envelope", found)
    return found


def _walk(element: Element, path: str, found: list[str]) -> None:
    name = short(element.tag)
    sequence = _SEQUENCES.get(name)
    if sequence is not None:
        found += _order(element, name, path, sequence)
        found += _attributes(element, name, path)
    elif len(element) and ":" not in name:
        found.append(f"{path}: only text is allowed in {name}")
    for child in element:
        child_name = short(child.tag)
        if name == "VirtualSystem" and child_name in _ENVELOPE_ONLY:
            found.append(f"{path}: {child_name} belongs to the Envelope")
        if name == "Envelope" and child_name in _SYSTEM_ONLY:
            found.append(f"{path}: {child_name} belongs to the VirtualSystem")
        _walk(child, f"{path}/{child_name}", found)


def _order(element: Element, name: str, path: str, sequence: tuple[_Part, ...]) -> list[str]:
    children = [short(child.tag) for child in element]
    if name in _OPEN:
        while children and children[-1].startswith("vmw:"):
            children.pop()
    at = 0
    for part in sequence:
        count = 0
        while at < len(children) and count < part.most and children[at] in part.names:
            at += 1
            count += 1
        if count < part.least:
            here = children[at] if at < len(children) else "the end"
            return [f"{path}: {here} where {' or '.join(sorted(part.names))} must stand"]
    if at < len(children):
        return [f"{path}: {children[at]} is out of order, or not allowed here"]
    return []


def _attributes(element: Element, name: str, path: str) -> list[str]:
    required, optional = _ATTRIBUTES.get(name, (set(), {"required", "version", "msgid"}))
    found = []
    present = set()
    for key, value in element.attrib.items():
        if not key.startswith("{"):
            found.append(f"{path}: the attribute {key} has no namespace (attributeFormDefault is qualified)")
            continue
        attribute = short(key)
        if ":" in attribute or "{" in attribute:
            continue
        present.add(attribute)
        if attribute not in required | optional:
            found.append(f"{path}: {name} has no attribute {attribute}")
        if attribute in _BOOLEANS and value not in ("true", "false"):
            found.append(f"{path}: {attribute} = {value!r} is no xs:boolean")
        if attribute in _NUMBERS and not value.isdecimal():
            found.append(f"{path}: {attribute} = {value!r} is no number")
    return found + [f"{path}: {name} lacks the attribute {missing}" for missing in sorted(required - present)]
