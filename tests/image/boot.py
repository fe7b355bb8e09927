"""python -m tests.image.boot: boots the built appliance in QEMU for a person. Nothing that it writes is kept.

The serial console is on the terminal (Ctrl-] ends); with DISPLAY or WAYLAND_DISPLAY set its screen opens too.
"""

import argparse
import os
import select
import shutil
import sys
import tempfile
import termios
import time
import tty
from pathlib import Path

from ovf.properties import load
from tests.image.ovf_environment import write_cdrom
from tests.image.vm import Disks, Hardware, VirtualMachine

_LEAVE = b"\x1d"
_NAMES = {
    22: "SSH",
    25: "SMTP",
    143: "IMAP",
    443: "client",
    587: "submission",
    993: "IMAP, TLS",
    4040: "administration",
}


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tests.image.boot", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("build/appliance"))
    parser.add_argument("--memory", type=int, default=4096, help="MiB")
    parser.add_argument("--property", action="append", default=[], metavar="NAME=VALUE",
                        help="an OVF property, such as hostname=mail.example.com")  # fmt: skip
    arguments = parser.parse_args()
    names = {item.name for item in load().properties}
    for entry in arguments.property:
        name, sign, _ = entry.partition("=")
        if not sign or name not in names:
            parser.error(f"--property {entry}: NAME=VALUE with one of {', '.join(sorted(names))}")
    found = sorted(arguments.out.glob("postkeep-*-system.vmdk"))
    if not found:
        print(f"boot: there is no appliance in {arguments.out}: run make appliance", file=sys.stderr)
        return 1
    if not shutil.which("qemu-system-x86_64"):
        print("boot: qemu-system-x86_64 is missing: .ci/apt image", file=sys.stderr)
        return 1
    system = found[-1]
    with tempfile.TemporaryDirectory(prefix="postkeep-boot-") as folder:
        hardware = Hardware(memory=arguments.memory, display=_display())
        if arguments.property:
            values = dict(entry.split("=", 1) for entry in arguments.property)
            hardware.cdrom = write_cdrom(Path(folder) / "ovf-env.iso", values)
        disks = Disks(system, system.with_name(system.name.replace("-system.", "-store.")))
        machine = VirtualMachine(Path(folder) / "vm", disks, hardware)
        print("Starting …", flush=True)
        try:
            machine.start(sink=_show if sys.stdout.isatty() else None)
            _tell(machine)
            _terminal(machine)
        finally:
            machine.power_cut()
    return 0


def _show(data: bytes) -> None:
    os.write(sys.stdout.fileno(), data)


def _display() -> str:
    return "gtk" if os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY") else "none"


def _tell(machine: VirtualMachine) -> None:
    for service, port in machine.ports.items():
        if name := _NAMES.get(service):
            address = f"https://127.0.0.1:{port}/" if service in (443, 4040) else f"127.0.0.1:{port}"
            print(f"  {name:<16} {address}")
    print("The serial console follows; Ctrl-] switches the machine off and ends.\n", flush=True)


def _terminal(machine: VirtualMachine) -> None:
    """What is typed here goes to the serial console, until one side ends."""
    if not sys.stdin.isatty():
        while machine.running:
            time.sleep(1)
        return
    before = termios.tcgetattr(sys.stdin)
    tty.setraw(sys.stdin)
    try:
        while machine.running:
            ready, _, _ = select.select([sys.stdin], [], [], 1.0)
            if ready:
                typed = os.read(sys.stdin.fileno(), 1024)
                if _LEAVE in typed or not typed:
                    return
                machine.type_serial(typed.decode("utf-8", "replace"))
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
