"""A Debian tree as something to work in: unpacked, mounted, and handed back as it was.

All that the build machine lends to a tree (kernel file systems, name servers, apt's proxy, a policy that
starts no services) is there between `entered` and its end only. Root is needed: a tree has owners.
"""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

POLICY = "#!/bin/sh\n# While the image is built nothing starts.\nexit 101\n"
BUILD_APT = "etc/apt/apt.conf.d/00build"
ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LC_ALL": "C.UTF-8",
    "DEBIAN_FRONTEND": "noninteractive",
}

# (file system or None for a bind mount, what, where below the tree, options)
_MOUNTS = (
    ("proc", "proc", "proc", "nosuid,nodev,noexec"),
    ("sysfs", "sysfs", "sys", "nosuid,nodev,noexec,ro"),
    (None, "/dev", "dev", ""),
    (None, "/dev/pts", "dev/pts", ""),
    ("tmpfs", "tmpfs", "run", "nosuid,nodev,mode=755"),
    ("tmpfs", "tmpfs", "tmp", "nosuid,nodev,mode=1777"),
)


def host_proxy() -> str:
    """The http proxy that apt on this machine goes through; empty for none."""
    command = ["apt-config", "shell", "PROXY", "Acquire::http::Proxy"]
    out = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    if out.startswith("PROXY="):
        return out.strip().removeprefix("PROXY=").strip("'")
    return os.environ.get("http_proxy", "")


def run(tree: Path, command: Sequence[str], *, environment: Mapping[str, str] | None = None) -> str:
    """Standard output of `command` inside the tree; CalledProcessError with stderr if it fails."""
    done = subprocess.run(
        ["chroot", str(tree), *command],
        env={**ENVIRONMENT, **(environment or {})},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise subprocess.CalledProcessError(done.returncode, command, done.stdout, done.stderr)
    return done.stdout


@contextlib.contextmanager
def entered(tree: Path) -> Iterator[Path]:
    """The tree with everything lent to it; taken away again whatever happens."""
    with contextlib.ExitStack() as stack:
        for kind, what, where, options in _MOUNTS:
            target = tree / where
            target.mkdir(exist_ok=True)
            command = ["mount", "--bind"] if kind is None else ["mount", "-t", kind, "-o", options]
            subprocess.run([*command, what, str(target)], check=True)
            stack.callback(subprocess.run, ["umount", str(target)], check=True)
        stack.enter_context(_lent(tree / "usr/sbin/policy-rc.d", POLICY, 0o755))
        if proxy := host_proxy():
            stack.enter_context(_lent(tree / BUILD_APT, f'Acquire::http::Proxy "{proxy}";\n', 0o644))
        _lend_names(tree / "etc/resolv.conf")
        yield tree


@contextlib.contextmanager
def _lent(path: Path, text: str, mode: int) -> Iterator[None]:
    path.write_text(text)
    path.chmod(mode)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def _lend_names(resolver: Path) -> None:
    """This machine's name servers, unless the tree is sealed: `seal` writes the image's own resolver."""
    if resolver.is_file() and "nameserver 127.0.0.1" in resolver.read_text():
        return
    resolver.unlink(missing_ok=True)
    shutil.copyfile("/etc/resolv.conf", resolver)


def remove(tree: Path) -> None:
    """Deletes the tree, never a file system that is still mounted in it."""
    inside = str(tree.resolve()) + "/"
    mounted = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    left = sorted((place for place in mounted if place.startswith(inside)), reverse=True)
    for place in left:  # of a build that was killed
        subprocess.run(["umount", place], check=True)
    if tree.exists():
        subprocess.run(["rm", "-rf", "--one-file-system", str(tree)], check=True)
