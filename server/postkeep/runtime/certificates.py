"""The server's certificates: a self-signed one at first, and those that lie in sslcert/ (row SEC-1)."""

import contextlib
import datetime
import ipaddress
import os
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from postkeep.domain.errors import PostkeepError
from postkeep.runtime.clock import Clock
from postkeep.runtime.files import Files, replace_atomically

SELF_SIGNED = "server"
"""File name (without .crt/.key) of the certificate that the server makes for itself."""
SELF_SIGNED_DAYS = 3650
"""Nobody trusts it without looking, so an expiry would only be a surprise."""
_SIZE_LIMIT = 1 << 20


@dataclass(frozen=True, slots=True)
class Certificate:
    """A usable pair. `names` are the lower-case DNS names and addresses that it is good for."""

    path: Path
    names: tuple[str, ...]
    self_signed: bool
    not_before: float
    not_after: float
    context: ssl.SSLContext

    def covers(self, host: str) -> bool:
        """RFC 6125 §6.4: exact, or a wildcard for the whole left-most label."""
        host = host.lower().rstrip(".")
        parent = host.partition(".")[2]
        return host in self.names or (bool(parent) and f"*.{parent}" in self.names)


class Certificates:
    """Loads folder/*.crt with its *.key, makes a self-signed pair when none is usable.

    The best one serves: valid now, covering the hostname, signed by somebody else, newest. Clients that ask
    for another name that a certificate here covers get that one (SNI). A broken pair is reported through
    `report` (one line) and skipped. Files are read in place: call at start. Later `read_again` does that in a
    thread, and `use` takes what it found.
    """

    def __init__(
        self,
        folder: Path,
        hostname: str,
        files: Files,
        clock: Clock,
        report: Callable[[str], None] | None = None,
        *,
        more_names: Sequence[str] = (),
    ) -> None:
        """`more_names`: DNS names and addresses that a self-signed one is good for beside the hostname."""
        self._more_names = tuple(more_names)
        self._folder = folder
        self._hostname = hostname.lower().rstrip(".")
        self._files = files
        self._clock = clock
        self._report = report or (lambda text: None)
        self._all: list[Certificate] = []
        self.read_at: tuple[tuple[str, int, int, int], ...] = ()
        """The `fingerprint` of what `load` has read."""
        files.mkdir(folder)
        self.load()

    @property
    def active(self) -> Certificate:
        return self._all[0]

    @property
    def all(self) -> tuple[Certificate, ...]:
        return tuple(self._all)

    def server_context(self) -> ssl.SSLContext:
        """The active certificate's context (TLS 1.2 and later). After `use` a new one."""
        return self._all[0].context

    def load(self) -> None:
        """Read the folder. Raises OSError when a first certificate cannot be written."""
        self.read_at = self.fingerprint()  # before: what changes meanwhile is to be read again
        found = self._read_all(self._report)
        if not any(one.not_after > self._clock.now() for one in found):
            path = self._make_self_signed()
            self.read_at = self.fingerprint()
            made = self._read_pair(path, self._report)
            found = [one for one in found if one.path != made.path] + [made]
        self.use(found)

    def read_again(self) -> tuple[list[Certificate], list[str]]:
        """What can be used now, and what is to be said of the rest; changes nothing, for a thread.

        A pair that is in use and whose files cannot be used any more stays as it was read; all stay when
        nothing would be left, or nothing that is valid.
        """
        said: list[str] = []
        found = self._read_all(said.append)
        read = {one.path for one in found}
        for one in self._all:
            if one.path not in read and self._files.exists(one.path):
                said.append(f"{one.path} stays in use as it was read before")
                found.append(one)
        now = self._clock.now()
        left = any(one.not_after > now for one in self._all)
        if not found or (left and not any(one.not_after > now for one in found)):
            said.append(f"{self._folder} has no certificate that can be used: the one in use stays")
            found = list(self._all)
        return found, said

    def use(self, found: list[Certificate]) -> None:
        """For connections from now on."""
        self._all = found
        self.rank()
        for one in found:
            one.context.sni_callback = self._choose

    def rank(self) -> None:
        """The best one first; that changes with time."""
        self._all = sorted(self._all, key=self._rank, reverse=True)

    def fingerprint(self) -> tuple[tuple[str, int, int, int], ...]:
        """Of all files here and of the intermediates: changes when one of them does. For a thread."""
        seen = []
        for folder in (self._folder, self._intermediate_folder):
            with contextlib.suppress(OSError):
                for path in sorted(folder.iterdir()):
                    with contextlib.suppress(OSError):  # a file that has just gone
                        status = path.stat()
                        seen.append((str(path), status.st_ino, status.st_size, status.st_mtime_ns))
        return tuple(seen)

    @property
    def _intermediate_folder(self) -> Path:
        return self._folder.parent / "sslca"

    def _rank(self, one: Certificate) -> tuple[bool, bool, bool, float]:
        valid = one.not_before <= self._clock.now() < one.not_after
        return valid, one.covers(self._hostname), not one.self_signed, one.not_before

    def _choose(self, connection: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:
        """SNI (RFC 6066 §3). An unknown name gets the active certificate: mail clients often send others."""
        if name is None or self._all[0].covers(name):
            return
        for one in self._all:
            if one.covers(name) and one.not_after > self._clock.now():
                connection.context = one.context
                return

    def _read_all(self, report: Callable[[str], None]) -> list[Certificate]:
        found = []
        for name in sorted(self._files.list_dir(self._folder)):
            if not name.endswith(".crt"):
                continue
            path = self._folder / name
            try:
                found.append(self._read_pair(path, report))
            except (OSError, ValueError, TypeError, ssl.SSLError, PostkeepError) as error:
                reason = str(error).replace("\n", " ") or type(error).__name__
                report(f"The certificate {path} cannot be used: {reason}")
        return found

    def _read(self, path: Path) -> bytes:
        fd = self._files.open(path, os.O_RDONLY | os.O_NONBLOCK)  # of a FIFO nobody would come to write
        try:
            return self._files.pread(fd, _SIZE_LIMIT, 0)
        finally:
            self._files.close(fd)

    def _read_pair(self, path: Path, report: Callable[[str], None]) -> Certificate:
        key_path = path.with_suffix(".key")
        # Parsed first: OpenSSL itself would ask for a passphrase on the terminal.
        key = serialization.load_pem_private_key(self._read(key_path), None)
        chain = x509.load_pem_x509_certificates(self._read(path))
        own = chain[0]
        if own.public_key() != key.public_key():
            raise PostkeepError(f"{key_path.name} is the key of another certificate")
        context = self._context(path, key_path, report)
        return Certificate(
            path,
            _names(own),
            own.issuer == own.subject,
            own.not_valid_before_utc.timestamp(),
            own.not_valid_after_utc.timestamp(),
            context,
        )

    def _context(self, path: Path, key_path: Path, report: Callable[[str], None]) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION | ssl.OP_CIPHER_SERVER_PREFERENCE
        # Resuming costs as much as a full P-256 handshake, and a ticket costs memory and octets. (TLS 1.2
        # keeps its stateless tickets: without them OpenSSL would keep thousands of sessions here.)
        context.num_tickets = 0
        context.load_cert_chain(path, key_path, password=_no_password)
        for extra in self._intermediates(report):
            # OpenSSL completes the chain that it sends from the context's store.
            context.load_verify_locations(cadata=extra)
        return context

    def _intermediates(self, report: Callable[[str], None]) -> list[str]:
        folder = self._intermediate_folder
        if not self._files.exists(folder):
            return []
        found = []
        for name in sorted(self._files.list_dir(folder)):
            if name.endswith((".crt", ".pem")):
                try:
                    data = self._read(folder / name)
                    x509.load_pem_x509_certificates(data)
                    found.append(data.decode("ascii"))
                except (OSError, ValueError) as error:
                    report(f"The certificate {folder / name} cannot be used: {error}")
        return found

    def _make_self_signed(self) -> Path:
        """Write SELF_SIGNED.key (0600) and .crt, durable; the key first: no .crt ever lacks its key."""
        path = self._folder / f"{SELF_SIGNED}.crt"
        number = 1
        while self._files.exists(path):  # an unusable one lies there: keep it for its owner
            number += 1
            path = self._folder / f"{SELF_SIGNED}{number}.crt"
        key_pem, certificate_pem = make_self_signed(self._hostname, self._clock.now(), self._more_names)
        replace_atomically(self._files, path.with_suffix(".key"), key_pem, 0o600)
        replace_atomically(self._files, path, certificate_pem, 0o644)
        return path


def make_self_signed(hostname: str, now: float, more_names: Sequence[str] = ()) -> tuple[bytes, bytes]:
    """A P-256 key and a certificate for `hostname` and `more_names`, both PEM, valid SELF_SIGNED_DAYS."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, hostname[:64] or "localhost")])
    names = [_general_name(one) for one in dict.fromkeys((hostname or "localhost", *more_names))]
    start = datetime.datetime.fromtimestamp(now, datetime.UTC) - datetime.timedelta(days=1)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + datetime.timedelta(days=SELF_SIGNED_DAYS))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
    return (
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
        certificate.public_bytes(serialization.Encoding.PEM),
    )


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name.strip("[]")))
    except ValueError:
        return x509.DNSName(name)


def _names(certificate: x509.Certificate) -> tuple[str, ...]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        common = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        return tuple(str(one.value).lower() for one in common)
    dns = [name.lower() for name in names.get_values_for_type(x509.DNSName)]
    return (*dns, *(str(address) for address in names.get_values_for_type(x509.IPAddress)))


def _no_password() -> str:
    raise PostkeepError("the key is protected by a passphrase")
