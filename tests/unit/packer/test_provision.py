"""Packer's and Ansible's output as progress; the template is valid; lists and their differences."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.scripts import ROOT, load

provision = load("packer/provision.py")
package_lists = load("packer/package_lists.py")
progress = load("packer/progress.py")


def test_ui_lines_of_packer_are_unescaped() -> None:
    line = "1795553899,,ui,message,    null.a: a%!(PACKER_COMMA) b\\nsecond\n"
    assert provision.ui_lines(line) == ["    null.a: a, b", "second"]


@pytest.mark.parametrize("line", ["", "noise", "1,null.a,artifact,0,end", "1,,ui,say,"])
def test_other_lines_of_packer_say_nothing(line: str) -> None:
    assert provision.ui_lines(line) == []


def test_tasks_are_counted() -> None:
    said: list[str] = []
    counter = provision.TaskCounter(2, said.append)
    for line in (
        "TASK [base : One] ***",
        "ok: [tree]",
        "    qemu.postkeep: TASK [seal : Two] **",
        "TASK [x : 3]",
    ):
        counter.line(line)
    assert said == ["1/2  base : One", "2/2  seal : Two", "3/3  x : 3"]


def test_packer_s_output_comes_in_any_pieces() -> None:
    said: list[str] = []
    record = io.StringIO()
    listener = provision.PackerOutput(record, provision.TaskCounter(9, said.append), said.append)
    text = "1,,ui,say,==> qemu.postkeep: Starting\n2,,ui,message,    qemu.postkeep: TASK [base : One] *\\nok\n3,,x,y,z\n"
    for letter in text.encode():
        listener.write(bytes([letter]))
    assert said == ["Starting", "1/9  base : One"]
    assert listener.tail == ["==> qemu.postkeep: Starting", "    qemu.postkeep: TASK [base : One] *", "ok"]
    assert record.getvalue().endswith("ok\n")


def test_of_a_failed_task_the_reason_is_kept() -> None:
    listener = provision.PackerOutput(
        io.StringIO(), provision.TaskCounter(9, lambda text: None), lambda text: None
    )
    said = [
        "TASK [seal : Look]",
        "fatal: [default]: FAILED! =>",
        "    stdout: x.key: a private key",
        *["later"] * 40,
    ]
    listener.write("".join(f"1,,ui,message,    qemu.postkeep: {line}\n" for line in said))
    assert "FAILED" in listener.failure[0]
    assert "a private key" in listener.failure[1]
    assert len(listener.failure) == 15


def test_a_failing_program_is_named_with_its_last_words(tmp_path: Path) -> None:
    log = tmp_path / "log"
    script = "print('first'); print('the reason'); raise SystemExit(3)"
    with pytest.raises(provision.ProvisionError, match="the reason") as error:
        provision._follow([sys.executable, "-c", script], log, dict(os.environ), lambda line: None)
    assert str(log) in str(error.value)
    assert log.read_text() == "first\nthe reason\n"


def test_without_kvm_there_is_tcg(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(provision.os, "access", lambda path, mode: False)
    assert provision.accelerator(tmp_path / "disk", tmp_path / "log") == "tcg"


def test_the_log_of_a_build_has_no_control_characters_and_no_flood() -> None:
    out, now = io.StringIO(), [0.0]
    display = progress.Display(out, clock=lambda: now[0], every=5)
    display.begin(1, 2, "base")
    display.say("shown \x1b[31mred\a")
    display.say("too soon")
    now[0] = 6.0
    display.say("later")
    display.end("base", 187, False)
    text = out.getvalue()
    assert "too soon" not in text
    assert "later" in text
    assert "done in 3:07" in text
    assert not any(ord(letter) < 32 and letter != "\n" for letter in text)


def test_packages_that_differ_from_the_lock_are_listed() -> None:
    now = package_lists.parse("deb a 1 amd64\ndeb b 2 amd64\npython x 1.0 /opt/p\ndeb postkeep 9 amd64\n")
    locked = package_lists.parse("deb a 1 amd64\ndeb b 1 amd64\ndeb gone 1 all\n")
    assert package_lists.differences(now, locked) == [
        "deb b: 1 -> 2",
        "deb gone: 1 -> absent",
        "python x /opt/p: absent -> 1.0",
    ]


def test_a_locked_build_refuses_other_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(package_lists, "read", lambda disk: "deb a 2 amd64\npython x 1.0 /opt/postkeep\n")
    monkeypatch.setattr(package_lists, "LOCK", tmp_path / "lock")
    (tmp_path / "lock").write_text("deb a 1 amd64\npython x 1.0 /opt/postkeep\n")
    out = tmp_path / "packages"
    with pytest.raises(package_lists.Drift, match="deb a: 1 -> 2"):
        package_lists.make(tmp_path / "disk", out, lambda text: None, locked=True, lock=False)
    package_lists.make(tmp_path / "disk", out, lambda text: None, locked=False, lock=True)
    assert (tmp_path / "lock").read_text() == "deb a 2 amd64\npython x 1.0 /opt/postkeep\n"
    package_lists.make(tmp_path / "disk", out, lambda text: None, locked=True, lock=False)
    assert (out / "debian.txt").read_text() == "a 2\n"
    assert (out / "python-postkeep.txt").read_text() == "x 1.0\n"


def test_the_preseed_is_well_formed() -> None:
    done = subprocess.run(
        ["debconf-set-selections", "-c", str(ROOT / "packer/http/preseed.cfg")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr


def test_a_broken_preseed_is_noticed(tmp_path: Path) -> None:
    broken = tmp_path / "preseed.cfg"
    broken.write_text("d-i only-two\n")
    done = subprocess.run(["debconf-set-selections", "-c", str(broken)], capture_output=True, check=False)
    assert done.returncode != 0
