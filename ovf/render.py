"""Rendering of the descriptors. Each file is rendered whole from its template; nothing is ever patched."""

from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from ovf import machine
from ovf.properties import Properties

_FOLDER = Path(__file__).parent
_LICENCE = _FOLDER.parent / "LICENSE"


@dataclass(frozen=True, slots=True)
class DiskFile:
    """A disk of machine.DISKS as a file of the package; sizes in octets."""

    id: str
    label: str
    unit: int
    file: str
    size: int
    capacity: int
    populated: int
    """Octets of the capacity that hold data."""


def vmx_quoted(text: str) -> str:
    """A value for a .vmx file, in quotes; what would end the line or the value is written as |XX."""
    escaped = (f"|{ord(c):02X}" if c in '|"#' or ord(c) < 32 else c for c in text)
    return '"' + "".join(escaped) + '"'


class Renderer:
    """Renders for one version of the product. `full_version` may name the build, such as "0.1.0+20261124"."""

    def __init__(self, properties: Properties, name: str, version: str, full_version: str = "") -> None:
        self._properties = properties
        self._common = {
            "machine": machine,
            "name": name,
            "version": version,
            "full_version": full_version or version,
        }
        loader = FileSystemLoader(_FOLDER / "templates")
        self._xml = Environment(
            loader=loader, undefined=StrictUndefined, autoescape=True, keep_trailing_newline=True
        )
        # The .vmx and the texts are not XML.
        self._text = Environment(
            loader=loader,
            undefined=StrictUndefined,
            autoescape=False,  # noqa: S701
            keep_trailing_newline=True,
        )
        self._text.filters["vmx"] = vmx_quoted

    def annotation(self) -> str:
        """The note that vCenter and Workstation show beside the machine."""
        return self._text.get_template("annotation.txt.j2").render(self._common).strip()

    def eula(self) -> str:
        """The licence that is accepted at the deployment."""
        licence = _LICENCE.read_text(encoding="utf-8").strip("\n")
        return self._text.get_template("eula.txt.j2").render(self._common, licence=licence).strip()

    def ovf(self, disks: tuple[DiskFile, ...]) -> str:
        """The OVF 1.1 descriptor (DSP0243 1.1.0)."""
        for disk in disks:
            if disk.capacity % machine.GIB:
                raise ValueError(f"the disk {disk.id} has {disk.capacity} octets: not whole GiB")
        return self._xml.get_template("postkeep.ovf.j2").render(
            self._common,
            disks=disks,
            properties=self._properties,
            annotation=self.annotation(),
            eula=self.eula(),
        )

    def vmx(self, disks: tuple[DiskFile, ...]) -> str:
        """The configuration for Workstation and Fusion."""
        return self._text.get_template("postkeep.vmx.j2").render(
            self._common, disks=disks, annotation=self.annotation()
        )
