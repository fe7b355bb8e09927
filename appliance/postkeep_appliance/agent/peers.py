"""Who is at the other end of a Unix socket: SO_PEERCRED, and the terminal of that process."""

import re
import socket
import struct
from collections.abc import Collection
from pathlib import Path

from postkeep_appliance.agent.work import Caller

_CREDENTIALS = struct.Struct("3i")
_STATUS_LIMIT = 1 << 16


def caller_of(connection: socket.socket, proc: Path = Path("/proc")) -> Caller:
    """As the kernel says at the time of connect(). Raises OSError."""
    octets = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, uid, gid = _CREDENTIALS.unpack(octets)
    return Caller(uid, gid, pid, _terminal(pid, proc))


def may_call(
    caller: Caller, uids: Collection[int], gids: Collection[int], proc: Path = Path("/proc")
) -> bool:
    """Root, an allowed user, or a member of an allowed group (first or further ones)."""
    if caller.uid == 0 or caller.uid in uids or caller.gid in gids:
        return True
    try:
        text = (proc / str(caller.pid) / "status").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    found = re.search(r"^Groups:[ \t]*([\d \t]*)$", text, re.MULTILINE)
    owner = re.search(r"^Uid:[ \t]*(\d+)", text, re.MULTILINE)
    if found is None or owner is None or int(owner[1]) != caller.uid:
        return False  # the process is gone, and its number somebody else's
    return any(int(group) in gids for group in found[1].split())


def _terminal(pid: int, proc: Path) -> str:
    """tty_nr of proc_pid_stat(5): field 7; the name before it may hold blanks and brackets."""
    try:
        with (proc / str(pid) / "stat").open("rb") as file:
            fields = file.read(_STATUS_LIMIT).rpartition(b")")[2].split()
        number = int(fields[4])
    except (OSError, ValueError, IndexError):
        return ""
    major, minor = (number >> 8) & 0xFFF, (number & 0xFF) | ((number >> 12) & 0xFFF00)
    if major == 4:
        return f"tty{minor}" if minor < 64 else f"ttyS{minor - 64}"
    if 136 <= major <= 143:
        return f"pts/{(major - 136) * 256 + minor}"
    return ""
