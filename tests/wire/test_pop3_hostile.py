"""POP3 pipelined, abused, slow, fuzzed, under TLS, and as poplib speaks it."""

import asyncio
import contextlib
import poplib
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.clock import FakeClock, until
from tests.support.mailhouse import trusting_context
from tests.support.pop3 import ONE, TWO, Pop3House, pop3_house

T = TypeVar("T")


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[Pop3House]:
    async with pop3_house(tmp_path) as house:
        yield house


# --- pipelining and abuse ---------------------------------------------------------------------------------


async def test_pipelining(house: Pop3House) -> None:
    await house.deliver(ONE)
    client = await house.client(login=False)
    client.send(b"USER alice\r\nPASS secret\r\nSTAT\r\nRETR 1\r\nDELE 1\r\nQUIT\r\nNOOP\r\n")
    answers = await client.closed()
    assert answers.count(b"+OK") == 6
    assert answers.endswith(b"+OK Message 1 is deleted\r\n+OK Bye (1 messages removed)\r\n")
    assert await house.rows() == []


async def test_half_closed_connection_gets_its_answers(house: Pop3House) -> None:
    await house.deliver(ONE)
    client = await house.client(login=False)
    client.send(b"USER alice\r\nPASS secret\r\nSTAT\r\nDELE 1\r\nQUIT\r\n")
    client.writer.write_eof()
    answers = (await client.closed()).splitlines()
    assert answers[2] == b"+OK 1 %d" % len(ONE)
    assert answers[-1] == b"+OK Bye (1 messages removed)"
    assert await house.rows() == []


@pytest.mark.parametrize(
    ("sent", "last"),
    [
        (b"DELE 1\r\nSTAT\r\nQU", b"+OK 0 0"),  # no QUIT: nothing is removed
        (b"DELE 1\r\n", b"+OK Message 1 is deleted"),
        (b"NOOP\r\n" * 3000, b"+OK"),
    ],
)
async def test_half_close_without_quit_removes_nothing(house: Pop3House, sent: bytes, last: bytes) -> None:
    await house.deliver(ONE)
    client = await house.client()
    client.send(sent)
    client.writer.write_eof()
    answers = (await client.closed()).splitlines()
    assert len(answers) == sent.count(b"\n")
    assert answers[-1] == last
    await until(lambda: house.server.connections == 0)
    assert len(await house.rows()) == 1
    assert house.logs.error.lines == []
    await house.client()


@pytest.mark.parametrize(
    "sent", [b"AUTH PLAIN\r\n", b"AUTH LOGIN\r\nYWxpY2U=\r\n", b"STLS\r\n", b"USER al", b""]
)
async def test_half_close_where_more_was_to_come_ends_the_connection(house: Pop3House, sent: bytes) -> None:
    client = await house.client(login=False)
    client.send(sent)
    client.writer.write_eof()
    await client.closed()
    await until(lambda: house.server.connections == 0)
    assert house.limiter.open == 0
    assert house.logs.error.lines == []


COMMANDS = st.sampled_from([b"USER ", b"PASS ", b"AUTH ", b"AUTH PLAIN ", b"AUTH LOGIN ", b"STAT ", b"LIST ", b"UIDL ", b"RETR ",
    b"TOP ", b"DELE ", b"NOOP ", b"RSET ", b"CAPA ", b"STLS x", b""])  # fmt: skip


ODD = st.one_of(
    st.binary(max_size=40),
    st.text(max_size=20).map(lambda text: text.encode("utf-8", "surrogatepass")),
    st.sampled_from(
        [
            b"1",
            b"1 1",
            "\u00b2".encode(),
            "1 \u0661".encode(),
            "\u00a0".encode(),
            b"\xff",
            b"\x1c",
            b"=",
            b"-1",
            b"1\x0b",
        ]
    ),
)


@given(st.booleans(), st.lists(st.tuples(COMMANDS, ODD), max_size=12))
@settings(max_examples=100, derandomize=True, deadline=None)
def test_fuzz_no_input_is_an_error_of_the_server(login: bool, commands: list[tuple[bytes, bytes]]) -> None:
    async def throw() -> None:
        with tempfile.TemporaryDirectory() as folder:
            async with pop3_house(Path(folder), bad_commands=1000, failed_logins=1000) as house:
                await house.deliver(ONE)
                client = await house.client(login=login)
                for verb, argument in commands:
                    client.send(verb + argument.replace(b"\n", b"") + b"\r\n")
                client.send(b"*\r\n*\r\nQUIT\r\n")
                client.writer.write_eof()
                assert b"+OK Bye" in (await client.closed()).splitlines()[-1]
                assert house.logs.error.lines == []

    asyncio.run(throw())


async def test_commands_in_the_wrong_state(house: Pop3House) -> None:
    client = await house.client(login=False)
    for command in ("STAT", "LIST", "RETR 1", "DELE 1", "NOOP", "RSET", "TOP 1 1", "UIDL"):
        assert await client.command(command) == b"-ERR Log in first"
    client = await house.client()
    for command in ("USER alice", "PASS x", "AUTH", "STLS"):
        assert (await client.command(command)).startswith(b"-ERR")


async def test_attack_many_errors_end_the_connection(tmp_path: Path) -> None:
    async with pop3_house(tmp_path, bad_commands=3) as house:
        client = await house.client(login=False)
        client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\nCAPA\r\n")
        answers = await client.closed()
        assert answers.count(b"-ERR") == 4
        assert answers.endswith(b"-ERR Too many errors\r\n")


async def test_attack_over_long_line_and_nul(house: Pop3House) -> None:
    client = await house.client(login=False)
    assert await client.command(b"USER " + b"x" * 100_000) == b"-ERR Line too long"
    assert await client.command(b"USER a\0b") == b"-ERR NUL is not allowed"
    assert (await client.command("USER alice")).startswith(b"+OK")


async def test_attack_flood_of_commands(house: Pop3House) -> None:
    client = await house.client()
    client.send(b"NOOP\r\n" * 50_000 + b"QUIT\r\n")
    answers = await client.closed()
    assert answers == b"+OK\r\n" * 50_000 + b"+OK Bye\r\n"


async def test_attack_line_that_never_ends_takes_no_memory(house: Pop3House) -> None:
    client = await house.client(login=False)
    (connection,) = house.server._connections
    for _ in range(200):
        client.send(b"x" * 65536)
        await client.writer.drain()
    assert connection.codec.buffered < 100_000
    client.close()


async def test_attack_slow_sender_before_login(tmp_path: Path) -> None:
    clock = FakeClock()
    async with pop3_house(tmp_path, clock=clock) as house:
        client = await house.client(login=False)
        await clock.advance(30)
        await client.command("CAPA")  # moves nothing
        await client.data()
        client.send(b"US")
        await clock.advance(29)
        assert house.server.connections == 1
        await clock.advance(1.5)
        assert await client.closed() == b""


async def test_idle_session_is_closed_and_removes_nothing(tmp_path: Path) -> None:
    clock = FakeClock()
    async with pop3_house(tmp_path, clock=clock) as house:
        await house.deliver(ONE)
        client = await house.client()
        await client.command("DELE 1")
        await clock.advance(599)
        assert (await client.command("NOOP")) == b"+OK"
        await clock.advance(599)
        assert house.server.connections == 1
        await clock.advance(2)
        assert await client.closed() == b""  # RFC 1939 §3: no response
        await until(lambda: not house.server.connections)
        assert len(await house.rows()) == 1


async def test_attack_too_many_connections(house: Pop3House) -> None:
    house.limiter.per_address = 2
    first = await house.client(login=False)
    second = await house.client(login=False)
    third = await house.client(login=False)
    assert third.greeting == b"-ERR [SYS/TEMP] Too many connections"
    assert await third.closed() == b""
    await second.command("QUIT")
    await second.closed()
    await until(lambda: house.limiter.open == 1)
    assert (await house.client(login=False)).greeting.startswith(b"+OK")
    first.close()


async def test_shutdown_finishes_quit(house: Pop3House) -> None:
    await house.deliver(ONE)
    client = await house.client()
    idle = await house.client(login=False)
    await client.command("DELE 1")
    client.send(b"QUIT\r\n")
    await until(lambda: any(connection._task for connection in house.server._connections))
    await house.server.shutdown()
    assert await client.closed() == b"+OK Bye (1 messages removed)\r\n"
    assert await idle.closed() == b"-ERR [SYS/TEMP] Server is shutting down\r\n"
    assert await house.rows() == []
    late = await house.client(login=False)
    assert late.greeting.startswith(b"-ERR")


# --- TLS --------------------------------------------------------------------------------------------------


async def test_stls(tmp_path: Path) -> None:
    async with pop3_house(tmp_path, plaintext_login=False) as house:
        await house.deliver(ONE)
        client = await house.client(login=False)
        assert (await client.command("STLS x")).startswith(b"-ERR")
        assert await client.command("STLS") == b"+OK Begin TLS"
        await client.writer.start_tls(trusting_context())
        assert b"STLS" not in await client.fetch("CAPA")
        assert (await client.command("STLS")).startswith(b"-ERR")
        assert (await client.command("USER alice")).startswith(b"+OK")
        assert (await client.command("PASS secret")).startswith(b"+OK")
        assert await client.fetch("RETR 1") == ONE


async def test_attack_commands_pipelined_before_tls_are_discarded(house: Pop3House) -> None:
    client = await house.client(login=False)
    client.send(b"USER eve\r\nSTLS\r\nUSER mallory\r\nPASS secret\r\nUS")
    assert await client.line() == b"+OK"
    assert await client.line() == b"+OK Begin TLS"
    await client.writer.start_tls(trusting_context())
    # Nothing said in the clear counts: not the USER before STLS, nor what came with it.
    assert (await client.command("PASS secret")) == b"-ERR USER comes first"
    assert house.authenticator.tried == []


# --- another implementation --------------------------------------------------------------------------------


async def in_thread(work: Callable[[], T]) -> T:
    return await asyncio.wait_for(asyncio.to_thread(work), 30)


async def test_poplib(house: Pop3House) -> None:
    await house.deliver(ONE)
    await house.deliver(TWO)

    def work() -> None:
        pop = poplib.POP3("127.0.0.1", house.port, timeout=10)
        pop.stls(trusting_context())
        assert pop.capa()["SASL"] == ["PLAIN", "LOGIN"]
        pop.user("alice")
        pop.pass_("secret")
        assert pop.stat() == (2, len(ONE) + len(TWO))
        assert pop.list()[1] == [b"1 %d" % len(ONE), b"2 %d" % len(TWO)]
        assert b"\r\n".join(pop.retr(1)[1]) + b"\r\n" == ONE
        assert pop.top(1, 1)[1][-1] == b"first"
        assert len(pop.uidl()[1]) == 2
        pop.dele(1)
        pop.rset()
        pop.dele(2)
        pop.noop()
        pop.quit()
        with contextlib.closing(
            poplib.POP3_SSL("127.0.0.1", house.tls_port, timeout=10, context=trusting_context())
        ) as pop:
            pop.user("alice")
            with pytest.raises(poplib.error_proto, match=r"\[AUTH\]"):
                pop.pass_("wrong")

    await in_thread(work)
    assert [row.size for row in await house.rows()] == [len(ONE)]
