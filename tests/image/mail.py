"""Mail clients outside of the virtual machine: submission with STARTTLS (587), IMAP over TLS (993), a load."""

import hashlib
import imaplib
import re
import smtplib
import ssl
import threading
from dataclasses import dataclass, field

_ID = re.compile(rb"(?im)^Message-ID:\s*<([^>]+)>")


def trusting() -> ssl.SSLContext:
    """TLS with whom it may be: the certificate is looked at by its fingerprint alone."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def fingerprint(port: int) -> str:
    """SHA-256 of the certificate on a TLS port of 127.0.0.1, in hex digits."""
    pem = ssl.get_server_certificate(("127.0.0.1", port), timeout=30)
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest().upper()


@dataclass(frozen=True)
class Account:
    """`name` logs in; `address` gets mail."""

    name: str
    address: str
    password: str = field(repr=False)


def text(account: Account, number: str, size: int = 0) -> bytes:
    """A message to oneself with the Message-ID <number@load.test>."""
    lines = [
        f"From: {account.address}", f"To: {account.address}", f"Subject: {number}",
        f"Message-ID: <{number}@load.test>", "", f"This is {number}.", *["x" * 70] * (size // 72), "",
    ]  # fmt: skip
    return "\r\n".join(lines).encode()


def submission(port: int, account: Account, patience: float = 60.0) -> smtplib.SMTP:
    """A session on 587, in TLS and logged in."""
    client = smtplib.SMTP("127.0.0.1", port, local_hostname="client.test", timeout=patience)
    client.starttls(context=trusting())
    client.login(account.name, account.password)
    return client


def submit(port: int, account: Account, number: str, size: int = 0) -> None:
    """One message, acknowledged when this returns."""
    with submission(port, account) as client:
        client.sendmail(account.address, [account.address], text(account, number, size))


def inbox(port: int, account: Account) -> list[str]:
    """The local parts of all Message-IDs in INBOX, in order, doubles too."""
    with imaplib.IMAP4_SSL("127.0.0.1", port, ssl_context=trusting(), timeout=120) as client:
        client.login(account.name, account.password)
        status, data = client.select("INBOX", readonly=True)
        assert status == "OK", data
        if data == [b"0"]:
            return []
        status, data = client.fetch("1:*", "(BODY.PEEK[HEADER.FIELDS (MESSAGE-ID)])")
        assert status == "OK", data
    found = []
    for entry in data:
        if isinstance(entry, tuple) and (match := _ID.search(entry[1])):
            found.append(match[1].decode().partition("@")[0])
    return found


class Load(threading.Thread):
    """Submits one message after the other on one connection until it is cut off or told to stop."""

    def __init__(self, port: int, account: Account, label: str, size: int = 8_000) -> None:
        super().__init__(daemon=True)
        self._port, self._account, self._label, self._size = port, account, label, size
        self.acknowledged: list[str] = []
        self.tried: list[str] = []
        self.end = ""
        """Why it ended."""
        self._enough = threading.Event()
        self.flowing = threading.Event()
        """Set at the tenth acknowledgement."""

    def run(self) -> None:
        try:
            client = submission(self._port, self._account, 40)
            while not self._enough.is_set():
                number = f"{self._label}-{len(self.tried)}"
                self.tried.append(number)
                message = text(self._account, number, self._size)
                client.sendmail(self._account.address, [self._account.address], message)
                self.acknowledged.append(number)
                if len(self.acknowledged) == 10:
                    self.flowing.set()
        except (OSError, smtplib.SMTPException) as error:
            self.end = f"{type(error).__name__}: {error}"
        finally:
            self.flowing.set()

    def stop(self) -> None:
        """No further message; waits for the one on its way."""
        self._enough.set()
        self.join(60)
