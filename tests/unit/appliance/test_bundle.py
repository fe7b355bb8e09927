"""A support bundle carries no secret out (CON-9): they are planted, then looked for."""

import gzip
import io
import tarfile

import pytest
from postkeep_appliance.agent import bundle as bundle_room
from postkeep_appliance.agent.bundle import pack
from postkeep_appliance.agent.redact import redact
from postkeep_appliance.api.types import Bundle, SupportBundle
from postkeep_appliance.host.port import Collected

from tests.support.agentbench import Bench

SECRET = "Tr0ub4dor-and-3"
KEY = "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgplanted"

PLANTED = [
    f'<variable name="RelayPassword">{SECRET}</variable>',
    f'<variable name="RelayPassword">\n{SECRET}\nand more {SECRET}</variable>',
    f'<list name="ApiTokens"><listitem>{SECRET}</listitem></list>',
    f'<Property oe:key="guestinfo.postkeep.root_password" oe:value="{SECRET}"/>',
    f"guestinfo.postkeep.administrator_password={SECRET}",
    f"root_password: {SECRET}",
    f'"password": "{SECRET}"',
    f'"password":"quote \\" {SECRET}"',
    f"password='{SECRET} with blanks'",
    f"PASSWD={SECRET}",
    f"Authorization: Basic {SECRET}",
    f"authorization: Bearer {SECRET}",
    f"Set-Cookie: session={SECRET}; Secure",
    f"a1 LOGIN alice {SECRET}",
    f"PASS {SECRET}",
    f"AUTH PLAIN {SECRET}",
    f"a1 AUTHENTICATE PLAIN {SECRET}",
    f"x-api-key: {SECRET}",
    f"client_secret={SECRET}",
    f"smtp://relay:{SECRET}@mx.example.com:587",
    f"root:$y$j9T$abcdefgh${SECRET.replace('-', '')}xxxxxxxxxxxxxxxxxxxxxxxx:19000:0:99999:7:::",
    f"$argon2id$v=19$m=19456,t=2,p=1$28ZgZfoxqJ0xqOlUriAu0Q${SECRET.replace('-', '')}",
    f"{{SSHA}}{SECRET.replace('-', '')}aaaaaaaa",
    f"-----BEGIN PRIVATE KEY-----\n{SECRET}\n{KEY}\n-----END PRIVATE KEY-----",
    f"-----BEGIN OPENSSH PRIVATE KEY-----\n{SECRET}\n{KEY}\n-----END OPENSSH PRIVATE KEY-----",
    f"-----BEGIN EC PRIVATE KEY-----\n{SECRET}\n{KEY}",
]


def test_the_rest_of_a_key_whose_beginning_was_cut_off() -> None:
    text = f"{KEY}\n{SECRET}\n-----END PRIVATE KEY-----\nafter it\n"
    assert redact(text.encode()) == b"[removed]\nafter it\n"


@pytest.mark.parametrize("text", PLANTED, ids=range(len(PLANTED)))
def test_planted_secrets_are_removed(text: str) -> None:
    found = redact(f"before the line\n{text}\n".encode())
    assert SECRET.encode() not in found
    assert SECRET.replace("-", "").encode() not in found
    assert KEY.encode() not in found
    assert found.startswith(b"before the line\n")
    assert b"[removed]" in found


@pytest.mark.parametrize(
    "text",
    [
        "2026-01-01 mail from <ana@example.com> to <ben@example.org> delivered",
        '<variable name="InternetHostname">mail.example.com</variable>',
        "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----",
        "Address=192.0.2.5/24",
        "tcp LISTEN 0 4096 *:443 users:((postkeep,pid=611,fd=23))",
    ],
)
def test_what_helps_stays(text: str) -> None:
    assert redact(text.encode()) == text.encode()


def test_hostile_input_takes_no_long_time() -> None:
    """A log may hold what a stranger sent: patterns must not backtrack for hours."""
    import time

    begin = time.process_time()
    for piece in (
        "password",
        "-----BEGIN ",
        "-----BEGIN PRIVATE KEY-----",
        '<variable name="Password">',
        '<variable name="',
        "a:",
        "://a:",
        'password="\\"',
        "LOGIN a ",
        'key="password',
        "$y$",
        "a",
        " ",
    ):
        redact(piece.encode() * (200_000 // len(piece)))
    assert time.process_time() - begin < 10


async def test_the_whole_bundle() -> None:
    bench = Bench()
    await bench.unlock()
    bench.machine.settings["RelayPassword"] = SECRET
    bundle = await bench.ask(SupportBundle(), Bundle)
    name = "postkeep-support-20260101-0000"
    assert bundle.path.startswith(f"/var/lib/postkeep-appliance/support/{name}")
    (data,) = bench.machine.bundles.values()
    assert len(data) == bundle.size
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:gz") as tar:
        members = tar.getmembers()
        texts = {member.name.partition("/")[2]: tar.extractfile(member).read() for member in members}  # type: ignore[union-attr]
    assert all(member.mode == 0o600 and member.name.startswith("postkeep-support-") for member in members)
    assert {"logs/mail.log", "logs/system.log", "settings/mailserver.txt"} <= set(texts)
    assert SECRET.encode() not in gzip.decompress(data)
    assert any("Collecting" in text for text, _, _ in bench.said)


def test_a_bundle_is_bounded_and_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle_room, "MAX_FILE", 1_000)
    monkeypatch.setattr(bundle_room, "MAX_TOTAL", 5_500)
    files = [Collected(f"logs/{n}.log", bytes([65 + n]) * 1_200) for n in range(20)]
    data = gzip.decompress(pack("x", files, 0))
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        assert tar.getnames() == [*(f"x/logs/{n}.log" for n in range(5)), "x/MISSING.txt"]
        assert max(member.size for member in tar) == 1_000
        missing = tar.extractfile("x/MISSING.txt")
        assert missing is not None
        assert missing.read().startswith(b"logs/5.log\n")
