"""What is on the appliance's disk, read from the disk itself: Debian's packages, the Python packages of the
virtual environments, and the licence that each declares.
"""

import json
import re
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from email.parser import HeaderParser
from pathlib import Path

from ovf.licences import from_copyright, from_metadata

_ROOT_PARTITION = "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709"
"""GPT type "Linux root (x86-64)", Discoverable Partitions Specification."""
_WANTED = ("/var/lib/dpkg/status", "/usr/share/doc", "/opt", "/usr/lib/os-release")
_RELATION = re.compile(r"\s*([a-z0-9][a-z0-9.+-]*)")


class InventoryError(Exception):
    """The disk cannot be read, or is not the appliance's."""


@dataclass(frozen=True, slots=True)
class Package:
    """An installed package of Debian. `depends`: names, of each alternative the one that is installed."""

    name: str
    version: str
    architecture: str
    source: str
    source_version: str
    maintainer: str
    homepage: str
    summary: str
    licences: tuple[str, ...]
    depends: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PythonPackage:
    """A distribution in a virtual environment; `environment` is its folder under /opt, such as "postkeep"."""

    name: str
    version: str
    environment: str
    summary: str
    homepage: str
    licences: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Inventory:
    """All of it, sorted. `system` is os-release's VERSION_ID, such as "13"."""

    system: str
    packages: tuple[Package, ...]
    python: tuple[PythonPackage, ...]

    def lines(self) -> str:
        """The version manifest: lines "deb NAME VERSION ARCHITECTURE" and "python NAME VERSION WHERE"."""
        debs = [f"deb {item.name} {item.version} {item.architecture}\n" for item in self.packages]
        pythons = [f"python {item.name} {item.version} /opt/{item.environment}\n" for item in self.python]
        return "".join(debs + pythons)


def from_disk(raw: Path, scratch: Path) -> Inventory:
    """Of a raw disk, not mounted: debugfs (e2fsprogs) copies what is wanted to the empty folder `scratch`."""
    offset = root_offset(raw)
    requests = []
    for path in _WANTED:
        target = scratch / path[1:]
        target.parent.mkdir(parents=True, exist_ok=True)
        requests.append(f"rdump {path} {target.parent}\n")
    done = subprocess.run(
        ["debugfs", "-f", "-", f"{raw}?offset={offset}"],
        input="".join(requests),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode or not (scratch / "var/lib/dpkg/status").is_file():
        raise InventoryError(f"debugfs cannot read {raw.name}: {done.stderr.strip()[-500:]}")
    return from_tree(scratch)


def root_offset(raw: Path) -> int:
    """Where the root file system begins on a raw disk, octets."""
    done = subprocess.run(["sfdisk", "--json", str(raw)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise InventoryError(f"sfdisk cannot read {raw.name}: {done.stderr.strip()[-500:]}")
    table = json.loads(done.stdout)["partitiontable"]
    for partition in table["partitions"]:
        if partition["type"].upper() == _ROOT_PARTITION:
            return int(partition["start"]) * int(table.get("sectorsize", 512))
    raise InventoryError(f"{raw.name} has no partition of the type Linux root (x86-64)")


def from_tree(root: Path) -> Inventory:
    """Of a folder that holds the appliance's root file system, or the parts of it that from_disk copies."""
    release = dict(_assignments(root / "usr/lib/os-release"))
    return Inventory(release.get("VERSION_ID", ""), tuple(_packages(root)), tuple(_python(root)))


def _assignments(path: Path) -> Iterator[tuple[str, str]]:
    for line in path.read_text(encoding="utf-8").splitlines():
        name, sign, value = line.partition("=")
        if sign:
            yield name, value.strip('"')


def _stanzas(text: str) -> Iterator[dict[str, str]]:
    """deb822: fields, of which only the first line matters here."""
    for stanza in re.split(r"\n{2,}", text.strip()):
        fields: dict[str, str] = {}
        for line in stanza.splitlines():
            name, colon, value = line.partition(":")
            if colon and not line[0].isspace():
                fields[name] = value.strip()
        if fields:
            yield fields


def _packages(root: Path) -> list[Package]:
    status = (root / "var/lib/dpkg/status").read_text(encoding="utf-8")
    installed = [fields for fields in _stanzas(status) if fields.get("Status", "").endswith(" installed")]
    names: dict[str, str] = {fields["Package"]: fields["Package"] for fields in installed}
    for fields in installed:
        for provided in _names(fields.get("Provides", "")):
            names.setdefault(provided[0], fields["Package"])
    found = []
    for fields in installed:
        name, version = fields["Package"], fields["Version"]
        source, _, source_version = fields.get("Source", name).partition(" ")
        relations = (*_names(fields.get("Pre-Depends", "")), *_names(fields.get("Depends", "")))
        depends = {next((names[one] for one in options if one in names), "") for options in relations}
        found.append(
            Package(
                name,
                version,
                fields["Architecture"],
                source,
                source_version.strip("()") or version,
                fields.get("Maintainer", ""),
                fields.get("Homepage", ""),
                fields.get("Description", ""),
                from_copyright(_copyright(root, name)),
                tuple(sorted(depends - {"", name})),
            )
        )
    return sorted(found, key=lambda item: (item.name, item.architecture))


def _names(relation: str) -> Iterator[tuple[str, ...]]:
    """ "a (>= 1), b | c:any" → ("a",), ("b", "c")."""
    for part in relation.split(","):
        options = tuple(found[1] for option in part.split("|") if (found := _RELATION.match(option)))
        if options:
            yield options


def _copyright(root: Path, package: str) -> str:
    """The text of a package's copyright file, or "" without one."""
    path = _resolve(root, ("usr", "share", "doc", package, "copyright"))
    try:
        return path.read_text(encoding="utf-8", errors="replace") if path else ""
    except OSError:
        return ""


def _resolve(root: Path, parts: tuple[str, ...]) -> Path | None:
    """Follow a path in the tree as a process with this root would: no link leads out of it."""
    at, pending, links = root, list(parts), 0
    while pending:
        part = pending.pop(0)
        if part == "..":
            at = at if at == root else at.parent
        elif not (at / part).is_symlink():
            at = at / part
        else:
            links += 1
            if links > 16:
                return None
            target = (at / part).readlink()
            at = root if target.is_absolute() else at
            pending = [*(target.parts[1:] if target.is_absolute() else target.parts), *pending]
    return at


def _python(root: Path) -> list[PythonPackage]:
    found = []
    for path in _metadata(root):
        head = HeaderParser().parsestr(path.read_text(encoding="utf-8", errors="replace"))
        links = [value.partition(",")[2].strip() for value in head.get_all("Project-URL", [])]
        found.append(
            PythonPackage(
                re.sub(r"[-_.]+", "-", head["Name"] or "").lower(),
                head["Version"] or "",
                path.relative_to(root / "opt").parts[0],
                head["Summary"] or "",
                head["Home-page"] or next(iter(links), ""),
                from_metadata(head),
            )
        )
    return sorted(found, key=lambda item: (item.environment, item.name))


def _metadata(root: Path) -> Iterable[Path]:
    return (root / "opt").glob("*/venv/lib/python3*/site-packages/*.dist-info/METADATA")
