"""The inspection that ends the build: each kind of thing that must not be in an image is found."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.scripts import load

inspect = load("ansible/roles/seal/files/inspect.py")
KEY = "-----BEGIN PRIVATE KEY-----\nAAAA\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A clean image."""
    for folder in (
        "etc/ssh",
        "etc/apt/sources.list.d",
        "etc/apt/apt.conf.d",
        "root",
        "home",
        "opt",
        "srv",
        "var/lib",
    ):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
    (tmp_path / "etc/machine-id").write_text("")
    (tmp_path / "etc/shadow").write_text(
        "root:$y$j9T$aaa$bbb:20000:0:99999:7:::\ndaemon:*:20000::::::\npostkeep:!*:1::::::\n"
    )
    (tmp_path / "etc/resolv.conf").write_text("nameserver 127.0.0.1\n")
    (tmp_path / "etc/apt/sources.list.d/debian.sources").write_text("URIs: http://deb.debian.org/debian\n")
    return tmp_path


def _write(root: Path, path: str, text: str) -> None:
    target = root / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text)


def test_a_clean_image_passes(root: Path) -> None:
    assert inspect.findings(root, ["gcc"]) == []


@pytest.mark.parametrize(
    ("break_it", "said"),
    [
        (lambda root: _write(root, "etc/ssl/private/x.key", KEY), "a private key"),
        (
            lambda root: _write(root, "var/lib/x/tls.pem", KEY.replace("PRIVATE", "EC PRIVATE")),
            "a private key",
        ),
        (lambda root: _write(root, "etc/machine-id", "0123456789abcdef\n"), "must be there and empty"),
        (lambda root: (root / "etc/machine-id").unlink(), "must be there and empty"),
        (
            lambda root: _write(root, "etc/ssh/ssh_host_ed25519_key.pub", "ssh-ed25519 A"),
            "belongs to one machine",
        ),
        (lambda root: _write(root, "var/lib/systemd/random-seed", "x"), "belongs to one machine"),
        (lambda root: _write(root, "root/.ssh/authorized_keys", "ssh-ed25519 A build"), "lets somebody in"),
        (lambda root: _write(root, "home/x/.ssh/authorized_keys", "ssh-ed25519 A"), "lets somebody in"),
        (lambda root: _write(root, "etc/shadow", "root:*:1:\nadmin:$6$a$b:1:\n"), "admin has a password"),
        (lambda root: _write(root, "etc/shadow", "root:*:1:\nguest::1:\n"), "guest needs no password"),
        (
            lambda root: _write(root, "etc/systemd/system/multi-user.target.wants/ssh.service", ""),
            "ssh must be off",
        ),
        (
            lambda root: _write(root, "etc/apt/apt.conf.d/00build", 'Acquire::http::Proxy "x";'),
            "of the build",
        ),
        (lambda root: _write(root, "etc/apt/sources.list", "deb http://m.invalid/ x main"), "of the build"),
        (
            lambda root: _write(root, "etc/apt/sources.list.d/m.list", "deb http://m.invalid/ x main"),
            "not Debian's",
        ),
        (
            lambda root: _write(root, "etc/resolv.conf", "nameserver 10.0.2.3\n"),
            "not this machine's resolver",
        ),
        (lambda root: _write(root, "var/lib/postkeep/users.cfg", "<users/>"), "an engine ran here"),
        (lambda root: _write(root, "var/lib/postkeep/sslcert/server.pem", "x"), "an engine ran here"),
    ],
)
def test_what_must_not_be_there_is_found(root: Path, break_it: Callable[[Path], object], said: str) -> None:
    break_it(root)
    found = inspect.findings(root, ["gcc"])
    assert len(found) == 1
    assert said in found[0]


def test_a_compiler_is_found(root: Path) -> None:
    _write(root, "usr/bin/gcc", "")
    (root / "usr/bin/gcc").chmod(0o755)
    assert inspect.findings(root, ["gcc", "make"]) == [f"{root}/usr/bin/gcc: not in an appliance"]


def test_keys_that_packages_publish_are_no_secrets(root: Path) -> None:
    _write(root, "opt/postkeep/venv/lib/python3.13/site-packages/x/test.pem", KEY)
    assert inspect.findings(root, []) == []
