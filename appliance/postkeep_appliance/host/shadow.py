"""Is this root's password? crypt(3) by libcrypt, since Python 3.13 has no crypt module any more."""

import ctypes
import hmac
import threading
from pathlib import Path

from postkeep_appliance.host.files import read_small
from postkeep_appliance.host.port import HostError

_DATA_SIZE = 1 << 17
"""Octets for struct crypt_data: libxcrypt's is 32 KiB, old glibc's 128 KiB."""
_LIBRARIES = ("libcrypt.so.1", "libcrypt.so.2")
_lock = threading.Lock()
"""yescrypt takes megabytes: one at a time, whoever asks."""


def _library() -> ctypes.CDLL:
    for name in _LIBRARIES:
        try:
            library = ctypes.CDLL(name, use_errno=True)
            library.crypt_r.restype = ctypes.c_char_p
            library.crypt_r.argtypes = (ctypes.c_char_p, ctypes.c_char_p, ctypes.c_void_p)
        except (OSError, AttributeError):
            continue
        return library
    raise HostError("libcrypt is missing: no password can be checked.")


def crypt(password: str, setting: str) -> str:
    """The hash of `password` under the method and salt of `setting` (a hash will do). "" when it has none.

    Takes as long as the method wants (yescrypt: 0.1 s): call from a thread.
    """
    octets = password.encode("utf-8", "surrogateescape")
    if b"\0" in octets:
        return ""
    library = _library()
    with _lock:
        data = ctypes.create_string_buffer(_DATA_SIZE)
        found: bytes | None = library.crypt_r(octets, setting.encode(), data)
        text = "" if found is None else found.decode("ascii", "replace")
        ctypes.memset(data, 0, _DATA_SIZE)
    return "" if text.startswith("*") else text  # "*0", "*1": libxcrypt's way to say no


def is_password_of(user: str, password: str, root: Path = Path("/")) -> bool:
    """Against etc/shadow. An account that is locked or has no password takes none."""
    try:
        shadow = read_small(root / "etc/shadow") or ""
    except OSError as error:
        raise HostError(f"/etc/shadow cannot be read: {error.strerror}") from error
    for line in shadow.splitlines():
        name, _, rest = line.partition(":")
        if name != user:
            continue
        expected = rest.partition(":")[0]
        if len(expected) < 13 or expected[0] in "!*":
            return False
        found = crypt(password, expected)
        return bool(found) and hmac.compare_digest(found.encode(), expected.encode())
    return False
