"""make appliance: from the sources to what a VMware administrator imports, in one command.

    python packer/build.py            packages, base disk, Packer + Ansible in QEMU, OVF
    python packer/build.py --fast     the same playbook in a tree, without a virtual machine

A stage whose inputs have not changed since its last good end is kept; --force runs all of them.
DEBIAN_MIRROR, DEBIAN_SECURITY_MIRROR name other mirrors; DEBIAN_SNAPSHOT=20261101T000000Z pins every package
of Debian to that moment of snapshot.debian.org. --locked refuses a package list other than
packer/packages.lock, --lock writes it.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import base_disk
import package_lists
import progress
import provision
import stages

ROOT = base_disk.ROOT
PACKER = ROOT / "packer"
IMAGE = ROOT / "build/image"
DEBS = ROOT / "build/deb"
APPLIANCE = ROOT / "build/appliance"
NEEDED_GIB = 6


def version() -> str:
    """The server's: everything in the appliance carries it."""
    text = (ROOT / "server/postkeep/__init__.py").read_text(encoding="utf-8")
    found = re.search(r'__version__ = "([^"]+)"', text)
    if not found:
        raise SystemExit("server/postkeep/__init__.py names no __version__")
    return found[1]


def _tool(command: list[str], say: provision.Say, log: Path) -> None:
    """A part of the build that is a program of its own: its lines are shown, all of them kept."""
    tail: list[str] = []
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))
    }
    with (
        log.open("w") as record,
        subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
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
            say(text)
    if process.returncode:
        raise provision.ProvisionError(f"{' '.join(command)} failed:\n{''.join(tail)}The whole log: {log}")


def plan(*, fast: bool, locked: bool, lock: bool) -> list[stages.Stage]:
    """The stages, in order."""
    archive = base_disk.Archive.of_environment()
    variables = {"seal_version": version()}
    debs = tuple(DEBS / f"{name}_{version()}_amd64.deb" for name in ("postkeep", "postkeep-console"))
    boot = (PACKER / "base_disk.py", PACKER / "bootloader.py", PACKER / "chroot.py", base_disk.EXCLUDES)
    play = (ROOT / "ansible", *debs)
    image = IMAGE / "system.qcow2"
    name = f"postkeep-{version()}"
    packages = stages.Stage(
        "packages",
        (),
        (ROOT / "server", ROOT / "appliance", ROOT / "console", ROOT / "ovf/properties.toml"),
        (version(),),
        debs,
        lambda say: _tool(["make", "--no-print-directory", "deb"], say, IMAGE / "deb.log"),
    )
    base = stages.Stage(
        "base tree",
        (),
        boot,
        (archive.mirror, archive.security, archive.snapshot),
        (IMAGE / "base.tar",),
        lambda say: base_disk.bootstrap(IMAGE / "base.tar", archive, say),
    )
    disk = stages.Stage(
        "base disk",
        ("base tree",),
        (),
        (),
        (IMAGE / "base.qcow2", IMAGE / "build_key"),
        lambda say: base_disk.base_disk(IMAGE, say),
    )
    in_tree = stages.Stage(
        "system",
        ("packages", "base tree"),
        (*play, PACKER / "provision.py"),
        ("fast", *variables.values()),
        (image,),
        lambda say: provision.fast(IMAGE, variables, say),
    )
    in_machine = stages.Stage(
        "system",
        ("packages", "base disk"),
        (*play, provision.TEMPLATE, PACKER / "provision.py"),
        ("packer", *variables.values()),
        (image,),
        lambda say: provision.with_packer(IMAGE, variables, say),
    )
    lists = stages.Stage(
        "package lists",
        ("system",),
        (PACKER / "package_lists.py", package_lists.LOCK),
        (f"locked={locked}", f"lock={lock}"),
        (IMAGE / "packages/packages.txt",),
        lambda say: package_lists.make(image, IMAGE / "packages", say, locked=locked, lock=lock),
    )
    ovf = stages.Stage(
        "ovf",
        ("system",),
        (ROOT / "ovf", ROOT / "LICENSE"),
        (version(),),
        tuple(APPLIANCE / f"{name}.{end}" for end in ("ovf", "ova", "zip", "mf", "packages.txt", "cdx.json")),
        lambda say: _tool([sys.executable, "-u", "-m", "ovf.build"], say, IMAGE / "ovf.log"),
    )
    middle = [in_tree] if fast else [disk, in_machine]
    return [packages, base, *middle, lists, ovf]


def refusal() -> str:
    """Why this machine cannot build, with what to do; empty if it can."""
    if os.geteuid() != 0:
        return "a Debian tree has owners, so only root can build one. Use: sudo make appliance"
    IMAGE.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(IMAGE).free >> 30
    if free < NEEDED_GIB:
        return f"{IMAGE} has {free} GiB free and the build takes {NEEDED_GIB}. Make room there."
    return ""


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Builds the Postkeep appliance.")
    parser.add_argument("--fast", action="store_true", help="in a tree, without a virtual machine")
    parser.add_argument("--force", action="store_true", help="run every stage, changed or not")
    parser.add_argument(
        "--locked", action="store_true", help="fail if packages differ from packer/packages.lock"
    )
    parser.add_argument("--lock", action="store_true", help="write packer/packages.lock from this build")
    options = parser.parse_args(arguments)
    if why := refusal():
        print(f"appliance: {why}", file=sys.stderr)
        return 1
    display = progress.Display()
    todo = plan(fast=options.fast, locked=options.locked, lock=options.lock)
    try:
        done = stages.run(todo, IMAGE / "stamps", display, force=options.force)
    except KeyboardInterrupt:
        print("\nappliance: interrupted; what was finished is kept. Run it again to go on.", file=sys.stderr)
        return 130
    except (provision.ProvisionError, package_lists.Drift, RuntimeError, OSError) as error:
        print(f"\nappliance: {error}", file=sys.stderr)
        return 1
    except subprocess.CalledProcessError as error:
        print(f"\nappliance: {error}\n{error.stderr or ''}", file=sys.stderr)
        return 1
    products = [
        (str(path.relative_to(ROOT)), path.stat().st_size)
        for path in (IMAGE / "system.qcow2", *sorted(APPLIANCE.glob("postkeep-*")))
        if path.is_file()
    ]
    display.report(done, products)
    return 0


if __name__ == "__main__":
    sys.exit(main())
