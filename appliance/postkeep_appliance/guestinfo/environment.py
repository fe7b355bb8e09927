"""The OVF environment document (DSP0243 §11): hostile bytes ↔ its properties. Pure."""

import xml.etree.ElementTree as ET  # builds and writes trees only: expat below does the reading
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from xml.parsers import expat

NAMESPACE = "http://schemas.dmtf.org/ovf/environment/1"
SIZE_LIMIT = 256 << 10
"""Octets. Hosts cut guestinfo off at 64 KiB; an ISO might hold a little more for a large vApp."""
_DEPTH_LIMIT = 32
_ELEMENT_LIMIT = 10_000
_ENCODINGS = {None, "utf-8", "us-ascii", "ascii", "utf-16"}
_ROOT, _SECTION, _PROPERTY = (
    f"{{{NAMESPACE}}}{name}" for name in ("Environment", "PropertySection", "Property")
)
_KEY, _VALUE = f"{{{NAMESPACE}}}key", f"{{{NAMESPACE}}}value"
_PREFIXES = {NAMESPACE: "oe", "http://www.vmware.com/schema/ovfenv": "ve"}


class BadEnvironment(ValueError):
    """What came is no OVF environment. The text quotes nothing of it: it may hold passwords."""


@dataclass(frozen=True, slots=True)
class Environment:
    """`properties`: those of this machine. `repeated`: keys given more than once, so not to be trusted."""

    properties: Mapping[str, str]
    repeated: frozenset[str] = frozenset()

    def __repr__(self) -> str:
        return f"Environment(<{len(self.properties)} properties>)"


def read(document: bytes) -> Environment:
    """The properties of the machine itself, not those of its siblings in a vApp. Raises BadEnvironment."""
    found: dict[str, str] = {}
    repeated = set()
    for element in _properties(_parse(document)):
        key = element.get(_KEY, "").strip()
        if not key:
            continue
        if key in found:
            repeated.add(key)
        found[key] = element.get(_VALUE, "")
    return Environment(found, frozenset(repeated))


def holds(document: bytes, keys: Collection[str]) -> bool:
    """Whether a value is set for one of `keys`, in whatever section. Raises BadEnvironment."""
    return any(
        element.get(_VALUE, "").strip() or len(element) or (element.text or "").strip()
        for element in _parse(document).iter(_PROPERTY)
        if element.get(_KEY, "").strip() in keys
    )


def without(document: bytes, keys: Collection[str]) -> bytes:
    """The same environment, UTF-8, with the values of `keys` (in whatever section) empty.

    Raises BadEnvironment.
    """
    root = _parse(document)
    for element in root.iter(_PROPERTY):
        if element.get(_KEY, "").strip() in keys:
            element.set(_VALUE, "")
            # A value may be repeated for each deployment option (DSP0243 §9.5.1) or written as text.
            element[:] = []
            element.text = None
    for namespace, prefix in _PREFIXES.items():
        ET.register_namespace(prefix, namespace)
    written: bytes = ET.tostring(root, encoding="UTF-8", xml_declaration=True)
    return written


def empty() -> bytes:
    """The environment that says nothing."""
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<Environment xmlns="{NAMESPACE}"/>'.encode()


def _properties(root: ET.Element) -> list[ET.Element]:
    if root.tag != _ROOT:
        raise BadEnvironment("this is another document than an OVF environment")
    return [one for section in root.findall(_SECTION) for one in section.findall(_PROPERTY)]


def _parse(document: bytes) -> ET.Element:
    if not document.startswith((b"\xff\xfe", b"\xfe\xff")):  # in UTF-16 a NUL is half a letter
        # Some hosts put line ends or a NUL around it.
        document = document.strip(b" \t\r\n\0")
    if not document:
        raise BadEnvironment("the document is empty")
    if len(document) > SIZE_LIMIT:
        raise BadEnvironment(f"the document has more than {SIZE_LIMIT} octets")
    return _Reader().read(document)


class _Reader:
    """expat with everything off that a configuration document does not need: DTD, entities, odd encodings."""

    def __init__(self) -> None:
        self._tree = ET.TreeBuilder()
        self._depth = 0
        self._elements = 0
        parser = expat.ParserCreate(namespace_separator="}")
        parser.buffer_text = True
        parser.SetParamEntityParsing(expat.XML_PARAM_ENTITY_PARSING_NEVER)
        parser.XmlDeclHandler = self._declaration
        parser.StartDoctypeDeclHandler = self._refuse
        parser.EntityDeclHandler = self._refuse
        parser.UnparsedEntityDeclHandler = self._refuse
        parser.ExternalEntityRefHandler = self._refuse
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._tree.data
        self._parser = parser

    def read(self, document: bytes) -> ET.Element:
        try:
            self._parser.Parse(document, True)
        except (expat.ExpatError, LookupError, UnicodeError) as error:
            # expat's text names lines and columns, a codec's error would quote what it could not read.
            place = str(error) if isinstance(error, expat.ExpatError) else "it is in an unknown encoding"
            raise BadEnvironment(f"the document is not well-formed XML: {place}") from None
        root: ET.Element = self._tree.close()
        return root

    def _declaration(self, version: str, encoding: str | None, standalone: int) -> None:
        if (encoding.lower() if encoding else None) not in _ENCODINGS:
            raise BadEnvironment("the document is in an encoding other than UTF-8 and UTF-16")

    def _refuse(self, *anything: object) -> int:
        raise BadEnvironment("the document has a DTD or entities: no OVF environment does")

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self._depth += 1
        self._elements += 1
        if self._depth > _DEPTH_LIMIT:
            raise BadEnvironment(f"its elements are nested more than {_DEPTH_LIMIT} deep")
        if self._elements > _ELEMENT_LIMIT:
            raise BadEnvironment(f"it has more than {_ELEMENT_LIMIT} elements")
        self._tree.start(_qualified(name), {_qualified(key): value for key, value in attributes.items()})

    def _end(self, name: str) -> None:
        self._depth -= 1
        self._tree.end(_qualified(name))


def _qualified(name: str) -> str:
    """expat's "uri}local" as ElementTree writes it."""
    return "{" + name if "}" in name else name
