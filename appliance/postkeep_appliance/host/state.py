"""The agent's durable facts: files in its state folder, root's alone."""

import re
from pathlib import Path

from postkeep_appliance.host.files import remove, write_atomically
from postkeep_appliance.host.port import HostError

FOLDER = "var/lib/postkeep-appliance"
FIRST_PASSWORD_MARK = "first-password"  # noqa: S105
"""There while root has the documented first word."""
_LIMIT = 1 << 20
_NAME = re.compile(r"[a-z][a-z-]{0,40}")


class StateFolder:
    """StatePort on root/var/lib/postkeep-appliance."""

    def __init__(self, root: Path = Path("/")) -> None:
        self.folder = root / FOLDER

    def _path(self, name: str) -> Path:
        if not _NAME.fullmatch(name):
            raise ValueError(name)
        return self.folder / name

    def read(self, name: str) -> bytes | None:
        try:
            with self._path(name).open("rb") as file:
                return file.read(_LIMIT)
        except FileNotFoundError:
            return None

    def write(self, name: str, data: bytes) -> None:
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_atomically(self._path(name), data, 0o600)
        except OSError as error:
            raise HostError(f"{self.folder / name} cannot be written: {error.strerror}") from error

    def remove(self, name: str) -> None:
        try:
            remove(self._path(name))
        except OSError as error:
            raise HostError(f"{self.folder / name} cannot be removed: {error.strerror}") from error
