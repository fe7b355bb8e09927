"""A server that answers just in time, again and again, holds a connection for hours, not for days."""

import asyncio
from typing import Any

import pytest
from postkeep.domain.address import parse_address
from postkeep.queue.codec import Extensions
from postkeep.queue.connection import ConnectionFailed, SmtpConnection
from postkeep.queue.entry import Entry, QueuedRecipient, make_entry
from postkeep.queue.routes import Hop
from postkeep.queue.session import (
    ENVELOPE_LIMIT,
    FINAL_LIMIT,
    MINIMUM_RATE,
    Session,
)
from postkeep.queue.transaction import Kind, Outcome, transmit

from tests.support.clock import FakeClock, settle


class FakeTransport:
    """Pauses the writer after each write, as a peer's full window does, once `full` is set."""

    def __init__(self, connection: SmtpConnection) -> None:
        self.written = bytearray()
        self.full = False
        self.aborted = False
        self._connection = connection

    def write(self, data: bytes) -> None:
        self.written += data
        if self.full:
            self._connection.pause_writing()

    def close(self) -> None:
        self.aborted = True

    abort = close


class Peer:
    def __init__(self, size: int, recipients: int) -> None:
        self.clock = FakeClock()
        self.connection = SmtpConnection(self.clock)
        self.transport: Any = FakeTransport(self.connection)
        self.connection.connection_made(self.transport)
        offered = Extensions(True, 0, True, True, True)
        self.session = Session(self.connection, Hop("mx.a.test", "192.0.2.1"), 25, offered, False)
        to = [QueuedRecipient(parse_address(f"u{n}@a.test")) for n in range(recipients)]
        self.entry: Entry = make_entry("1", None, to, 1.0, smtputf8=False)
        self.entry.size = self.left = size

    async def read(self, offset: int) -> bytes:
        return b"x" * min(65_536, self.entry.size - offset)

    def start(self) -> asyncio.Task[list[Outcome]]:
        return asyncio.create_task(transmit(self.session, self.entry, self.entry.recipients, self))

    async def until_over(self, task: asyncio.Task[list[Outcome]], wait: float, line: bytes = b"") -> float:
        """Every `wait` seconds one step: a reply, or room for one more block."""
        while not task.done():
            await self.clock.advance(wait)
            if line:
                self.connection.data_received(line)
            else:
                self.connection.resume_writing()
            await settle()
        return self.clock.monotonic()


async def test_a_hundred_slow_answers_to_rcpt() -> None:
    peer = Peer(1000, 100)
    task = peer.start()
    await settle()
    assert await peer.until_over(task, 299, b"250 2.1.0 ok\r\n") < ENVELOPE_LIMIT + 300
    outcomes = task.result()
    assert {one.kind for one in outcomes} == {Kind.DEFERRED}
    assert len(outcomes) == 100
    assert "too slow: not done in 1800 seconds" in outcomes[0].words
    assert peer.transport.aborted
    assert not peer.session.usable


async def test_a_large_message_read_one_block_at_a_time() -> None:
    peer = Peer(100 << 20, 1)
    task = peer.start()
    await settle()
    peer.transport.full = True
    peer.connection.data_received(b"250 ok\r\n250 ok\r\n354 go on\r\n")
    await settle()
    allowed = ENVELOPE_LIMIT + peer.entry.size / MINIMUM_RATE
    assert allowed < 5 * 3600
    assert await peer.until_over(task, 179) < allowed + 180
    (outcome,) = task.result()
    assert outcome.kind is Kind.DEFERRED
    assert "too slow" in outcome.words


async def test_a_message_at_the_least_rate_arrives_and_the_last_answer_has_its_own_time() -> None:
    peer = Peer(20 << 20, 1)
    task = peer.start()
    await settle()
    await peer.clock.advance(290)
    peer.transport.full = True
    peer.connection.data_received(b"250 ok\r\n250 ok\r\n354 go on\r\n")
    await settle()
    while not peer.transport.written.endswith(b"\r\n.\r\n"):
        await peer.clock.advance(65_536 / MINIMUM_RATE)
        peer.connection.resume_writing()
        await settle()
    peer.connection.resume_writing()
    # As late as can be: the message's own time is over by now
    await peer.clock.advance(FINAL_LIMIT - 1)
    assert not task.done()
    peer.connection.data_received(b"250 2.0.0 taken\r\n")
    (outcome,) = await task
    assert outcome.kind is Kind.SENT


async def test_a_time_that_is_over_ends_the_next_wait_at_once() -> None:
    peer = Peer(1, 1)
    peer.connection.allow(10)
    await peer.clock.advance(11)
    with pytest.raises(ConnectionFailed, match="too slow"):
        await peer.connection.reply(300)
    assert peer.transport.aborted
