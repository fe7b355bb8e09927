"""The one place that talks to the hypervisor: open-vm-tools' `vmware-rpctool`."""

import subprocess
from collections.abc import Callable
from typing import NamedTuple

TOOL = "/usr/bin/vmware-rpctool"
OUTPUT_LIMIT = 1 << 20
"""Octets of an answer; hosts give at most 64 KiB."""
VALUE_LIMIT = 60 << 10
"""Octets of a value that can be set (the host's limit is 64 KiB with the command)."""
_SECONDS = 10.0
_NOBODY = (b"failed sending message", b"must be run inside a virtual machine")


class RpcUnavailable(Exception):
    """There is no hypervisor that answers: not on VMware, tools missing, or it took too long."""


class RpcRefused(Exception):
    """The hypervisor answered, and said no. The text is its word."""


class Output(NamedTuple):
    """`status` as a shell sees it."""

    status: int
    out: bytes
    err: bytes


Run = Callable[[list[str]], Output]
"""Runs a program; raises OSError when there is none, TimeoutError."""


def run(command: list[str]) -> Output:
    """Without a shell, without input, in the C locale, bounded in time and output."""
    with subprocess.Popen(  # noqa: S603 (a list, made here)
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"},
    ) as process:
        try:
            out, err = process.communicate(timeout=_SECONDS)
        except subprocess.TimeoutExpired as error:
            process.kill()
            process.communicate()
            raise TimeoutError(f"{command[0]} did not answer in {_SECONDS:.0f} seconds") from error
    if len(out) > OUTPUT_LIMIT:
        raise TimeoutError(f"{command[0]} said more than {OUTPUT_LIMIT} octets")
    return Output(process.returncode, out, err)


class RpcTool:
    """guestinfo variables of this virtual machine.

    The tool prints a value and one line end with status 0; else status 1 with the hypervisor's word on
    standard error: "No value found" for a variable that is not set. Where no hypervisor listens it says
    "Failed sending message to VMware." or, of open-vm-tools, "... must be run inside a virtual machine on a
    VMware hypervisor product.".

    It takes a value in its argument, so local users see what `put` sets while it runs: never a secret.
    """

    def __init__(self, run: Run = run, tool: str = TOOL) -> None:
        self._run = run
        self._tool = tool

    def get(self, key: str) -> bytes | None:
        """None when it is not set. Raises RpcUnavailable, RpcRefused."""
        output = self._call(f"info-get {key}")
        if output.status == 0:
            return output.out.removesuffix(b"\n")
        word = output.err.decode("utf-8", "replace").strip()
        if "no value found" in word.lower():
            return None
        raise RpcRefused(word[:200])

    def put(self, key: str, value: str) -> None:
        """Raises RpcUnavailable, RpcRefused, ValueError when it is too long or holds NUL."""
        if len(value.encode()) > VALUE_LIMIT or "\0" in value:
            raise ValueError(f"a guestinfo value has at most {VALUE_LIMIT} octets, none of them NUL")
        # A variable cannot be removed, nor set to nothing: a space is as near as it gets.
        output = self._call(f"info-set {key} {value or ' '}")
        if output.status != 0:
            raise RpcRefused(output.err.decode("utf-8", "replace").strip()[:200])

    def _call(self, words: str) -> Output:
        try:
            output = self._run([self._tool, words])
        except OSError as error:  # TimeoutError is one
            raise RpcUnavailable(error.strerror or str(error)) from error
        word = output.err.lower()
        if output.status < 0 or (output.status and any(sign in word for sign in _NOBODY)):
            raise RpcUnavailable("no hypervisor answers")
        return output
