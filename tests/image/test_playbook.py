"""The playbook: clean to its linter, complete, and idempotent; Packer's template is valid.

Needs root and build/image/base.tar (make appliance makes it). The whole playbook runs twice in a tree.
"""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.scripts import ROOT, load

pytestmark = pytest.mark.image

base_disk = load("packer/base_disk.py")
provision = load("packer/provision.py")
chroot = load("packer/chroot.py")
BASE = ROOT / "build/image/base.tar"


def _run(command: list[str], where: Path) -> subprocess.CompletedProcess[str]:
    environment = provision.ansible_environment()
    return subprocess.run(command, cwd=where, env=environment, capture_output=True, text=True, check=False)


def test_the_playbook_is_clean_to_its_linter() -> None:
    done = _run(["ansible-lint", "--offline", "--profile", "production", "site.yml"], ROOT / "ansible")
    assert done.returncode == 0, done.stdout + done.stderr


def test_debians_packer_takes_the_template() -> None:
    assert shutil.which("packer"), "apt-get install packer"
    done = _run(["packer", "validate", "packer/postkeep.pkr.hcl"], ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


def test_packer_refuses_a_broken_template(tmp_path: Path) -> None:
    broken = tmp_path / "postkeep.pkr.hcl"
    text = (ROOT / "packer/postkeep.pkr.hcl").read_text()
    broken.write_text(text.replace("ssh_private_key_file", "ssh_private_kee_file"))
    done = _run(["packer", "validate", str(broken)], ROOT)
    assert done.returncode != 0
    assert "ssh_private_kee_file" in done.stdout + done.stderr


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    assert os.geteuid() == 0, "a tree has owners: run as root"
    assert BASE.exists(), "make appliance first"
    folder = ROOT / "build/image/test-tree"
    base_disk.unpack(BASE, folder)
    yield folder
    chroot.remove(folder)


def _play(tree: Path, log: Path) -> dict[str, int]:
    """The numbers of Ansible's recap."""
    provision.play_in_tree(tree, log, {"seal_version": "test"}, lambda text: None)
    recap = re.search(r"^tree\s+: (.*)$", log.read_text(), re.MULTILINE)
    assert recap
    return {name: int(number) for name, number in re.findall(r"(\w+)=(\d+)", recap[1])}


def test_the_second_run_changes_nothing(tree: Path, tmp_path: Path) -> None:
    first = _play(tree, tmp_path / "first.log")
    assert first["failed"] == 0
    assert first["changed"] > 20
    second = _play(tree, tmp_path / "second.log")
    text = (tmp_path / "second.log").read_text()
    assert second["failed"] == 0
    assert second["changed"] == 0, [
        line for line in text.splitlines() if line.startswith(("TASK", "changed"))
    ]


def test_the_tree_is_handed_back_as_it_was(tree: Path) -> None:
    inside = str(tree.resolve())
    assert inside not in Path("/proc/mounts").read_text()
    for lent in ("usr/sbin/policy-rc.d", chroot.BUILD_APT):
        assert not (tree / lent).exists()
    for memory in ("run", "tmp"):
        assert not [path for path in (tree / memory).rglob("*") if not path.is_dir()]


def test_units_are_as_the_appliance_needs_them(tree: Path) -> None:
    def state(unit: str) -> str:
        command = ["systemctl", f"--root={tree}", "is-enabled", unit]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()

    on = (
        "postkeep",
        "postkeep-firstboot",
        "postkeep-agent",
        "postkeep-console@tty1",
        "postkeep-console@ttyS0",
    )
    more = ("nftables", "unbound", "systemd-networkd", "systemd-timesyncd", "open-vm-tools", "getty@tty2")
    assert {unit: state(unit) for unit in (*on, *more)} == dict.fromkeys((*on, *more), "enabled")
    assert state("ssh") == "disabled"
    for unit in ("getty@tty1", "serial-getty@ttyS0"):
        assert state(unit) == "masked"


def test_the_firewall_s_rules_are_valid(tree: Path) -> None:
    with chroot.entered(tree):
        chroot.run(tree, ["nft", "-c", "-f", "/etc/nftables.conf"])
        extra = tree / "etc/nftables.d/test.nft"
        extra.write_text("add rule inet postkeep own tcp dport 143 accept\n")
        try:
            chroot.run(tree, ["nft", "-c", "-f", "/etc/nftables.conf"])
            extra.write_text("add rule inet postkeep nowhere tcp dport 143 accept\n")
            with pytest.raises(subprocess.CalledProcessError):
                chroot.run(tree, ["nft", "-c", "-f", "/etc/nftables.conf"])
        finally:
            extra.unlink()


def test_sshd_and_unbound_accept_their_settings(tree: Path) -> None:
    with chroot.entered(tree):
        chroot.run(tree, ["systemd-tmpfiles", "--create", "/etc/tmpfiles.d/postkeep-resolver.conf"])
        chroot.run(tree, ["/usr/libexec/unbound-helper", "root_trust_anchor_update"])  # its unit does it
        chroot.run(tree, ["unbound-checkconf"])
        (tree / "run/sshd").mkdir(exist_ok=True)
        chroot.run(tree, ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", "/run/test_key"])
        shown = chroot.run(tree, ["sshd", "-T", "-h", "/run/test_key"])
    assert "permitemptypasswords no" in shown
    assert "x11forwarding no" in shown


def test_drivers_of_the_hypervisors_are_there_and_others_are_not(tree: Path) -> None:
    modules = {path.name.split(".")[0] for path in tree.glob("usr/lib/modules/*/kernel/**/*.ko*")}
    assert {
        "vmw_pvscsi",
        "vmxnet3",
        "vmwgfx",
        "vmw_vmci",
        "vmw_balloon",
        "mptspi",
        "e1000e",
        "nf_tables",
    } <= modules
    assert not modules & {"iwlwifi", "snd", "amdgpu", "btusb"}
    listed = subprocess.run(
        ["chroot", str(tree), "lsinitramfs", "/initrd.img"], capture_output=True, text=True, check=True
    ).stdout
    built_in = "".join(path.read_text() for path in tree.glob("usr/lib/modules/*/modules.builtin"))
    there = (listed + built_in).replace("-", "_")
    for name in base_disk.INITRAMFS_MODULES:
        assert f"/{name}.ko" in there, f"{name} is neither in the initial RAM disk nor in the kernel"


def test_root_has_the_documented_first_word_and_its_mark(tree: Path) -> None:
    assert (tree / "var/lib/postkeep-appliance/first-password").exists()
    assert (tree / "var/lib/postkeep-appliance").stat().st_mode & 0o777 == 0o700
    python = (
        "import sys; sys.path.insert(0, '/opt/postkeep-console/venv/lib/python3.13/site-packages');"
        "from postkeep_appliance.host.shadow import is_password_of as check;"
        "from postkeep_appliance.host.port import FIRST_PASSWORD;"
        "import json; print(json.dumps([check('root', FIRST_PASSWORD), check('root', 'other')]))"
    )
    assert json.loads(chroot.run(tree, ["/usr/bin/python3", "-c", python])) == [True, False]
