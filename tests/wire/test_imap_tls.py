"""STARTTLS and implicit TLS."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.imap import MESSAGE, ImapClient, ImapHouse, imap_house


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[ImapHouse]:
    async with imap_house(tmp_path, plaintext_login=False) as house:
        yield house


async def upgraded(client: ImapClient) -> None:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    await asyncio.wait_for(client.writer.start_tls(context), 10)


async def test_starttls(house: ImapHouse) -> None:
    client = await house.client(login=False)
    assert b"STARTTLS" in client.greeting
    assert b"LOGINDISABLED" in client.greeting
    assert (await client.command("STARTTLS"))[-1].startswith(b"OK")
    await upgraded(client)
    capabilities = (await client.command("CAPABILITY"))[0]
    assert b"STARTTLS" not in capabilities
    assert b"AUTH=PLAIN" in capabilities
    assert (await client.command("STARTTLS"))[-1].startswith(b"BAD")
    assert (await client.command("LOGIN alice secret"))[-1].startswith(b"OK")
    assert (await client.append(MESSAGE * 3000))[-1].startswith(b"OK")
    await client.command("SELECT INBOX")
    (reply, _) = await client.command("FETCH 1 BODY.PEEK[]")
    assert MESSAGE * 3000 in reply


async def test_attack_pipelining_before_starttls_is_thrown_away(house: ImapHouse) -> None:
    client = await house.client(login=False)
    client.send(b"a STARTTLS\r\nb LOGIN alice secret\r\nc CREATE Injected\r\n")
    assert (await client.until(b"a"))[-1].startswith(b"OK")
    await upgraded(client)
    # Neither is obeyed, nor answered inside TLS.
    assert await client.command("NOOP") == [b"OK NOOP completed"]
    assert house.authenticator.tried == []


async def test_implicit_tls(house: ImapHouse) -> None:
    client = await house.client(tls=True, select="INBOX")
    assert b"STARTTLS" not in client.greeting
    client.send(b"i IDLE\r\n")
    assert await client.line() == b"+ idling"
    await house.deliver()
    assert await client.line() == b"* 1 EXISTS"


async def test_attack_no_handshake_after_starttls(house: ImapHouse) -> None:
    client = await house.client(login=False)
    assert (await client.command("STARTTLS"))[-1].startswith(b"OK")
    client.send(b"b LOGIN alice secret\r\n" * 20)
    await client.closed()
    assert house.authenticator.tried == []
