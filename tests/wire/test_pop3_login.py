"""POP3 before the transaction: greeting, USER and PASS, AUTH, the lock of the maildrop."""

import base64
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from postkeep.domain.errors import Throttled

from tests.support.clock import FakeClock, settle, until
from tests.support.pop3 import ONE, Pop3House, pop3_house


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[Pop3House]:
    async with pop3_house(tmp_path) as house:
        yield house


async def test_greeting_and_capabilities(house: Pop3House) -> None:
    client = await house.client(login=False)
    assert client.greeting == b"+OK Postkeep ready"
    expected = {b"TOP", b"UIDL", b"RESP-CODES", b"AUTH-RESP-CODE", b"PIPELINING", b"EXPIRE NEVER", b"USER",
                b"SASL PLAIN LOGIN", b"STLS", b"IMPLEMENTATION Postkeep"}  # fmt: skip
    assert set((await client.fetch("CAPA")).split(b"\r\n")) == expected | {b""}
    secure = await house.client(tls=True)
    assert set((await secure.fetch("capa")).split(b"\r\n")) == (expected - {b"STLS"}) | {b""}


async def test_user_and_pass(house: Pop3House) -> None:
    await house.deliver(ONE)
    client = await house.client(login=False)
    assert await client.command("USER alice") == b"+OK"
    assert await client.command("PASS secret") == b"+OK 1 messages (%d octets)" % len(ONE)
    assert house.authenticator.tried == [("alice", "secret", "127.0.0.1", "POP3")]
    assert (await client.command("USER alice")).startswith(b"-ERR")
    assert await client.command("QUIT") == b"+OK Bye"
    assert await client.closed() == b""


async def test_pass_keeps_spaces(house: Pop3House) -> None:
    client = await house.client(login=False)
    await client.command("USER alice")
    await client.command("PASS  two  words ")
    assert house.authenticator.tried[0][1] == " two  words "


async def test_pass_without_user(house: Pop3House) -> None:
    client = await house.client(login=False)
    assert (await client.command("PASS secret")).startswith(b"-ERR")
    assert house.authenticator.tried == []


async def test_user_is_forgotten_after_a_failed_pass(house: Pop3House) -> None:
    client = await house.client(login=False)
    await client.command("USER alice")
    assert await client.command("PASS wrong") == b"-ERR [AUTH] Wrong name or password"
    assert (await client.command("PASS secret")).startswith(b"-ERR USER")


async def test_unknown_user_looks_like_a_wrong_password(house: Pop3House) -> None:
    client = await house.client(login=False)
    assert await client.command("USER nobody") == b"+OK"
    assert await client.command("PASS secret") == b"-ERR [AUTH] Wrong name or password"


async def test_auth_plain(house: Pop3House) -> None:
    message = base64.b64encode(b"\0alice\0secret").decode()
    client = await house.client(login=False)
    assert (await client.command(f"AUTH PLAIN {message}")).startswith(b"+OK")
    assert (await client.command("QUIT")).startswith(b"+OK")
    client = await house.client(login=False)
    assert await client.command("AUTH plain") == b"+ "
    assert (await client.command(message)).startswith(b"+OK")


async def test_auth_login(house: Pop3House) -> None:
    client = await house.client(login=False)
    assert await client.command("AUTH LOGIN") == b"+ VXNlcm5hbWU6"
    assert await client.command(base64.b64encode(b"alice")) == b"+ UGFzc3dvcmQ6"
    assert (await client.command(base64.b64encode(b"secret"))).startswith(b"+OK")


@pytest.mark.parametrize(
    ("command", "answer"),
    [
        ("AUTH PLAIN !!!", b"-ERR Invalid base64"),
        ("AUTH PLAIN " + base64.b64encode(b"alice").decode(), b"-ERR Invalid SASL message"),
        ("AUTH PLAIN " + base64.b64encode(b"bob\0alice\0secret").decode(), b"-ERR [AUTH]"),
        ("AUTH PLAIN " + base64.b64encode(b"\0alice\0wrong").decode(), b"-ERR [AUTH]"),
        ("AUTH PLAIN =", b"-ERR Invalid SASL message"),
        ("AUTH CRAM-MD5", b"-ERR Unknown mechanism"),
        ("AUTH PLAIN a b", b"-ERR"),
    ],
)
async def test_auth_refusals(house: Pop3House, command: str, answer: bytes) -> None:
    client = await house.client(login=False)
    assert (await client.command(command)).startswith(answer)
    assert (await client.command("CAPA")).startswith(b"+OK")


async def test_auth_cancelled(house: Pop3House) -> None:
    client = await house.client(login=False)
    await client.command("AUTH PLAIN")
    assert await client.command("*") == b"-ERR Authentication cancelled"


async def test_auth_alone_lists_mechanisms(house: Pop3House) -> None:
    client = await house.client(login=False)
    assert await client.fetch("AUTH") == b"PLAIN\r\nLOGIN\r\n"


async def test_attack_sasl_line_without_end(house: Pop3House) -> None:
    client = await house.client(login=False)
    await client.command("AUTH PLAIN")
    assert await client.command(b"A" * 20_000) == b"-ERR Line too long"
    assert (await client.command("CAPA")).startswith(b"+OK")


async def test_clear_text_is_refused_without_tls(tmp_path: Path) -> None:
    async with pop3_house(tmp_path, plaintext_login=False) as house:
        client = await house.client(login=False)
        capabilities = await client.fetch("CAPA")
        assert b"USER" not in capabilities
        assert b"SASL" not in capabilities
        assert b"STLS" in capabilities
        for command in ("USER alice", "PASS secret", "AUTH PLAIN AGFsaWNlAHNlY3JldA=="):
            assert b"STLS" in await client.command(command)
        assert await client.fetch("AUTH") == b""
        assert house.authenticator.tried == []
        secure = await house.client(tls=True)
        assert (await secure.command("STAT")).startswith(b"+OK")


async def test_second_session_is_refused(house: Pop3House) -> None:
    first = await house.client()
    second = await house.client(login=False)
    await second.command("USER alice")
    assert (await second.command("PASS secret")).startswith(b"-ERR [IN-USE]")
    assert (await second.command("USER bob")).startswith(b"+OK")
    assert (await second.command("PASS secret")).startswith(b"+OK")
    await first.command("QUIT")
    third = await house.client()
    third.close()
    await third.closed()
    await until(lambda: house.server.connections == 1)
    await house.client()


async def test_wrong_passwords_are_throttled_and_end_the_connection(tmp_path: Path) -> None:
    clock = FakeClock()
    async with pop3_house(tmp_path, clock=clock, login_delay=1.0, failed_logins=2) as house:
        client = await house.client(login=False)
        for attempt in (1, 2):
            await client.command("USER alice")
            client.send(b"PASS wrong\r\n")
            await until(lambda wanted=attempt: len(house.authenticator.tried) == wanted)
            await settle()
            assert not client.reader._buffer  # type: ignore[attr-defined]
            await clock.advance(1.0)
            assert (await client.line()).startswith(b"-ERR [AUTH]")
        assert await client.closed() == b""


async def test_throttled_says_so(house: Pop3House) -> None:
    house.authenticator.error = Throttled("Too many failed logins, try again later")
    client = await house.client(login=False)
    await client.command("USER alice")
    assert await client.command("PASS secret") == b"-ERR [SYS/TEMP] Too many failed logins, try again later"


async def test_disabled_account_is_disconnected(house: Pop3House) -> None:
    client = await house.client()
    other = await house.client(login=False)
    house.server.disconnect("alice@example.test", "The account is disabled")
    assert await client.closed() == b"-ERR [SYS/TEMP] The account is disabled\r\n"
    assert (await other.command("CAPA")).startswith(b"+OK")
