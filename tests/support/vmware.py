"""Stand-ins for what a VMware host gives: environment documents as it prints them, vmware-rpctool's ways."""

from collections.abc import Callable, Mapping
from html import escape

from postkeep_appliance.guestinfo.rpctool import Output

ESXI = """<?xml version="1.0" encoding="UTF-8"?>
<Environment
     xmlns="http://schemas.dmtf.org/ovf/environment/1"
     xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"
     xmlns:oe="http://schemas.dmtf.org/ovf/environment/1"
     xmlns:ve="http://www.vmware.com/schema/ovfenv"
     oe:id=""
     ve:vCenterId="vm-94765">
   <PlatformSection>
      <Kind>VMware ESXi</Kind>
      <Version>8.0.3</Version>
      <Vendor>VMware, Inc.</Vendor>
      <Locale>en_US</Locale>
   </PlatformSection>
   <PropertySection>
{properties}
   </PropertySection>
   <ve:EthernetAdapterSection>
      <ve:Adapter ve:mac="00:50:56:99:c0:4c" ve:network="VM Network" ve:unitNumber="7"/>
   </ve:EthernetAdapterSection>
</Environment>
"""


def ovf_environment(values: Mapping[str, str]) -> bytes:
    """As vCenter writes it. Names without a dot get our prefix."""
    lines = [
        f'         <Property oe:key="{escape(full(name))}" oe:value="{escape(value)}"/>'
        for name, value in values.items()
    ]
    return ESXI.replace("{properties}", "\n".join(lines)).encode()


def full(name: str) -> str:
    return name if "." in name else f"guestinfo.postkeep.{name}"


class FakeRpcTool:
    """As the tool and a host behave: variables in `values`; `commands` are the arguments it was called with.

    `trouble` answers instead when it returns something (or raises).
    """

    def __init__(
        self,
        values: Mapping[str, bytes] | None = None,
        trouble: Callable[[str], Output | None] = lambda words: None,
    ) -> None:
        self.values = dict(values or {})
        self.trouble = trouble
        self.commands: list[str] = []

    def __call__(self, command: list[str]) -> Output:
        assert command[0] == "/usr/bin/vmware-rpctool"
        (words,) = command[1:]
        self.commands.append(words)
        if (answer := self.trouble(words)) is not None:
            return answer
        verb, _, rest = words.partition(" ")
        if verb == "info-get":
            if rest in self.values:
                return Output(0, self.values[rest] + b"\n", b"")
            return Output(1, b"", b"No value found\n")
        assert verb == "info-set"
        key, _, value = rest.partition(" ")
        self.values[key] = value.encode()
        return Output(0, b"\n", b"")


NOT_VMWARE = Output(1, b"", b"Failed sending message to VMware.\n")
"""VMware's own tools say so."""

NOT_VMWARE_OPEN = Output(
    1,
    b"",
    b"Error: /usr/bin/vmware-rpctool must be run inside a virtual machine on a VMware hypervisor product.\n",
)
"""open-vm-tools 12.5 of Debian 13."""
