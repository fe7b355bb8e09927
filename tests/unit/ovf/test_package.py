"""Manifest, OVA and the folder: made, and spoiled the way that copies and editors spoil them."""

import io
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from ovf import machine, package
from ovf.check import files
from ovf.properties import load
from tests.support.appliance import EPOCH, NAME, seal, small_package


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_package(tmp_path_factory.mktemp("made")).parent


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return shutil.copytree(made, tmp_path / "package")


def of_folder(folder: Path) -> list[str]:
    return files.folder_complaints(folder / f"{NAME}.ovf", load())


def of_ova(folder: Path) -> list[str]:
    scratch = folder / "scratch"
    scratch.mkdir()
    return files.ova_complaints(folder / f"{NAME}.ova", scratch, load())


def test_nothing_to_complain_about(folder: Path) -> None:
    assert of_folder(folder) == []
    assert of_ova(folder) == []


def test_manifest_in_the_one_spelling(folder: Path) -> None:
    lines = (folder / f"{NAME}.mf").read_text().splitlines()
    assert [line.split("= ")[0] for line in lines] == [
        f"SHA256({NAME}.ovf)",
        f"SHA256({NAME}-system.vmdk)",
        f"SHA256({NAME}-store.vmdk)",
    ]


def test_ova_begins_with_descriptor_and_manifest(folder: Path) -> None:
    with tarfile.open(folder / f"{NAME}.ova") as archive:
        assert archive.getnames() == [
            f"{NAME}.ovf",
            f"{NAME}.mf",
            f"{NAME}-system.vmdk",
            f"{NAME}-store.vmdk",
        ]
        entries = archive.getmembers()
    assert {(entry.mtime, entry.mode, entry.uid, entry.gid, entry.uname) for entry in entries} == {
        (EPOCH, 0o644, 0, 0, "")
    }


def test_same_files_same_ova(folder: Path) -> None:
    before = (folder / f"{NAME}.ova").read_bytes()
    (folder / f"{NAME}.ovf").touch()
    seal(folder / f"{NAME}.ovf")
    assert (folder / f"{NAME}.ova").read_bytes() == before


def rewrite(path: Path, change: Callable[[str], str]) -> None:
    text = path.read_text()
    changed = change(text)
    assert changed != text
    path.write_text(changed)


SPELLINGS = {
    "blank after the name": lambda text: text.replace(")= ", ") = "),
    "no blank": lambda text: text.replace(")= ", ")="),
    "sha256sum's form": lambda text: text.replace("SHA256(", "").replace(")= ", "  "),
    "small letters": lambda text: text.replace("SHA256", "sha256"),
    "SHA-1": lambda text: text.replace("SHA256", "SHA1"),
    "carriage returns": lambda text: text.replace("\n", "\r\n"),
    "upper-case digest": lambda text: text.replace(
        text.split("= ")[1][:64], text.split("= ")[1][:64].upper()
    ),
    "file twice": lambda text: text + text.splitlines()[0] + "\n",
    "file missing": lambda text: "".join(text.splitlines(keepends=True)[:-1]),
    "a file that is not in the package": lambda text: text + f"SHA256(other)= {'0' * 64}\n",
    "other digest": lambda text: text[:-10] + ("0" if text[-10] != "0" else "1") + text[-9:],
    "empty": lambda text: "",
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_manifest_that_a_host_would_refuse(folder: Path, spelling: str) -> None:
    rewrite(folder / f"{NAME}.mf", SPELLINGS[spelling])
    assert of_folder(folder)


def test_no_manifest(folder: Path) -> None:
    (folder / f"{NAME}.mf").unlink()
    assert of_folder(folder) == [f"there is no {NAME}.mf"]


def test_disk_missing(folder: Path) -> None:
    (folder / f"{NAME}-store.vmdk").unlink()
    assert any("is missing" in line for line in of_folder(folder))


def test_disk_cut_short(folder: Path) -> None:
    disk = folder / f"{NAME}-system.vmdk"
    disk.write_bytes(disk.read_bytes()[:-512])
    complaints = of_folder(folder)
    assert any("octets, the descriptor says" in line for line in complaints)
    assert any("another SHA-256" in line for line in complaints)


def test_one_bit_changed(folder: Path) -> None:
    disk = folder / f"{NAME}-system.vmdk"
    data = bytearray(disk.read_bytes())
    data[70_000] ^= 1
    disk.write_bytes(data)
    assert of_folder(folder) == [f"{disk.name} has another SHA-256 than the manifest says"]


def test_disks_exchanged(folder: Path) -> None:
    system, store = (folder / f"{NAME}-{disk.id}.vmdk" for disk in machine.DISKS)
    system.rename(folder / "x")
    store.rename(system)
    (folder / "x").rename(store)
    seal(folder / f"{NAME}.ovf")
    assert any("is a disk of" in line for line in of_folder(folder))


def test_version_1_grains(folder: Path) -> None:
    disk = folder / f"{NAME}-store.vmdk"
    data = bytearray(disk.read_bytes())
    data[4] = 1
    disk.write_bytes(data)
    seal(folder / f"{NAME}.ovf")
    assert any("version 1" in line for line in of_folder(folder))


def test_reference_that_leads_out_of_the_package(folder: Path) -> None:
    rewrite(
        folder / f"{NAME}.ovf", lambda text: text.replace(f'href="{NAME}-store', f'href="../{NAME}-store')
    )
    assert any("leads out of the package" in line for line in of_folder(folder))


def pack(folder: Path, names: list[str], form: int = tarfile.USTAR_FORMAT) -> None:
    with tarfile.open(folder / f"{NAME}.ova", "w", format=form) as archive:
        for name in names:
            archive.add(folder / name, name)


ORDER = [f"{NAME}.ovf", f"{NAME}.mf", f"{NAME}-system.vmdk", f"{NAME}-store.vmdk"]


@pytest.mark.parametrize("order", [(1, 0, 2, 3), (0, 2, 3, 1), (0, 1, 3, 2), (0, 1, 2), (2, 0, 1, 3)])
def test_ova_out_of_order(folder: Path, order: tuple[int, ...]) -> None:
    pack(folder, [ORDER[index] for index in order])
    assert of_ova(folder)


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_ova_that_is_not_ustar(folder: Path, form: int) -> None:
    with tarfile.open(folder / f"{NAME}.ova", "w", format=form) as archive:
        for name in ORDER:
            entry = archive.gettarinfo(folder / name)
            entry.name = name
            if form == tarfile.PAX_FORMAT:
                entry.pax_headers = {"comment": "x"}
            with (folder / name).open("rb") as source:
                archive.addfile(entry, source)
    assert of_ova(folder)


def test_ova_cut_short(folder: Path) -> None:
    ova = folder / f"{NAME}.ova"
    ova.write_bytes(ova.read_bytes()[:30_000])
    assert of_ova(folder)


def test_hostile_ova_does_not_leave_the_folder(folder: Path) -> None:
    with tarfile.open(folder / f"{NAME}.ova", "w", format=tarfile.USTAR_FORMAT) as archive:
        archive.add(folder / f"{NAME}.ovf", f"{NAME}.ovf")
        entry = tarfile.TarInfo("../escaped")
        entry.size = 1
        archive.addfile(entry, io.BytesIO(b"x"))
    assert of_ova(folder)
    assert not (folder / "escaped").exists()


def test_file_too_large_for_ustar_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "big").open("wb") as file:
        file.truncate(8 << 30)
    with pytest.raises(package.PackageError, match="big"):
        package.write_ova(tmp_path / "a.ova", (tmp_path / "big",), EPOCH)
    assert not (tmp_path / "a.ova").exists()


def test_zip_has_one_folder_and_fixed_dates(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"a" * 100_000)
    seen: list[tuple[int, int]] = []
    package.write_zip(
        tmp_path / "a.zip", NAME, (tmp_path / "a",), EPOCH, lambda done, total: seen.append((done, total))
    )
    first = (tmp_path / "a.zip").read_bytes()
    (tmp_path / "a").touch()
    package.write_zip(tmp_path / "a.zip", NAME, (tmp_path / "a",), EPOCH)
    assert (tmp_path / "a.zip").read_bytes() == first
    assert seen == [(100_000, 100_000)]
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        assert archive.namelist() == [f"{NAME}/a"]
        assert archive.testzip() is None


def test_zip_before_the_calendar_begins(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"a")
    package.write_zip(tmp_path / "a.zip", NAME, (tmp_path / "a",), 0)
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        assert archive.infolist()[0].date_time[:3] == (1980, 1, 1)


def test_zip_without_its_disk(tmp_path: Path) -> None:
    from tests.support.appliance import vmx_text

    (tmp_path / "a.vmx").write_text(vmx_text())
    package.write_zip(tmp_path / "a.zip", NAME, (tmp_path / "a.vmx",), EPOCH)
    (tmp_path / "scratch").mkdir()
    complaints = files.zip_complaints(tmp_path / "a.zip", tmp_path / "scratch")
    assert any("the ZIP holds []" in line for line in complaints)
