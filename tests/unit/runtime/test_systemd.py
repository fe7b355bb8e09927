"""sd_notify: what reaches the service manager's datagram socket."""

import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from postkeep.runtime.systemd import ServiceManager

from tests.support.clock import FakeClock


class Listener:
    """The service manager's end."""

    def __init__(self, address: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(address)
        self.socket.settimeout(5)

    def next(self) -> str:
        return self.socket.recv(4096).decode()

    def all(self) -> list[str]:
        found = []
        self.socket.setblocking(False)
        while True:
            try:
                found.append(self.socket.recv(4096).decode())
            except BlockingIOError:
                self.socket.settimeout(5)
                return found


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[Listener]:
    one = Listener(str(tmp_path / "notify"))
    yield one
    one.socket.close()


def manager(tmp_path: Path, clock: FakeClock, **more: str) -> ServiceManager:
    return ServiceManager.from_environment({"NOTIFY_SOCKET": str(tmp_path / "notify"), **more}, clock)


def test_ready_with_its_status(tmp_path: Path, listener: Listener) -> None:
    manager(tmp_path, FakeClock()).ready("serving mail.example.test")
    assert listener.all() == ["READY=1\nSTATUS=serving mail.example.test"]


def test_an_abstract_socket_is_reached() -> None:
    name = f"postkeep-test-{os.getpid()}"
    listener = Listener("\0" + name)
    ServiceManager.from_environment({"NOTIFY_SOCKET": "@" + name}, FakeClock()).status("here")
    assert listener.all() == ["STATUS=here"]
    listener.socket.close()


def test_a_status_cannot_smuggle_an_assignment_in(tmp_path: Path, listener: Listener) -> None:
    manager(tmp_path, FakeClock()).status("host\nMAINPID=1")
    assert listener.all() == ["STATUS=host MAINPID=1"]


async def test_the_watchdog_is_fed_twice_in_its_time_once_ready(tmp_path: Path, listener: Listener) -> None:
    clock = FakeClock()
    one = manager(tmp_path, clock, WATCHDOG_USEC="30000000", WATCHDOG_PID=str(os.getpid()))
    await clock.advance(100)
    assert listener.all() == []  # the manager counts from READY on
    one.ready("")
    await clock.advance(45)
    assert listener.all() == ["READY=1\nSTATUS=", *["WATCHDOG=1"] * 4]
    one.ready("again")  # after the first set-up: no second timer
    await clock.advance(15)
    assert listener.all() == ["READY=1\nSTATUS=again", "WATCHDOG=1"]
    one.close()
    await clock.advance(100)
    assert listener.all() == []


@pytest.mark.parametrize("more", [{}, {"WATCHDOG_USEC": "x"}, {"WATCHDOG_USEC": "1", "WATCHDOG_PID": "1"}])
async def test_no_watchdog_of_others(tmp_path: Path, listener: Listener, more: dict[str, str]) -> None:
    clock = FakeClock()
    manager(tmp_path, clock, **more).ready("")
    await clock.advance(100)
    assert listener.all() == ["READY=1\nSTATUS="]


def test_children_do_not_inherit_the_line() -> None:
    environment = {"NOTIFY_SOCKET": "/nowhere", "WATCHDOG_USEC": "5", "WATCHDOG_PID": "1", "PATH": "/bin"}
    ServiceManager.from_environment(environment, FakeClock())
    assert environment == {"PATH": "/bin"}


def test_a_manager_that_is_gone_is_no_failure(tmp_path: Path) -> None:
    one = manager(tmp_path, FakeClock())
    one.ready("x")
    one.stopping("y")
    one.close()
    one.status("after the end")
    assert not list(tmp_path.iterdir())  # nobody was there to hear it


def test_without_a_manager_nothing_happens() -> None:
    one = ServiceManager.from_environment({}, FakeClock())
    with one.patience("reading"):
        one.ready("x")
    assert threading.active_count() == 1


def test_patience_asks_for_time_and_ends(tmp_path: Path, listener: Listener) -> None:
    one = manager(tmp_path, FakeClock())
    with one.patience("reading the store"):
        assert listener.next() == "STATUS=reading the store"
        assert listener.next() == "EXTEND_TIMEOUT_USEC=60000000"
    assert not [thread for thread in threading.enumerate() if thread.name == "patience"]


def test_patience_has_an_end(tmp_path: Path, listener: Listener) -> None:
    one = manager(tmp_path, FakeClock())
    with one.patience("reading the store", limit=0.05):
        listener.next()
        assert listener.next() == "EXTEND_TIMEOUT_USEC=60000000"
        waits = [thread for thread in threading.enumerate() if thread.name == "patience"]
        for thread in waits:
            thread.join(5)
            assert not thread.is_alive()
    assert listener.all() == []
