"""The appliance in QEMU, with the devices that VMware gives it: pvscsi, vmxnet3, a VGA, a serial port.

The disks are the package's stream-optimized VMDKs, never written: each has an overlay that stays over restarts
of one machine, a power cut included. All ports are on 127.0.0.1.
"""

import os
import re
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from tests.image.keyboard import keys
from tests.image.qmp import Qmp, QmpError
from tests.image.screen import Font, Picture
from tests.image.serial import SerialLine, Sink

_T = TypeVar("_T")
TLS = (443, 465, 993, 995, 4040)
"""Of SERVICES: those that speak TLS from the start; all others but 80 greet."""
SERVICES = (22, 25, 80, 110, 143, 443, 465, 587, 993, 995, 4040)
ACCELERATOR = os.environ.get("QEMU_ACCELERATOR", "tcg,thread=multi")
_ESCAPES = re.compile(rb"\x1b(?:\[[0-9;?]*[A-Za-z]|[()][A-Za-z0-9]|[=>78])")


def _anybody() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


class Timeout(AssertionError):
    """What was waited for has not come; says what was seen instead."""


@dataclass(frozen=True)
class Disks:
    """What a machine starts from. `store` None: one disk alone, as an upgrade from a copy would have."""

    system: Path
    store: Path | None = None


@dataclass
class Hardware:
    """What a deployment may choose. Memory in MiB. `smbios` such as {"manufacturer": "VMware, Inc."}."""

    cpus: int = 2
    memory: int = 2048
    cdrom: Path | None = None
    smbios: Mapping[str, str] = field(default_factory=dict)
    mac: str = "00:0c:29:5a:00:01"
    restrict: bool = False
    """No way out to other networks."""
    display: str = "none"
    """QEMU's -display; "none" for tests, which look by screendump."""


def free_port() -> int:
    """Of 127.0.0.1, free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class VirtualMachine:
    """One machine and its overlays in `folder` (paths of sockets must be short: under /tmp)."""

    def __init__(
        self, folder: Path, disks: Disks, hardware: Hardware | None = None, font: Font | None = None
    ) -> None:
        self.folder = folder
        self.hardware = hardware or Hardware()
        self.font = font
        self._disks = disks
        self._process: subprocess.Popen[bytes] | None = None
        self._qmp: Qmp | None = None
        self._serial: SerialLine | None = None
        self._serial_log = folder / "serial.log"
        self._mark = 0
        self.ports: dict[int, int] = {}
        folder.mkdir(parents=True, exist_ok=True)
        for name, base in self._files().items():
            self._overlay(name, base)

    def _files(self) -> dict[str, Path]:
        files = {"system": self._disks.system}
        if self._disks.store is not None:
            files["store"] = self._disks.store
        return files

    def _overlay(self, name: str, base: Path) -> None:
        kind = "vmdk" if base.suffix == ".vmdk" else base.suffix[1:]
        subprocess.run(
            [
                "qemu-img",
                "create",
                "-q",
                "-f",
                "qcow2",
                "-b",
                str(base.resolve()),
                "-F",
                kind,
                self._path(name),
            ],
            check=True,
        )

    def _path(self, name: str) -> str:
        return str(self.folder / f"{name}.qcow2")

    def grow(self, name: str, size: str) -> None:
        """Make a disk larger while the machine is off, as the hypervisor's administrator would: "20G"."""
        subprocess.run(["qemu-img", "resize", "-q", self._path(name), size], check=True)

    # --- power ----------------------------------------------------------------------------------------

    def start(self, extra: Iterable[str] = (), sink: Sink | None = None) -> None:
        """Switch on. Forwards every port of SERVICES to self.ports; what the serial port says goes to `sink` too."""
        assert self._process is None, "already on"
        # The serial log goes on over restarts; what is waited for is of this start.
        self._mark = self._serial_log.stat().st_size if self._serial_log.exists() else 0
        self.ports = {service: free_port() for service in SERVICES}
        for name in ("qmp", "serial"):
            (self.folder / name).unlink(missing_ok=True)
        with (self.folder / "qemu.log").open("ab") as log:
            self._process = subprocess.Popen(
                [*self._command(), *extra], stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )
        try:
            self._qmp = Qmp(self.folder / "qmp")
            self._serial = SerialLine(self.folder / "serial", sink)
        except (QmpError, OSError) as error:
            self.power_cut()
            text = (self.folder / "qemu.log").read_text(errors="replace")[-2000:]
            raise AssertionError(f"QEMU does not run: {error}\n{text}") from error

    def _command(self) -> list[str]:
        hardware = self.hardware
        forwards = "".join(
            f",hostfwd=tcp:127.0.0.1:{port}-:{service}" for service, port in self.ports.items()
        )
        restrict = ",restrict=on" if hardware.restrict else ""
        command = [
            "qemu-system-x86_64",
            "-name",
            self.folder.name,
            "-nodefaults",
            "-display",
            hardware.display,
        ]
        command += [
            "-machine",
            "pc",
            "-accel",
            ACCELERATOR,
            "-cpu",
            "max" if "tcg" in ACCELERATOR else "host",
        ]
        command += ["-smp", str(hardware.cpus), "-m", str(hardware.memory), "-vga", "std", "-rtc", "base=utc"]
        command += ["-device", "pvscsi,id=scsi0"]
        for unit, name in enumerate(self._files()):
            # Flushes of the guest must reach the overlay in order; the host's own cache need not be flushed.
            command += [
                "-drive",
                f"if=none,id={name},file={self._path(name)},format=qcow2,cache=unsafe,discard=unmap",
            ]
            command += ["-device", f"scsi-hd,drive={name},bus=scsi0.0,scsi-id={unit},bootindex={unit + 1}"]
        if hardware.cdrom is not None:
            command += [
                "-drive",
                f"if=none,id=cdrom,file={hardware.cdrom},format=raw,media=cdrom,readonly=on",
            ]
            command += ["-device", "ide-cd,drive=cdrom"]
        command += ["-netdev", f"user,id=net0{restrict}{forwards}"]
        command += ["-device", f"vmxnet3,netdev=net0,mac={hardware.mac}"]
        command += ["-chardev", f"socket,id=serial0,path={self.folder / 'serial'},server=on,wait=off,"
                    f"logfile={self._serial_log},logappend=on", "-serial", "chardev:serial0"]  # fmt: skip
        command += ["-qmp", f"unix:{self.folder / 'qmp'},server=on,wait=off"]
        if hardware.smbios:
            values = ",".join(f"{key}={value.replace(',', ',,')}" for key, value in hardware.smbios.items())
            command += ["-smbios", f"type=1,{values}"]
        return command

    @property
    def qmp(self) -> Qmp:
        assert self._qmp is not None, "the machine is off"
        return self._qmp

    @property
    def running(self) -> bool:
        """Whether QEMU still runs (it ends when the guest powers off)."""
        return self._process is not None and self._process.poll() is None

    def cpu_seconds(self) -> float:
        """Processor time that QEMU has taken: about the wall time that an idle host would have needed."""
        assert self._process is not None, "the machine is off"
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def power_button(self, patience: float = 120.0) -> float:
        """A soft power-off; returns the seconds until the machine was off."""
        began = time.monotonic()
        self.qmp("system_powerdown")
        self.wait_off(patience)
        return time.monotonic() - began

    def wait_off(self, patience: float = 120.0) -> None:
        """Until the guest has switched itself off."""
        assert self._process is not None
        try:
            self._process.wait(patience)
        except subprocess.TimeoutExpired:
            raise Timeout(f"still on after {patience} s; the console:\n{self.serial()[-1500:]}") from None
        self._forget()

    def power_cut(self) -> None:
        """The plug is pulled: QEMU is killed with no chance to write anything more."""
        if self._process is not None:
            if self._process.poll() is None:
                self._process.send_signal(signal.SIGKILL)
            self._process.wait()
        self._forget()

    def _forget(self) -> None:
        for connection in (self._qmp, self._serial):
            if connection is not None:
                connection.close()
        self._process = self._qmp = self._serial = None

    # --- serial console -------------------------------------------------------------------------------

    def serial(self) -> str:
        """All that the serial console has shown since the start, without colours and cursor movements."""
        if not self._serial_log.exists():
            return ""
        with self._serial_log.open("rb") as file:
            file.seek(self._mark)
            data = file.read()
        return _ESCAPES.sub(b"", data).decode("utf-8", "replace").replace("\r", "")

    def type_serial(self, text: str) -> None:
        """As a terminal on the serial port would send it."""
        assert self._serial is not None, "the machine is off"
        self._serial.send(text.encode())

    def wait_serial(self, pattern: str, patience: float = 240.0) -> re.Match[str]:
        """Until the serial console shows a regular expression."""
        return self._wait(lambda: re.search(pattern, self.serial()), f"the serial console to show {pattern!r}",
                          patience, lambda: self.serial()[-2000:])  # fmt: skip

    # --- screen and keyboard --------------------------------------------------------------------------

    def picture(self) -> Picture:
        """What is on tty1 now."""
        path = self.folder / "screen.ppm"
        self.qmp("screendump", filename=str(path))
        return Picture.from_ppm(path.read_bytes())

    def keep_screen(self, path: Path) -> None:
        """Keep the screen as PNG."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(self.picture().png())

    def screen(self) -> list[str]:
        """The screen's lines as text, read by the console's font."""
        assert self.font is not None, "no font was given to read the screen with"
        return self.font.read(self.picture())

    def wait_screen(self, pattern: str, patience: float = 60.0) -> re.Match[str]:
        """Until the screen shows a regular expression; lines are joined by line feeds."""
        return self._wait(lambda: re.search(pattern, "\n".join(self.screen())), f"the screen to show {pattern!r}",
                          patience, lambda: "\n".join(self.screen()))  # fmt: skip

    def press(self, *names: str) -> None:
        """Keys together, in QEMU's names: press("alt", "f2")."""
        self.qmp("send-key", keys=[{"type": "qcode", "data": name} for name in names], **{"hold-time": 60})
        # QEMU releases the keys by itself after the hold time; the next ones must not meet them.
        time.sleep(0.12)

    def type(self, text: str) -> None:
        """On the keyboard of tty1 (US layout)."""
        for chord in keys(text):
            self.press(*chord)

    # --- network --------------------------------------------------------------------------------------

    def forward(self, service: int, address: str) -> int:
        """A further port of the host, to the service on another address of the guest, such as a static one."""
        port = free_port()
        line = f"hostfwd_add net0 tcp:127.0.0.1:{port}-{address}:{service}"
        answer = self.qmp("human-monitor-command", **{"command-line": line})
        assert not answer.strip(), answer
        return port

    def link(self, up: bool) -> None:
        """Plug the network cable in or out."""
        self.qmp("set_link", name="net0", up=up)

    def wait_port(self, service: int, patience: float = 240.0) -> int:
        """Until a service speaks: its greeting, or TLS; returns the host's port."""
        self._wait(
            lambda: self._answers(service, self.ports[service]),
            f"port {service} to answer",
            patience,
            self._where,
        )
        return self.ports[service]

    @staticmethod
    def _answers(service: int, port: int) -> bool:
        # QEMU itself accepts, and keeps the connection while the guest says nothing: only words count.
        try:
            with socket.create_connection(("127.0.0.1", port), 5) as connection:
                connection.settimeout(20)
                if service in TLS:
                    with _anybody().wrap_socket(connection):
                        return True
                return bool(connection.recv(1))
        except OSError:
            return False

    # --- waiting --------------------------------------------------------------------------------------

    def _where(self) -> str:
        return self.serial()[-1500:]

    def _wait(self, look: Callable[[], _T | None], what: str, patience: float, seen: Callable[[], str]) -> _T:
        deadline = time.monotonic() + patience
        while True:
            found = look()
            if found:
                return found
            if not self.running:
                raise Timeout(f"the machine went off while waiting for {what}:\n{self.serial()[-2000:]}")
            if time.monotonic() > deadline:
                raise Timeout(f"{patience:.0f} s were not enough for {what}; seen:\n{seen()}")
            time.sleep(0.5)
