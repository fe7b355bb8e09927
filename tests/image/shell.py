"""Root's terminal in the virtual machine: OpenSSH's own client, one connection kept for all commands."""

import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import testinfra
from testinfra.host import Host

_CONFIG = """\
Host vm
  HostName 127.0.0.1
  Port {port}
  User root
  HostKeyAlias vm
  UserKnownHostsFile {folder}/known_hosts
  StrictHostKeyChecking accept-new
  IdentityFile {folder}/key
  IdentitiesOnly yes
  ConnectTimeout 60
  ServerAliveInterval 20
  ControlMaster auto
  ControlPath {folder}/mux
  ControlPersist 900
  LogLevel ERROR
"""


class ShellError(AssertionError):
    """The command failed; says what it printed."""


def make_key(folder: Path) -> str:
    """A new ed25519 key pair `folder`/key; returns the public line."""
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", folder / "key"], check=True
    )
    return (folder / "key.pub").read_text().strip()


class Shell:
    """Of a machine whose port 22 is 127.0.0.1:`port`. Host keys are pinned by the first connection."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="pk-"))
        self.key = make_key(self.folder)
        self.config = self.folder / "config"
        self._port = 0

    def at(self, port: int) -> "Shell":
        """The machine is reached there from now on (after a start all ports are others)."""
        self.leave()
        self._port = port
        self.config.write_text(_CONFIG.format(port=port, folder=self.folder))
        return self

    def log_in(self, password: str, patience: float = 120.0) -> None:
        """By password, once; then by key alone. Raises ShellError when the password is refused."""
        askpass = self.folder / "askpass"
        askpass.write_text('#!/bin/sh\nprintf "%s\\n" "$PK_PASSWORD"\n')
        askpass.chmod(0o700)
        environment = os.environ | {
            "SSH_ASKPASS": str(askpass), "SSH_ASKPASS_REQUIRE": "force", "PK_PASSWORD": password,
        }  # fmt: skip
        command = [
            "-o",
            "PubkeyAuthentication=no",
            "-o",
            "NumberOfPasswordPrompts=1",
            "-o",
            "ControlPath=none",
        ]
        keep = "umask 077; mkdir -p /root/.ssh; cat >>/root/.ssh/authorized_keys"
        done = subprocess.run(
            ["ssh", "-F", self.config, *command, "vm", keep],
            input=self.key + "\n", env=environment, capture_output=True, text=True, timeout=patience, check=False,
        )  # fmt: skip
        if done.returncode:
            raise ShellError(f"log-in by password: {done.stderr}")

    def wait(self, patience: float = 240.0) -> "Shell":
        """Until a log-in by key works."""
        until = time.monotonic() + patience
        while True:
            done = self._ssh("true", timeout=90)
            if done.returncode == 0:
                return self
            if time.monotonic() > until:
                raise ShellError(f"no log-in by key within {patience:.0f} s: {done.stderr}")
            time.sleep(1)

    def _ssh(self, command: str, timeout: float, stdin: str = "") -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            ["ssh", "-F", self.config, "-o", "BatchMode=yes", "vm", command],
            input=stdin, capture_output=True, text=True, timeout=timeout, check=False,
        )  # fmt: skip

    def run(self, command: str, *, ok: bool = True, stdin: str = "", timeout: float = 300.0) -> str:
        """What a shell command printed on both streams. With `ok` it has to succeed, without it to fail."""
        done = self._ssh(command, timeout, stdin)
        text = done.stdout + done.stderr
        if (done.returncode == 0) != ok:
            raise ShellError(f"{command!r} ended with {done.returncode}:\n{text}")
        return text.strip()

    def put(self, file: Path, target: str) -> None:
        """scp, as an administrator brings a package."""
        subprocess.run(
            ["scp", "-q", "-F", str(self.config), str(file), f"vm:{target}"], check=True, timeout=300
        )

    @property
    def host(self) -> Host:
        """The machine as testinfra sees it."""
        return testinfra.get_host("ssh://vm", ssh_config=str(self.config))

    def leave(self) -> None:
        """End the kept connection."""
        if self._port and (self.folder / "mux").exists():
            command = ["ssh", "-F", self.config, "-O", "exit", "vm"]
            subprocess.run(command, capture_output=True, timeout=30, check=False)
            (self.folder / "mux").unlink(missing_ok=True)

    def remove(self) -> None:
        """All of it, the keys too."""
        self.leave()
        shutil.rmtree(self.folder, ignore_errors=True)
