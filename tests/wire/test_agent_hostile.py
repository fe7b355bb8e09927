"""A console that was taken over is the agent's enemy: what it sends is hostile."""

import asyncio
import contextlib
import json
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from postkeep_appliance.agent.server import AgentServer, Limits
from postkeep_appliance.agent.work import Caller
from postkeep_appliance.api.client import AgentClient
from postkeep_appliance.api.codec import decode_reply
from postkeep_appliance.api.types import MAX_REQUEST, Answer, Failure, Status, StatusAnswer

from tests.wire.test_agent import Served

SMALL = Limits(connections=8, calls=4, idle_seconds=0.5, write_seconds=0.5)


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    async with Served(tmp_path) as served:
        yield served


async def _send(served: Served, octets: bytes) -> bytes:
    """All that the agent says until it hangs up, or has been silent for a moment."""
    reader, writer = await asyncio.open_unix_connection(str(served.path), limit=1 << 22)
    said = b""
    with contextlib.suppress(OSError):
        writer.write(octets)
        await writer.drain()
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(10):
            while block := await reader.read(1 << 16):
                said += block
    writer.close()
    return said


async def _expect_alive(served: Served) -> None:
    client = AgentClient(str(served.path))
    assert (await client.call(Status(), StatusAnswer)).product == "Postkeep"
    await client.close()


@pytest.mark.parametrize(
    "line",
    [
        b"\n",
        b"\x00\xff\xfe garbage\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"[" * 60_000 + b"\n",
        b'{"id":1}\n',
        b'{"id":1,"call":{"type":"Reboot"}}\n',
        b'{"id":"one","call":{"type":"Status"}}\n',
        b'{"id":1,"call":{"type":"Engine","action":"rm -rf"},"session":""}\n',
        b'{"id":1e400,"call":{"type":"Status"}}\n',
        b'{"id":1,"call":{"type":"ReadLog","name":"\xff","lines":5}}\n',
    ],
    ids=range(10),
)
async def test_garbage_is_answered_once_and_hung_up(served: Served, line: bytes) -> None:
    said = await _send(served, line + b'{"id":2,"call":{"type":"Status"}}\n')
    replies = [decode_reply(one) for one in said.splitlines()]
    assert [(type(one), one.id) for one in replies] == [(Failure, 0)]
    await _expect_alive(served)


async def test_a_line_of_two_megabytes_is_not_kept(served: Served) -> None:
    said = await _send(served, b'{"id":1,"call":{"type":"Unlock","password":"' + b"x" * (2 << 20) + b'"}}\n')
    if said:  # the answer may be lost with the reset that follows
        assert f"at most {MAX_REQUEST}" in said.decode()
    await _expect_alive(served)


async def test_a_line_that_never_ends_is_hung_up(tmp_path: Path) -> None:
    async with Served(tmp_path, SMALL) as served:
        begin = time.monotonic()
        assert await _send(served, b'{"id":1,') == b""
        assert time.monotonic() - begin < 8
        await _expect_alive(served)


async def test_half_a_line_and_good_bye_is_no_request(served: Served) -> None:
    reader, writer = await asyncio.open_unix_connection(str(served.path))
    writer.write(b'{"id":1,"call":{"type":"Status"}}')
    writer.write_eof()
    assert await reader.read() == b""
    writer.close()


async def test_a_thousand_connections_do_not_lock_the_console_out(tmp_path: Path) -> None:
    async with Served(tmp_path, SMALL) as served:
        writers = []
        for _ in range(1000):
            _, writer = await asyncio.open_unix_connection(str(served.path))
            writers.append(writer)
        await _expect_alive(served)
        assert served.server.connections <= SMALL.connections
        for writer in writers:
            writer.close()


async def test_calls_without_a_session_do_nothing(served: Served) -> None:
    before = repr(served.host.machine)
    calls = [
        {"type": "Power", "action": "shutdown"},
        {"type": "SetSsh", "on": True},
        {"type": "FactoryReset", "confirm": "mail.example.com"},
        {"type": "ChangePassword", "old_password": "correct horse", "new_password": "a much better 1"},
        {"type": "Lock"},
    ]
    for session in ("", "x" * 43, "correct horse"):
        lines = b"".join(
            json.dumps({"id": number, "call": call, "session": session}).encode() + b"\n"
            for number, call in enumerate(calls[:4], 1)
        )
        reader, writer = await asyncio.open_unix_connection(str(served.path))
        writer.write(lines)
        replies = [decode_reply(await reader.readline()) for _ in range(4)]
        assert {one.code for one in replies if isinstance(one, Failure)} == {"locked"}
        assert len(replies) == 4
        writer.close()
    assert repr(served.host.machine) == before


async def test_guessing_over_many_connections_is_one_slow_line(served: Served) -> None:
    """Twenty connections, one guess each, then the right word: it waits like all others."""
    begin = time.monotonic()

    async def guess(number: int) -> str:
        reader, writer = await asyncio.open_unix_connection(str(served.path))
        call = {"type": "Unlock", "password": f"guess {number}"}
        writer.write(json.dumps({"id": 1, "call": call}).encode() + b"\n")
        reply = decode_reply(await reader.readline())
        writer.close()
        assert isinstance(reply, Failure)
        return reply.code

    async with asyncio.timeout(60):
        codes = await asyncio.gather(*(guess(number) for number in range(20)))
    assert codes.count("denied") == 4
    assert codes.count("busy") == 16
    assert time.monotonic() - begin >= 15


async def test_more_calls_than_one_connection_may_have(tmp_path: Path) -> None:
    async with Served(tmp_path, SMALL) as served:
        reader, writer = await asyncio.open_unix_connection(str(served.path))
        call = {"type": "Unlock", "password": "wrong"}
        for number in range(1, 7):
            writer.write(json.dumps({"id": number, "call": call}).encode() + b"\n")
        first = [decode_reply(await reader.readline()) for _ in range(2)]
        assert [(one.id, isinstance(one, Failure) and one.code) for one in first] == [
            (5, "busy"),
            (6, "busy"),
        ]
        writer.close()


async def test_a_peer_that_never_reads_is_hung_up(tmp_path: Path) -> None:
    async with Served(tmp_path, SMALL) as served:
        reader, writer = await asyncio.open_unix_connection(str(served.path))
        reader._transport.pause_reading()  # type: ignore[attr-defined]
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(10):
                for number in range(1, 100_000):
                    writer.write(json.dumps({"id": number, "call": {"type": "Status"}}).encode() + b"\n")
                    await writer.drain()
        async with asyncio.timeout(10):
            while served.server.connections:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        writer.close()
        await _expect_alive(served)


async def test_strangers_are_not_served(tmp_path: Path) -> None:
    served = Served(tmp_path)
    asked: list[Caller] = []

    def nobody(caller: Caller, uids: object, gids: object) -> bool:
        asked.append(caller)
        return False

    served.server = AgentServer(
        served.agent.dispatcher, served.agent.sessions._clock, {4711}, {4711}, allowed=nobody
    )
    async with served:
        assert await _send(served, b'{"id":1,"call":{"type":"Status"}}\n') == b""
    assert (asked[0].uid, asked[0].gid, asked[0].pid) == (os.getuid(), os.getgid(), os.getpid())


async def test_an_answer_is_an_answer(served: Served) -> None:
    reader, writer = await asyncio.open_unix_connection(str(served.path))
    writer.write(b'{"id":7,"call":{"type":"Status"},"unknown":1}\n')
    reply = decode_reply(await reader.readline())
    assert isinstance(reply, Answer)
    assert reply.id == 7
    writer.close()
