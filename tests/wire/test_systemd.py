"""The engine as a service of Type=notify: READY when all listens, also before the first set-up; then STOPPING."""

import contextlib
import os
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from tests.support.engine import POSTKEEP, PortReservation
from tests.support.house import make_data


def next_of(listener: socket.socket, kind: str) -> str:
    while True:
        message = listener.recv(4096).decode()
        if kind in message:
            return message


@pytest.mark.parametrize("set_up", [True, False])
def test_the_service_manager_is_told(tmp_path: Path, set_up: bool) -> None:
    data = tmp_path / "data"
    data.mkdir()
    if set_up:
        make_data(data)
    ports = PortReservation()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listener.bind(str(tmp_path / "notify"))
    listener.settimeout(30)
    offset = ports.ports.offset
    process = subprocess.Popen(
        [POSTKEEP, "serve", "--data", data, "--port-offset", str(offset), "--address", "127.0.0.1"],
        env=os.environ | {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "400000"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        ready = next_of(listener, "READY=1")
        assert ("serving localhost" if set_up else "not set up yet") in ready
        for port in (offset + 25, offset + 993, offset + 4040) if set_up else (offset + 4040,):
            socket.create_connection(("127.0.0.1", port), 5).close()
        next_of(listener, "WATCHDOG=1")
        next_of(listener, "WATCHDOG=1")
        process.send_signal(signal.SIGSTOP)  # a hung loop says nothing more
        listener.settimeout(0.2)
        with contextlib.suppress(TimeoutError):
            while True:  # what was on its way
                listener.recv(4096)
        listener.settimeout(1)
        with pytest.raises(TimeoutError):
            listener.recv(4096)
        listener.settimeout(30)
        process.send_signal(signal.SIGCONT)
        process.send_signal(signal.SIGTERM)
        if set_up:
            next_of(listener, "STOPPING=1")
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait(30)
        listener.close()
        ports.release()
