"""STARTTLS and SMTPS: what was said in the clear counts for nothing."""

import asyncio
import base64
import ssl

from postkeep.runtime.tls import accept_tls

from tests.support.clock import until
from tests.support.mailhouse import trusting_context
from tests.support.smtp import HOST, SmtpClient, smtp_world

ALICE = b"AUTH PLAIN " + base64.b64encode(b"\0alice\0secret alice")


async def test_starttls_forgets_the_session() -> None:
    async with smtp_world() as world:
        client = await world.connect()
        await client.hello()
        await client.do("MAIL FROM:<a@outside.test>")
        await client.start_tls()
        assert (await client.do("RCPT TO:<alice@example.test>")).startswith(b"503")
        assert (await client.do("MAIL FROM:<a@outside.test>")).startswith(b"503")
        reply = await client.hello()
        assert b"STARTTLS" not in reply
        assert b"250-AUTH LOGIN PLAIN\r\n" in reply
        assert (await client.message(b"\r\nx")).startswith(b"250 ")
        assert b"with ESMTPS\r\n\t(TLSv1.3 " in world.store.delivered[0][1]


async def test_starttls_does_not_forgive_failed_logins() -> None:
    async with smtp_world(maximum_failed_logins=3, authentication_without_tls=True) as world:
        client = await world.connect()
        await client.hello()
        wrong = b"AUTH PLAIN " + base64.b64encode(b"\0alice\0wrong")
        for _ in range(2):
            assert (await client.do(wrong)).startswith(b"535 ")
        await client.start_tls()
        await client.hello()
        assert (await client.do(wrong)).startswith(b"421 4.7.0")


async def test_starttls_does_not_forgive_unknown_recipients() -> None:
    async with smtp_world(maximum_unknown_recipients=2) as world:
        client = await world.connect()
        await client.hello()
        await client.do("MAIL FROM:<a@outside.test>")
        for number in range(2):
            assert (await client.do(f"RCPT TO:<guess{number}@example.test>")).startswith(b"550 5.1.1")
        await client.start_tls()
        await client.hello()
        await client.do("MAIL FROM:<a@outside.test>")
        assert (await client.do("RCPT TO:<guess@example.test>")).startswith(b"421 4.7.0")


async def test_starttls_does_not_give_trust_back() -> None:
    """SMT-1: an address that may relay may not any more after a failed login."""
    async with smtp_world(relay_networks=("127.0.0.0/8",), authentication_without_tls=True) as world:
        client = await world.connect()
        await client.hello()
        await client.do(b"AUTH PLAIN " + base64.b64encode(b"\0alice\0wrong"))
        await client.start_tls()
        await client.hello()
        await client.do("MAIL FROM:<a@outside.test>")
        assert (await client.do("RCPT TO:<x@elsewhere.test>")).startswith(b"550 5.7.1")
        other = await world.connect()
        await other.hello()
        await other.start_tls()
        await other.hello()
        await other.do("MAIL FROM:<a@outside.test>")
        assert (await other.do("RCPT TO:<x@elsewhere.test>")).startswith(b"250 ")


async def test_commands_injected_before_the_handshake_are_dropped() -> None:
    """CVE-2011-0411: plaintext pipelined behind STARTTLS must not run inside TLS."""
    async with smtp_world() as world:
        client = await world.connect()
        await client.hello()
        client.send(b"STARTTLS\r\nEHLO evil\r\nMAIL FROM:<evil@outside.test>\r\n")
        assert (await client.reply()).startswith(b"220 ")
        await client.writer.start_tls(trusting_context())
        assert (await client.do("RCPT TO:<alice@example.test>")).startswith(b"503 5.5.1")
        assert (await client.do("NOOP")).startswith(b"250 ")


async def test_a_second_starttls_is_refused() -> None:
    async with smtp_world() as world:
        client = await world.connect()
        await client.hello()
        await client.start_tls()
        await client.hello()
        assert (await client.do("STARTTLS")).startswith(b"503 5.5.1")
        assert (await client.do("NOOP")).startswith(b"250 ")


async def test_starttls_with_an_argument() -> None:
    async with smtp_world() as world:
        client = await world.connect()
        await client.hello()
        client.send(b"STARTTLS now\r\nNOOP\r\n")
        assert (await client.reply()).startswith(b"501")
        assert (await client.reply()).startswith(b"250 ")


async def test_broken_handshake_ends_the_connection() -> None:
    async with smtp_world() as world:
        client = await world.connect()
        await client.hello()
        assert (await client.do("STARTTLS")).startswith(b"220 ")
        client.send(b"this is not a TLS hello\r\n" * 10)
        await client.at_end()
        await until(lambda: not (world.server.connections))
        assert world.logs.error.lines == []


async def test_connection_lost_in_the_handshake() -> None:
    async with smtp_world() as world:
        client = await world.connect()
        await client.hello()
        assert (await client.do("STARTTLS")).startswith(b"220 ")
        client.writer.transport.abort()
        await until(lambda: not (world.server.connections))
        assert world.logs.error.lines == []


async def test_big_message_under_starttls() -> None:
    async with smtp_world() as world:
        client = await world.connect()
        await client.hello()
        await client.start_tls()
        await client.hello()
        body = (b"z" * 70 + b"\r\n") * 20_000
        assert (await client.message(b"\r\n" + body)).startswith(b"250 ")
        assert world.store.delivered[0][1].endswith(body + b"\r\n")


async def test_smtps_is_under_tls_from_the_first_octet() -> None:
    async with smtp_world() as world:
        context = world.server.certificates.server_context
        port = await world.port("smtps", lambda factory: accept_tls(factory, context))
        reader, writer = await asyncio.open_connection(HOST, port, ssl=trusting_context())
        client = SmtpClient(reader, writer)
        world._clients.append(client)
        assert (await client.reply()).startswith(b"220 ")
        reply = await client.hello()
        assert b"AUTH LOGIN PLAIN" in reply
        assert b"STARTTLS" not in reply
        assert (await client.do("MAIL FROM:<alice@example.test>")).startswith(b"530 5.7.0")
        assert (await client.do(ALICE)).startswith(b"235 ")
        assert (await client.message(b"\r\nx", "x@elsewhere.test", sender="alice@example.test")).startswith(
            b"250 "
        )
        assert b"with ESMTPSA\r\n\t(TLSv1.3 " in world.queue.prepared[0]["content"]
        assert (await client.do("QUIT")).startswith(b"221 ")


async def test_smtps_behind_a_listener_without_tls_takes_no_passwords() -> None:
    """A wiring mistake must not put passwords on the wire."""
    async with smtp_world() as world:
        client = await world.connect("smtps")
        assert b"AUTH" not in await client.hello()
        assert (await client.do(ALICE)).startswith(b"538 5.7.11")


async def test_old_tls_versions_are_refused_by_the_certificates_context() -> None:
    async with smtp_world() as world:
        client = await world.connect()
        await client.hello()
        assert (await client.do("STARTTLS")).startswith(b"220 ")
        context = trusting_context()
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        await client.writer.start_tls(context)
        assert client.writer.get_extra_info("ssl_object").version() in ("TLSv1.2", "TLSv1.3")
