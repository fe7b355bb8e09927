"""What opening a data folder does when the disk is against it."""

import errno
import os
from pathlib import Path

from postkeep.house import House
from postkeep.runtime.files import SystemFiles
from postkeep.storage.marker import NAME

from tests.support.house import make_data


class FullDisk(SystemFiles):
    """Nothing can be written any more."""

    @staticmethod
    def write(fd: int, data: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    pwrite = write


async def test_a_full_disk_does_not_keep_a_new_version_from_starting(tmp_path: Path) -> None:
    data = make_data(tmp_path)
    await (await House.open(data, deliver=False, stderr=None)).close()
    marker = data / "store" / NAME
    marker.write_text("schema=1\nversion=0.0.1\n")
    house = await House.open(data, deliver=False, stderr=None, files=FullDisk())
    await house.close()
    assert marker.read_text() == "schema=1\nversion=0.0.1\n"
    assert "version of the store could not be noted" in (data / "store/logs/error.log").read_text()
