"""New certificates in a running engine, seen by OpenSSL from outside."""

import os
import pty
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from postkeep.runtime.certificates import make_self_signed

from tests.support.engine import POSTKEEP, Engine


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    with Engine(tmp_path_factory.mktemp("reload")) as engine:
        yield engine


def connect(engine: Engine) -> ssl.SSLSocket:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    raw = socket.create_connection((engine.host, engine.ports.imaps), 10)
    secure = context.wrap_socket(raw, server_hostname=engine.hostname)
    assert secure.recv(4096).startswith(b"* OK")
    return secure


def shown(engine: Engine) -> bytes:
    """The certificate that a new connection gets (DER)."""
    with connect(engine) as secure:
        return secure.getpeercert(binary_form=True) or b""


def der(pem: bytes) -> bytes:
    return x509.load_pem_x509_certificate(pem).public_bytes(serialization.Encoding.DER)


def hang_up_signal(engine: Engine, log: str, until: Callable[[str], bool]) -> None:
    os.kill(engine.pid, signal.SIGHUP)
    deadline = time.monotonic() + 20
    while not until(engine.log_file(log)):
        assert time.monotonic() < deadline, engine.log_file(log)
        time.sleep(0.05)


def replace_pair(path: Path, key: bytes, crt: bytes) -> None:
    path.with_suffix(".key").write_bytes(key)
    path.write_bytes(crt)


def test_new_connections_get_the_new_one_and_old_ones_go_on(engine: Engine) -> None:
    old = connect(engine)
    before = shown(engine)
    key, crt = make_self_signed(engine.hostname, time.time())
    replace_pair(engine.certificate, key, crt)
    hang_up_signal(engine, "operations", lambda text: "certificates were read again: server.crt" in text)
    assert shown(engine) == der(crt) != before
    old.sendall(b"a NOOP\r\n")
    assert old.recv(4096) == b"a OK NOOP completed\r\n"
    assert old.getpeercert(binary_form=True) == before
    old.close()


def test_a_broken_one_is_said_and_the_old_one_stays(engine: Engine) -> None:
    before = shown(engine)
    good = engine.certificate.read_bytes()
    engine.certificate.write_bytes(good[: len(good) // 2])
    hang_up_signal(engine, "error", lambda text: "stays in use as it was read before" in text)
    assert "server.crt cannot be used" in engine.log_file("error")
    assert shown(engine) == before
    engine.certificate.write_bytes(good)


def test_the_administration_gets_it_too(engine: Engine) -> None:
    key, crt = make_self_signed(engine.hostname, time.time())
    replace_pair(engine.certificate, key, crt)
    count = engine.log_file("operations").count("read again")
    hang_up_signal(engine, "operations", lambda text: text.count("read again") > count)
    raw = socket.create_connection((engine.host, engine.ports.admin), 10)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with context.wrap_socket(raw) as secure:
        assert secure.getpeercert(binary_form=True) == der(crt)


def test_a_closed_terminal_leaves_no_engine_behind(tmp_path: Path) -> None:
    """SIGHUP from a terminal is its end; only a service without one takes it for a wish to reload."""
    with Engine(tmp_path) as prepared:
        data, offset = prepared.data, prepared.ports.offset
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [str(POSTKEEP), "serve", "--data", str(data), "--port-offset", str(offset)],
        stdin=slave,
        stdout=subprocess.PIPE,
        text=True,
    )
    os.close(slave)
    try:
        assert process.stdout is not None
        while process.stdout.readline().strip() != "ready":
            assert process.poll() is None
        process.send_signal(signal.SIGHUP)
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()
        os.close(master)
