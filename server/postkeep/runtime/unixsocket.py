"""Unix sockets in folders with long names: a socket's path has at most 107 octets (unix(7))."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

_LIMIT = 107


@contextlib.contextmanager
def reachable(path: Path) -> Iterator[str]:
    """A spelling of `path` that bind() and connect() take, good within the block."""
    if len(os.fsencode(path)) <= _LIMIT:
        yield str(path)
        return
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
