"""The process's memory: how much, and how it is given back."""

import contextlib
import ctypes
import resource


def resident() -> int:
    """Octets of this process in RAM (proc(5), statm)."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def give_back_big_blocks() -> None:
    """Have glibc give big blocks (argon2's 19 MiB, message bodies) back to the system when they are freed.

    Left alone it raises its threshold to the largest block freed so far and keeps such blocks for good
    (mallopt(3), M_MMAP_THRESHOLD = -3, M_TRIM_THRESHOLD = -1, M_ARENA_MAX = -8).
    """
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(-3, 1 << 20)
        mallopt(-1, 4 << 20)
        mallopt(-8, 2)
