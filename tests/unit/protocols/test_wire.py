"""The base of the line protocols on a transport and a clock of the test's own."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from postkeep.protocols.lineserver import LineServer
from postkeep.protocols.wire import CLOSE_SECONDS, LINGER_OCTETS, LINGER_SECONDS, Disconnected, LineConnection
from postkeep.runtime.limits import ConnectionLimiter

from tests.support.clock import FakeClock, settle

LOGIN_SECONDS, WRITE_SECONDS = 60, 300


class FakeTransport:
    """What a connection uses of one; `written` is what went out."""

    def __init__(self) -> None:
        self.written = b""
        self.closed = self.aborted = self.half_closed = self.reading_paused = False

    def get_extra_info(self, name: str) -> object:
        return ("192.0.2.1", 1) if name == "peername" else None

    def set_write_buffer_limits(self, high: int) -> None:
        assert high > 0

    def write(self, data: bytes) -> None:
        self.written += data

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.half_closed = True

    def pause_reading(self) -> None:
        self.reading_paused = True

    def resume_reading(self) -> None:
        self.reading_paused = False

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.aborted = True


class Codec:
    """Lines that end in LF."""

    def __init__(self) -> None:
        self.data = b""

    @property
    def buffered(self) -> int:
        return len(self.data)

    def feed(self, data: bytes) -> None:
        self.data += data

    def clear(self) -> None:
        self.data = b""

    def next(self) -> bytes | None:
        line, end, rest = self.data.partition(b"\n")
        if not end:
            return None
        self.data = rest
        return line


class Echo(LineConnection):
    """Gives each line back. "work" waits for `work`, "ask" reads a line more, "log in" logs in."""

    NAME = "ECHO"
    READ_HIGH = 1000

    work: asyncio.Event
    known = False

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.codec: Any = Codec()
        self.session: Any = SimpleNamespace(owner=None, streaming=False)
        self.work = asyncio.Event()
        self.obeyed: list[bytes] = []

    def _greet(self) -> None:
        self.write(b"hello\n")

    def _farewell(self, reason: str) -> None:
        self.write(reason.encode() + b"\n")
        self.close()

    def _timed_out(self) -> None:
        self._farewell("late")

    @property
    def _authorized(self) -> bool:
        return self.known

    async def _step(self) -> bool:
        line = self.codec.next()
        if line is None:
            return False
        if line == b"work":
            await self.work.wait()
        elif line == b"ask":
            while self.codec.next() is None:
                await self._input()
        elif line == b"log in":
            self.known = True
            self.logged_in()
        elif line == b"break":
            raise ValueError("broken")
        self.obeyed.append(line)
        self.write(line + b"\n")
        self._touch()
        return True


class World:
    """One connection and its server."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.errors: list[str] = []
        settings = SimpleNamespace(login_seconds=LOGIN_SECONDS, idle_minutes=30, write_seconds=WRITE_SECONDS)
        logs = SimpleNamespace(error=SimpleNamespace(write=self.errors.append))
        context = SimpleNamespace(settings=settings, clock=self.clock, logs=logs, certificates=None)
        self.limiter = ConnectionLimiter(2, 0)
        self.server = LineServer(lambda gone: Echo(context, self.limiter, gone), self.clock)

    def connect(self) -> tuple[Any, FakeTransport]:
        connection: Any = self.server.factory()()
        transport = FakeTransport()
        connection.connection_made(transport)
        return connection, transport


@pytest.fixture
async def world() -> World:
    return World()


async def test_lines_are_obeyed_in_order_and_answered_together(world: World) -> None:
    connection, transport = world.connect()
    connection.data_received(b"one\ntwo\nthr")
    await settle()
    assert transport.written == b"hello\none\ntwo\n"
    connection.data_received(b"ee\n")
    await settle()
    assert connection.obeyed == [b"one", b"two", b"three"]
    assert connection._task is None


async def test_too_many_are_told_so(world: World) -> None:
    world.connect(), world.connect()
    connection, transport = world.connect()
    assert transport.written == b"Too many connections\n"
    assert transport.closed
    connection.connection_lost(None)
    assert world.limiter.open == 2
    assert world.server.connections == 2


async def test_what_is_said_before_login_moves_no_deadline(world: World) -> None:
    connection, transport = world.connect()
    await world.clock.advance(LOGIN_SECONDS - 1)
    connection.data_received(b"one\n")
    await settle()
    await world.clock.advance(1)
    assert transport.written.endswith(b"one\nlate\n")
    assert transport.closed


async def test_after_login_each_command_moves_the_deadline(world: World) -> None:
    connection, transport = world.connect()
    connection.data_received(b"log in\n")
    await settle()
    await world.clock.advance(29 * 60)
    connection.data_received(b"one\n")
    await settle()
    await world.clock.advance(29 * 60)
    assert not transport.closed
    await world.clock.advance(60)
    assert transport.written.endswith(b"late\n")


async def test_attack_a_closing_client_that_reads_a_little_holds_nothing_for_ever(world: World) -> None:
    connection, transport = world.connect()
    connection.pause_writing()
    connection.close()
    assert transport.closed
    connection.resume_writing()  # it read some octets, and reads no more
    await world.clock.advance(CLOSE_SECONDS)
    assert transport.aborted


async def test_a_client_that_reads_on_in_time_is_kept(world: World) -> None:
    connection, transport = world.connect()
    connection.pause_writing()
    await world.clock.advance(LOGIN_SECONDS / 2)
    connection.resume_writing()
    connection.data_received(b"log in\n")
    await settle()
    await world.clock.advance(WRITE_SECONDS)
    assert not transport.aborted


async def test_attack_a_client_that_reads_nothing_is_cut(world: World) -> None:
    connection, transport = world.connect()
    connection.data_received(b"log in\n")
    await settle()
    connection.pause_writing()
    await world.clock.advance(WRITE_SECONDS)
    assert transport.aborted


async def test_attack_flood_stops_the_reading_until_it_is_obeyed(world: World) -> None:
    connection, transport = world.connect()
    connection.data_received(b"work\n" + b"x" * 2000 + b"\n")
    assert transport.reading_paused
    await settle()
    connection.work.set()
    await settle()
    assert not transport.reading_paused
    assert connection.obeyed == [b"work", b"x" * 2000]


async def test_half_close_during_a_command_that_wants_more_ends_it(world: World) -> None:
    connection, transport = world.connect()
    connection.data_received(b"work\nask\n")
    await settle()
    assert connection.eof_received()  # the answer may still be read
    connection.work.set()
    await settle()
    assert connection.obeyed == [b"work"]
    assert transport.written.endswith(b"work\n")
    assert transport.closed


async def test_a_lost_connection_is_gone_once_its_command_has_ended(world: World) -> None:
    connection, _ = world.connect()
    connection.data_received(b"work\n")
    await settle()
    connection.connection_lost(None)
    assert world.limiter.open == 0
    assert world.server.connections == 1
    connection.work.set()
    await settle()
    assert world.server.connections == 0


async def test_an_error_is_logged_and_ends_the_connection(world: World) -> None:
    connection, transport = world.connect()
    connection.data_received(b"break\n")
    await settle()
    assert transport.aborted
    assert world.errors == ["ECHO connection failed: ValueError: broken"]


async def test_attack_endless_input_after_a_farewell_is_cut(world: World) -> None:
    connection, transport = world.connect()
    connection.close(linger=True)
    assert transport.half_closed
    assert not transport.closed
    connection.data_received(b"x" * (LINGER_OCTETS - 1))
    assert not transport.aborted
    connection.data_received(b"x")
    assert transport.aborted


async def test_lingering_has_its_time(world: World) -> None:
    connection, transport = world.connect()
    connection.close(linger=True)
    await world.clock.advance(LINGER_SECONDS)
    assert transport.aborted


async def test_shutdown_lets_a_command_finish(world: World) -> None:
    idle, idle_transport = world.connect()
    busy, transport = world.connect()
    busy.data_received(b"work\n")
    await settle()
    ending = asyncio.ensure_future(world.server.shutdown(5))
    await settle()
    assert idle_transport.written == b"hello\nServer is shutting down\n"
    assert b"shutting" not in transport.written
    busy.work.set()
    await settle()
    assert transport.written.endswith(b"work\nServer is shutting down\n")
    idle.connection_lost(None)
    busy.connection_lost(None)
    await asyncio.wait_for(ending, 5)


async def test_shutdown_does_not_wait_for_ever(world: World) -> None:
    busy, transport = world.connect()
    busy.data_received(b"work\n")
    await settle()
    ending = asyncio.ensure_future(world.server.shutdown(5))
    await settle()
    busy.connection_lost(None)
    await world.clock.advance(5)
    await asyncio.wait_for(ending, 5)
    assert transport.aborted


async def test_whoever_comes_during_the_shutdown_is_turned_away(world: World) -> None:
    await world.server.shutdown(0)
    _, transport = world.connect()
    assert transport.written == b"Server is shutting down\n"
    assert transport.closed
    assert world.limiter.open == 0


async def test_an_urgent_stop_ends_a_command_at_its_next_turn(world: World) -> None:
    connection, transport = world.connect()
    connection.data_received(b"work\n")
    await settle()
    connection.stop("account disabled", urgent=True)
    with pytest.raises(Disconnected):
        await connection.turn()
    assert transport.written.endswith(b"account disabled\n")


async def test_an_urgent_stop_in_a_reply_half_said_cuts(world: World) -> None:
    connection, transport = world.connect()
    connection.data_received(b"work\n")
    await settle()
    connection.session.streaming = True
    connection.stop("account disabled", urgent=True)
    with pytest.raises(Disconnected):
        await connection.turn()
    assert transport.aborted
    assert b"disabled" not in transport.written
