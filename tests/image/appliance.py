"""The appliance as its users meet it: one set up at its console, one that set itself up from properties."""

import re
import time
from dataclasses import dataclass, field
from pathlib import Path

from tests.image.desk import FIRST_WORD, Desk
from tests.image.mail import Account, fingerprint
from tests.image.ovf_environment import write_cdrom
from tests.image.shell import Shell
from tests.image.vm import Hardware, VirtualMachine

DOMAIN = "example.test"
HOSTNAME = "mail.example.test"
ADDRESS, PREFIX, GATEWAY, NAMESERVER = "10.0.2.15", 24, "10.0.2.2", "10.0.2.3"
"""What QEMU's user network gives its first machine: the same by DHCP and as a static setting."""
ZONE = "Europe/Prague"
ADMINISTRATOR = Account("admin", f"admin@{DOMAIN}", "Vlaky-jezdi7")
ROOT_PASSWORD = "Kolik-je-hodin3"
DATA = "/var/lib/postkeep"
MOST_MEMORY = 700
"""MB in use after the set-up, without an antivirus."""
BOOT = 180.0
"""Seconds from power-on to `ready`: the aim on an emulated processor that nobody else uses."""


@dataclass
class Appliance:
    """A machine with who uses it."""

    machine: VirtualMachine
    desk: Desk
    shell: Shell
    root_password: str = field(default=ROOT_PASSWORD, repr=False)
    account: Account = ADMINISTRATOR
    identities: dict[str, str] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)

    def port(self, service: int) -> int:
        """The host's port that leads to a service."""
        return self.machine.ports[service]

    def start(self, patience: float = 900.0) -> float:
        """Switch on and wait until mail can be submitted; returns the seconds that took, of wall clock or of
        processor time, whichever is less: other work on this machine does not count."""
        began = time.monotonic()
        self.machine.start()
        self.machine.wait_port(587, patience)
        self.notes["last start"] = took(self.machine, began)
        seconds = min(time.monotonic() - began, self.machine.cpu_seconds())
        self.shell.at(self.port(22)).wait()
        return seconds

    def learn(self) -> None:
        """What must be this machine's own."""
        self.identities = {
            "machine-id": self.shell.run("cat /etc/machine-id"),
            "host key": self.shell.run("cat /etc/ssh/ssh_host_ed25519_key.pub").split()[1],
            "certificate": fingerprint(self.port(993)),
            "store's file system": self.shell.run("findmnt -no UUID /var/lib/postkeep/store"),
        }


def took(machine: VirtualMachine, began: float) -> str:
    """For people: wall clock since `began` and QEMU's processor time since its start."""
    return f"{time.monotonic() - began:.0f} s ({machine.cpu_seconds():.0f} s of CPU)"


def set_up_at_the_console(machine: VirtualMachine, pictures: Path) -> Appliance:
    """Power-on, language, six questions, static address and time zone on the way, SSH on at the end."""
    shell = Shell()
    appliance = Appliance(machine, Desk(machine, pictures), shell)
    desk, began = appliance.desk, time.monotonic()
    machine.start()
    desk.see("Choose the language", 900, "language")
    appliance.notes["console"] = took(machine, began)
    desk.press("ret")
    shown = desk.see("Set-up code.*[A-Z0-9]{4}-[A-Z0-9]{4}", 240, "start-fresh")
    appliance.notes["waiting for its set-up"] = took(machine, began)
    assert re.search(rf"Addresses +{re.escape(ADDRESS)}\b", shown)
    assert "root still has the first password" in shown
    answer_six_questions(desk)
    settings_from_the_summary(desk)
    desk.button("Set up")
    desk.see("The server is set up.*admin@example.test", 240, "wizard-finished")
    desk.press("ret")
    shown = desk.see("Mail server +running", 120, "start")
    appliance.notes["start screen"] = shown
    switch_ssh_on(desk)
    shell.at(machine.wait_port(22)).log_in(ROOT_PASSWORD)
    shell.wait()
    appliance.learn()
    return appliance


def answer_six_questions(desk: Desk) -> None:
    """From the start screen to the summary."""
    desk.press("f2")
    desk.see("question 1 of 6", 60, "wizard-1")
    desk.fill(FIRST_WORD, ROOT_PASSWORD, ROOT_PASSWORD)
    desk.see("question 2 of 6", 120, "wizard-2")
    desk.fill(HOSTNAME)
    desk.see(f"question 3 of 6(.|\n)*{re.escape(DOMAIN)}", 60, "wizard-3")
    desk.press("ret")
    desk.see("question 4 of 6(.|\n)*admin", 60, "wizard-4")
    desk.press("ret")
    desk.see("question 5 of 6", 60, "wizard-5")
    desk.fill(ADMINISTRATOR.password, ADMINISTRATOR.password)
    desk.see("question 6 of 6(.|\n)*own disk .6[0-9].[0-9] GiB free", 60, "wizard-6")
    desk.press("ret", "ret")  # to the button, and on
    desk.see("First start: summary", 60, "wizard-summary")


def settings_from_the_summary(desk: Desk) -> None:
    """A static address, which is confirmed, and the time zone."""
    desk.button("Network")
    desk.see("Choose an adapter", 60, "network")
    desk.press("ret")
    desk.see("Applied settings have to be confirmed", 60)
    static_address(desk, ADDRESS, GATEWAY)
    desk.machine.keep_screen(desk.pictures / "network-static.png")
    desk.button("Apply")
    desk.see("The new settings work from here. Keep them.*come back in", 60, "network-countdown")
    desk.button("Keep")
    desk.see("The new settings stay", 60)
    desk.press("ret", "esc")
    desk.see("First start: summary", 60)
    desk.button("Time")
    desk.see("Wrong time breaks certificates", 60, "time")
    desk.button("Time zone")
    desk.see("Search", 60)
    desk.machine.type("prague")
    desk.see(ZONE, 60, "time-zone")
    desk.press("ret")
    desk.see(f"Time zone.*{ZONE}", 60)
    desk.button("Apply")
    desk.see("Done. It holds", 60)
    desk.press("ret")
    desk.see("First start: summary", 60)


def static_address(desk: Desk, address: str, gateway: str) -> None:
    """Fills the adapter's form, from its first field on: IPv4 static, IPv6 as it is."""
    desk.turn("static")
    for value in (address, str(PREFIX), gateway):
        desk.press("tab")
        desk.write(value)
    desk.press("tab", "tab")  # over IPv6's choice
    desk.write(NAMESERVER)


def switch_ssh_on(desk: Desk) -> None:
    """Unlock, menu, SSH, back to the start screen."""
    unlock(desk)
    desk.choose("SSH")
    desk.see("SSH is off.*Switch it on", 60, "ssh")
    desk.button("Switch on")
    desk.see("SSH is on", 60)
    desk.press("ret")
    desk.see("Factory reset", 60)
    desk.press("esc")
    desk.see("SSH +on", 60)


def unlock(desk: Desk, password: str = ROOT_PASSWORD) -> None:
    """From the start screen to the menu."""
    desk.press("f2")
    desk.see("The actions need the password of root", 60, "unlock")
    desk.fill(password)
    desk.see("Factory reset", 90, "menu")


def set_up_unattended(machine: VirtualMachine, hardware: Hardware, pictures: Path) -> Appliance:
    """Power-on with a CD-ROM "OVF ENV", nothing else."""
    shell = Shell()
    appliance = Appliance(machine, Desk(machine, pictures), shell)
    assert hardware.cdrom is not None
    write_cdrom(hardware.cdrom, properties(shell.key))
    began = time.monotonic()
    machine.start()
    machine.wait_port(587, 900)
    appliance.notes["ready"] = took(machine, began)
    shell.at(machine.wait_port(22)).wait()
    appliance.learn()
    return appliance


def properties(key: str) -> dict[str, str]:
    """What the deployment says; `null` stands for unset, as ESXi writes it."""
    return {
        "hostname": HOSTNAME, "address": "", "netmask": "null", "gateway": "null", "dns": NAMESERVER,
        "domain": DOMAIN, "administrator": ADMINISTRATOR.name,
        "administrator_password": ADMINISTRATOR.password, "root_password": ROOT_PASSWORD, "ssh_key": key,
        "time_zone": ZONE, "remote_administration": "True", "language": "cs", "ntp": "null",
    }  # fmt: skip
