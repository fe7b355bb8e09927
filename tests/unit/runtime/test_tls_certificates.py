import ssl
import stat
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from postkeep.runtime.certificates import Certificates, make_self_signed
from postkeep.runtime.files import SystemFiles

from tests.support.clock import FakeClock

HOST = "mail.example.test"


def certificates(
    folder: Path, report: list[str] | None = None, clock: FakeClock | None = None
) -> Certificates:
    lines = report if report is not None else []
    return Certificates(folder / "sslcert", HOST, SystemFiles(), clock or FakeClock(), lines.append)


def put(folder: Path, name: str, host: str, clock: FakeClock, cert: bytes | None = None) -> None:
    key, own = make_self_signed(host, clock.now())
    (folder / "sslcert").mkdir(exist_ok=True)
    (folder / "sslcert" / f"{name}.key").write_bytes(key)
    (folder / "sslcert" / f"{name}.crt").write_bytes(cert or own)


def test_the_first_start_makes_a_p256_pair(tmp_path: Path) -> None:
    made = certificates(tmp_path)
    key_path, path = tmp_path / "sslcert/server.key", tmp_path / "sslcert/server.crt"
    assert stat.S_IMODE(key_path.stat().st_mode) == 0o600
    certificate = x509.load_pem_x509_certificate(path.read_bytes())
    public = certificate.public_key()
    assert isinstance(public, ec.EllipticCurvePublicKey)
    assert public.curve.name == "secp256r1"
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == [HOST]
    assert made.active.self_signed
    context = made.server_context()
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2


def test_the_second_start_keeps_it(tmp_path: Path) -> None:
    certificates(tmp_path)
    before = (tmp_path / "sslcert/server.crt").read_bytes()
    certificates(tmp_path)
    assert (tmp_path / "sslcert/server.crt").read_bytes() == before
    assert sorted(path.name for path in (tmp_path / "sslcert").iterdir()) == ["server.crt", "server.key"]


@pytest.mark.parametrize("damage", ["no-key", "other-key", "garbage", "empty", "passphrase"])
def test_a_broken_pair_is_reported_and_skipped(tmp_path: Path, damage: str) -> None:
    clock = FakeClock()
    put(tmp_path, "hand", HOST, clock)
    key = tmp_path / "sslcert/hand.key"
    match damage:
        case "no-key":
            key.unlink()
        case "other-key":
            key.write_bytes(make_self_signed(HOST, clock.now())[0])
        case "garbage":
            (tmp_path / "sslcert/hand.crt").write_bytes(b"\0garbage")
        case "empty":
            (tmp_path / "sslcert/hand.crt").write_bytes(b"")
        case "passphrase":
            private = serialization.load_pem_private_key(key.read_bytes(), None)
            key.write_bytes(
                private.private_bytes(
                    serialization.Encoding.PEM,
                    serialization.PrivateFormat.PKCS8,
                    serialization.BestAvailableEncryption(b"secret"),
                )
            )
    report: list[str] = []
    found = certificates(tmp_path, report, clock)
    assert len(report) == 1
    assert "hand.crt cannot be used" in report[0]
    assert "\n" not in report[0]
    assert found.active.path.name == "server.crt"


def test_a_pair_put_there_by_hand_is_used(tmp_path: Path) -> None:
    clock = FakeClock()
    put(tmp_path, "hand", HOST, clock)
    assert certificates(tmp_path, clock=clock).active.path.name == "hand.crt"


def test_one_that_covers_the_hostname_is_preferred(tmp_path: Path) -> None:
    clock = FakeClock()
    put(tmp_path, "a-other", "other.test", clock)
    put(tmp_path, "z-own", "*.example.test", clock)
    found = certificates(tmp_path, clock=clock)
    assert found.active.path.name == "z-own.crt"
    assert found.active.covers("MAIL.example.test.")
    assert not found.active.covers("a.b.example.test")
    assert not found.active.covers("example.test")


async def test_an_expired_one_is_replaced_but_kept(tmp_path: Path) -> None:
    clock = FakeClock()
    put(tmp_path, "hand", HOST, clock)
    await clock.advance(4000 * 86_400)
    found = certificates(tmp_path, clock=clock)
    assert found.active.path.name == "server.crt"
    assert (tmp_path / "sslcert/hand.crt").exists()


def test_an_address_as_hostname(tmp_path: Path) -> None:
    found = Certificates(tmp_path, "192.0.2.1", SystemFiles(), FakeClock())
    assert found.active.names == ("192.0.2.1",)


def test_a_very_long_hostname(tmp_path: Path) -> None:
    name = ".".join(["a" * 60] * 4)
    assert Certificates(tmp_path, name, SystemFiles(), FakeClock()).active.names == (name,)


def handshake(context: ssl.SSLContext, name: str) -> bytes:
    """The certificate that a client asking for `name` is shown."""
    client_context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client_context.check_hostname = False
    client_context.verify_mode = ssl.CERT_NONE
    a, b = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_context.wrap_bio(a, b, server_hostname=name)
    server = context.wrap_bio(b, a, server_side=True)
    for _ in range(4):
        for side in (client, server):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    shown = client.getpeercert(binary_form=True)
    assert shown is not None
    return shown


def test_sni_chooses_another_certificate(tmp_path: Path) -> None:
    clock = FakeClock()
    put(tmp_path, "main", HOST, clock)
    put(tmp_path, "second", "mail.other.test", clock)
    found = certificates(tmp_path, clock=clock)
    names = {one.path.name: one for one in found.all}

    def der(name: str) -> bytes:
        pem = names[name].path.read_bytes()
        return x509.load_pem_x509_certificate(pem).public_bytes(serialization.Encoding.DER)

    assert handshake(found.server_context(), HOST) == der("main.crt")
    assert handshake(found.server_context(), "mail.other.test") == der("second.crt")
    assert handshake(found.server_context(), "unknown.test") == der("main.crt")


def test_more_names_are_in_the_self_signed_certificate(tmp_path: Path) -> None:
    found = Certificates(
        tmp_path, HOST, SystemFiles(), FakeClock(), more_names=("localhost", "127.0.0.1", "::1", HOST)
    )
    assert found.active.names == (HOST, "localhost", "127.0.0.1", "::1")
    assert found.active.covers("localhost")
    again = Certificates(tmp_path, HOST, SystemFiles(), FakeClock())  # as the engine loads it
    assert again.active.names == found.active.names
