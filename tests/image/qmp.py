"""The client of QEMU's machine protocol (QMP): one JSON value a line, answers in order, events in between."""

import json
import socket
import time
from pathlib import Path
from typing import Any


class QmpError(RuntimeError):
    """QEMU refused the command, or has gone."""


class Qmp:
    """Connected, with the capabilities negotiated."""

    def __init__(self, path: Path, patience: float = 30.0) -> None:
        deadline = time.monotonic() + patience
        self._socket = socket.socket(socket.AF_UNIX)
        while True:
            try:
                self._socket.connect(str(path))
                break
            except (FileNotFoundError, ConnectionRefusedError):
                if time.monotonic() > deadline:
                    raise QmpError("QEMU does not open its control socket") from None
                time.sleep(0.1)
        self._socket.settimeout(60)
        self._lines = self._socket.makefile("rb")
        self.events: list[dict[str, Any]] = []
        self._read()
        self("qmp_capabilities")

    def __call__(self, command: str, **arguments: object) -> Any:
        """Run a command; return what it returns."""
        self._socket.sendall(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
        while True:
            message = self._read()
            if "error" in message:
                raise QmpError(f"{command}: {message['error']['desc']}")
            if "return" in message:
                return message["return"]
            self.events.append(message)

    def _read(self) -> dict[str, Any]:
        line = self._lines.readline()
        if not line:
            raise QmpError("QEMU has gone")
        message: dict[str, Any] = json.loads(line)
        return message

    def close(self) -> None:
        self._lines.close()
        self._socket.close()
