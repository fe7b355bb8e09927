"""EnginePort for Debian: postkeep.service and the command `postkeep` as the engine's own user."""

import asyncio
import base64
import binascii
import contextlib
import hashlib
import os
import pwd
import re
import ssl
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from postkeep_appliance.host.files import read_beneath, read_small, remove_beneath, write_atomically
from postkeep_appliance.host.port import HostError, Invalid, UnitFacts
from postkeep_appliance.host.run import ProgramFailed, Runner

UNIT = "postkeep.service"
USER = "postkeep"
DATA = "var/lib/postkeep"
DROP_IN = "etc/systemd/system/postkeep.service.d/50-store-folder.conf"
_TLS_PORTS = (4040, 443, 993, 465)
_TLS_SECONDS = 3.0
_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----(.+?)-----END CERTIFICATE-----", re.DOTALL)
_CODE = re.compile(r"[A-Za-z0-9-]{4,64}")
_CONFIGURATION = ("mailserver.cfg", "mailserver.cfg.good", "users.cfg", "users.cfg.good")
_SELF_SIGNED = ("sslcert/server.crt", "sslcert/server.key")
_SYSTEM = frozenset(
    [
        "bin",
        "boot",
        "dev",
        "efi",
        "etc",
        "home",
        "lib",
        "lib32",
        "lib64",
        "libx32",
        "lost+found",
        "opt",
        "proc",
        "root",
        "run",
        "sbin",
        "sys",
        "tmp",
        "usr",
        "var",
    ]
)
_FOLDER = re.compile(r"/[A-Za-z0-9._-][A-Za-z0-9._/-]{0,200}")


class DebianEngine:
    """Files below `root`; programs by `run`. `chown` gives a folder to the engine's user."""

    def __init__(self, root: Path, run: Runner, chown: Callable[[Path], None] | None = None) -> None:
        self._root = root
        self._run = run
        self._data = root / DATA
        self._chown = chown or _give_to_engine

    # --- the unit

    async def unit(self) -> UnitFacts:
        argv = ["systemctl", "show", UNIT, "--property=ActiveState,SubState,UnitFileState"]
        said = await self._run(argv)
        facts = dict(line.partition("=")[::2] for line in said.out.splitlines() if "=" in line)
        return UnitFacts(
            facts.get("ActiveState", ""), facts.get("SubState", ""), facts.get("UnitFileState", "")
        )

    async def command(self, action: Literal["start", "stop", "restart", "enable", "disable"]) -> None:
        if action in ("enable", "disable"):
            await self._run(["systemctl", action, UNIT])
        if action != "stop" and action != "disable":
            # After too many failures systemd would refuse a start; a person's word counts more.
            await self._run(["systemctl", "reset-failed", UNIT], check=False)
        verb = {"enable": "start", "disable": "stop"}.get(action, action)
        await self._run(["systemctl", "--no-block", verb, UNIT])

    async def why_failed(self) -> str:
        argv = [
            "journalctl",
            "--unit",
            UNIT,
            "--lines=20",
            "--output=cat",
            "--no-pager",
            "--priority=warning",
        ]
        said = await self._run(argv, check=False)
        lines = [line for line in said.out.splitlines() if line.strip() and not line.startswith("-- ")]
        return lines[-1][:300] if lines else ""

    # --- what it says of itself

    def is_set_up(self) -> bool:
        return (self._data / "mailserver.cfg").exists() or (self._data / "mailserver.cfg.good").exists()

    def setup_code(self) -> str:
        with contextlib.suppress(OSError):
            text = read_beneath(self._data, "run/setup-code", 200).decode("utf-8", "replace").strip()
            return text if _CODE.fullmatch(text) else ""
        return ""

    async def fingerprint(self) -> str:
        der = await self._served() or self._lying()
        if der is None:
            return ""
        return ":".join(f"{octet:02X}" for octet in hashlib.sha256(der).digest())

    async def _served(self) -> bytes | None:
        """What clients see: the engine chooses among its certificates, and before the set-up has another."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE  # it is looked at, not trusted
        for port in _TLS_PORTS:
            try:
                async with asyncio.timeout(_TLS_SECONDS):
                    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
            except (OSError, TimeoutError):
                continue
            found = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
            writer.close()
            return bytes(found) if found else None
        return None

    def _lying(self) -> bytes | None:
        """The newest pair that somebody put there, else the self-signed one."""
        try:
            names = [name for name in os.listdir(self._data / "sslcert") if name.endswith(".crt")]
        except OSError:
            return None
        folder = self._data / "sslcert"
        own = [name for name in names if name == "server.crt"]
        others = sorted(
            set(names) - set(own), key=lambda name: os.lstat(folder / name).st_mtime, reverse=True
        )
        for name in [*others, *own]:
            with contextlib.suppress(OSError, binascii.Error):
                found = _PEM.search(read_beneath(self._data, f"sslcert/{name}", 1 << 16))
                if found:
                    return base64.b64decode(b"".join(found[1].split()), validate=True)
        return None

    # --- set-up

    async def _postkeep(self, *arguments: str, stdin: str = "") -> str:
        argv = ["runuser", "-u", USER, "--", "/usr/bin/postkeep", *arguments, "--data", f"/{DATA}"]
        try:
            return (await self._run(argv, stdin=stdin, seconds=120)).out
        except ProgramFailed as error:
            said = error.output.err.strip() or error.output.out.strip()
            words = said.splitlines()[-1].removeprefix("Error: ") if said else "it did not say why"
            raise HostError(f"The engine refuses: {words[:400]}") from error

    async def init(self, hostname: str, domain: str, administrator: str, password: str) -> None:
        if not self._data.is_dir():
            self._data.mkdir(mode=0o700, parents=True)
            self._chown(self._data)
        options = (f"--hostname={hostname}", f"--domain={domain}", f"--admin={administrator}")
        await self._postkeep("init", *options, "--password-file=-", stdin=f"{password}\n")

    def undo_init(self) -> None:
        """What lay there is kept beside it once more: somebody may have put it there."""
        stamp = time.strftime("%Y%m%d-%H%M%S")
        try:
            for name in _CONFIGURATION:
                path = self._data / name
                if path.exists():
                    path.rename(path.with_name(f"{name}.unfinished-{stamp}"))
            for name in _SELF_SIGNED:
                remove_beneath(self._data, name)  # a link there is the engine's user's doing
        except OSError as error:
            raise HostError(f"{error.filename} cannot be moved away: {error.strerror}") from error

    async def set_setting(self, variable: str, value: str) -> None:
        await self._postkeep("setting", "set", variable, value)

    async def setting(self, variable: str) -> str:
        return (await self._postkeep("setting", "get", variable)).strip()

    async def use_folder(self, folder: str) -> None:
        path = self._check_folder(folder)
        try:
            if os.path.realpath(path) != str(path):
                raise Invalid("store", "This path leads through a symbolic link; enter the real one.")
            self._check_parents(path)
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            if any(path.iterdir()) and not (path / "postkeep.db").exists():
                raise Invalid("store", "This folder holds something else; choose an empty one.")
            self._chown(path)
            text = f"[Unit]\nRequiresMountsFor={folder}\n\n[Service]\nReadWritePaths={folder}\n"
            write_atomically(self._root / DROP_IN, text.encode())
        except OSError as error:
            raise Invalid("store", f"This folder cannot be used: {error.strerror}.") from error
        await self._run(["systemctl", "daemon-reload"])

    def _check_folder(self, folder: str) -> Path:
        parts = Path(folder).parts[1:]
        if not _FOLDER.fullmatch(folder) or os.path.normpath(folder) != folder:
            raise Invalid(
                "store", "Enter an absolute path of letters, digits, dots and hyphens, like /srv/mail."
            )
        shared = len(parts) == 1 and parts[0] in ("srv", "mnt", "media")
        if parts[0] in _SYSTEM or shared:
            raise Invalid("store", "This place belongs to the system; use one like /srv/mail.")
        return self._root.joinpath(*parts)

    def _check_parents(self, path: Path) -> None:
        """Who may write in a folder above can put another one, or a link, in the place that we give away."""
        for parent in path.relative_to(self._root).parents:
            try:
                found = os.lstat(self._root / parent)
            except FileNotFoundError:
                continue  # will be made, by us
            if found.st_uid != os.geteuid() or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
                raise Invalid("store", f"Others than root may write in /{parent}; choose another place.")


def _give_to_engine(path: Path) -> None:
    """`path` itself, a folder: what a link leads to is given to nobody."""
    try:
        owner = pwd.getpwnam(USER)
    except LookupError as error:
        raise HostError("The user postkeep is missing: is the package postkeep installed?") from error
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fchown(fd, owner.pw_uid, owner.pw_gid)
    finally:
        os.close(fd)


def store_folder(root: Path) -> Path:
    """Where the store lies: what `use_folder` set, else below the data folder. A file of root's tells."""
    for line in (read_small(root / DROP_IN) or "").splitlines():
        key, _, value = line.partition("=")
        if key == "ReadWritePaths" and _FOLDER.fullmatch(value):
            return root / value[1:]
    return root / DATA / "store"
