"""CON-3: ssh, whoever starts it, does not open the network to root's documented first password."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from postkeep_appliance.boot.identity import KEYS_ONLY
from postkeep_appliance.host.state import FIRST_PASSWORD_MARK

from tests.support.scripts import ROOT

ROLE = ROOT / "ansible/roles/hardening"
MARK = f"var/lib/postkeep-appliance/{FIRST_PASSWORD_MARK}"


@pytest.mark.parametrize(
    ("there", "allowed"),
    [((), True), ((MARK,), False), ((MARK, KEYS_ONLY), True), ((KEYS_ONLY,), True)],
)
def test_ssh_is_allowed_without_the_mark_or_for_keys_alone(
    tmp_path: Path, there: tuple[str, ...], allowed: bool
) -> None:
    for name in there:
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text("PasswordAuthentication no\n" if name == KEYS_ONLY else "")
    done = subprocess.run(
        ["sh", ROLE / "files/postkeep-ssh-allowed", tmp_path], capture_output=True, text=True, check=False
    )
    assert done.returncode == (0 if allowed else 1)
    assert ("Unlock the console" in done.stderr) is not allowed


def test_an_empty_rule_for_keys_alone_is_none(tmp_path: Path) -> None:
    for name in (MARK, KEYS_ONLY):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
    script = ROLE / "files/postkeep-ssh-allowed"
    assert subprocess.run(["sh", script, tmp_path], capture_output=True, check=False).returncode == 1


def test_every_unit_that_starts_sshd_asks() -> None:
    tasks: list[dict[str, Any]] = yaml.safe_load((ROLE / "tasks/main.yml").read_text())
    copies = [task for task in tasks if "ansible.builtin.copy" in task]
    (program,) = [one for one in copies if one["ansible.builtin.copy"]["src"] == "postkeep-ssh-allowed"]
    (drop_in,) = [one for one in copies if one["ansible.builtin.copy"]["src"] == "ssh.conf"]
    copied = program["ansible.builtin.copy"]
    assert copied["mode"] == "0755"
    assert f"ExecCondition={copied['dest']}" in (ROLE / "files/ssh.conf").read_text().splitlines()
    assert drop_in["ansible.builtin.copy"]["dest"] == "/etc/systemd/system/{{ item }}.d/postkeep.conf"
    assert set(drop_in["loop"]) == {"ssh.service", "sshd@.service"}
