"""SMTP sessions whose account was disabled, removed or given another password; whom AUTH PLAIN acts for."""

import asyncio
import base64

import pytest

from tests.support.clock import until
from tests.support.smtp import SmtpClient, SmtpWorld, smtp_world

REASON = "the account was disabled"


def plain(identity: str, login: str, password: str) -> bytes:
    return b"AUTH PLAIN " + base64.b64encode(f"{identity}\0{login}\0{password}".encode())


async def _login(world: SmtpWorld, name: str = "alice") -> SmtpClient:
    client = await world.connect("submission")
    await client.hello()
    assert (await client.do(plain("", name, f"secret {name}"))).startswith(b"235 ")
    return client


async def test_a_session_ends_with_its_login() -> None:
    async with smtp_world(authentication_without_tls=True) as world:
        alice, other, bob = await _login(world), await _login(world), await _login(world, "bob")
        nobody = await world.connect()
        await alice.do("MAIL FROM:<alice@example.test>", "RCPT TO:<far@elsewhere.test>")
        world.server.disconnect("alice@example.test", REASON)
        for client in (alice, other):
            assert await client.at_end() == b"421 4.7.0 Goodbye, the account was disabled\r\n"
        for client in (bob, nobody):
            assert (await client.do("NOOP")).startswith(b"250 ")
        assert world.server.connections == 2


async def test_a_message_under_way_is_not_taken() -> None:
    async with smtp_world(authentication_without_tls=True) as world:
        client = await _login(world)
        assert (await client.begin("far@elsewhere.test", sender="alice@example.test")).startswith(b"354")
        client.send(b"Subject: spam\r\n\r\n")
        await until(lambda: world.store.incomings and world.store.incomings[0].size)
        world.server.disconnect("alice@example.test", REASON)
        client.send(b"x\r\n.\r\n")
        assert b"250" not in await client.at_end()
        await until(lambda: world.store.incomings[0].aborted)
        assert world.queue.prepared == []


async def test_a_message_that_came_whole_gets_its_answer_and_nothing_behind_it_counts() -> None:
    async with smtp_world(authentication_without_tls=True) as world:
        client = await _login(world)
        world.store.gate = asyncio.Event()
        await client.begin("bob@example.test", sender="alice@example.test")
        client.send(b"x\r\n.\r\nMAIL FROM:<alice@example.test>\r\nRCPT TO:<far@elsewhere.test>\r\n")
        await until(lambda: world.store.bodies)
        world.server.disconnect("alice@example.test", REASON)
        await asyncio.sleep(0)
        assert world.server.connections == 1
        world.store.gate.set()
        replies = (await client.at_end()).splitlines()
        assert [line[:4] for line in replies] == [b"250 ", b"421 "]
        assert len(world.store.messages("bob@example.test")) == 1


async def test_a_session_that_was_not_ended_sends_nothing_more() -> None:
    async with smtp_world(authentication_without_tls=True) as world:
        client = await _login(world)
        del world.directory.users["alice"]
        client.send(b"MAIL FROM:<alice@example.test>\r\nRCPT TO:<far@elsewhere.test>\r\nDATA\r\n")
        assert await client.at_end() == b"421 4.7.0 Your account has changed, log in again\r\n"


@pytest.mark.parametrize(
    ("identity", "code"),
    [("", b"235"), ("alice", b"235"), ("ALICE", b"235"), ("alice@example.test", b"235"),
     ("bob", b"535"), ("root", b"535"), ("nobody", b"535"), ("\ud800", b"535")],
)  # fmt: skip
@pytest.mark.parametrize("initial", [True, False])
async def test_nobody_acts_for_another(identity: str, code: bytes, initial: bool) -> None:
    async with smtp_world(authentication_without_tls=True) as world:
        client = await world.connect("submission")
        await client.hello()
        message = base64.b64encode(
            b"\0".join((identity.encode("utf-8", "surrogatepass"), b"alice", b"secret alice"))
        )
        if initial:
            reply = await client.do(b"AUTH PLAIN " + message)
        else:
            assert (await client.do("AUTH PLAIN")).startswith(b"334")
            reply = await client.do(message)
        assert reply[:3] == code
        assert (await client.do("MAIL FROM:<alice@example.test>"))[:3] == (
            b"250" if code == b"235" else b"530"
        )


@pytest.mark.parametrize("message", [b"!!!", b"eA==", base64.b64encode(b"a\0b\0c\0d"), b"=", b"\xc3\xa9"])
async def test_malformed_plain(message: bytes) -> None:
    async with smtp_world(authentication_without_tls=True) as world:
        client = await world.connect("submission")
        await client.hello()
        assert (await client.do(b"AUTH PLAIN " + message))[:3] in (b"501", b"500")
        assert (await client.do(b"AUTH PLAIN"))[:3] == b"334"
        assert (await client.do(message))[:3] in (b"501", b"500")
        assert (await client.do(b"AUTH PLAIN"))[:3] == b"334"
        assert (await client.do(b"*"))[:3] == b"501"
        assert (await client.do(plain("", "alice", "secret alice")))[:3] == b"235"
