"""Connection plugin `tree`: runs modules in a Debian tree on this machine through chroot(8)."""

from __future__ import annotations

import os
import shutil
import subprocess

from ansible.errors import AnsibleConnectionFailure, AnsibleFileNotFound
from ansible.plugins.connection import ConnectionBase
from ansible.utils.display import Display

DOCUMENTATION = """
name: tree
short_description: Run tasks in a folder that holds a Debian system
description:
  - Commands run through C(chroot), files are copied. Root only.
  - Kernel file systems must be mounted by the caller (packer/chroot.py does it).
author: Postkeep
options:
  remote_addr:
    description: The folder.
    vars:
      - name: inventory_hostname
      - name: ansible_host
"""

display = Display()
ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LC_ALL": "C.UTF-8",
}


class Connection(ConnectionBase):
    """Nothing is kept between tasks, so nothing has to be closed."""

    transport = "tree"
    has_pipelining = True
    has_tty = False

    def _connect(self) -> Connection:
        self._tree = os.path.realpath(self.get_option("remote_addr"))
        if os.geteuid() != 0:
            raise AnsibleConnectionFailure("only root can work in a tree")
        # A slip here would provision the machine that builds.
        if self._tree == "/" or not os.path.exists(os.path.join(self._tree, "etc/debian_version")):
            raise AnsibleConnectionFailure(f"{self._tree} holds no Debian system")
        if not os.path.isdir(os.path.join(self._tree, "proc/self")):
            raise AnsibleConnectionFailure(f"{self._tree} has no /proc: mount it first (packer/chroot.py)")
        self._connected = True
        return self

    def exec_command(self, cmd: str, in_data: bytes | None = None, sudoable: bool = False):  # type: ignore[no-untyped-def]
        super().exec_command(cmd, in_data=in_data, sudoable=sudoable)
        display.vvv(f"EXEC {cmd}", host=self._tree)
        done = subprocess.run(
            ["chroot", self._tree, "/bin/sh", "-c", cmd],
            input=in_data or b"",
            capture_output=True,
            env=ENVIRONMENT,
            check=False,
        )
        return done.returncode, done.stdout, done.stderr

    def _inside(self, path: str) -> str:
        """Where a path of the tree lies here; symbolic links must not lead out of it."""
        here = os.path.join(self._tree, path.lstrip("/"))
        if os.path.commonpath([os.path.realpath(os.path.dirname(here)), self._tree]) != self._tree:
            raise AnsibleConnectionFailure(f"{path} leads out of the tree")
        return here

    def put_file(self, in_path: str, out_path: str) -> None:
        super().put_file(in_path, out_path)
        if not os.path.exists(in_path):
            raise AnsibleFileNotFound(f"{in_path} does not exist")
        shutil.copyfile(in_path, self._inside(out_path))

    def fetch_file(self, in_path: str, out_path: str) -> None:
        super().fetch_file(in_path, out_path)
        shutil.copyfile(self._inside(in_path), out_path)

    def close(self) -> None:
        self._connected = False
