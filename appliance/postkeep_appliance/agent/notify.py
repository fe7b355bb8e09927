"""sd_notify(3): tells systemd how far we are, when it asked for it."""

import contextlib
import os
import socket


def notify(*lines: str) -> None:
    """Like "READY=1". Does nothing without NOTIFY_SOCKET."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path.startswith(("/", "@")):
        return
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
        out.connect(f"\0{path[1:]}" if path[0] == "@" else path)
        out.send("\n".join(lines).encode())
