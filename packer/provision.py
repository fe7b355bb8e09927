"""Puts the playbook into a disk: by Packer in a virtual machine, or in a tree without one.

Both run ansible/site.yml and end in the same system.qcow2. Output of Packer and Ansible goes to a log in full
and to `say` as far as it helps.
"""

import importlib
import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TextIO

import base_disk
import bootloader
import chroot

Say = Callable[[str], None]
ANSIBLE = base_disk.ROOT / "ansible"
TEMPLATE = base_disk.ROOT / "packer/postkeep.pkr.hcl"
_TASK = re.compile(r"(?:TASK|RUNNING HANDLER) \[([^\]]+)\]")
_ESCAPES = {r"\n": "\n", r"\r": "\r", "%!(PACKER_COMMA)": ","}


class ProvisionError(Exception):
    """Which program failed, its last words, and where the whole log is."""


def ansible_environment(**more: str) -> dict[str, str]:
    """For ansible-playbook: this project's configuration, its .venv first on PATH."""
    own = str(Path(sys.executable).parent)
    return {
        **os.environ,
        "PATH": f"{own}:{os.environ.get('PATH', '')}",
        "ANSIBLE_CONFIG": str(ANSIBLE / "ansible.cfg"),
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_LOCALHOST_WARNING": "False",
        **more,
    }


class TaskCounter:
    """Reads Ansible's lines; says "12/74 role : task"."""

    def __init__(self, total: int, say: Say) -> None:
        self._total = total
        self._say = say
        self._done = 0

    def line(self, text: str) -> None:
        if found := _TASK.search(text):
            self._done += 1
            self._say(f"{self._done}/{max(self._total, self._done)}  {found[1]}")


def count_tasks() -> int:
    """How many tasks the playbook has, about: included roles count once."""
    command = ["ansible-playbook", "site.yml", "--list-tasks", "-e", "tree_path=/nonexistent"]
    done = subprocess.run(
        command, cwd=ANSIBLE, env=ansible_environment(), capture_output=True, text=True, check=False
    )
    return sum("TAGS:" in line for line in done.stdout.splitlines()) - 1


def _follow(
    command: list[str], log: Path, environment: Mapping[str, str], line: Callable[[str], None]
) -> None:
    """Runs a program in ansible/, each line of its output to the log and to `line`."""
    tail: list[str] = []
    with (
        log.open("w") as record,
        subprocess.Popen(
            command,
            cwd=ANSIBLE,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        ) as process,
    ):
        assert process.stdout is not None
        for text in process.stdout:
            record.write(text)
            tail = [*tail[-24:], text]
            line(text)
    if process.returncode:
        raise ProvisionError(f"{command[0]} failed:\n{''.join(tail)}The whole log: {log}")


def play_in_tree(tree: Path, log: Path, variables: Mapping[str, str], say: Say) -> None:
    """site.yml in a tree that lies unpacked."""
    command = ["ansible-playbook", "site.yml", "-e", f"tree_path={tree}"]
    for name, value in variables.items():
        command += ["-e", f"{name}={value}"]
    with chroot.entered(tree):
        _follow(command, log, ansible_environment(), TaskCounter(count_tasks(), say).line)


def fast(folder: Path, variables: Mapping[str, str], say: Say) -> None:
    """`folder`/system.qcow2 out of `folder`/base.tar without a virtual machine."""
    tree = folder / "tree"
    say("unpacking")
    base_disk.unpack(folder / "base.tar", tree)
    play_in_tree(tree, folder / "ansible.log", variables, say)
    bootloader.make_disk(tree, folder / "system.qcow2", size_gib=base_disk.DISK_GIB, say=say)


def ui_lines(text: str) -> list[str]:
    """The lines that a machine-readable line of Packer says to people; none for other kinds.

    Format: timestamp,target,type,data… with commas, CR and LF in data escaped (Packer's documentation,
    "Machine-Readable Output"). The type "ui" has a kind and a text.
    """
    parts = text.rstrip("\n").split(",", 4)
    if len(parts) < 5 or parts[2] != "ui":
        return []
    said = parts[4]
    for escape, letter in _ESCAPES.items():
        said = said.replace(escape, letter)
    return [line for line in re.split(r"[\r\n]+", said) if line.strip()]


def accelerator(probe: Path, log: Path) -> str:
    """ "kvm" if a guest really runs in it, else "tcg": /dev/kvm may open and hang all the same.

    `probe`: a bootable disk. A guest that has written to its serial line within 20 s runs.
    """
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return "tcg"
    log.unlink(missing_ok=True)
    command = ["qemu-system-x86_64", "-accel", "kvm", "-m", "512", "-display", "none", "-no-reboot"]
    command += ["-drive", f"file={probe},if=virtio,format=qcow2,snapshot=on", "-serial", f"file:{log}"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        process.wait(timeout=20)
    except subprocess.TimeoutExpired:
        return "kvm" if log.exists() and b"login:" in log.read_bytes() else "tcg"
    finally:
        process.kill()
        process.wait()
    return "tcg"


class PackerOutput:
    """A file to write to, as `sh` takes one for a program's output: keeps people's lines and counts tasks.

    (A function would do if sh 1.11 did not need inspect.getargspec, which Python 3.11 has no more.)
    """

    def __init__(self, record: TextIO, counter: TaskCounter, say: Say) -> None:
        self._record = record
        self._counter = counter
        self._say = say
        self._rest = ""
        self.tail: list[str] = []
        self.failure: list[str] = []

    def write(self, chunk: bytes | str) -> None:
        text = chunk.decode(errors="replace") if isinstance(chunk, bytes) else chunk
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            for said in ui_lines(line):
                self._line(said)

    def flush(self) -> None:
        self._record.flush()

    def _line(self, said: str) -> None:
        self._record.write(said + "\n")
        self.tail = [*self.tail[-24:], said]
        if "fatal: [" in said or (self.failure and len(self.failure) < 15):
            self.failure.append(said)
        if "TASK [" in said:
            self._counter.line(said)
        elif said.startswith("==>"):
            self._say(said.removeprefix("==>").partition(": ")[2] or said)


def with_packer(folder: Path, variables: Mapping[str, str], say: Say) -> None:
    """`folder`/system.qcow2 out of `folder`/base.qcow2, provisioned over ssh in QEMU."""
    # python-packer; imported here, so that the fast way does not need it. Its name is this folder's too.
    packer = importlib.import_module("packer")

    say("trying KVM")
    chosen = accelerator(folder / "base.qcow2", folder / "probe.log")
    say(f"QEMU with {chosen}")
    output, log = folder / "packer", folder / "packer.log"
    values = {
        "accelerator": chosen,
        "base_disk": str(folder / "base.qcow2"),
        "output": str(output),
        "ssh_key": str(folder / "build_key"),
        "version": variables["seal_version"],
    }
    # python-packer has no argument for it: Packer and what it starts inherit this process's environment.
    os.environ.update(ansible_environment(CHECKPOINT_DISABLE="1", PACKER_CACHE_DIR=str(folder / "cache")))
    os.chdir(base_disk.ROOT)  # the template's paths begin there
    with log.open("w") as record:
        listener = PackerOutput(record, TaskCounter(count_tasks(), say), say)
        try:
            template = packer.Packer(str(TEMPLATE), only=["qemu.postkeep"], vars=values, out_iter=listener)
            # parallel=False: 1.6.6 knows no -parallel=true, and there is one machine to build.
            template.build(parallel=False, force=True, machine_readable=True)
        except Exception as error:  # sh raises a class of its own for each exit status
            why = "\n".join(listener.failure or listener.tail) or f"{type(error).__name__}: {error}"
            raise ProvisionError(f"packer failed:\n{why}\nThe whole log: {log}") from error
    (output / "system.qcow2").replace(folder / "system.qcow2")
