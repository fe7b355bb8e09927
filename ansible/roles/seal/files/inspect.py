"""Looks over a system that becomes an image: exits 1 and names what must not be in there."""

import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

PRIVATE_KEY = re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----")
SEARCHED = ("etc", "root", "home", "opt", "srv", "var")
LARGEST = 1 << 20
# Test keys that packages carry in their public sources.
PUBLIC_SAMPLES = re.compile(r"/(tests?|testing|examples?|docs?)/|/site-packages/|/dist-packages/")


def files(root: Path) -> Iterator[Path]:
    for name in SEARCHED:
        for path in (root / name).rglob("*"):
            if path.is_file() and not path.is_symlink():
                yield path


def private_keys(root: Path) -> Iterator[str]:
    for path in files(root):
        if PUBLIC_SAMPLES.search(str(path)) or path.stat().st_size > LARGEST:
            continue
        if PRIVATE_KEY.search(path.read_bytes()):
            yield f"{path}: a private key"


def identities(root: Path) -> Iterator[str]:
    machine_id = root / "etc/machine-id"
    if not machine_id.exists() or machine_id.read_bytes():
        yield f"{machine_id}: must be there and empty"
    for pattern in ("etc/ssh/ssh_host_*", "var/lib/systemd/random-seed", "var/lib/dbus/machine-id"):
        for path in root.glob(pattern):
            yield f"{path}: belongs to one machine"
    for pattern in ("root/.ssh/*", "home/*/.ssh/*", "etc/ssh/authorized_keys*"):
        for path in root.glob(pattern):
            yield f"{path}: lets somebody in"
    store = root / "var/lib/postkeep"
    for name in ("mailserver.cfg", "users.cfg", "sslcert", "store/postkeep.db"):
        path = store / name
        if path.is_dir() and not any(path.iterdir()):
            continue
        if path.exists():
            yield f"{path}: an engine ran here"


def passwords(root: Path) -> Iterator[str]:
    for line in (root / "etc/shadow").read_text().splitlines():
        name, word = line.split(":")[:2]
        if name != "root" and word and word[0] not in "!*":
            yield f"/etc/shadow: {name} has a password"
        if not word:
            yield f"/etc/shadow: {name} needs no password"


def switched_on(root: Path) -> Iterator[str]:
    for unit in ("ssh.service", "ssh.socket"):
        for path in root.glob(f"etc/systemd/system/*.wants/{unit}"):
            yield f"{path}: ssh must be off"


def build_traces(root: Path) -> Iterator[str]:
    for pattern in ("etc/apt/apt.conf.d/00*build*", "etc/apt/sources.list", "etc/apt/auth.conf*/*"):
        for path in root.glob(pattern):
            if path.is_file() and path.read_text().strip():
                yield f"{path}: of the build"
    for path in root.glob("etc/apt/sources.list.d/*"):
        for uri in re.findall(r"https?://[^\s]+", path.read_text()):
            if not uri.startswith("http://deb.debian.org/"):
                yield f"{path}: {uri} is not Debian's own address"
    if "127.0.0.1" not in (root / "etc/resolv.conf").read_text():
        yield "/etc/resolv.conf: not this machine's resolver"


def programs(root: Path, forbidden: list[str]) -> Iterator[str]:
    path = ":".join(str(root / place) for place in ("usr/bin", "usr/sbin", "usr/local/bin"))
    for name in forbidden:
        if found := shutil.which(name, path=path):
            yield f"{found}: not in an appliance"


def findings(root: Path, forbidden: list[str]) -> list[str]:
    """All that must not be there, a sentence each."""
    found = [*private_keys(root), *identities(root), *passwords(root), *switched_on(root)]
    return [*found, *build_traces(root), *programs(root, forbidden)]


if __name__ == "__main__":
    wrong = findings(Path("/"), sys.argv[1:])
    print("\n".join(wrong))
    sys.exit(1 if wrong else 0)
