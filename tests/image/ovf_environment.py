"""The OVF environment as a host makes it (DSP0243 §11), and the CD-ROM that carries it (transport "iso")."""

import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from xml.sax.saxutils import quoteattr

from ovf.properties import PREFIX

_ENVELOPE = """<?xml version="1.0" encoding="UTF-8"?>
<Environment
     xmlns="http://schemas.dmtf.org/ovf/environment/1"
     xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"
     xmlns:oe="http://schemas.dmtf.org/ovf/environment/1"
     xmlns:ve="http://www.vmware.com/schema/ovfenv"
     oe:id=""
     ve:vCenterId="vm-1042">
   <PlatformSection>
      <Kind>VMware ESXi</Kind>
      <Version>8.0.2</Version>
      <Vendor>VMware, Inc.</Vendor>
      <Locale>en</Locale>
   </PlatformSection>
   <PropertySection>
{}   </PropertySection>
   <ve:EthernetAdapterSection>
      <ve:Adapter ve:mac="00:0c:29:5a:00:01" ve:network="VM Network" ve:unitNumber="7"/>
   </ve:EthernetAdapterSection>
</Environment>
"""


def environment(values: Mapping[str, str]) -> str:
    """The document for properties given by their short names, such as {"hostname": "mail.example.com"}."""
    lines = (
        f"         <Property oe:key={quoteattr(PREFIX + name)} oe:value={quoteattr(value)}/>\n"
        for name, value in values.items()
    )
    return _ENVELOPE.format("".join(lines))


def write_cdrom(target: Path, values: Mapping[str, str]) -> Path:
    """An ISO 9660 image labelled "OVF ENV" with ovf-env.xml (needs xorriso)."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "ovf-env.xml").write_text(environment(values), encoding="utf-8")
        command = [
            "xorriso",
            "-as",
            "mkisofs",
            "-quiet",
            "-V",
            "OVF ENV",
            "-J",
            "-r",
            "-o",
            str(target),
            folder,
        ]
        subprocess.run(command, check=True, capture_output=True)
    return target
