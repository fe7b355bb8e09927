"""`make deb`: builds both Debian packages in a Debian 13 chroot under build/, and checks them with lintian.

    python appliance/debian/build.py [--version 0.2.0] [--output build/deb]

Wheels are fetched on this machine, as its pip is configured, and checked against the hashes in the locks; the
build itself has no network. The chroot is made anew when the list of its packages changes.
"""

import argparse
import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator, Sequence
from email.utils import formatdate
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SUITE = "trixie"
PYTHON = "3.13"
PACKAGES = (
    "debhelper", "dpkg-dev", "python3-venv", "python3-pip", "lintian", "systemd", "init-system-helpers",
    "python3-netifaces", "e2fsprogs", "fdisk", "openssl",
)  # fmt: skip
PLATFORMS = (*(f"manylinux_2_{minor}_x86_64" for minor in (34, 28, 17)), "manylinux2014_x86_64")
LOCKS = ("server/requirements.lock", "appliance/requirements.lock")
OURS = ("server", "appliance", "console")
SOURCES = (*OURS, "ovf/properties.toml", "docs/admin", "LICENSE", "CHANGELOG.md")
_TAIL = 40


class Failed(Exception):
    """One step of the build failed; str() says which and how."""


class Build:
    """One build of both packages. `version` "" means that of the sources."""

    def __init__(self, output: Path, version: str) -> None:
        self.output = output
        self.work = ROOT / "build" / "deb"
        self.chroot = ROOT / "build" / f"chroot-{SUITE}"
        self.wheels = self.work / "wheels"
        self.tree = self.work / "tree"
        self.source = self.tree / "source"
        self.log = self.work / "build.log"
        self.version = version or _version((ROOT / "server/postkeep/__init__.py").read_text("utf-8"))
        self.epoch = _output("git", "-C", str(ROOT), "log", "-1", "--format=%ct").strip()

    def run(self) -> list[Path]:
        """The packages. Raises Failed."""
        if os.geteuid() != 0:
            raise Failed("a chroot is built and entered: run this as root (sudo make deb)")
        self.work.mkdir(parents=True, exist_ok=True)
        with _alone(self.work / "lock"):
            return self._run_alone()

    def _run_alone(self) -> list[Path]:
        self.log.write_bytes(b"")
        with _step("the chroot to build in"):
            self._make_chroot()
        with _step("the wheels of both locks"):
            self._fetch_wheels()
        with _step(f"the sources of {self.version}"):
            self._lay_out_source()
            self._build_wheels()
        with _step("the packages"):
            self._in_chroot(
                "cd /build/tree/source && dpkg-buildpackage --build=binary --no-sign --no-check-builddeps"
            )
        with _step("lintian"):
            self._lintian()
        return self._collect()

    # --- the chroot -------------------------------------------------------------------------------

    def _make_chroot(self) -> None:
        stamp = self.chroot / "packages"
        wanted = f"{SUITE} {' '.join(PACKAGES)}\n"
        if stamp.exists() and stamp.read_text() == wanted:
            print("  (kept from the last time)")
            return
        root = self.chroot / "root"
        if self.chroot.exists():
            shutil.rmtree(self.chroot)
        self.chroot.mkdir(parents=True)
        options = [f"--aptopt={line}" for line in apt_options(_output("apt-config", "dump"))]
        options += ['--aptopt=APT::Install-Recommends "false"', f"--include={','.join(PACKAGES)}"]
        keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"
        if Path(keyring).exists():
            options.append(f"--keyring={keyring}")
        mirror = debian_mirror(_output("apt-get", "indextargets", "--format", "$(REPO_URI) $(CODENAME)"))
        self._run("mmdebstrap", "--variant=minbase", "--mode=root", *options, SUITE, str(root), *mirror)
        stamp.write_text(wanted)

    def _in_chroot(self, command: str) -> None:
        """Run a shell line in the chroot: no network, own mounts, /build is the working folder."""
        root = self.chroot / "root"
        (root / "build").mkdir(exist_ok=True)
        inner = (
            f"mount --bind {self.work} {root}/build && mount -t proc proc {root}/proc && "
            f"exec chroot {root} /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 "
            f"HOME=/root SOURCE_DATE_EPOCH={self.epoch} DEB_BUILD_OPTIONS=parallel=2 sh -ec '{command}'"
        )
        self._run("unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "sh", "-ec", inner)

    # --- what goes in -----------------------------------------------------------------------------

    def _fetch_wheels(self) -> None:
        """Only what the locks name, checked by their hashes; kept from build to build."""
        locks = b"".join((ROOT / lock).read_bytes() for lock in LOCKS)
        stamp = self.wheels / "locks"
        digest = hashlib.sha256(locks).hexdigest()
        if stamp.exists() and stamp.read_text() == digest:
            return
        shutil.rmtree(self.wheels, ignore_errors=True)
        self.wheels.mkdir()
        options = ["--require-hashes", "--only-binary", ":all:", "--python-version", PYTHON]
        options += ["--implementation", "cp", *(f"--abi={abi}" for abi in ("cp313", "abi3", "none"))]
        options += [f"--platform={platform}" for platform in PLATFORMS]
        for lock in LOCKS:
            self._run(
                sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check",
                *options, "--dest", str(self.wheels), "-r", str(ROOT / lock),
            )  # fmt: skip
        stamp.write_text(digest)

    def _lay_out_source(self) -> None:
        shutil.rmtree(self.tree, ignore_errors=True)
        listed = _output(
            "git",
            "-C",
            str(ROOT),
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
            "--",
            *SOURCES,
        )
        for name in sorted(filter(None, listed.split("\0"))):
            path = ROOT / name
            if not path.is_file():
                continue  # deleted, not committed yet
            target = self.source / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, target)  # what a link points to
        for package in ("server/postkeep", "appliance/postkeep_appliance", "console/postkeep_console"):
            file = self.source / package / "__init__.py"
            file.write_text(
                re.sub(r'(__version__ = ")[^"]*', rf"\g<1>{self.version}", file.read_text("utf-8"))
            )
        shutil.copytree(self.source / "appliance" / "debian", self.source / "debian")
        (self.source / "debian" / "changelog").write_text(
            changelog((ROOT / "CHANGELOG.md").read_text("utf-8"), self.version, int(self.epoch))
        )

    def _build_wheels(self) -> None:
        folder = self.source / "wheels"
        shutil.copytree(self.wheels, folder)
        (folder / "locks").unlink()
        environment = os.environ | {"SOURCE_DATE_EPOCH": self.epoch}
        for name in OURS:
            command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
            self._run(*command, cwd=self.source / name, env=environment)

    # --- what comes out ---------------------------------------------------------------------------

    def _lintian(self) -> None:
        """Everything from a warning on that has no override fails the build."""
        files = " ".join(f"/build/tree/{path.name}" for path in self._built())
        self._in_chroot(f"lintian --fail-on error,warning --allow-root {files}")

    def _built(self) -> list[Path]:
        found = sorted(self.tree.glob(f"postkeep*_{self.version}_*.deb"))
        if len(found) != 2:
            raise Failed(f"{len(found)} packages of version {self.version} came out, not 2: see {self.log}")
        return found

    def _collect(self) -> list[Path]:
        self.output.mkdir(parents=True, exist_ok=True)
        packages = []
        for path in self._built():
            target = self.output / path.name
            shutil.copy2(path, target.with_suffix(".new"))  # another file system, perhaps
            target.with_suffix(".new").replace(target)
            packages.append(target)
        return packages

    def _run(self, *command: str, cwd: Path = ROOT, env: dict[str, str] | None = None) -> None:
        with self.log.open("ab") as log:
            log.write(f"+ {' '.join(command)[:500]}\n".encode())
            log.flush()
            done = subprocess.run(  # noqa: S603 - our own commands
                command, cwd=cwd, env=env, stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )
        if done.returncode:
            lines = self.log.read_text("utf-8", "replace").splitlines()[-_TAIL:]
            raise Failed(
                "\n".join([*lines, f"{command[0]} failed ({done.returncode}); all of it: {self.log}"])
            )


def apt_options(dump: str) -> list[str]:
    """The lines of `apt-config dump` that say how this machine reaches its mirror."""
    wanted = re.compile(r"Acquire::(?:http|https|Retries|ForceIPv4|ForceIPv6)\b.*\"[^\"]+\";$")
    return [line for line in dump.splitlines() if wanted.match(line)]


def debian_mirror(targets: str) -> list[str]:
    """The mirror of this machine's own Debian, as [URI]; [] to let mmdebstrap choose.

    `targets`: lines "URI CODENAME" of `apt-get indextargets`.
    """
    for line in targets.splitlines():
        uri, _, codename = line.partition(" ")
        if re.search(r"/debian/?$", uri) and codename in ("bookworm", SUITE, "forky", "sid"):
            return [uri]
    return []


def changelog(markdown: str, version: str, epoch: int) -> str:
    """debian/changelog from the newest section of CHANGELOG.md."""
    section = re.split(r"^## .*$", markdown, flags=re.MULTILINE)[1]
    entries = []
    for item in re.split(r"^- ", section, flags=re.MULTILINE)[1:]:
        entries.append(
            textwrap.fill(" ".join(item.split()), 76, initial_indent="  * ", subsequent_indent="    ")
        )
    who = "Postkeep maintainers <maintainers@postkeep.invalid>"
    text = "\n".join(entries)
    return f"postkeep ({version}) stable; urgency=medium\n\n{text}\n\n -- {who}  {formatdate(epoch)}\n"


def _version(text: str) -> str:
    found = re.search(r'__version__ = "([^"]+)"', text)
    if found is None:
        raise Failed("server/postkeep/__init__.py names no version")
    return found[1]


def _output(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True)  # noqa: S603 - our own commands
    if done.returncode:
        raise Failed(f"{' '.join(command[:3])} failed: {done.stderr.strip()}")
    return done.stdout


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """One build at a time: they share chroot and folders."""
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("deb: waiting for another build …", flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def _step(what: str) -> Iterator[None]:
    print(f"deb: {what} …", flush=True)
    begun = time.monotonic()
    yield
    print(f"  {time.monotonic() - begun:.0f} s", flush=True)


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description="Build the Debian packages.")
    parser.add_argument("--version", default="", help="instead of the sources' own (for tests of upgrades)")
    parser.add_argument("--output", type=Path, default=ROOT / "build" / "deb", help="where the packages go")
    options = parser.parse_args(arguments)
    try:
        for package in Build(options.output.absolute(), options.version).run():
            print(f"{package}  {package.stat().st_size / 1e6:.1f} MB")
    except Failed as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
