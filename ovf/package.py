"""What is handed out: the manifest, the OVA and the ZIP. The same files give the same octets."""

import hashlib
import re
import tarfile
import time
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path

Report = Callable[[int, int], None]
_CHUNK = 1 << 20
MANIFEST_LINE = re.compile(r"SHA256\(([^()/\x00-\x1f]+)\)= ([0-9a-f]{64})")
"""The one spelling that ESXi and all versions of vCenter take."""


class PackageError(ValueError):
    """A file does not fit in the package."""


def sha256(path: Path) -> str:
    """Of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def manifest(files: Iterable[Path]) -> str:
    """The text of the .mf file (DSP0243 §5.2): the descriptor and each file that it references."""
    return "".join(f"SHA256({file.name})= {sha256(file)}\n" for file in files)


def read_manifest(text: str) -> dict[str, str]:
    """File name → digest. Raises PackageError at a line that a host would refuse."""
    digests: dict[str, str] = {}
    for number, line in enumerate(text.split("\n")[:-1] if text.endswith("\n") else [text], 1):
        found = MANIFEST_LINE.fullmatch(line)
        if not found:
            raise PackageError(f"manifest, line {number}: {line[:80]!r} is not SHA256(name)= digest")
        if found[1] in digests:
            raise PackageError(f"manifest, line {number}: {found[1]} is listed twice")
        digests[found[1]] = found[2]
    return digests


def write_ova(target: Path, files: tuple[Path, ...], epoch: int, report: Report | None = None) -> None:
    """Pack into a tar (ustar), in this order: descriptor, manifest, files as References lists them."""
    total = sum(file.stat().st_size for file in files)
    done = 0
    temporary = target.with_name(target.name + ".part")
    try:
        with tarfile.open(temporary, "w", format=tarfile.USTAR_FORMAT) as archive:
            for file in files:
                size = file.stat().st_size
                if size >= 8 << 30:
                    raise PackageError(f"{file.name}: ustar holds no file of 8 GiB")
                entry = tarfile.TarInfo(file.name)
                entry.size, entry.mtime, entry.mode = size, epoch, 0o644
                with file.open("rb") as source:
                    archive.addfile(entry, source)
                done += size
                if report is not None:
                    report(done, total)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def write_zip(
    target: Path, folder: str, files: tuple[Path, ...], epoch: int, report: Report | None = None
) -> None:
    """Pack into one folder of a ZIP, deflated."""
    total = sum(file.stat().st_size for file in files)
    done = 0
    # A ZIP's calendar begins in 1980.
    date = max(time.gmtime(epoch)[:6], (1980, 1, 1, 0, 0, 0))
    temporary = target.with_name(target.name + ".part")
    try:
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
            for file in files:
                entry = zipfile.ZipInfo(f"{folder}/{file.name}", date)
                entry.external_attr = 0o100644 << 16
                entry.compress_type = zipfile.ZIP_DEFLATED
                with file.open("rb") as source, archive.open(entry, "w", force_zip64=True) as sink:
                    while chunk := source.read(_CHUNK):
                        sink.write(chunk)
                        done += len(chunk)
                        if report is not None:
                            report(done, total)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
