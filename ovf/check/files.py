"""The packages' files: the OVA's order and headers, manifest, sizes, the VMDKs' own headers, the ZIP."""

import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from xml.etree.ElementTree import Element, ParseError

from ovf import machine, package
from ovf.check import descriptor, vmx
from ovf.properties import Properties
from ovf.vmdk import VmdkError, read_header


def folder_complaints(descriptor_file: Path, properties: Properties) -> list[str]:
    """Of an OVF package as files beside one another: NAME.ovf, NAME.mf and what the descriptor references."""
    text = descriptor_file.read_text(encoding="utf-8")
    found = descriptor.complaints(text, properties)
    try:
        root = descriptor.parse(text)
        capacities = descriptor.capacities(root)
    except (ParseError, KeyError, ValueError):
        return found or ["the descriptor is unreadable"]
    found += _references(descriptor_file, root, capacities)
    manifest = descriptor_file.with_suffix(".mf")
    if not manifest.is_file():
        return [*found, f"there is no {manifest.name}"]
    return found + list(_manifest(manifest, [descriptor_file.name, *capacities]))


def _references(descriptor_file: Path, root: Element, capacities: dict[str, int]) -> Iterator[str]:
    for name, size in descriptor.references(root):
        if "/" in name or name in (".", ".."):
            yield f"{name!r} leads out of the package"
            continue
        path = descriptor_file.with_name(name)
        if not path.is_file():
            yield f"the file {name} is missing"
            continue
        if path.stat().st_size != size:
            yield f"{name} has {path.stat().st_size} octets, the descriptor says {size}"
        if name in capacities:
            yield from _vmdk(path, capacities[name], "streamOptimized")


def _vmdk(path: Path, capacity: int, kind: str) -> Iterator[str]:
    try:
        header = read_header(path)
    except VmdkError as error:
        yield str(error)
        return
    if header.create_type != kind:
        yield f"{path.name} is {header.create_type or 'of no known kind'}, not {kind}"
    if header.capacity != capacity:
        yield f"{path.name} is a disk of {header.capacity} octets, the descriptor says {capacity}"
    if kind == "streamOptimized" and (header.version != 3 or not header.compressed):
        yield f"{path.name}: version {header.version}, hosts take compressed grains in version 3 alone"


def _manifest(path: Path, names: list[str]) -> Iterator[str]:
    try:
        digests = package.read_manifest(path.read_bytes().decode())
    except package.PackageError as error:
        yield str(error)
        return
    if list(digests) != names:
        yield f"the manifest lists {list(digests)}, the package has {names}"
    for name, digest in digests.items():
        file = path.with_name(name)
        if file.is_file() and package.sha256(file) != digest:
            yield f"{name} has another SHA-256 than the manifest says"


def ova_complaints(ova: Path, scratch: Path, properties: Properties) -> list[str]:
    """Of the OVA; it is unpacked to the empty folder `scratch`, where its files are checked too."""
    found: list[str] = []
    try:
        with tarfile.open(ova, "r:") as archive:
            entries = archive.getmembers()
            found += _entries(ova, entries)
            if found:
                return found
            archive.extractall(scratch, filter="data")
    except tarfile.TarError as error:
        return [f"{ova.name} is no tar: {error}"]
    names = [entry.name for entry in entries]
    first = scratch / names[0]
    found += folder_complaints(first, properties)
    try:
        wanted = [names[0], first.with_suffix(".mf").name]
        wanted += [
            name for name, _ in descriptor.references(descriptor.parse(first.read_text(encoding="utf-8")))
        ]
    except (ParseError, ValueError):
        return found
    if names != wanted:
        found.append(f"{ova.name} holds {names}; the order must be {wanted}")
    return found


def _entries(ova: Path, entries: list[tarfile.TarInfo]) -> Iterator[str]:
    if not entries or not entries[0].name.endswith(".ovf"):
        yield f"{ova.name}: the descriptor must come first"
    for entry in entries:
        if not entry.isfile() or "/" in entry.name:
            yield f"{ova.name}: {entry.name} is no plain file at the top"
    with ova.open("rb") as file:
        for entry in entries:
            file.seek(entry.offset)
            block = file.read(512)
            if block[257:265] != b"ustar\x0000" or block[156:157] != b"0":
                yield f"{ova.name}: the header of {entry.name} is not ustar"


def zip_complaints(archive: Path, scratch: Path) -> list[str]:
    """Of the ZIP; it is unpacked to the empty folder `scratch`."""
    try:
        with zipfile.ZipFile(archive) as file:
            names = file.namelist()
            folders = {name.partition("/")[0] for name in names}
            if len(folders) != 1 or any(name.count("/") != 1 or ".." in name for name in names):
                return [f"{archive.name} holds {names}; all must be in one folder"]
            file.extractall(scratch)  # noqa: S202 – names have been checked
    except zipfile.BadZipFile as error:
        return [f"{archive.name} is no whole ZIP: {error}"]
    configurations = [scratch / name for name in names if name.endswith(".vmx")]
    if len(configurations) != 1:
        return [f"{archive.name} holds {len(configurations)} .vmx files"]
    text = configurations[0].read_text(encoding="utf-8")
    found = vmx.complaints(text)
    values, _ = vmx.parse(text)
    disks = vmx.disk_files(values)
    present = sorted(Path(name).name for name in names if not name.endswith(".vmx"))
    if sorted(disks) != present:
        found.append(f"the .vmx names the disks {disks}, the ZIP holds {present}")
    for disk, name in zip(machine.DISKS, disks, strict=False):
        if name in present:
            found += _vmdk(configurations[0].with_name(name), disk.capacity, "monolithicSparse")
    return found
