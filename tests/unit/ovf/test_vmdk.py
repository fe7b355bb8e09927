"""The stream-optimized VMDK, read back by a reader that knows the format from its specification alone."""

import random
import struct
import zlib
from pathlib import Path

import pytest

from ovf.vmdk import GRAIN, VmdkError, read_header, set_content_id, write_stream

MIB = 1 << 20


def read_stream(path: Path) -> bytearray:
    """Follow the footer, the directory and the tables, as a host that seeks would."""
    data = path.read_bytes()
    footer = data[-1024:-512]
    assert footer[:4] == b"KDMV"
    capacity, _, _, _, entries, _, directory = struct.unpack_from("<QQQQIQQ", footer, 12)
    disk = bytearray(capacity * 512)
    tables = -(-capacity // (128 * entries))
    for number, table in enumerate(struct.unpack_from(f"<{tables}I", data, directory * 512)):
        if table == 0:
            continue
        for index, grain in enumerate(struct.unpack_from(f"<{entries}I", data, table * 512)):
            if grain == 0:
                continue
            lba, size = struct.unpack_from("<QI", data, grain * 512)
            assert lba == (number * entries + index) * 128
            disk[lba * 512 : lba * 512 + GRAIN] = zlib.decompress(
                data[grain * 512 + 12 : grain * 512 + 12 + size]
            )
    return disk


def walk_stream(path: Path) -> list[str]:
    """Follow the markers from the first grain on, as a host that reads a stream would."""
    data = path.read_bytes()
    at, seen = 128 * 512, []
    while True:
        value, size, kind = struct.unpack_from("<QII", data, at)
        if size:
            seen.append("grain")
            at += -(-(12 + size) // 512) * 512
            continue
        seen.append(("end", "table", "directory", "footer")[kind])
        at += 512 + value * 512
        if kind == 0:
            assert at == len(data)
            return seen


def sample(path: Path, size: int, pieces: dict[int, bytes]) -> Path:
    with path.open("wb") as file:
        file.truncate(size)
        for offset, data in pieces.items():
            file.seek(offset)
            file.write(data)
    return path


def test_holds_what_the_disk_held(tmp_path: Path) -> None:
    rng = random.Random(5)
    pieces = {
        0: rng.randbytes(700),
        GRAIN * 3 - 10: b"across two grains" * 2,
        33 * MIB: rng.randbytes(200_000),
        96 * MIB - 5: b"last!",
    }
    source = sample(tmp_path / "raw", 96 * MIB, pieces)
    populated = write_stream(source, tmp_path / "a.vmdk", 96 * MIB)
    assert bytes(read_stream(tmp_path / "a.vmdk")) == source.read_bytes()
    grains = walk_stream(tmp_path / "a.vmdk").count("grain")
    assert populated == grains * GRAIN
    assert grains == 1 + 2 + 4 + 1


def test_order_of_the_stream(tmp_path: Path) -> None:
    source = sample(tmp_path / "raw", 96 * MIB, {0: b"a", 40 * MIB: b"b", 90 * MIB: b"c"})
    write_stream(source, tmp_path / "a.vmdk", 96 * MIB)
    tables = ["grain", "table"] * 3
    assert walk_stream(tmp_path / "a.vmdk") == [*tables, "directory", "footer", "end"]


def test_empty_disk_has_neither_grain_nor_table(tmp_path: Path) -> None:
    assert write_stream(None, tmp_path / "a.vmdk", 64 << 30) == 0
    assert walk_stream(tmp_path / "a.vmdk") == ["directory", "footer", "end"]
    assert (tmp_path / "a.vmdk").stat().st_size < 100_000


def test_zeros_that_are_written_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "raw").write_bytes(bytes(4 * MIB) + b"x" + bytes(4 * MIB))
    assert write_stream(tmp_path / "raw", tmp_path / "a.vmdk", 16 * MIB) == GRAIN


def test_source_smaller_than_the_disk(tmp_path: Path) -> None:
    (tmp_path / "raw").write_bytes(b"x" * 1000)
    write_stream(tmp_path / "raw", tmp_path / "a.vmdk", MIB)
    assert bytes(read_stream(tmp_path / "a.vmdk")) == (b"x" * 1000).ljust(MIB, b"\0")


def test_same_disk_same_octets(tmp_path: Path) -> None:
    source = sample(tmp_path / "raw", 8 * MIB, {MIB: b"z" * 100_000})
    (tmp_path / "one").mkdir()
    write_stream(source, tmp_path / "a.vmdk", 8 * MIB)
    write_stream(source, tmp_path / "one" / "a.vmdk", 8 * MIB)
    assert (tmp_path / "a.vmdk").read_bytes() == (tmp_path / "one" / "a.vmdk").read_bytes()


def test_other_content_has_another_content_id(tmp_path: Path) -> None:
    ids = set()
    for content in (b"a", b"b"):
        (tmp_path / "raw").write_bytes(content)
        write_stream(tmp_path / "raw", tmp_path / "a.vmdk", MIB)
        ids.add(read_header(tmp_path / "a.vmdk").descriptor.splitlines()[2])
    assert len(ids) == 2


def test_header_says_what_hosts_ask_for(tmp_path: Path) -> None:
    write_stream(None, tmp_path / "a.vmdk", MIB)
    header = read_header(tmp_path / "a.vmdk")
    assert (header.version, header.flags, header.capacity, header.grain) == (3, 0x30001, MIB, GRAIN)
    assert header.directory_at_end
    assert header.compressed
    assert header.create_type == "streamOptimized"
    assert 'RW 2048 SPARSE "a.vmdk"' in header.descriptor


@pytest.mark.parametrize("capacity", [0, -GRAIN, GRAIN + 512])
def test_capacity_that_is_no_whole_grains_is_refused(tmp_path: Path, capacity: int) -> None:
    with pytest.raises(ValueError, match="grains"):
        write_stream(None, tmp_path / "a.vmdk", capacity)


def test_disk_larger_than_its_capacity_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "raw").write_bytes(bytes(MIB + 1))
    with pytest.raises(ValueError, match="more than"):
        write_stream(tmp_path / "raw", tmp_path / "a.vmdk", MIB)
    assert [path.name for path in tmp_path.iterdir()] == ["raw"]


@pytest.mark.parametrize("spoil", ["short", "magic", "newlines", "descriptor"])
def test_files_that_are_no_vmdk_are_named(tmp_path: Path, spoil: str) -> None:
    path = tmp_path / "a.vmdk"
    write_stream(None, path, MIB)
    data = bytearray(path.read_bytes())
    if spoil == "short":
        data = data[:100]
    elif spoil == "magic":
        data[0:4] = b"VMDK"
    elif spoil == "newlines":
        data[73:77] = b"\n \n\n"
    else:
        struct.pack_into("<Q", data, 36, 1 << 40)
    path.write_bytes(data)
    with pytest.raises(VmdkError, match=r"a\.vmdk"):
        read_header(path)


def test_progress_ends_at_the_end(tmp_path: Path) -> None:
    (tmp_path / "raw").write_bytes(b"x" * 100)
    seen: list[tuple[int, int]] = []
    write_stream(tmp_path / "raw", tmp_path / "a.vmdk", MIB, lambda done, total: seen.append((done, total)))
    assert seen[-1] == (100, 100)


def _embedded(path: Path, content_id: str, data: bytes) -> bytes:
    """As qemu-img lays out a growable VMDK: header, descriptor, data; afterwards with a CID by content."""
    header = struct.pack("<4sIIQQQQ", b"KDMV", 1, 1, 2048, 128, 1, 20).ljust(512, b"\0")
    descriptor = f"# Disk DescriptorFile\nversion=1\nCID={content_id}\nparentCID=ffffffff\n".encode()
    path.write_bytes(header + descriptor.ljust(20 * 512, b"\0") + data)
    set_content_id(path)
    return path.read_bytes()


def test_the_content_id_comes_from_the_content_and_not_from_chance(tmp_path: Path) -> None:
    one = _embedded(tmp_path / "one", "12345678", b"mail")
    assert one == _embedded(tmp_path / "two", "deadbeef", b"mail")
    assert one != _embedded(tmp_path / "three", "12345678", b"mail").replace(b"mail", b"Mail")
    other = _embedded(tmp_path / "four", "12345678", b"Mail")
    assert other.replace(b"Mail", b"mail") != one
    assert b"parentCID=ffffffff\n" in one


@pytest.mark.parametrize("octets", [b"", b"KDMV", b"\0" * 4096, b"KDMV".ljust(4096, b"\0")])
def test_what_has_no_descriptor_gets_no_content_id(tmp_path: Path, octets: bytes) -> None:
    path = tmp_path / "disk"
    path.write_bytes(octets)
    with pytest.raises(VmdkError):
        set_content_id(path)
