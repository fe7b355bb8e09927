"""A real `postkeep serve` in a process of its own, as a test fixture.

    with Engine(tmp_path) as engine:
        engine.user_add("alice", "secret")
        smtplib.SMTP(engine.host, engine.ports.smtp)

Entering starts it, leaving stops it by SIGTERM and asserts a clean end (or kills it when the test failed).
Everything is done through the command line, as an administrator would.
"""

import contextlib
import dataclasses
import errno
import fcntl
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Literal, NamedTuple, Self

import argon2
from postkeep.config.users import FILE, UsersWriter, parse_users
from postkeep.domain.account import Account

HOST = "127.0.0.1"
POSTKEEP = Path(sys.executable).with_name("postkeep")
START_LIMIT = 60.0
"""Seconds until the `ready` line (busy machines; normally under two)."""
STOP_LIMIT = 30.0
LOG_LINES = 5_000

STANDARD_PORTS = (25, 80, 110, 143, 443, 465, 587, 993, 995, 4040, 8443, 8800)
LOWEST_OFFSET, HIGHEST_OFFSET = 11_000, 23_900
"""All ports stay below the range that the kernel gives to outgoing connections (32768 and up)."""


class Ports(NamedTuple):
    """Where the engine listens; `offset` is what was added to the standard ports."""

    offset: int

    def of(self, standard: int) -> int:
        return standard + self.offset

    @property
    def smtp(self) -> int:
        return self.of(25)

    @property
    def smtps(self) -> int:
        return self.of(465)

    @property
    def submission(self) -> int:
        return self.of(587)

    @property
    def pop3(self) -> int:
        return self.of(110)

    @property
    def pop3s(self) -> int:
        return self.of(995)

    @property
    def imap(self) -> int:
        return self.of(143)

    @property
    def imaps(self) -> int:
        return self.of(993)

    @property
    def admin(self) -> int:
        return self.of(4040)


class PortReservation:
    """An offset whose ports are all free, kept from other test processes by locks on small files."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.gettempdir()) / f"postkeep-test-ports-{os.getuid()}"
        self._folder.mkdir(mode=0o700, exist_ok=True)
        self._locks: list[int] = []
        chance = random.SystemRandom()
        for _ in range(500):
            offset = chance.randrange(LOWEST_OFFSET, HIGHEST_OFFSET)
            if self._take(offset):
                self.ports = Ports(offset)
                return
        raise AssertionError("no free range of ports found")

    def _take(self, offset: int) -> bool:
        for standard in STANDARD_PORTS:
            port = standard + offset
            lock = os.open(self._folder / str(port), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
            self._locks.append(lock)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self.release()
                return False
            if not _is_free(port):
                self.release()
                return False
        return True

    def release(self) -> None:
        while self._locks:
            os.close(self._locks.pop())


def _is_free(port: int) -> bool:
    for family, host in ((socket.AF_INET, HOST), (socket.AF_INET6, "::1")):
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError as error:
                if family == socket.AF_INET or error.errno == errno.EADDRINUSE:  # no IPv6 here is fine
                    return False
    return True


class Engine:
    """One engine with its own data folder. Not started until `start()` or `with`.

    `settings` maps variables of mailserver.cfg to values; `users` maps names to passwords (in `domain`).
    `program` is what serves, when it is not `postkeep` itself (a profiler around it). `template` is the data folder of another engine that does not run: copied instead of made anew.
    """

    host = HOST

    def __init__(
        self,
        folder: Path,
        *,
        domain: str = "example.test",
        hostname: str | None = None,
        users: Mapping[str, str] | None = None,
        settings: Mapping[str, str | int | bool] | None = None,
        arguments: Sequence[str] = (),
        template: Path | None = None,
        program: Sequence[str] = (str(POSTKEEP),),
        verb: Literal["serve", "demo"] = "serve",
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.data = folder / "data"
        self.domain = domain
        self.hostname = hostname or f"mail.{domain}"
        self.admin = "admin"
        self.passwords: dict[str, str] = {"admin": "engine admin password"}
        self.process: subprocess.Popen[bytes] | None = None
        self._reservation = PortReservation()
        self.ports = self._reservation.ports
        self._program = tuple(program)
        self._verb = verb
        self._arguments = tuple(arguments)
        self._environment = {**os.environ, "PYTHONUNBUFFERED": "1", **(environment or {})}
        self._lines: deque[str] = deque(maxlen=LOG_LINES)
        self._reader: threading.Thread | None = None
        self._ready = False
        self._told = threading.Event()
        """It said that it is ready, or it ended."""
        if template is None and verb == "serve":
            self._init()
        elif template is not None:
            shutil.copytree(template, self.data)
        for name, password in (users or {}).items():
            self.user_add(name, password)
        for variable, value in (settings or {}).items():
            self.set(variable, value)

    # --- the command line -------------------------------------------------------------------------

    def run(self, *arguments: str, stdin: str = "", check: bool = True) -> subprocess.CompletedProcess[str]:
        """`postkeep ARGUMENTS --data DATA`; a failure shows what it printed."""
        command = [str(POSTKEEP), *arguments, "--data", str(self.data)]
        done = subprocess.run(
            command, input=stdin, capture_output=True, text=True, timeout=120, env=self._environment
        )
        if check and done.returncode != 0:
            raise AssertionError(
                f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
            )
        return done

    def _init(self) -> None:
        self.run(
            *("init", "--hostname", self.hostname, "--domain", self.domain, "--admin", self.admin),
            *("--password-stdin",),
            stdin=self.passwords[self.admin] + "\n",
        )

    def user_add(self, name: str, password: str) -> None:
        """Works before the start and while the engine runs."""
        self.run("user", "add", name, "--password-stdin", stdin=password + "\n")
        self.passwords[name] = password

    def users_add(self, names: Iterable[str], password: str) -> None:
        """Many users with one password, written into users.cfg; only while the engine does not run."""
        assert self.process is None, "the engine runs"
        path = self.data / FILE
        config = parse_users(path.read_bytes())
        password_hash = argon2.PasswordHasher().hash(password)
        accounts = dict(config.accounts)
        for name in names:
            account = Account(name, self.domain, password_hash)
            accounts[account.key] = account
            self.passwords[name] = password
        path.write_bytes(UsersWriter().write(dataclasses.replace(config, accounts=accounts)))

    def set(self, variable: str, value: str | int | bool) -> None:
        """Change a setting of mailserver.cfg."""
        text = str(int(value)) if isinstance(value, bool) else str(value)
        self.run("setting", "set", variable, text)

    # --- life -------------------------------------------------------------------------------------

    def start(self, limit: float = START_LIMIT) -> None:
        assert self.process is None, "the engine runs already"
        self._ready = False
        self._told.clear()
        self._lines.clear()
        command = [*self._program, self._verb, "--data", str(self.data)]
        command += ["--port-offset", str(self.ports.offset), *self._arguments]
        if self._verb == "serve":
            command += ["--address", HOST]
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=self._environment,
        )
        self._reader = threading.Thread(target=self._read, args=(self.process,), daemon=True)
        self._reader.start()
        self._told.wait(limit)
        if not self._ready:
            self.kill()
            raise AssertionError(f"the engine was not ready in {limit:.0f} s; it said:\n{self.log}")

    def _read(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        for raw in process.stdout:
            line = raw.decode(errors="replace").rstrip("\n")
            self._lines.append(line)
            if line.strip() == "ready" or line.startswith("ready "):
                self._ready = True
                self._told.set()
        self._told.set()  # ended: start() need not wait for its limit

    def stop(self, limit: float = STOP_LIMIT) -> None:
        """SIGTERM; asserts that the engine ends by itself, in time and with 0."""
        process = self._running()
        process.send_signal(signal.SIGTERM)
        try:
            code = process.wait(limit)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"no end {limit:.0f} s after SIGTERM; it said:\n{self.log}") from None
        self._ended()
        assert code == 0, f"the engine ended with {code}; it said:\n{self.log}"

    def kill(self) -> None:
        """SIGKILL, whatever it was doing."""
        process = self._running()
        process.kill()
        process.wait()
        self._ended()

    def restart(self) -> None:
        self.stop()
        self.start()

    def close(self) -> None:
        """Leave nothing running; gives the ports back."""
        if self.process is not None:
            self.kill()
        self._reservation.release()

    def _running(self) -> subprocess.Popen[bytes]:
        assert self.process is not None, "the engine does not run"
        return self.process

    def _ended(self) -> None:
        process, self.process = self._running(), None
        if self._reader is not None:
            self._reader.join(5)
        if process.stdout is not None:
            process.stdout.close()

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is not None:
                error.add_note(f"The engine said:\n{self.log}")
            elif self.process is not None:
                self.stop()
        finally:
            self.close()

    # --- looking at it ----------------------------------------------------------------------------

    @property
    def pid(self) -> int:
        return self._running().pid

    @property
    def certificate(self) -> Path:
        """The certificate that the engine made for itself (PEM)."""
        (path,) = (self.data / "sslcert").glob("*.crt")
        return path

    @property
    def log(self) -> str:
        """What the engine printed since its last start (the newest lines)."""
        return "\n".join(self._lines)

    def log_file(self, name: str) -> str:
        """One of the eight logs ("mail", "error", …); empty when not written yet."""
        with contextlib.suppress(FileNotFoundError):
            return (self.data / "store" / "logs" / f"{name}.log").read_text(errors="replace")
        return ""

    def memory(self) -> int:
        """Resident memory in octets."""
        return resident(self.pid)

    def cpu(self) -> float:
        """CPU seconds used so far, user and system."""
        return cpu_seconds(self.pid)


def resident(pid: int) -> int:
    """RSS of a process in octets (/proc/PID/status, VmRSS)."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise AssertionError(f"process {pid} has no memory: it has ended")


def cpu_seconds(pid: int) -> float:
    """User and system time of a process with all its threads (proc(5): fields 14 and 15 of stat)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
