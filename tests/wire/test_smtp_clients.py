"""Clients that nobody here wrote: the standard library's and aiosmtplib."""

import asyncio
import smtplib
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default

import aiosmtplib
import pytest

from tests.support.mailhouse import trusting_context
from tests.support.smtp import HOST, smtp_world


def _message() -> EmailMessage:
    message = EmailMessage()
    message["From"] = "alice@example.test"
    message["To"] = "bob@example.test"
    message["Subject"] = "Grüße"
    message.set_content("Hallo\n.\n..\n.x\nEnde\n")
    message.add_attachment(bytes(range(256)) * 200, maintype="application", subtype="octet-stream")
    return message


async def test_smtplib_submits() -> None:
    def submit(port: int) -> dict[str, tuple[int, bytes]]:
        with smtplib.SMTP(HOST, port, timeout=10) as client:
            client.starttls(context=trusting_context())
            client.login("alice", "secret alice")
            return client.send_message(_message(), rcpt_options=["NOTIFY=FAILURE"])

    async with smtp_world() as world:
        port = await world.port("submission")
        assert await asyncio.to_thread(submit, port) == {}
        (stored,) = world.store.messages("bob@example.test")
        parts = message_from_bytes(stored, policy=default).get_payload()
        assert parts[0].get_content() == "Hallo\r\n.\r\n..\r\n.x\r\nEnde\r\n"
        assert parts[1].get_content() == bytes(range(256)) * 200


async def test_smtplib_hears_of_a_wrong_password_and_an_unknown_user() -> None:
    def submit(port: int) -> None:
        with smtplib.SMTP(HOST, port, timeout=10) as client:
            client.starttls(context=trusting_context())
            with pytest.raises(smtplib.SMTPAuthenticationError):
                client.login("alice", "wrong")
            client.login("alice", "secret alice")
            with pytest.raises(smtplib.SMTPRecipientsRefused) as refused:
                client.sendmail("alice@example.test", ["nobody.here@example.test"], "x")
            assert refused.value.recipients["nobody.here@example.test"][0] == 550

    async with smtp_world() as world:
        await asyncio.to_thread(submit, await world.port("submission"))


async def test_aiosmtplib_delivers_many_on_one_connection() -> None:
    async with smtp_world() as world:
        client = aiosmtplib.SMTP(
            hostname=HOST, port=await world.port(), tls_context=trusting_context(), start_tls=True
        )
        async with client:
            for _ in range(10):
                await client.send_message(_message())
        assert len(world.store.messages("bob@example.test")) == 10
        assert len(set(world.store.messages("bob@example.test"))) == 10
