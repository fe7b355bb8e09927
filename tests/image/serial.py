"""The other end of the serial port: a terminal that is always read.

QEMU writes the guest's output one octet at a time; what nobody reads fills the socket after some 280 of them, and
from then on the guest's serial line stands still. So a thread reads, whoever looks.
"""

import contextlib
import socket
import threading
from collections.abc import Callable
from pathlib import Path

Sink = Callable[[bytes], object]
_QUESTION = b"\x1b[6n"
_SIZE = b"\x1b[24;80R"
"""What a terminal of 80x24 answers when the cursor was sent to the end of the world: systemd asks so."""


class SerialLine:
    """Connected to QEMU's socket. Without a `sink` it answers the question for the size by itself."""

    def __init__(self, path: Path, sink: Sink | None = None) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(path))
        self._sink = sink
        self._thread = threading.Thread(target=self._read, name="serial", daemon=True)
        self._thread.start()

    def send(self, data: bytes) -> None:
        """Type."""
        self._socket.sendall(data)

    def close(self) -> None:
        """Hang up."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join(5)
        self._socket.close()

    def _read(self) -> None:
        tail = b""
        with contextlib.suppress(OSError):
            while data := self._socket.recv(65536):
                if self._sink is not None:
                    self._sink(data)
                    continue
                tail += data
                if (count := tail.count(_QUESTION)) > 0:
                    self._socket.sendall(_SIZE * count)
                    tail = b""
                tail = tail[-len(_QUESTION) + 1 :]
