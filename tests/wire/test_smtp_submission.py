"""Submission on 587 and 465: the login, and what it adds."""

import base64

import pytest
from postkeep.domain.errors import Throttled

from tests.support.smtp import SmtpClient, smtp_world

ALICE = b"AUTH PLAIN " + base64.b64encode(b"\0alice\0secret alice")


async def _submission(client: SmtpClient) -> None:
    await client.hello()
    await client.start_tls()
    await client.hello()
    assert (await client.do(ALICE)).startswith(b"235 2.7.0")


async def test_submission_needs_a_login_before_mail() -> None:
    async with smtp_world() as world:
        client = await world.connect("submission")
        assert b"AUTH" not in await client.hello()
        assert (await client.do("MAIL FROM:<alice@example.test>")).startswith(b"530 5.7.0")
        assert (await client.do(ALICE)).startswith(b"538 5.7.11")


async def test_submission_adds_what_the_program_left_out() -> None:
    async with smtp_world() as world:
        client = await world.connect("submission")
        await _submission(client)
        reply = await client.message(
            b"Subject: s\r\nBcc: x@far.test\r\n\r\nx", "bob@example.test", sender="alice@example.test"
        )
        assert reply.startswith(b"250 ")
        content = world.store.messages("bob@example.test")[0]
        assert b"with ESMTPSA\r\n\t(TLSv1.3 " in content
        header = content.partition(b"\r\n\r\n")[0]
        assert header.count(b"\r\nDate: ") == 1
        assert header.count(b"\r\nMessage-ID: <") == 1
        assert b"\r\nBcc: x@far.test" in header  # documented: octets are left as they are
        assert "user=alice@example.test" in world.logs.mail.lines[0]


async def test_submission_leaves_what_is_there() -> None:
    async with smtp_world() as world:
        client = await world.connect("submission")
        await _submission(client)
        await client.message(
            b"date: Mon, 1 Jan 2024 00:00:00 +0000\r\nMESSAGE-ID: <a@b>\r\n\r\nx", sender="alice@example.test"
        )
        header = world.store.delivered[0][1].partition(b"\r\n\r\n")[0].lower()
        assert header.count(b"\r\ndate:") == 1
        assert header.count(b"\r\nmessage-id:") == 1


@pytest.mark.parametrize(
    ("sender", "code"),
    [
        ("alice@example.test", b"250 2.1.0"),
        ("Alice@Example.test", b"250 2.1.0"),
        ("al.ice@example.test", b"250 2.1.0"),
        ("alice@alias.test", b"250 2.1.0"),
        ("sales@example.test", b"250 2.1.0"),
        ("", b"250 2.1.0"),
        ("bob@example.test", b"553 5.7.1"),
        ("alice@outside.test", b"553 5.7.1"),
        ("alice+x@example.test", b"553 5.7.1"),
    ],
)
async def test_submission_with_own_addresses_only(sender: str, code: bytes) -> None:
    async with smtp_world() as world:
        client = await world.connect("submission")
        await _submission(client)
        assert (await client.do(f"MAIL FROM:<{sender}>")).startswith(code)


async def test_submission_may_relay() -> None:
    async with smtp_world() as world:
        client = await world.connect("submission")
        await _submission(client)
        await client.message(b"\r\nx", "x@elsewhere.test", "alice@example.test", sender="alice@example.test")
        assert [str(one.address) for one in world.queue.prepared[0]["recipients"]] == ["x@elsewhere.test"]
        assert len(world.store.messages("alice@example.test")) == 1


async def test_login_on_port_25_may_relay_too() -> None:
    async with smtp_world() as world:
        client = await world.connect("smtp")
        await _submission(client)
        assert (await client.message(b"\r\nx", "x@elsewhere.test", sender="alice@example.test")).startswith(
            b"250 "
        )


async def test_auth_login_and_lower_case_mechanism() -> None:
    async with smtp_world(authentication_without_tls=True) as world:
        client = await world.connect("submission")
        assert b"250-AUTH LOGIN PLAIN\r\n" in await client.hello()
        assert (await client.do("auth login")).startswith(b"334 ")
        assert (await client.do(base64.b64encode(b"alice"))).startswith(b"334 ")
        assert (await client.do(base64.b64encode(b"secret alice"))).startswith(b"235 ")
        assert (await client.do(ALICE)).startswith(b"503 ")


async def test_equals_sign_is_an_empty_initial_response() -> None:
    """RFC 4954 §4: decoded it is no octets, so PLAIN lacks its parts and LOGIN has an empty name."""
    async with smtp_world(authentication_without_tls=True) as world:
        client = await world.connect("submission")
        await client.hello()
        assert await client.do("AUTH PLAIN =") == b"501 5.5.2 Can't split auth value\r\n"
        assert (await client.do("AUTH LOGIN =")).startswith(b"334 ")
        assert (await client.do(base64.b64encode(b"secret alice"))).startswith(b"535 ")
        assert await client.do("AUTH PLAIN ==") == b"501 5.5.2 Can't decode base64\r\n"


async def test_wrong_passwords_end_the_connection() -> None:
    async with smtp_world(authentication_without_tls=True) as world:
        client = await world.connect("submission")
        await client.hello()
        wrong = b"AUTH PLAIN " + base64.b64encode(b"\0alice\0wrong")
        assert (await client.do(wrong)).startswith(b"535 5.7.8")
        assert (await client.do(wrong)).startswith(b"535 5.7.8")
        assert (await client.do(wrong)).startswith(b"421 4.7.0")
        assert await client.at_end() == b""


async def test_throttled_login_is_put_off() -> None:
    async with smtp_world(authentication_without_tls=True) as world:
        world.authenticator.error = Throttled("later")
        client = await world.connect("submission")
        await client.hello()
        assert (await client.do(ALICE)).startswith(b"454 4.7.0")


async def test_auth_inside_a_transaction_is_refused() -> None:
    async with smtp_world(authentication_without_tls=True) as world:
        client = await world.connect()
        await client.hello()
        await client.do("MAIL FROM:<a@outside.test>")
        assert (await client.do(ALICE)).startswith(b"503 5.5.1")


async def test_failure_of_the_password_check_is_451() -> None:
    async with smtp_world(authentication_without_tls=True) as world:
        world.authenticator.error = RuntimeError("broken")
        client = await world.connect()
        await client.hello()
        assert (await client.do(ALICE)).startswith(b"451 4.3.0")
        assert "broken" in world.logs.error.lines[0]
        assert (await client.do("MAIL FROM:<a@outside.test>")).startswith(b"250 ")
        assert (await client.do("RCPT TO:<x@elsewhere.test>")).startswith(b"550 5.7.1")
