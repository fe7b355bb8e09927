"""Files replaced in one step."""

from pathlib import Path

import pytest
from postkeep.runtime.files import SystemFiles, replace_atomically


def test_attack_a_link_in_the_place_of_the_temporary_file_is_not_followed(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_bytes(b"precious")
    (tmp_path / "a.new").symlink_to(precious)
    with pytest.raises(OSError, match="symbolic links"):
        replace_atomically(SystemFiles(), tmp_path / "a", b"new")
    assert precious.read_bytes() == b"precious"


def test_what_a_crash_left_in_its_place_is_written_over(tmp_path: Path) -> None:
    (tmp_path / "a.new").write_bytes(b"half of something longer")
    replace_atomically(SystemFiles(), tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"new"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
