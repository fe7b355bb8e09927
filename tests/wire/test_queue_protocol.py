"""What the queue's client says to servers of all kinds: TLS, extensions, relay, hostile answers."""

import hashlib
from pathlib import Path

import pytest
from postkeep.config.queue import RelayTls
from postkeep.domain.address import parse_address
from postkeep.queue.queue import QueuedRecipient
from postkeep.runtime.certificates import Certificates
from postkeep.runtime.clock import SystemClock
from postkeep.runtime.files import SystemFiles

from tests.support.queueworld import first_try, queue_world
from tests.support.resolver import FakeResolver
from tests.support.smtpsink import EXTENSIONS, SinkSession, sink

SIMPLE = ("8BITMIME", "SIZE 104857600")


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    return Certificates(tmp_path / "sslcert", "sink.example.net", SystemFiles(), SystemClock())


async def test_starttls_is_used_when_offered(tmp_path: Path, certificates: Certificates) -> None:
    async with sink(tls=certificates.server_context()) as server, queue_world(tmp_path, server) as world:
        await world.send("bob@a.test")
        (message,) = await server.got(1)
        await world.empty()
        assert message.tls
        assert [line.split(" ")[0] for line in server.commands[:3]] == ["EHLO", "STARTTLS", "EHLO"]


async def test_use_tls_off(tmp_path: Path, certificates: Certificates) -> None:
    async with (
        sink(tls=certificates.server_context()) as server,
        queue_world(tmp_path, server, use_tls=False) as world,
    ):
        await world.send("bob@a.test")
        (message,) = await server.got(1)
        assert not message.tls


async def test_a_broken_handshake_falls_back_to_clear(tmp_path: Path, certificates: Certificates) -> None:
    """The server answers STARTTLS with 220 and then speaks no TLS."""

    def script(session: SinkSession, line: str) -> str | None:
        return "220 go on" if line == "STARTTLS" else None

    async with (
        sink(script, extensions=(*EXTENSIONS, "STARTTLS")) as server,
        queue_world(tmp_path, server) as world,
    ):
        await world.send("bob@a.test")
        (message,) = await server.got(1)
        await world.empty()
        assert not message.tls
        assert len(server.sessions) == 2


async def test_starttls_refused_goes_on_in_clear(tmp_path: Path) -> None:
    def script(session: SinkSession, line: str) -> str | None:
        return "454 4.7.0 not now" if line == "STARTTLS" else None

    async with (
        sink(script, extensions=(*EXTENSIONS, "STARTTLS")) as server,
        queue_world(tmp_path, server) as world,
    ):
        await world.send("bob@a.test")
        assert not (await server.got(1))[0].tls


async def test_replies_injected_before_tls_are_not_believed(
    tmp_path: Path, certificates: Certificates
) -> None:
    """CVE-2021-38371 and its family: plaintext after the 220 would be read as the answers inside TLS."""

    def script(session: SinkSession, line: str) -> str | None:
        if line == "STARTTLS" and session.number == 0:
            return "220 go on\r\n250 injected"
        return None

    async with (
        sink(script, tls=certificates.server_context()) as server,
        queue_world(
            tmp_path,
            server,
            relay_host="127.0.0.1",
            relay_port=server.port,
            relay_tls=RelayTls.STARTTLS,
            relay_verify=False,
        ) as world,
    ):
        await world.send("bob@a.test")
        assert "sent more before TLS" in await first_try(world)
        assert server.messages == []


async def test_relay_with_authentication_over_tls(tmp_path: Path, certificates: Certificates) -> None:
    async with sink(
        tls=certificates.server_context(), extensions=(*EXTENSIONS, "AUTH LOGIN PLAIN")
    ) as server, queue_world(
        tmp_path, relay_host="relay.example.net", relay_port=server.port, relay_user="me",
        relay_password="secret", relay_tls=RelayTls.STARTTLS, relay_verify=False,
        resolver=FakeResolver(addresses={"relay.example.net": ["127.0.0.1"]}),
    ) as world:  # fmt: skip
        await world.send("bob@a.test", "carl@nowhere.test")
        (message,) = await server.got(1)
        await world.empty()
        assert message.tls
        assert len(message.rcpts) == 2
        assert server.sessions[0].login == "me secret"
        assert not any("c2VjcmV0" in line or "secret" in line for line in world.logs.debug.lines)
        assert ("mx", "a.test") not in world.resolver.asked


async def test_relay_with_auth_login_only_and_implicit_tls(
    tmp_path: Path, certificates: Certificates
) -> None:
    async with sink(
        tls=certificates.server_context(), implicit_tls=True, extensions=(*EXTENSIONS, "AUTH LOGIN")
    ) as server, queue_world(
        tmp_path, relay_host="127.0.0.1", relay_port=server.port, relay_user="me",
        relay_password="secret", relay_tls=RelayTls.IMPLICIT, relay_verify=False,
    ) as world:  # fmt: skip
        await world.send("bob@a.test")
        await server.got(1)
        assert server.sessions[0].login == "me secret"
        assert server.sessions[0].tls


async def test_relay_certificate_is_verified(tmp_path: Path, certificates: Certificates) -> None:
    async with sink(tls=certificates.server_context()) as server, queue_world(
        tmp_path, relay_host="relay.example.net", relay_port=server.port, relay_tls=RelayTls.STARTTLS,
        resolver=FakeResolver(addresses={"relay.example.net": ["127.0.0.1"]}),
    ) as world:  # fmt: skip
        await world.send("bob@a.test")
        assert "self-signed certificate" in await first_try(world)
        assert server.messages == []


async def test_relay_password_never_goes_in_clear(tmp_path: Path) -> None:
    async with (
        sink(extensions=(*EXTENSIONS, "AUTH PLAIN LOGIN")) as server,
        queue_world(
            tmp_path, relay_host="127.0.0.1", relay_port=server.port, relay_user="me", relay_password="secret"
        ) as world,
    ):
        await world.send("bob@a.test")
        assert "not sent in the clear" in await first_try(world)
        assert not any(line.startswith("AUTH") for line in server.commands)
        assert "The relay host cannot be used" in world.logs.error


async def test_relay_that_refuses_the_password_bounces_nothing(tmp_path: Path) -> None:
    def script(session: SinkSession, line: str) -> str | None:
        return "535 5.7.8 wrong password" if line.startswith("AUTH") else None

    async with sink(script, extensions=(*EXTENSIONS, "AUTH PLAIN")) as server, queue_world(
        tmp_path, relay_host="127.0.0.1", relay_port=server.port, relay_user="me", relay_password="x",
        relay_tls=RelayTls.NONE,
    ) as world:  # fmt: skip
        await world.send("bob@a.test")
        assert "535 5.7.8 wrong password" in await first_try(world)
        assert world.local.mail == []
        assert "The relay host cannot be used" in world.logs.error


async def test_a_server_without_ehlo_and_pipelining(tmp_path: Path) -> None:
    def script(session: SinkSession, line: str) -> str | None:
        return "500 what?" if line.startswith("EHLO") else None

    async with sink(script) as server, queue_world(tmp_path, server) as world:
        await world.send("bob@a.test", "carl@a.test")
        (message,) = await server.got(1)
        await world.empty()
        assert message.mail == "MAIL FROM:<alice@example.test>"
        assert server.sessions[0].commands[1].startswith("HELO ")


async def test_without_pipelining_data_is_not_sent_when_nobody_is_accepted(tmp_path: Path) -> None:
    def script(session: SinkSession, line: str) -> str | None:
        return "550 5.1.1 no" if line.startswith("RCPT TO:<no") else None

    async with (
        sink(script, extensions=SIMPLE) as server,
        queue_world(tmp_path, server, domain_connections=1) as world,
    ):
        await world.send("no@a.test")
        await world.send("yes@a.test")
        await server.got(1)
        await world.empty()
        assert [line.split(" ")[0] for line in server.sessions[0].commands[1:]][:6] == [
            "MAIL", "RCPT", "RSET", "MAIL", "RCPT", "DATA",
        ]  # fmt: skip


async def test_354_for_nobody_sends_no_message(tmp_path: Path) -> None:
    """RFC 2920 §3.1: a pipelining server may answer DATA with 354 though it refused every recipient."""

    def script(session: SinkSession, line: str) -> str | None:
        if line.startswith("RCPT"):
            return "550 5.1.1 no"
        if line == ".":
            return "554 5.5.1 nobody"
        return "354 well" if line == "DATA" else None

    async with sink(script) as server, queue_world(tmp_path, server) as world:
        await world.send("bob@a.test")
        await world.empty()
        assert server.messages == []
        assert len(world.local.mail) == 1


@pytest.mark.parametrize(
    "content",
    [
        b"Subject: dots\r\n\r\n.\r\n..\r\n.x\r\nlast without end",
        b"Subject: bare\r\n\r\na\nb\rc\n.\nMAIL FROM:<evil@x.test>\n.\r\nd\r\n.\rX\r\n",
        b".starts with a dot\r\n\r\n",
        b"\r\n",
        b"Subject: nul\r\n\r\n\0\0\r\n",
    ],
    ids=["dots", "smuggling", "first-dot", "empty", "nul"],
)
@pytest.mark.parametrize("cut", [1, 3, 1 << 20])
async def test_any_content_arrives_as_one_message(tmp_path: Path, content: bytes, cut: int) -> None:
    chunks = [content[n : n + cut] for n in range(0, len(content), cut)]
    async with sink() as server, queue_world(tmp_path, server) as world:
        await world.send("bob@a.test", content=chunks)
        (message,) = await server.got(1)
        await world.empty()
        lines = content.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n")
        assert message.data == (lines if lines.endswith(b"\r\n") else lines + b"\r\n")
        assert len(server.messages) == 1
        assert not any("evil" in line for line in server.commands)


async def test_a_large_message_is_streamed(tmp_path: Path) -> None:
    block = b"".join(b"%064d\r\n" % n for n in range(1000))
    chunks = [b"Subject: big\r\n\r\n", *[block] * 300]  # 20 MB
    digest = hashlib.sha256(b"".join(chunks)).hexdigest()
    async with sink() as server, queue_world(tmp_path, server) as world:
        longest = 0
        read = world.queue._files.pread

        async def watching(fd: int, length: int, offset: int) -> bytes:
            nonlocal longest
            longest = max(longest, length)
            return await read(fd, length, offset)

        world.queue._files.pread = watching  # type: ignore[method-assign]
        await world.send("bob@a.test", content=chunks)
        (message,) = await server.got(1, 30)
        await world.empty()
        assert hashlib.sha256(message.data).hexdigest() == digest
        assert longest == 65_536


async def test_size_limit_of_the_other_server(tmp_path: Path) -> None:
    async with sink(extensions=("SIZE 50",)) as server, queue_world(tmp_path, server) as world:
        await world.send("bob@a.test")
        await world.empty()
        assert not any(line.startswith("MAIL") for line in server.commands)
        assert b"Status: 5.3.4" in world.local.mail[0][2]


async def test_8bit_content_needs_8bitmime(tmp_path: Path) -> None:
    content = "Subject: x\r\n\r\nGrüße\r\n".encode()
    async with sink(extensions=("SIZE",)) as server, queue_world(tmp_path, server) as world:
        await world.send("bob@a.test", content=content)
        await world.empty()
        assert server.messages == []
        assert b"Status: 5.6.3" in world.local.mail[0][2]
    async with sink() as server, queue_world(tmp_path, server) as world:
        await world.send("bob@a.test", content=content)
        (message,) = await server.got(1)
        assert message.mail.endswith(" BODY=8BITMIME")
        assert message.data == content


async def test_smtputf8_addresses(tmp_path: Path) -> None:
    async with sink() as server, queue_world(tmp_path, server) as world:
        await world.send("jürgen@a.test", smtputf8=True)
        (message,) = await server.got(1)
        assert "SMTPUTF8" in message.mail
        assert message.rcpts == ["RCPT TO:<jürgen@a.test>"]
    async with sink(extensions=SIMPLE) as server, queue_world(tmp_path, server) as world:
        await world.send("jürgen@a.test", "bob@a.test", smtputf8=True)
        (message,) = await server.got(1)
        await world.empty()
        assert message.rcpts == ["RCPT TO:<bob@a.test>"]
        assert "SMTPUTF8" not in message.mail
        assert b"Status: 5.6.7" in world.local.mail[0][2]


async def test_utf8_header_needs_smtputf8(tmp_path: Path) -> None:
    content = "Subject: Grüße\r\n\r\nx\r\n".encode()
    async with sink(extensions=SIMPLE) as server, queue_world(tmp_path, server) as world:
        await world.send("bob@a.test", content=content, smtputf8=True)
        await world.empty()
        assert b"Status: 5.6.9" in world.local.mail[0][2]
    async with sink(extensions=SIMPLE) as server, queue_world(tmp_path, server) as world:
        await world.send("bob@a.test", smtputf8=True)  # declared, not needed
        assert len(await server.got(1)) == 1


async def test_dsn_parameters_are_passed_on(tmp_path: Path) -> None:
    who = QueuedRecipient(parse_address("bob@a.test"), "rfc822;Bob+2B@x.test", "SUCCESS,FAILURE")
    async with sink() as server, queue_world(tmp_path, server) as world:
        await world.send(who, envid="QQ+2B1", ret="HDRS")
        (message,) = await server.got(1)
        await world.empty()
        assert message.mail.endswith(" RET=HDRS ENVID=QQ+2B1")
        assert message.rcpts == ["RCPT TO:<bob@a.test> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;Bob+2B@x.test"]
        assert world.local.mail == []  # the next server confirms


async def test_a_server_without_dsn_makes_us_say_relayed(tmp_path: Path) -> None:
    who = QueuedRecipient(parse_address("bob@a.test"), notify="SUCCESS")
    async with sink(extensions=SIMPLE) as server, queue_world(tmp_path, server) as world:
        await world.send(who)
        await server.got(1)
        await world.empty()
        ((sender, _, content),) = world.local.mail
        assert sender is None
        assert b"Action: relayed" in content


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ("HTTP/1.1 400 Bad Request", "does not speak SMTP"),
        ("220 " + "x" * 100_000, "a reply line is too long"),
        ("\n".join(["220-x"] * 5000), "too many lines"),
        ("554 5.7.1 your address is listed", "554 5.7.1 your address is listed"),
        ("421 4.3.2 closing", "421 4.3.2 closing"),
        ("220-a\n250 b", "changes its code"),
    ],
    ids=["http", "long-line", "many-lines", "554", "421", "mixed-codes"],
)
async def test_hostile_or_refusing_greetings_defer(tmp_path: Path, answer: str, words: str) -> None:
    async with (
        sink(lambda s, line: answer if line == "" else None) as server,
        queue_world(tmp_path, server) as world,
    ):
        await world.send("bob@a.test")
        assert words in await first_try(world)
        assert world.local.mail == []


async def test_unasked_replies_without_end_are_cut_off(tmp_path: Path) -> None:
    async with (
        sink(lambda s, line: "\n".join(["250 x"] * 10_000) if line.startswith("MAIL") else None) as server,
        queue_world(tmp_path, server) as world,
    ):
        await world.send("bob@a.test")
        await first_try(world)
        await server.until(lambda: server.sessions[0].ended)
        assert server.messages == []


async def test_remote_words_cannot_forge_a_log_line_or_a_notification_header(tmp_path: Path) -> None:
    evil = "550 5.1.1 no\x07\x1b[31m\rSent: forged"
    async with (
        sink(lambda s, line: evil if line.startswith("RCPT") else None) as server,
        queue_world(tmp_path, server) as world,
    ):
        await world.send("bob@a.test")
        await world.empty()
        text = "".join(world.logs.mail.lines)
        assert "\x1b" not in text
        assert "\r" not in text
        assert b"\x1b" not in world.local.mail[0][2]
