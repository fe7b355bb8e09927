"""What the appliance is and the virtual machine that it asks for. Nothing else says so: templates render it,
checks compare with it."""

from dataclasses import dataclass

MIB = 1 << 20
GIB = 1 << 30

PRODUCT = "Postkeep"
VENDOR = "The Postkeep project"
PRODUCT_URL = "https://www.postkeep.example/"
VENDOR_URL = "https://www.postkeep.example/about"
APP_URL = "https://${guestinfo.postkeep.hostname}:4040/"
"""vCenter puts the property's value in."""

HARDWARE = 13
"""ESXi 6.5 and Workstation 14 onward: the newest that every host with security updates takes."""
OVF_GUEST = "debian10_64Guest"
"""The newest Debian that hardware 13 and vCenter 6.7 know; later hosts read it as Debian 64-bit too."""
VMX_GUEST = "debian10-64"
CIM_DEBIAN_64 = 96
"""CIM_OperatingSystem.OSType."""
GUEST_NAME = "Debian GNU/Linux (64-bit)"

NETWORK = "VM Network"
"""The name that ESXi gives its first network, so that a lone host maps it without a question."""

POWER_OPERATIONS = {
    "powerOffType": "soft",
    "suspendType": "soft",
    "resetType": "soft",
    "standbyAction": "checkpoint",
}
"""vmw:Config powerOpInfo.*: the guest is asked first (open-vm-tools), nothing is cut."""

CONFIG = {
    "cpuHotAddEnabled": "true",
    "memoryHotAddEnabled": "true",
    "firmware": "bios",
    "tools.syncTimeWithHost": "false",
    "tools.toolsUpgradePolicy": "manual",
    "tools.afterPowerOn": "true",
    "tools.afterResume": "true",
    "tools.beforeGuestShutdown": "true",
    "tools.beforeGuestStandby": "true",
}
"""The machine's other vmw:Config keys. Time is systemd-timesyncd's, the tools are Debian's package."""


@dataclass(frozen=True, slots=True)
class Deployment:
    """One choice of the DeploymentOptionSection. Memory in MiB."""

    id: str
    label: str
    description: str
    cpus: int
    memory: int


DEPLOYMENTS = (
    Deployment("small", "Small", "Up to 50 users: 2 CPUs, 4 GiB of memory.", 2, 4096),
    Deployment("medium", "Medium", "Up to 250 users: 4 CPUs, 8 GiB of memory.", 4, 8192),
    Deployment("large", "Large", "Up to 1,000 users: 8 CPUs, 16 GiB of memory.", 8, 16384),
)
DEFAULT = DEPLOYMENTS[0]


@dataclass(frozen=True, slots=True)
class Disk:
    """A virtual disk: `id` names it in the OVF and in the file name; capacity in octets."""

    id: str
    label: str
    capacity: int
    unit: int
    """On the SCSI controller."""


SYSTEM = Disk("system", "Hard disk 1 (system)", 16 * GIB, 0)
STORE = Disk("store", "Hard disk 2 (mail store)", 64 * GIB, 1)
DISKS = (SYSTEM, STORE)
