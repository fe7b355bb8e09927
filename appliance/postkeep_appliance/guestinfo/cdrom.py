"""The CD that a host puts in for the OVF transport "iso": label "OVF ENV" (DSP0243 §11.2)."""

import contextlib
import fcntl
import os
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path

from postkeep_appliance.guestinfo.environment import SIZE_LIMIT

DEVICE = Path("/dev/disk/by-label/OVF\\x20ENV")
"""As udev escapes the label's space."""
FILE = "ovf-env.xml"
_EJECT, _LOCK = 0x5309, 0x5329  # CDROMEJECT, CDROM_LOCKDOOR: linux/cdrom.h


class BadMedium(OSError):
    """A CD with that label cannot be read."""


class EnvironmentCd:
    """Reads the file from the CD, mounted for that while only, at a place that root alone can enter."""

    def __init__(
        self,
        run: Callable[[list[str]], object],
        *,
        device: Path = DEVICE,
        runtime: Path = Path("/run"),
    ) -> None:
        """`run` raises OSError when a program fails."""
        self._run = run
        self._device = device
        self._runtime = runtime

    def read(self) -> bytes | None:
        """None when there is no such CD. Raises BadMedium."""
        if not os.path.lexists(self._device):
            return None
        folder = Path(tempfile.mkdtemp(prefix="postkeep-ovf-", dir=self._runtime))
        try:
            options = "ro,nosuid,nodev,noexec"
            try:
                self._run(["mount", "-t", "iso9660", "-o", options, str(self._device), str(folder)])
            except OSError as error:
                raise BadMedium(f"the CD “OVF ENV” cannot be mounted: {error}") from error
            try:
                return _read_regular(folder / FILE)
            finally:
                with contextlib.suppress(OSError):
                    self._run(["umount", str(folder)])
        finally:
            with contextlib.suppress(OSError):
                folder.rmdir()

    def eject(self) -> bool:
        """What it says cannot be wiped, but it can be put out of sight. Whether there is none in now."""
        if not os.path.lexists(self._device):
            return True
        try:
            descriptor = os.open(self._device, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            # udev locks the tray of every drive with a disc in it; the drive then refuses, by a result
            # other than 0 rather than by an error.
            with contextlib.suppress(OSError):
                fcntl.ioctl(descriptor, _LOCK, 0)
            return fcntl.ioctl(descriptor, _EJECT, 0) == 0
        except OSError:
            return False
        finally:
            os.close(descriptor)


def _read_regular(path: Path) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise BadMedium(f"the CD “OVF ENV” has no {FILE}: {error.strerror}") from error
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise BadMedium(f"{FILE} on the CD “OVF ENV” is no regular file")
        # One octet more than allowed, so that the reader of the document sees that it is too long.
        found = b""
        while piece := os.read(descriptor, SIZE_LIMIT + 1 - len(found)):
            found += piece
        return found
    except BadMedium:
        raise
    except OSError as error:
        raise BadMedium(f"{FILE} on the CD “OVF ENV” cannot be read: {error.strerror}") from error
    finally:
        os.close(descriptor)
