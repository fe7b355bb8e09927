"""Names, passwords, time, SSH, keyboard and power of a Debian machine."""

import os
import re
from pathlib import Path

import pytest
from postkeep_appliance.host import system
from postkeep_appliance.host.port import HostError, Invalid, Memory
from postkeep_appliance.host.shadow import crypt, is_password_of
from postkeep_appliance.host.system import DebianSystem

from tests.support.agentbench import Recorder, put


class World:
    def __init__(self, root: Path) -> None:
        self.root, self.run = root, Recorder()
        self.system = DebianSystem(root, self.run)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


# --- passwords


@pytest.mark.parametrize(
    "setting", ["$y$j9T$abcdefghijklmnop", "$6$abcdefgh", "$5$abcdefgh", "$2b$04$abcdefghijklmnopqrstuu"]
)
def test_passwords_of_each_method(tmp_path: Path, setting: str) -> None:
    hashed = crypt("correct horse é", setting)
    assert hashed.startswith(setting[:3])
    put(tmp_path, "etc/shadow", f"daemon:*:1:0:99999:7:::\nroot:{hashed}:19000:0:99999:7:::\n")
    assert is_password_of("root", "correct horse é", tmp_path)
    for wrong in ("", "correct horse", "correct horse é ", "correct\0horse é", hashed):
        assert not is_password_of("root", wrong, tmp_path)
    assert not is_password_of("daemon", "", tmp_path)
    assert not is_password_of("nobody", "correct horse é", tmp_path)


@pytest.mark.parametrize(
    "field", ["", "*", "!", "!!", "x", "!$6$abcdefgh$locked", "$6$", "nonsense-that-is-long"]
)
def test_accounts_without_a_usable_password_take_none(tmp_path: Path, field: str) -> None:
    put(tmp_path, "etc/shadow", f"root:{field}:19000:0:99999:7:::\n")
    for word in ("", field, "x", "*"):
        assert not is_password_of("root", word, tmp_path)


async def test_the_password_goes_to_standard_input_alone(world: World) -> None:
    await world.system.set_password("a:b $(id)")
    assert world.run.ran == [["chpasswd"]]
    assert world.run.stdin == ["root:a:b $(id)\n"]


async def test_no_second_account_by_a_line_break(world: World) -> None:
    with pytest.raises(Invalid):
        await world.system.set_password("x\ndaemon:y")
    assert world.run.ran == []


# --- names


async def test_the_host_name_is_in_both_files(world: World) -> None:
    hosts = put(
        world.root,
        "etc/hosts",
        "127.0.0.1 localhost\n127.0.1.1 old.example old\n::1 localhost\n192.0.2.9 x\n",
    )
    await world.system.set_hostname("mail.example.com")
    assert (
        hosts.read_text()
        == "127.0.0.1 localhost\n127.0.1.1 mail.example.com mail\n::1 localhost\n192.0.2.9 x\n"
    )
    assert world.system.hostname() == "mail.example.com"
    assert world.run.lines == ["hostnamectl set-hostname mail.example.com"]


async def test_before_dbus_the_kernel_is_told(world: World) -> None:
    world.run.say("hostnamectl", status=1, err="Failed to connect to bus")
    await world.system.set_hostname("mail.example.com")
    assert world.run.lines[-1] == "hostname mail.example.com"


# --- time


def _zones(root: Path) -> None:
    for name in ("Europe/Berlin", "UTC", "Etc/UTC", "Europe/Belfast"):
        put(root, f"usr/share/zoneinfo/{name}", "TZif")
    put(
        root,
        "usr/share/zoneinfo/tzdata.zi",
        "# v\nZ Europe/Berlin 0:53 - LMT\nL Europe/London Europe/Belfast\nZ Mars/X 0\nZ Etc/UTC 0\n",
    )


async def test_zone_and_servers(world: World) -> None:
    _zones(world.root)
    (world.root / "etc").mkdir()
    assert await world.system.zones() == ("Europe/Belfast", "Europe/Berlin", "UTC")
    await world.system.set_time("Europe/Berlin", ("ntp.example.com", "192.0.2.123"))
    assert os.readlink(world.root / "etc/localtime") == "/usr/share/zoneinfo/Europe/Berlin"
    dropin = world.root / "etc/systemd/timesyncd.conf.d/50-postkeep.conf"
    assert dropin.read_text() == "[Time]\nNTP=ntp.example.com 192.0.2.123\n"
    assert world.run.lines == [
        "systemctl enable systemd-timesyncd.service",
        "systemctl restart --no-block systemd-timesyncd.service",
    ]
    world.run.say("timedatectl show", "yes\n")
    assert await world.system.time() == ("Europe/Berlin", ("ntp.example.com", "192.0.2.123"), True)
    assert world.system.now()[-6:] in ("+01:00", "+02:00")
    await world.system.set_time("UTC", ())
    assert not dropin.exists()


@pytest.mark.parametrize(
    "zone", ["", "Mars/X", "../../etc/passwd", "/etc/passwd", "Europe", "Europe/Berlin\n"]
)
async def test_no_file_but_a_zone_becomes_local_time(world: World, zone: str) -> None:
    _zones(world.root)
    put(world.root, "etc/passwd", "x")
    with pytest.raises(Invalid):
        await world.system.set_time(zone, ())
    assert not (world.root / "etc/localtime").is_symlink()


# --- SSH


async def test_ssh(world: World) -> None:
    await world.system.set_ssh(True)
    await world.system.set_ssh(False)
    assert world.run.lines == [
        "systemctl enable --now ssh.service",
        "systemctl disable --now ssh.service",
        "systemctl kill --kill-whom=all ssh.service",
    ]
    for said, on in (
        ("active\nenabled\n", True),
        ("inactive\nenabled\n", True),
        ("inactive\ndisabled\n", False),
    ):
        world.run.say("systemctl show ssh.service", said)
        assert await world.system.ssh() is on


# --- keyboard

LST = "! model\n  pc105           Generic\n\n! layout\n  us              English (US)\n  de              German\n  ru              Russian\n  custom          A user-defined custom Layout\n\n! variant\n  chr             us: Cherokee\n"


async def test_keyboards_from_xkb(world: World) -> None:
    put(world.root, "usr/share/X11/xkb/rules/evdev.lst", LST)
    assert world.system.keyboards() == (("us", "English (US)"), ("de", "German"), ("ru", "Russian"))
    await world.system.set_keyboard("de")
    assert 'XKBLAYOUT="de"\n' in (world.root / "etc/default/keyboard").read_text()
    assert world.system.keyboard() == "de"
    assert world.run.lines == ["setupcon --keyboard-only --force --save"]


async def test_a_layout_without_latin_letters_keeps_us_beside_it(world: World) -> None:
    """Or nobody could type root's password any more."""
    put(world.root, "usr/share/X11/xkb/rules/evdev.lst", LST)
    await world.system.set_keyboard("ru")
    text = (world.root / "etc/default/keyboard").read_text()
    assert 'XKBLAYOUT="us,ru"' in text
    assert "grp:alt_shift_toggle" in text
    assert world.system.keyboard() == "ru"


async def test_no_other_text_gets_into_the_file(world: World) -> None:
    put(world.root, "usr/share/X11/xkb/rules/evdev.lst", LST)
    with pytest.raises(Invalid):
        await world.system.set_keyboard('de"\nX="')
    assert not (world.root / "etc/default/keyboard").exists()


# --- state


async def test_power_failed_units_memory(world: World) -> None:
    await world.system.power("restart")
    await world.system.power("shutdown")
    assert world.run.lines == ["systemctl --no-block reboot", "systemctl --no-block poweroff"]
    world.run.say("systemctl list-units", "clamav.service loaded failed failed ClamAV\n\n")
    assert await world.system.failed_units() == ("clamav.service",)
    put(world.root, "proc/meminfo", "MemTotal:        4000 kB\nMemFree: 1 kB\nMemAvailable:    3000 kB\n")
    assert world.system.memory() == Memory(4_096_000, 3_072_000)


async def test_a_program_that_fails_says_its_last_words(world: World) -> None:
    world.run.say("systemctl", status=1, err="warning\nUnit ssh.service could not be found.\n")
    with pytest.raises(HostError, match=r"systemctl: Unit ssh\.service could not be found\."):
        await world.system.set_ssh(True)


def test_no_name_of_the_module_is_given_twice() -> None:
    names = re.findall(r"^(\w+)(?:: [^=]+)? = ", Path(system.__file__).read_text(), re.MULTILINE)
    assert len(names) == len(set(names))
