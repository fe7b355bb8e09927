"""A Debian 13 of its own for each test: an overlay over the chroot that the packages were built in."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

from tests.support.engine import HOST, PortReservation

ROOT = Path(__file__).parents[3]
LOWER = ROOT / "build" / "chroot-trixie" / "root"
DATA = "/var/lib/postkeep"
PASSWORD = "Sehr-geheim1"


class Box:
    """Entered, it is a Debian with a stand-in for systemctl; left, all of it is gone, the engine too."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.root = folder / "root"
        self._ports = PortReservation()
        self.ports = self._ports.ports

    def __enter__(self) -> Self:
        for name in ("upper", "work", "root"):
            (self._folder / name).mkdir(parents=True)
        layers = f"lowerdir={LOWER},upperdir={self._folder}/upper,workdir={self._folder}/work"
        subprocess.run(["mount", "-t", "overlay", "overlay", "-o", layers, self.root], check=True)
        subprocess.run(["mount", "-t", "proc", "proc", self.root / "proc"], check=True)
        for built in ("opt/postkeep", "opt/postkeep-console"):
            shutil.rmtree(self.root / built, ignore_errors=True)
        (self.root / "run/systemd/system").mkdir(parents=True, exist_ok=True)
        (self.root / "usr/sbin/policy-rc.d").unlink(missing_ok=True)
        standin = self.root / "usr/bin/systemctl"
        standin.rename(standin.with_suffix(".real"))
        shutil.copy(Path(__file__).with_name("systemctl.py"), standin)
        standin.chmod(0o755)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            pid = self.engine_pid()
            if pid:
                os.kill(pid, signal.SIGKILL)
        finally:
            self._ports.release()
            subprocess.run(["umount", "--lazy", self.root / "proc"], check=False)
            subprocess.run(["umount", "--lazy", self.root], check=True)
            shutil.rmtree(self._folder, ignore_errors=True)

    def run(self, *command: str, ok: bool = True, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """A command in the box; with `ok` it has to succeed."""
        environment = ["env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8", "HOME=/root"]
        done = subprocess.run(
            ["chroot", self.root, *environment, "DEBIAN_FRONTEND=noninteractive", *command],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=300,
        )
        if ok:
            assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done

    def install(self, deb: Path, *, ok: bool = True) -> subprocess.CompletedProcess[str]:
        """dpkg -i, as an administrator does it."""
        shutil.copy(deb, self.root / "tmp" / deb.name)
        done = self.run("dpkg", "--force-confold", "-i", f"/tmp/{deb.name}", ok=ok)
        if not ok:
            assert done.returncode != 0, done.stdout + done.stderr
        return done

    def prepare(self) -> None:
        """Options of the service for this machine, which has other servers: what an administrator writes."""
        (self.root / "etc/default").mkdir(exist_ok=True)
        (self.root / "etc/default/postkeep").write_text(
            f'POSTKEEP_DATA={DATA}\nPOSTKEEP_ARGS="--port-offset {self.ports.offset} --address {HOST}"\n'
        )

    def set_up(self) -> None:
        names = ["--hostname", "mail.example.test", "--domain", "example.test", "--admin", "root"]
        self.run("postkeep", "init", *names, "--password-file", "-", stdin=PASSWORD + "\n")

    def wait(self) -> None:
        """Until the engine that went on after its set-up takes mail."""
        until = time.monotonic() + 60
        while True:
            with contextlib.suppress(OSError), socket.create_connection((HOST, self.ports.smtp), 5):
                return
            assert time.monotonic() < until, "the engine takes no mail"
            time.sleep(0.1)

    def version(self) -> str:
        """Of the engine that answers."""
        with self.client() as client:
            return str(client.get("/status").raise_for_status().json()["version"])

    def client(self) -> httpx.Client:
        return httpx.Client(
            base_url=f"https://{HOST}:{self.ports.offset + 4040}/api/v1",
            verify=False,
            auth=("root", PASSWORD),
            timeout=30,
        )

    def engine_pid(self) -> int:
        """0 when none runs."""
        try:
            pid = int((self.root / "run/postkeep.pid").read_text())
            os.kill(pid, 0)
        except (OSError, ValueError):
            return 0
        return pid

    def state(self) -> str:
        """What dpkg says of the package: "ii 0.1.0"."""
        done = self.run("dpkg-query", "-W", "-f", "${db:Status-Abbrev}${Version}", "postkeep", ok=False)
        return " ".join(done.stdout.split())

    def calls(self) -> list[str]:
        """What systemctl was asked so far."""
        path = self.root / "var/log/systemctl.log"
        return path.read_text().splitlines() if path.exists() else []

    def path(self, name: str) -> Path:
        return self.root / name.lstrip("/")
