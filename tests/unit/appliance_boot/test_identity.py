"""A machine's identity: made once, made anew for a copy, whole after a power cut at any point."""

import os
import stat
from collections.abc import Sequence
from pathlib import Path

import pytest
from postkeep.runtime.certificates import make_self_signed
from postkeep_appliance.boot.identity import COPY_NOTICE, KEYS_ONLY, NO_UUID, Identity
from postkeep_appliance.host.port import HostError
from postkeep_appliance.host.run import Output, SystemRunner

from tests.support.programs import FakePrograms, missing

UUID = "564d1f2a-3b4c-5d6e-7f80-91a2b3c4d5e6"
SWAPPED = "2a1f4d56-4c3b-6e5d-7f80-91a2b3c4d5e6"
KEYS = [f"ssh_host_{kind}_key{end}" for kind in ("ecdsa", "ed25519", "rsa") for end in ("", ".pub")]


class Keygen:
    """ssh-keygen as far as its files go; every key differs. `after` counts down to a power cut."""

    def __init__(self, after: int = 1000) -> None:
        self.after = after
        self.made = 0

    def __call__(self, argv: Sequence[str], stdin: str) -> Output | None:
        if self.made == self.after:
            raise HostError("the power was cut")
        self.made += 1
        path = Path(argv[argv.index("-f") + 1])
        assert not path.exists()
        path.write_text(f"private {argv[3]} {os.urandom(4).hex()}\n")
        path.chmod(0o600)
        public = path.with_name(f"{path.name}.pub")
        public.write_text(f"public {argv[3]}\n")
        public.chmod(0o600)  # as under the unit's umask
        return None


def machine(root: Path, uuid: str = UUID) -> Path:
    files = {
        "sys/class/dmi/id/product_uuid": f"{uuid}\n",
        "etc/machine-id": "0" * 32 + "\n",
        "var/lib/systemd/random-seed": "old",
        "dev/urandom": "",
        "etc/ssh/sshd_config": "",
    }
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (root / "etc/ssh/sshd_config.d").mkdir()
    return root


def host_keys(root: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in sorted((root / "etc/ssh").glob("*ssh_host_*"))}


def certificate(root: Path, name: str, *, issued: bool = False) -> None:
    folder = root / "var/lib/postkeep/sslcert"
    folder.mkdir(parents=True, exist_ok=True)
    key, pem = make_self_signed("mail.example.com", 1_800_000_000)
    (folder / f"{name}.crt").write_bytes(ISSUED if issued else pem)
    (folder / f"{name}.key").write_bytes(key)


def _issued() -> bytes:
    import datetime

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    start = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mail.example.com")]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Example CA")]))
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(start)
        .not_valid_after(start + datetime.timedelta(days=90))
        .sign(key, hashes.SHA256())
    )
    return made.public_bytes(Encoding.PEM)


ISSUED = _issued()


# --- which machine ------------------------------------------------------------------------------------


def test_the_instance_is_told_by_the_uuid_and_does_not_give_it_away(tmp_path: Path) -> None:
    one = Identity(machine(tmp_path / "a"), FakePrograms()).instance()
    assert one == Identity(machine(tmp_path / "b", UUID.upper()), FakePrograms()).instance()
    assert one != Identity(machine(tmp_path / "c", UUID[:-1] + "7"), FakePrograms()).instance()
    assert UUID not in one


def test_a_raised_hardware_version_is_no_copy(tmp_path: Path) -> None:
    before, after = (
        Identity(machine(tmp_path / one, one), FakePrograms()).instance() for one in (UUID, SWAPPED)
    )
    assert before == after


@pytest.mark.parametrize(
    "text", ["", "none", "Not Settable", "0" * 8 + "-0000-0000-0000-" + "0" * 12, "f" * 32]
)
def test_a_hypervisor_without_uuid(tmp_path: Path, text: str) -> None:
    assert Identity(machine(tmp_path, text), FakePrograms()).instance() == NO_UUID


def test_no_dmi_at_all(tmp_path: Path) -> None:
    assert Identity(tmp_path, FakePrograms()).instance() == NO_UUID


# --- a new machine ------------------------------------------------------------------------------------


async def test_a_new_machine_gets_keys_and_a_seed_but_keeps_what_systemd_made(tmp_path: Path) -> None:
    root = machine(tmp_path)
    (root / KEYS_ONLY).write_text("left by a factory reset")
    notices = await Identity(root, FakePrograms(**{"ssh-keygen": Keygen()})).renew(copy=False)
    assert notices == []
    assert sorted(host_keys(root)) == KEYS
    assert (root / "etc/machine-id").read_text() == "0" * 32 + "\n"
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (root / "etc/ssh").glob("ssh_host_*")}
    assert modes == {name: 0o644 if name.endswith(".pub") else 0o600 for name in KEYS}
    seed = root / "var/lib/systemd/random-seed"
    assert len(seed.read_bytes()) == 512
    assert stat.S_IMODE(seed.stat().st_mode) == 0o600
    assert UUID.encode() in (root / "dev/urandom").read_bytes()  # stirred in before any key was made
    assert not (root / KEYS_ONLY).exists()


async def test_keys_of_the_image_would_be_replaced_and_odd_kinds_removed(tmp_path: Path) -> None:
    root = machine(tmp_path)
    for name in ("ssh_host_ed25519_key", "ssh_host_ed25519_key.pub", "ssh_host_dsa_key"):
        (root / "etc/ssh" / name).write_text("shared by all")
    await Identity(root, FakePrograms(**{"ssh-keygen": Keygen()})).renew(copy=False)
    assert sorted(host_keys(root)) == KEYS
    assert "shared by all" not in host_keys(root).values()


async def test_real_ssh_keys(tmp_path: Path) -> None:
    """The real program, were it on this machine (it is on the appliance); its arguments else."""
    programs = FakePrograms(**{"ssh-keygen": Keygen()})
    root = machine(tmp_path)
    await Identity(root, programs).make_host_keys(fresh=True)
    assert programs.named("ssh-keygen")[0] == (
        *("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f"),
        str(root / "etc/ssh/.ssh_host_ed25519_key.new"),
    )


@pytest.mark.parametrize("after", [0, 1, 2])
async def test_a_power_cut_while_keys_are_made(tmp_path: Path, after: int) -> None:
    root = machine(tmp_path)
    with pytest.raises(HostError):
        await Identity(root, FakePrograms(**{"ssh-keygen": Keygen(after)})).renew(copy=False)
    (root / "etc/ssh/.ssh_host_ecdsa_key.new").write_text("half")  # and what the cut left lying about
    await Identity(root, FakePrograms(**{"ssh-keygen": Keygen()})).renew(copy=False)
    assert sorted(host_keys(root)) == KEYS
    for name, text in host_keys(root).items():
        assert text.startswith("public" if name.endswith(".pub") else "private")


async def test_only_missing_and_empty_keys_are_made_at_a_usual_start(tmp_path: Path) -> None:
    root = machine(tmp_path)
    identity = Identity(root, FakePrograms(**{"ssh-keygen": Keygen()}))
    await identity.make_host_keys(fresh=True)
    before = host_keys(root)
    assert await identity.make_host_keys(fresh=False) == []
    assert host_keys(root) == before
    (root / "etc/ssh/ssh_host_rsa_key").write_text("")  # as ext4 leaves it after a power cut
    (root / "etc/ssh/ssh_host_ecdsa_key.pub").unlink()
    assert await identity.make_host_keys(fresh=False) == ["ecdsa", "rsa"]
    assert host_keys(root)["ssh_host_ed25519_key"] == before["ssh_host_ed25519_key"]


async def test_no_ssh_on_this_machine(tmp_path: Path) -> None:
    programs = FakePrograms()
    assert await Identity(tmp_path, programs).make_host_keys(fresh=True) == []
    assert programs.calls == []


# --- a copy -------------------------------------------------------------------------------------------


async def test_a_copy_gets_a_machine_id_before_dhcp_uses_it(tmp_path: Path) -> None:
    root = machine(tmp_path)
    dbus = root / "var/lib/dbus/machine-id"
    dbus.parent.mkdir()
    dbus.write_text("0" * 32 + "\n")
    programs = FakePrograms(**{"ssh-keygen": Keygen()})
    notices = await Identity(root, programs).renew(copy=True)
    text = (root / "etc/machine-id").read_text()
    assert len(text) == 33
    assert int(text, 16)
    assert stat.S_IMODE((root / "etc/machine-id").stat().st_mode) == 0o444
    assert os.readlink(dbus) == "/etc/machine-id"
    assert ("systemctl", "restart", "systemd-journald.service") in programs.calls
    assert notices == [COPY_NOTICE]


async def test_two_copies_have_nothing_in_common(tmp_path: Path) -> None:
    found = []
    for name in ("a", "b"):
        root = machine(tmp_path / name)
        certificate(root, "server")
        await Identity(root, FakePrograms(**{"ssh-keygen": Keygen(), "openssl": _self_signed})).renew(
            copy=True
        )
        files = [
            root / "etc/machine-id",
            root / "var/lib/systemd/random-seed",
            *(root / "etc/ssh").glob("*_key"),
        ]
        found.append({path.read_bytes() for path in files})
        assert list((root / "var/lib/postkeep/sslcert").iterdir()) == []
    assert len(found[0]) == 5
    assert not found[0] & found[1]


def _self_signed(argv: Sequence[str], stdin: str) -> Output:
    return Output(0, "subject=CN=x\nissuer=CN=x\n", "")


async def test_a_key_on_a_copy_stays_authorized_only_by_its_owner_s_will(tmp_path: Path) -> None:
    """What opens the machine to its owner is his data: a copy neither adds to it nor takes from it."""
    root = machine(tmp_path)
    (root / KEYS_ONLY).write_text("x")
    await Identity(root, FakePrograms(**{"ssh-keygen": Keygen()})).renew(copy=True)
    assert (root / KEYS_ONLY).exists()


class OpensslOnly(FakePrograms):
    """The real openssl, nothing else."""

    async def __call__(self, argv: Sequence[str], **keywords: object) -> Output:  # type: ignore[override]
        if argv[0] == "openssl":
            return await SystemRunner()(argv, **keywords)  # type: ignore[arg-type]
        return await super().__call__(argv, **keywords)  # type: ignore[arg-type]


async def test_the_engine_s_own_certificates_go_and_issued_ones_stay(tmp_path: Path) -> None:
    root = machine(tmp_path)
    for name in ("server", "server2"):
        certificate(root, name)
    certificate(root, "server3", issued=True)  # somebody put it there under our name
    certificate(root, "mail", issued=True)
    certificate(root, "private")  # self-signed, but not by the engine
    notices = await Identity(root, OpensslOnly(**{"ssh-keygen": Keygen()})).renew(copy=True)
    left = sorted(path.name for path in (root / "var/lib/postkeep/sslcert").iterdir())
    assert left == [f"{name}.{end}" for name in ("mail", "private", "server3") for end in ("crt", "key")]
    assert notices[1:] == [
        "The other machine has the keys of these certificates too: mail.crt, private.crt, server3.crt."
    ]


async def test_without_openssl_certificates_stay_and_are_told(tmp_path: Path) -> None:
    root = machine(tmp_path)
    certificate(root, "server")
    notices = await Identity(root, FakePrograms(**{"ssh-keygen": Keygen(), "openssl": missing})).renew(
        copy=True
    )
    assert (root / "var/lib/postkeep/sslcert/server.key").exists()
    assert "server.crt" in notices[1]


async def test_a_link_in_the_engine_s_folder_leads_root_nowhere(tmp_path: Path) -> None:
    """The folder is the engine's: whoever took it over must not make root remove other files."""
    root = machine(tmp_path)
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "server.crt").write_bytes(ISSUED)
    (outside / "server.key").write_text("precious")
    data = root / "var/lib/postkeep"
    data.mkdir(parents=True)
    (data / "sslcert").symlink_to(outside)
    with pytest.raises(OSError, match="sslcert"):
        await Identity(root, FakePrograms(**{"ssh-keygen": Keygen(), "openssl": _self_signed})).renew(
            copy=True
        )
    assert (outside / "server.key").read_text() == "precious"


async def test_a_certificate_that_is_a_link_is_not_read(tmp_path: Path) -> None:
    root = machine(tmp_path)
    folder = root / "var/lib/postkeep/sslcert"
    folder.mkdir(parents=True)
    (folder / "server.crt").symlink_to("/etc/shadow")
    programs = FakePrograms(**{"ssh-keygen": Keygen(), "openssl": _self_signed})
    await Identity(root, programs).renew(copy=True)
    assert programs.named("openssl") == []
