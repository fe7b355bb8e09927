"""DATA/store/version: which schema the store has, in words that a shell script of an older package can read.

The truth is in the database (PRAGMA user_version), which refuses an older engine by itself. This file lets
the older package refuse before it has stopped anything.
"""

from pathlib import Path

from postkeep import __version__
from postkeep.runtime.files import Files, replace_atomically

NAME = "version"


def write_marker(files: Files, folder: Path, schema: int, version: str = __version__) -> None:
    """Lines schema=N and version=X, durable on return; a file that says so is left. Raises OSError."""
    data = f"schema={schema}\nversion={version}\n".encode()
    path = folder / NAME
    if files.exists(path) and path.read_bytes() == data:
        return
    replace_atomically(files, path, data)
