"""What is inside the appliance once it is set up: testinfra over SSH, on the machine of the wizard."""

import re
import socket
import subprocess
from pathlib import Path

import pytest
from testinfra.host import Host

from tests.image.appliance import DATA, ROOT_PASSWORD, Appliance
from tests.image.desk import FIRST_WORD
from tests.image.shell import ShellError
from tests.image.vm import Disks

pytestmark = pytest.mark.image

PACKAGES = (
    "postkeep", "postkeep-console", "open-vm-tools", "unbound", "nftables", "openssh-server",
    "unattended-upgrades", "python3-netifaces", "systemd-timesyncd",
)  # fmt: skip
RUNNING = (
    "postkeep.service", "postkeep-agent.service", "postkeep-console@tty1.service", "unbound.service",
    "systemd-networkd.service", "systemd-timesyncd.service", "ssh.service",
)  # fmt: skip
ABSENT = ("gcc", "pip", "pip3", "packer", "ansible", "qemu-ga", "postfix", "exim4", "rpcbind", "avahi-daemon")
ANYWHERE = {22, 25, 80, 110, 143, 443, 465, 587, 993, 995, 4040}
"""TCP ports on all addresses: ssh and what `postkeep service list` names. The firewall lets fewer in."""
OPEN = (22, 25, 443, 465, 587, 993, 995, 4040)
CLOSED = (80, 110, 143)
"""The engine listens, the firewall drops (no TLS from the start)."""


@pytest.fixture(scope="module")
def guest(attended: Appliance) -> Host:
    return attended.shell.host


def listeners(appliance: Appliance, kind: str) -> set[tuple[str, int, str]]:
    """(address, port, program) of the sockets that `ss -Hlnp` shows; kind "t" or "u"."""
    found = set()
    for line in appliance.shell.run(f"ss -Hln{kind}p").splitlines():
        address, _, port = line.split()[3].rpartition(":")
        program = re.search(r'users:\(\("([^"]+)"', line)
        found.add((address, int(port), program[1] if program else ""))
    return found


# --- packages and units -------------------------------------------------------------------------------


@pytest.mark.parametrize("package", PACKAGES)
def test_package_is_installed(guest: Host, package: str) -> None:
    assert guest.package(package).is_installed


@pytest.mark.parametrize("program", ABSENT)
def test_program_is_absent(guest: Host, program: str) -> None:
    assert not guest.exists(program)


def test_packages_are_whole(attended: Appliance) -> None:
    assert attended.shell.run("dpkg --audit") == ""
    # Documentation is left out on purpose; a changed program never is.
    changed = attended.shell.run("dpkg --verify postkeep postkeep-console || true")
    assert [line for line in changed.splitlines() if "/usr/share/" not in line and " c /" not in line] == []


@pytest.mark.parametrize("unit", RUNNING)
def test_unit_runs(guest: Host, unit: str) -> None:
    assert guest.service(unit).is_running
    assert guest.service(unit).is_enabled or "@" in unit


def test_no_unit_has_failed(attended: Appliance) -> None:
    assert attended.shell.run("systemctl --failed --plain --no-legend") == ""
    assert attended.shell.run("systemctl is-system-running || true") in ("running", "starting")


def test_the_console_has_tty1_and_tty2_has_a_login(attended: Appliance) -> None:
    assert "inactive" in attended.shell.run("systemctl is-active getty@tty1.service || true")
    desk = attended.desk
    try:
        desk.machine.press("alt", "f2")
        desk.see("login:", 90, "terminal")
    finally:
        desk.machine.press("alt", "f1")
    desk.see("F2 actions", 60)


# --- network ------------------------------------------------------------------------------------------


def test_tcp_listeners_are_these_and_no_others(attended: Appliance) -> None:
    found = listeners(attended, "t")
    outside = {
        (port, program) for address, port, program in found if not address.startswith(("127.", "[::1]"))
    }
    assert {port for port, _ in outside} == ANYWHERE, outside
    assert {program for _, program in outside} <= {"postkeep", "sshd", "systemd", "python3"}, outside
    assert {port for address, port, _ in found if address.startswith(("127.", "[::1]"))} <= {53, 8953}, found


def test_udp_listeners_are_these_and_no_others(attended: Appliance) -> None:
    outside = {
        port
        for address, port, program in listeners(attended, "u")
        if not address.startswith(("127.", "[::1]")) and program not in ("unbound",)
    }
    assert outside <= {68, 546}, outside


@pytest.mark.parametrize("port", OPEN)
def test_port_is_open_from_outside(attended: Appliance, port: int) -> None:
    assert attended.machine.wait_port(port, 60)


@pytest.mark.parametrize("port", CLOSED)
def test_port_is_dropped_from_outside(attended: Appliance, port: int) -> None:
    """QEMU answers the handshake itself: the greeting is what must not come."""
    with socket.create_connection(("127.0.0.1", attended.port(port)), 5) as connection:
        connection.settimeout(4)
        if port == 80:
            connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
        try:
            said = connection.recv(10)
        except (TimeoutError, ConnectionResetError):
            said = b""
        assert said == b""


def test_the_firewall_stands(attended: Appliance) -> None:
    rules = attended.shell.run("nft list ruleset")
    assert re.search(r"hook input priority filter; policy drop;", rules)
    assert re.search(r"hook forward priority filter; policy drop;", rules)
    accepted = re.search(r"tcp dport \{([^}]*)\} accept", rules)
    assert accepted
    ports = {int(port) for port in accepted[1].split(",")}
    assert set(OPEN) <= ports
    assert not ports & {80, 110, 119, 143, 389, 8800}
    assert attended.shell.run("systemctl is-enabled nftables") == "enabled"


def test_names_are_asked_of_its_own_resolver(attended: Appliance) -> None:
    lines = attended.shell.run("grep -v '^#' /etc/resolv.conf").splitlines()
    assert [line for line in lines if line.startswith("nameserver")] == ["nameserver 127.0.0.1"]
    assert attended.shell.run("systemctl is-active systemd-resolved || true") in ("inactive", "unknown")


# --- least privilege ----------------------------------------------------------------------------------


def test_the_engine_runs_unprivileged(guest: Host, attended: Appliance) -> None:
    pid = attended.shell.run("systemctl show -P MainPID postkeep")
    status = attended.shell.run(f"cat /proc/{pid}/status")
    uid = str(guest.user("postkeep").uid)
    assert re.search(rf"^Uid:\s+{uid}\s+{uid}\s+{uid}\s+{uid}$", status, re.MULTILINE)
    capabilities = int(re.search(r"^CapEff:\s+(\w+)$", status, re.MULTILINE)[1], 16)  # type: ignore[index]
    assert capabilities == 1 << 10, "CAP_NET_BIND_SERVICE alone"
    assert re.search(r"^NoNewPrivs:\s+1$", status, re.MULTILINE)
    assert guest.user("postkeep").shell.endswith(("nologin", "false"))


def test_the_console_runs_unprivileged(attended: Appliance) -> None:
    users = attended.shell.run("ps -o user:32= -C postkeep-console | sort -u").split()
    assert users == ["postkeep-console"]


def test_the_agents_socket_is_for_the_console_alone(guest: Host) -> None:
    socket_file = guest.file("/run/postkeep-agent/agent.sock")
    assert socket_file.is_socket
    assert (socket_file.user, socket_file.group, socket_file.mode) == ("root", "postkeep-console", 0o660)


@pytest.mark.parametrize(
    ("path", "owner", "mode"),
    [
        (DATA, "postkeep", 0o700),
        (f"{DATA}/mailserver.cfg", "postkeep", 0o600),
        (f"{DATA}/users.cfg", "postkeep", 0o600),
        (f"{DATA}/sslcert", "postkeep", 0o700),
        (f"{DATA}/store", "postkeep", 0o700),
        ("/var/lib/postkeep-appliance", "root", 0o700),
        ("/etc/shadow", "root", 0o640),
        ("/root", "root", 0o700),
        ("/root/.ssh/authorized_keys", "root", 0o600),
        ("/etc/ssh/ssh_host_ed25519_key", "root", 0o600),
        ("/etc/ssh/sshd_config.d/50-postkeep.conf", "root", 0o600),
    ],
)
def test_file_is_for_its_owner(guest: Host, path: str, owner: str, mode: int) -> None:
    file = guest.file(path)
    assert file.user == owner
    assert file.mode == mode, oct(file.mode)


def test_nothing_is_writable_for_everybody(attended: Appliance) -> None:
    found = attended.shell.run(
        "find / -xdev \\( -path /tmp -o -path /var/tmp -o -path /proc -o -path /sys \\) -prune "
        "-o \\( -type f -o -type d ! -perm -1000 \\) -perm -0002 -print"
    )
    assert found == ""


# --- the store's disk ---------------------------------------------------------------------------------


def test_the_store_has_its_own_disk(guest: Host, attended: Appliance) -> None:
    mount = guest.mount_point(f"{DATA}/store")
    assert mount.exists
    assert mount.filesystem == "ext4"
    source = attended.shell.run(f"findmnt -no SOURCE {DATA}/store")
    assert attended.shell.run(f"blkid -o value -s LABEL {source}") == "postkeep-store"
    root = attended.shell.run("findmnt -no SOURCE /")
    assert root.rstrip("0123456789p") != source.rstrip("0123456789p")
    size, used = (
        attended.shell.run(f"df --output=size,used -BM {DATA}/store | tail -1").replace("M", "").split()
    )
    assert 60_000 < int(size) < 66_000
    assert attended.shell.run(f"find {DATA}/store -type f -size +0 | head") != ""
    assert int(used) >= 1


def test_the_system_partition_fills_its_disk(attended: Appliance) -> None:
    size = attended.shell.run("df --output=size -BM / | tail -1").strip().rstrip("M")
    assert int(size) > 14_000


# --- identities and secrets ---------------------------------------------------------------------------


def test_the_first_word_of_root_is_no_longer_valid(attended: Appliance) -> None:
    with pytest.raises(ShellError, match="Permission denied"):
        attended.shell.log_in(FIRST_WORD)
    attended.shell.run("test ! -e /var/lib/postkeep-appliance/first-password")
    attended.shell.log_in(ROOT_PASSWORD)


def test_nobody_else_has_a_password(attended: Appliance) -> None:
    shadow = [line.split(":") for line in attended.shell.run("cat /etc/shadow").splitlines()]
    assert [entry[0] for entry in shadow if not entry[1].startswith(("!", "*"))] == ["root"]


def test_no_trace_of_the_build_is_left(attended: Appliance) -> None:
    shell = attended.shell
    assert shell.run("grep -rhE '^URIs:' /etc/apt/sources.list.d | sort -u").splitlines() == [
        "URIs: http://deb.debian.org/debian",
        "URIs: http://deb.debian.org/debian-security",
    ]
    assert shell.run("apt-config dump | grep -i proxy || true") == ""
    assert shell.run("cat /etc/environment /etc/profile.d/* | grep -i _proxy || true") == ""
    keys = shell.run("cat /root/.ssh/authorized_keys").splitlines()
    assert {key.split()[1] for key in keys} == {shell.key.split()[1]}


def test_the_image_has_no_identity(disks: Disks, attended: Appliance, tmp_path: Path) -> None:
    """Looked at on the shipped disk itself: neither machine-id nor host keys nor this machine's keys."""
    from ovf.inventory import root_offset

    raw = tmp_path / "system.raw"
    subprocess.run(["qemu-img", "convert", "-O", "raw", disks.system, raw], check=True)
    try:
        where = f"{raw}?offset={root_offset(raw)}"

        def debugfs(request: str) -> str:
            done = subprocess.run(
                ["debugfs", "-R", request, where], capture_output=True, text=True, check=True
            )
            return done.stdout

        assert debugfs("cat /etc/machine-id").strip() == ""
        assert "sshd_config" in debugfs("ls -p /etc/ssh")
        assert "ssh_host_" not in debugfs("ls -p /etc/ssh")
        assert "mailserver.cfg" not in debugfs(f"ls -p {DATA}")
        assert "authorized_keys" not in debugfs("ls -p /root/.ssh")
    finally:
        raw.unlink()
    assert re.fullmatch(r"[0-9a-f]{32}", attended.identities["machine-id"])


def test_ssh_is_off_until_it_is_switched_on(attended: Appliance) -> None:
    """Nothing answered on port 22 before root had a password of its own, and the switch was used."""
    shell = attended.shell
    assert shell.run("systemctl is-enabled ssh.service") == "enabled"
    ssh = first_entry(attended, "-u ssh.service")
    changed = first_entry(attended, "-u postkeep-agent -g 'password was changed'")
    assert 0 < changed < ssh


def first_entry(appliance: Appliance, what: str) -> int:
    """Of the journal; microseconds."""
    entries = appliance.shell.run(f"journalctl -q --no-pager -o short-unix {what}").splitlines()
    return int(float(entries[0].split()[0]) * 1e6)
