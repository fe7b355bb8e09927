"""Who this machine is (row APP-5): no two deployments have a key or an identity in common.

The identity belongs to one virtual machine, told by the UUID that the hypervisor gives it. When that is
another than at the last start, this is a copy: what identifies a machine is made anew. Mail, accounts,
settings, DKIM keys and certificates that somebody issued are the owner's data, so stay.
"""

import contextlib
import hashlib
import os
import re
import uuid
from pathlib import Path

from postkeep_appliance.host.engine import DATA
from postkeep_appliance.host.files import (
    read_beneath,
    read_small,
    remove,
    remove_beneath,
    sync_folder,
    write_atomically,
)
from postkeep_appliance.host.port import HostError
from postkeep_appliance.host.run import Runner

NO_UUID = "unknown"
"""Stands for a machine whose hypervisor gives it no UUID: it has an identity, copies cannot be told."""
KEYS_ONLY = "etc/ssh/sshd_config.d/05-postkeep-keys-only.conf"
"""Made for a deployment with a key and no password; the first of a setting counts (sshd_config(5))."""
_UUID_FILE = "sys/class/dmi/id/product_uuid"
_MACHINE_ID = "etc/machine-id"
_DBUS_MACHINE_ID = "var/lib/dbus/machine-id"
_SEED = "var/lib/systemd/random-seed"
_SSH = "etc/ssh"
_KEY_KINDS = ("ed25519", "ecdsa", "rsa")
_KEY_SECONDS = 300.0
"""RSA on an emulated processor is slow."""
_OWN_CERTIFICATE = re.compile(r"server[0-9]{0,4}\.crt")
"""As the engine names those that it makes for itself."""
_CERTIFICATE_LIMIT = 1 << 16
_CERTIFICATES = "sslcert"

COPY_NOTICE = (
    "This machine is a copy of another one. Its SSH host keys, machine-id and the engine's own certificate "
    "were made anew; mail, accounts and passwords are the other's. Change root's and the administrators' "
    "passwords, and do not run both with the same host name."
)


class Identity:
    """Files below `root`; programs by `run`. Everything can be repeated after a power cut at any point."""

    def __init__(self, root: Path, run: Runner) -> None:
        self._root = root
        self._run = run

    def instance(self) -> str:
        """The virtual machine, by a hash of its UUID; NO_UUID."""
        try:
            text = (read_small(self._root / _UUID_FILE, 100) or "").strip()
            found = uuid.UUID(text)
        except (OSError, ValueError):
            return NO_UUID
        if found.int in (0, (1 << 128) - 1):
            return NO_UUID
        # VMware turns the octets round when the hardware version is raised past 12: both are one machine.
        canonical = min(found.bytes, found.bytes_le)
        return hashlib.sha256(b"postkeep " + canonical).hexdigest()[:32]

    # --- all of it

    async def renew(self, *, copy: bool) -> list[str]:
        """New SSH host keys and random seed; for a copy machine-id and the engine's own certificate too.

        What the owner should know. Raises HostError, OSError: then it has to be done again.
        """
        notices = []
        self._stir()
        if copy:
            await self._new_machine_id()
        else:
            remove(self._root / KEYS_ONLY)  # of an image, or of what a factory reset left
        await self.make_host_keys(fresh=True)
        if copy:
            notices += [COPY_NOTICE, *await self._drop_own_certificates()]
        self._new_seed()
        return notices

    # --- randomness

    def _stir(self) -> None:
        """Before any key is made: two copies that start alike differ from here on."""
        with contextlib.suppress(OSError), (self._root / "dev/urandom").open("wb") as device:
            device.write((read_small(self._root / _UUID_FILE, 100) or "").encode() + os.urandom(64))

    def _new_seed(self) -> None:
        path = self._root / _SEED
        if path.parent.is_dir():
            write_atomically(path, os.urandom(512), 0o600)

    # --- machine-id

    async def _new_machine_id(self) -> None:
        """Of machine-id(5); before the network starts, for DHCP makes its client identifier of it."""
        write_atomically(self._root / _MACHINE_ID, f"{uuid.uuid4().hex}\n".encode(), 0o444)
        link = self._root / _DBUS_MACHINE_ID
        if link.is_file() and not link.is_symlink():
            link.unlink()
            link.symlink_to(f"/{_MACHINE_ID}")
            sync_folder(link.parent)
        # The journal goes on in a folder of the new identity; what was said until now is in the old one.
        with contextlib.suppress(HostError):
            await self._run(["systemctl", "restart", "systemd-journald.service"], check=False)

    # --- SSH

    async def make_host_keys(self, *, fresh: bool) -> list[str]:
        """Those that are missing, or empty after a power cut; with `fresh` all. The kinds that were made."""
        folder = self._root / _SSH
        if not folder.is_dir():
            return []  # no ssh here
        made = []
        for kind in _KEY_KINDS:
            key = folder / f"ssh_host_{kind}_key"
            if fresh or not (_has_octets(key) and _has_octets(_public(key))):
                await self._make_host_key(kind, key)
                made.append(kind)
        if fresh:
            kept = {f"ssh_host_{kind}_key" for kind in _KEY_KINDS}
            for path in folder.glob("ssh_host_*"):
                if path.name.removesuffix(".pub") not in kept:
                    remove(path)
        return made

    async def _make_host_key(self, kind: str, key: Path) -> None:
        new = key.with_name(f".{key.name}.new")
        new.unlink(missing_ok=True)
        _public(new).unlink(missing_ok=True)
        argv = ["ssh-keygen", "-q", "-t", kind, "-N", "", "-C", "", "-f", str(new)]
        await self._run(argv, seconds=_KEY_SECONDS)
        _public(new).chmod(0o644)  # whatever the umask
        for path in (new, _public(new)):
            _sync(path)
        os.replace(_public(new), _public(key))
        os.replace(new, key)
        sync_folder(key.parent)

    # --- the engine's certificate

    async def _drop_own_certificates(self) -> list[str]:
        """Its own, self-signed ones go: it makes a new one at its start. Others cannot be replaced here."""
        folder = self._root / DATA / _CERTIFICATES
        try:
            directory = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            return []
        kept = []
        try:
            for name in sorted(os.listdir(directory)):
                if not name.endswith(".crt"):
                    continue
                if _OWN_CERTIFICATE.fullmatch(name) and await self._is_self_signed(name):
                    # The certificate first, as the engine does it: never one without its key.
                    for one in (name, f"{name.removesuffix('.crt')}.key"):
                        remove_beneath(self._root / DATA, f"{_CERTIFICATES}/{one}")
                elif re.fullmatch(r"[A-Za-z0-9._-]{1,100}", name):
                    kept.append(name)
        finally:
            os.close(directory)
        if not kept:
            return []
        return [f"The other machine has the keys of these certificates too: {', '.join(kept)}."]

    async def _is_self_signed(self, name: str) -> bool:
        try:
            octets = read_beneath(self._root / DATA, f"{_CERTIFICATES}/{name}", _CERTIFICATE_LIMIT)
        except OSError:
            return False
        argv = ["openssl", "x509", "-noout", "-subject", "-issuer", "-nameopt", "RFC2253"]
        try:
            said = await self._run(argv, stdin=octets.decode("ascii", "replace"), check=False)
        except HostError:
            return False  # it stays, and the owner is told
        names = [line.partition("=")[2] for line in said.out.splitlines()]
        return said.status == 0 and len(names) == 2 and names[0] == names[1]


def _has_octets(path: Path) -> bool:
    try:
        return path.stat().st_size > 0
    except OSError:
        return False


def _public(key: Path) -> Path:
    return key.with_name(f"{key.name}.pub")


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    except OSError as error:
        raise HostError(f"{path} cannot be written: {error.strerror}") from error
    finally:
        os.close(fd)
