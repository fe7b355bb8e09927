"""What is in the image, by name and version, and how that differs from the list of the last release.

Debian's mirrors serve only the newest version of a package, so a pin cannot bring an old one back; a snapshot
(DEBIAN_SNAPSHOT) can. Without one, packer/packages.lock says what the last build that somebody looked at had:
a difference is reported, or refused with --locked.
"""

import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import base_disk

LOCK = base_disk.ROOT / "packer/packages.lock"
# Built from this repository: named by the product's version, not by a lock.
OWN = ("postkeep", "postkeep-console", "postkeep-appliance")


class Drift(Exception):
    """The image has other packages than packer/packages.lock."""


def parse(text: str) -> dict[str, str]:
    """ "deb NAME VERSION ARCHITECTURE" and "python NAME VERSION WHERE" -> {"deb NAME": VERSION, …}."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        words = line.split()
        if len(words) != 4 or words[1] in OWN:
            continue
        where = f" {words[3]}" if words[0] == "python" else ""
        found[f"{words[0]} {words[1]}{where}"] = words[2]
    return found


def differences(now: dict[str, str], locked: dict[str, str]) -> list[str]:
    """A line for each package that is new, gone or of another version."""
    lines = []
    for name in sorted(now.keys() | locked.keys()):
        here, there = now.get(name, ""), locked.get(name, "")
        if here != there:
            lines.append(f"{name}: {there or 'absent'} -> {here or 'absent'}")
    return lines


def lock_text(text: str) -> str:
    """The lock for a list: sorted, without what this repository builds."""
    kept = [line for line in text.splitlines() if line.split()[1] not in OWN]
    return "".join(line + "\n" for line in sorted(kept))


def read(disk: Path) -> str:
    """The list of a qcow2 disk, read from its file system without mounting it."""
    sys.path.insert(0, str(base_disk.ROOT))
    from ovf.inventory import from_disk

    with tempfile.TemporaryDirectory(dir=disk.parent, prefix="lists-") as scratch:
        raw = Path(scratch) / "disk.raw"
        convert = ["qemu-img", "convert", "-O", "raw", str(disk), str(raw)]
        subprocess.run(convert, check=True, capture_output=True, text=True)
        copied = Path(scratch) / "root"
        copied.mkdir()
        return from_disk(raw, copied).lines()


def make(disk: Path, folder: Path, say: Callable[[str], None], *, locked: bool, lock: bool) -> None:
    """folder/packages.txt (all), debian.txt and python-<environment>.txt (parts), drift.txt (differences)."""
    say("reading the disk")
    text = read(disk)
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.txt"):
        old.unlink()
    parts: dict[str, list[str]] = {}
    for line in text.splitlines():
        words = line.split()
        part = "debian" if words[0] == "deb" else f"python-{Path(words[3]).name}"
        parts.setdefault(part, []).append(" ".join(words[1:3]))
    for part, lines in parts.items():
        (folder / f"{part}.txt").write_text("".join(line + "\n" for line in lines))
    if lock:
        LOCK.write_text(lock_text(text))
    differ = differences(parse(text), parse(LOCK.read_text() if LOCK.exists() else ""))
    (folder / "drift.txt").write_text("".join(line + "\n" for line in differ))
    if differ:
        told = f"{len(differ)} packages differ from packer/packages.lock (all: {folder / 'drift.txt'})"
        if locked:
            raise Drift(told + ":\n" + "\n".join(differ[:20]))
        say(told)
    (folder / "packages.txt").write_text(text)
