"""SMTP under attack: smuggling, floods, over-long and broken lines, loops, random octets. Each named."""

import asyncio
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from postkeep.config.smtp import BareNewlines
from postkeep.domain.account import Account, Alias, Domain
from postkeep.services.directory import Directory

from tests.support.clock import until
from tests.support.smtp import SmtpClient, smtp_world

FALSE_ENDS = {
    "lf-dot-lf": b"\n.\n",
    "lf-dot-crlf": b"\n.\r\n",
    "crlf-dot-lf": b"\r\n.\n",
    "cr-dot-cr": b"\r.\r",
    "cr-dot-crlf": b"\r.\r\n",
    "crlf-dot-cr": b"\r\n.\r",
    "crcrlf-dot-crcrlf": b"\r\r\n.\r\r\n",
    "crlf-nul-dot-crlf": b"\r\n\x00.\r\n",
    "crlf-dot-nul-crlf": b"\r\n.\x00\r\n",
}
SMUGGLED = (
    b"MAIL FROM:<root@example.test>\r\nRCPT TO:<bob@example.test>\r\nDATA\r\nSubject: smuggled\r\n\r\nx"
)


async def _pour(client: SmtpClient, block: bytes, times: int) -> int:
    """Send the block again and again until the connection ends; how often it went."""
    for sent in range(times):
        try:
            client.send(block)
            await client.writer.drain()
        except ConnectionError:
            return sent
        if client.reader.at_eof() or client.reader.exception() is not None:
            return sent
        await asyncio.sleep(0)
    return times


@pytest.mark.parametrize("name", FALSE_ENDS)
@pytest.mark.parametrize("policy", list(BareNewlines))
async def test_smuggling_ending_never_makes_two_messages(name: str, policy: BareNewlines) -> None:
    data = b"Subject: a\r\n\r\nfirst" + FALSE_ENDS[name] + SMUGGLED
    async with smtp_world(bare_newlines=policy) as world:
        client = await world.connect()
        await client.hello()
        await client.begin("alice@example.test")
        for part in (data[:-60], data[-60:], b"\r\n", b".", b"\r\n"):
            client.send(part)
            await client.writer.drain()
            await asyncio.sleep(0)
        reply = await client.reply()
        assert (await client.do("NOOP")).startswith(b"250 ")
        assert world.store.messages("bob@example.test") == []
        assert len(world.store.delivered) <= 1
        if b"\x00" in FALSE_ENDS[name] or policy is BareNewlines.REPAIR:
            assert reply.startswith(b"250 ")
        else:
            assert reply.startswith(b"550 5.6.11")
            assert world.store.incomings[0].aborted


async def test_bare_lf_ends_no_command() -> None:
    async with smtp_world() as world:
        client = await world.connect()
        client.send(b"EHLO x\nMAIL FROM:<a@outside.test>\n")
        assert (await client.reply()).startswith(b"500 5.5.2")
        assert (await client.reply()).startswith(b"500 5.5.2")
        assert (await client.do("MAIL FROM:<a@outside.test>")).startswith(b"503")


async def test_nul_octets_in_commands() -> None:
    async with smtp_world() as world:
        client = await world.connect()
        await client.hello()
        assert (await client.do(b"MAIL FROM:<a\x00@outside.test>")).startswith(b"500 5.5.2")
        assert (await client.do(b"NOOP\x00")).startswith(b"500 5.5.2")


async def test_nul_octets_in_a_message_are_kept() -> None:
    async with smtp_world() as world:
        client = await world.connect()
        await client.hello()
        assert (await client.message(b"\r\na\x00b")).startswith(b"250 ")
        assert world.store.delivered[0][1].endswith(b"\r\na\x00b\r\n")


async def test_command_over_512_octets() -> None:
    async with smtp_world() as world:
        client = await world.connect()
        await client.hello()
        assert (await client.do("NOOP " + "x" * 600)).startswith(b"500 5.5.2")
        assert (await client.do("NOOP")).startswith(b"250 ")


async def test_endless_command_line_is_thrown_away_then_cut_off() -> None:
    async with smtp_world() as world:
        client = await world.connect()
        await client.hello()
        client.send(b"x" * 200_000 + b"\r\n")
        assert (await client.reply()).startswith(b"500 5.5.2")
        assert (await client.do("NOOP")).startswith(b"250 ")
        assert await _pour(client, b"x" * 65_536, 400) < 400, "it must be cut off"
        for connection in world.server._connections:
            assert len(connection._input._buffer) < 200_000


async def test_failed_commands_end_the_connection() -> None:
    async with smtp_world(maximum_failed_commands=5) as world:
        client = await world.connect()
        for _ in range(5):
            assert (await client.do("NONSENSE")).startswith(b"500 5.5.1")
        client.send(b"NONSENSE\r\n")
        rest = await client.at_end()
        assert b"421 4.7.0 Too many failed commands" in rest
        assert "too many failed commands" in world.logs.security.lines[0]


async def test_pipelined_command_flood_is_answered_boundedly() -> None:
    async with smtp_world() as world:
        client = await world.connect()
        client.send(b"NONSENSE\r\n" * 100_000)
        rest = await client.at_end()
        assert rest.count(b"\r\n") < 30
        await until(lambda: world.server.connections == 0)
        assert world.logs.security.lines == ["SMTP: too many failed commands, peer=127.0.0.1"]


async def test_noop_flood_ends_the_connection() -> None:
    async with smtp_world(maximum_idle_commands=50) as world:
        client = await world.connect()
        client.send(b"NOOP\r\n" * 60)
        rest = await client.at_end()
        assert rest.count(b"250 2.0.0 OK") == 51
        assert rest.splitlines()[-1].startswith(b"421 4.7.0")


async def test_accepted_messages_forgive_earlier_failures() -> None:
    async with smtp_world(maximum_failed_commands=3) as world:
        client = await world.connect()
        await client.hello()
        for _ in range(4):
            for _ in range(3):
                await client.do("NONSENSE")
            assert (await client.message(b"\r\nx")).startswith(b"250 ")


async def test_address_harvesting_ends_the_connection() -> None:
    async with smtp_world(maximum_unknown_recipients=3) as world:
        client = await world.connect()
        await client.hello()
        await client.do("MAIL FROM:<a@outside.test>")
        for number in range(3):
            assert (await client.do(f"RCPT TO:<guess{number}@example.test>")).startswith(b"550 5.1.1")
        assert (await client.do("RCPT TO:<guess@example.test>")).startswith(b"421 4.7.0")
        assert await client.at_end() == b""


async def test_vrfy_and_expn_tell_nothing() -> None:
    async with smtp_world() as world:
        client = await world.connect()
        await client.hello()
        assert await client.do("VRFY alice@example.test") == (
            await client.do("VRFY nobody.here@example.test")
        )
        assert (await client.do("EXPN sales")).startswith(b"502 ")


async def test_replies_cannot_be_forged_through_arguments() -> None:
    async with smtp_world() as world:
        client = await world.connect()
        await client.hello()
        client.send(b"VRFY x\r250 forged\r\nNOOP\r\n")
        assert (await client.reply()).startswith(b"500 ")
        assert await client.reply() == b"250 2.0.0 OK\r\n"


async def test_mail_loop() -> None:
    async with smtp_world(maximum_hops=10) as world:
        client = await world.connect()
        await client.hello()
        received = b"Received: from a by b; Thu, 1 Jan 1970 00:00:00 +0000\r\n"
        assert (await client.message(received * 10 + b"\r\nx")).startswith(b"250 ")
        assert (await client.message(received * 11 + b"\r\nx")).startswith(b"554 5.4.6")
        assert (await client.message(b"Subject: x\r\n\r\n" + received * 50)).startswith(b"250 ")


async def test_text_without_a_header_does_not_become_one() -> None:
    async with smtp_world() as world:
        client = await world.connect()
        await client.hello()
        await client.message(b"just text, no header\r\nBcc: none")
        header, _, body = world.store.delivered[0][1].partition(b"\r\n\r\n")
        assert b"just text" not in header
        assert body == b"just text, no header\r\nBcc: none\r\n"


async def test_line_over_the_limit() -> None:
    async with smtp_world(maximum_line_length=2000) as world:
        client = await world.connect()
        await client.hello()
        assert (await client.message(b"\r\n" + b"x" * 3000)).startswith(b"554 5.6.0")
        assert (await client.message(b"\r\n" + b"x" * 1900)).startswith(b"250 ")


async def test_message_that_never_ends_is_cut_off() -> None:
    async with smtp_world(maximum_message_size=10_000) as world:
        client = await world.connect()
        await client.hello()
        await client.begin("alice@example.test")
        assert await _pour(client, (b"x" * 70 + b"\r\n") * 1000, 400) < 400, "it must be cut off"
        assert world.store.delivered == []


async def test_connections_per_address_are_bounded() -> None:
    async with smtp_world(maximum_connections_per_address=3) as world:
        clients = [await world.connect() for _ in range(3)]
        refused = await world.connect(greeting=False)
        assert (await refused.reply()).startswith(b"421 4.7.0")
        assert await refused.at_end() == b""
        assert world.server.connections == 3
        await clients[0].do("QUIT")
        await until(lambda: world.server.connections == 2)
        await world.connect()


async def test_peer_that_never_reads_does_not_fill_memory() -> None:
    async with smtp_world(maximum_idle_commands=0) as world:
        client = await world.connect()
        client.writer.transport.pause_reading()
        for _ in range(4000):
            client.send(b"HELP\r\n" * 10_000)
            try:
                await asyncio.wait_for(client.writer.drain(), 0.5)
            except TimeoutError:
                break
        else:
            raise AssertionError("the server took 240 MB of commands without an answer read")
        (connection,) = world.server._connections
        assert len(connection._input._buffer) < 400_000
        assert connection.transport.get_write_buffer_size() < 2_000_000
        client.writer.transport.abort()


async def test_slow_writer_octet_by_octet_still_delivers() -> None:
    async with smtp_world() as world:
        client = await world.connect()
        script = b"EHLO c\r\nMAIL FROM:<a@outside.test>\r\nRCPT TO:<alice@example.test>\r\nDATA\r\n..x\r\n.\r\nQUIT\r\n"
        for at in range(len(script)):
            client.send(script[at : at + 1])
            await client.writer.drain()
            await asyncio.sleep(0)
        await client.at_end()
        assert world.store.delivered[0][1].endswith(b"\r\n.x\r\n")


async def test_a_big_message_does_not_raise_memory() -> None:
    """32 MiB through connection and receiver into a store that keeps nothing: what is held is a chunk or two."""
    async with smtp_world() as world:
        world.store.keep = False
        client = await world.connect()
        await client.hello()
        await client.begin("alice@example.test")
        block = (b"x" * 70 + b"\r\n") * 7000
        tracemalloc.start()
        try:
            for _ in range(32 * 1024 * 1024 // len(block)):
                client.send(block)
                await client.writer.drain()
            client.send(b".\r\n")
            assert (await client.reply()).startswith(b"250 ")
            assert tracemalloc.get_traced_memory()[1] < 8 * 1024 * 1024
        finally:
            tracemalloc.stop()
        assert world.store.incomings[0].size > 31 * 1024 * 1024


async def _expect_replies_to(data: list[bytes]) -> None:
    async with smtp_world(maximum_message_size=5000, authentication_without_tls=True) as world:
        client = await world.connect()
        broken: list[str] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: broken.append(str(context)))
        for part in data:
            if client.writer.is_closing():
                break
            client.send(part)
            await asyncio.sleep(0)
        client.writer.write_eof()
        rest = await client.at_end()
        for line in rest.splitlines():
            assert line[:1] in b"2345", line
            assert line[:3].isdigit(), line
        assert broken == []
        assert world.logs.error.lines == []
        assert world.server.connections == 0 or not [c for c in world.server._connections if not c._closing]


WORDS = [
    b"EHLO c\r\n", b"HELO c\r\n", b"MAIL FROM:<a@outside.test>\r\n", b"RCPT TO:<alice@example.test>\r\n", b"DATA\r\n",
    b"x\r\n", b".\r\n", b"RSET\r\n", b"NOOP\r\n", b"AUTH PLAIN AGFsaWNlAHdyb25n\r\n", b"AUTH LOGIN\r\n", b"*\r\n",
    b"VRFY <\r\n", b"MAIL FROM:<\r\n", b"RCPT TO:<\"\r\n", b"MAIL FROM:((((\r\n", b"HELP \xff\r\n", b"\r", b"\n", b"\x00",
    b"MAIL FROM:<a@b> SIZE=\xc3\xbc SMTPUTF8\r\n", b"RCPT TO:<a@b> ORCPT=x;\xff\r\n", b"VRFY \xed\xa0\x80\r\n", b"QUIT x\r\n",
    b"MAIL FROM:<@>\r\n", b"RCPT TO:<a@[]>\r\n", b"MAIL FROM:<a@xn--\xc3\xbc>\r\n", b"EXPN\r\n", b"STARTTLS x\r\n",
]  # fmt: skip


@given(st.lists(st.one_of(st.sampled_from(WORDS), st.binary(max_size=60)), max_size=25))
@settings(max_examples=150, derandomize=True, deadline=None)
def test_fuzz_anything_gets_a_reply_or_an_end(data: list[bytes]) -> None:
    asyncio.run(_expect_replies_to(data))


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("EHLO \u00a0", b"501 "),
        ("HELO \u2028\u3000", b"501 "),
        ("MAIL FROM:<a@outside.test> SIZE=\u00b2", b"501 "),
        ("MAIL FROM:<a@outside.test> SIZE=\u0663", b"501 "),
        ("MAIL FROM:<a@outside.test> SIZE=x SIZE=3", b"501 "),
        ("MAIL FROM:<a@outside.test> SIZE=3 size=3", b"501 "),
        ("MAIL FROM:<a@outside.test> BODY=8BITMIME BODY=7BIT", b"501 "),
        ("MAIL FROM:<a@outside.test> \u017fize=3", b"501 "),
        ("MAIL FROM:<a@outside.test> RET=HDR\u017f", b"501 "),
        ("MAIL FROM:<a@outside.test> RET=HDRS\u00a0SIZE=3", b"501 "),
        ("AUTH \u00a0", b"501 "),
        ("AUTH \u2003\u2003", b"501 "),
        ("AUTH PLAIN \u00b2", b"501 "),
        ("AUTH PLA\u0131N AGEAYg==", b"501 "),
        ("RSET \u00a0", b"250 "),
        ("HELP \u00a0", b"250 "),
        ("VRFY \u00a0", b"501 "),
    ],
)
async def test_odd_letters_are_the_clients_fault(line: str, code: bytes) -> None:
    async with smtp_world(authentication_without_tls=True) as world:
        client = await world.connect()
        await client.hello()
        assert (await client.do(line)).startswith(code)
        assert world.logs.error.lines == []
        assert (await client.message(b"\r\nx")).startswith(b"250 ")


async def test_notify_in_odd_letters() -> None:
    async with smtp_world() as world:
        client = await world.connect()
        await client.hello()
        await client.do("MAIL FROM:<a@outside.test>")
        for parameter in ("NOT\u0131FY=NEVER", "NOTIFY=\u017fUCCESS", "NOTIFY=NEVER\u00a0ORCPT=rfc822;x"):
            assert (await client.do(f"RCPT TO:<alice@example.test> {parameter}")).startswith(b"501 ")


VERBS = st.sampled_from([
    b"EHLO ", b"HELO ", b"MAIL FROM:", b"MAIL FROM:<a@outside.test> ", b"MAIL FROM:<a@outside.test> SIZE=",
    b"MAIL FROM:<a@outside.test> SIZE=1 ", b"MAIL FROM:<a@outside.test> SMTPUTF8 ", b"MAIL FROM:<a@outside.test> BODY=",
    b"MAIL FROM:<a@outside.test> RET=", b"MAIL FROM:<a@outside.test> ENVID=", b"MAIL FROM:<a@outside.test> AUTH=",
    b"RCPT TO:", b"RCPT TO:<alice@example.test> ", b"RCPT TO:<alice@example.test> NOTIFY=", b"RCPT TO:<alice@example.test> ORCPT=rfc822;",
    b"RCPT TO:<", b'RCPT TO:<"', b"MAIL ", b"RCPT ", b"VRFY ", b"EXPN ", b"HELP ", b"NOOP ", b"RSET ", b"AUTH ", b"AUTH PLAIN ",
    b"AUTH LOGIN ", b"STARTTLS ", b"DATA ", b"QUIT ", b"",
])  # fmt: skip
ODD = st.one_of(
    st.text(max_size=24),
    st.text(
        alphabet='\u00a0\u1680\u2003\u2028\u3000\u0085\u00b2\u0663\u2460\u0131\u017f\ufb01\ud800\udcff\u200b\ufeff=<>@"\\., ',
        max_size=12,
    ),
    st.sampled_from(
        [
            "<\u00fc@b\u00fccher.test> SMTPUTF8",
            "<a@\u200d.test>",
            "<a@xn--\u0301>",
            "<a@" + "\u0301" * 70 + ">",
            "=",
            "SIZE=x SIZE=1",
        ]
    ),
).map(lambda text: text.encode("utf-8", "surrogatepass"))
WORD = st.one_of(
    st.text(alphabet="\u00a0\u2003\u2028\u3000\u0085", min_size=1, max_size=2).map(str.encode),
    st.text(alphabet="\u00b2\u0663\u24600", min_size=1, max_size=2).map(str.encode),
    ODD, st.binary(max_size=24), st.lists(ODD, min_size=2, max_size=4).map(b" ".join)
)  # fmt: skip
BEFORE = {b"MAIL": b"RSET\r\n", b"RCPT": b"MAIL FROM:<a@outside.test>\r\n"}


async def _expect_no_error_of(greeted: bool, lines: list[bytes]) -> None:
    async with smtp_world(
        authentication_without_tls=True,
        maximum_failed_commands=0,
        maximum_idle_commands=0,
        maximum_unknown_recipients=0,
        maximum_failed_logins=1000,
    ) as world:
        people = [Account(name, "example.test", aliases=("\u00fc",)) for name in ("alice", "bob")]
        world.receiver.admission._directory = Directory(
            [Domain("example.test", primary=True), Domain("xn--bcher-kva.test")],
            people,
            [Alias("*", "example.test", ("bob",))],
        )
        broken: list[Exception] = []
        world.server.broken = lambda connection, error: broken.append(error)  # type: ignore[method-assign]
        client = await world.connect()
        if greeted:
            await client.hello()
        for line in lines:
            client.send(BEFORE.get(line[:4], b"") + line.replace(b"\n", b"") + b"\r\n")
        client.send(b"*\r\nQUIT\r\n")
        client.writer.write_eof()
        rest = await client.at_end()
        assert broken == []
        assert world.logs.error.lines == []
        assert not [line for line in rest.splitlines() if line.startswith((b"451", b"5\x00"))]


@given(st.booleans(), st.lists(st.tuples(VERBS, WORD).map(b"".join), min_size=1, max_size=12))
@settings(max_examples=300, derandomize=True, deadline=None)
def test_fuzz_no_command_line_is_an_error_of_the_server(greeted: bool, lines: list[bytes]) -> None:
    asyncio.run(_expect_no_error_of(greeted, lines))


async def test_address_parser_of_the_library_is_fenced_in() -> None:
    """email's parser raises IndexError and RecursionError on such input; the peer gets 553."""
    async with smtp_world(maximum_failed_commands=0) as world:
        client: SmtpClient = await world.connect()
        await client.hello()
        for path in (
            "<",
            "<a",
            "<@",
            '<"',
            "<a@",
            "<a@[",
            "(" * 900,
            "<" * 300,
            '"' * 300,
            "<@a",
            "<a@b.test",
            "<a b@c.test>",
        ):
            reply = await client.do(f"MAIL FROM:{path}")
            assert reply.startswith((b"553 5.1.", b"501 5.5.4")), (path, reply)
        assert world.logs.error.lines == []
