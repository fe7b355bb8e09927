"""Time and the end of the server: idle and slow connections, shutdown. The clock is turned by hand."""

import asyncio

from tests.support.clock import FakeClock, settle, until
from tests.support.smtp import SmtpWorld, smtp_world


async def test_idle_connection_is_told_and_closed() -> None:
    clock = FakeClock()
    async with smtp_world(clock=clock) as world:
        client = await world.connect()
        await client.hello()
        await clock.advance(299)
        assert world.server.connections == 1
        await clock.advance(301)
        assert await client.at_end() == b"421 4.4.2 Timeout, closing the connection\r\n"
        await until(lambda: world.server.connections == 0)


async def test_each_command_gives_new_time() -> None:
    clock = FakeClock()
    async with smtp_world(clock=clock) as world:
        client = await world.connect()
        for _ in range(5):
            await clock.advance(290)
            assert (await client.do("NOOP")).startswith(b"250 ")


async def test_part_of_a_command_gives_no_new_time() -> None:
    clock = FakeClock()
    async with smtp_world(clock=clock) as world:
        client = await world.connect()
        for _ in range(5):
            client.send(b"N")
            await settle()
            await clock.advance(60)
        await until(lambda: world.server.connections == 0)
        assert (await client.at_end()).startswith(b"421 4.4.2")


async def test_half_open_connection_that_never_reads_is_aborted() -> None:
    clock = FakeClock()
    async with smtp_world(clock=clock, maximum_idle_commands=0) as world:
        client = await world.connect()
        client.writer.transport.pause_reading()
        client.send(b"HELP\r\n" * 100_000)
        (connection,) = world.server._connections
        await until(lambda: connection._paused)
        assert world.server.connections == 1
        await clock.advance(1000)
        await until(lambda: world.server.connections == 0)


async def test_slow_loris_in_data_is_cut_off() -> None:
    clock = FakeClock()
    async with smtp_world(clock=clock) as world:
        client = await world.connect()
        await client.hello()
        await client.begin("alice@example.test")
        for _ in range(20):
            client.send(b"x\r\n")
            await settle()
            await clock.advance(60)
            if world.server.connections == 0:
                break
        assert clock.monotonic() <= 300 + 180
        assert (await client.at_end()).startswith(b"421 4.4.2")
        assert world.store.delivered == []
        assert world.store.incomings[0].aborted
        assert world.logs.security.lines == ["SMTP: message too slow, peer=127.0.0.1"]


async def test_slow_but_steady_message_arrives() -> None:
    clock = FakeClock()
    async with smtp_world(clock=clock) as world:
        client = await world.connect()
        await client.hello()
        await client.begin("alice@example.test")
        for _ in range(20):
            client.send(b"x" * 998 + b"\r\n")
            client.send((b"y" * 98 + b"\r\n") * 60)
            await settle()
            await clock.advance(60)
        client.send(b".\r\n")
        assert (await client.reply()).startswith(b"250 ")


async def test_commit_that_takes_long_is_waited_for() -> None:
    clock = FakeClock()
    async with smtp_world(clock=clock) as world:
        world.store.gate = asyncio.Event()
        client = await world.connect()
        await client.hello()
        await client.begin("alice@example.test")
        client.send(b"x\r\n.\r\n")
        await until(lambda: world.store.bodies)
        await clock.advance(2000)
        world.store.gate.set()
        assert (await client.reply()).startswith(b"250 ")


async def test_shutdown_says_421_to_idle_and_lets_a_message_end() -> None:
    clock = FakeClock()
    async with smtp_world(clock=clock) as world:
        idle, busy, started = [await world.connect() for _ in range(3)]
        await busy.hello()
        await busy.begin("alice@example.test")
        await started.hello()
        await started.do("MAIL FROM:<a@outside.test>")
        busy.send(b"x\r\n")
        shutdown = asyncio.create_task(world.server.shutdown())
        assert await idle.at_end() == b"421 4.3.2 Server is going down\r\n"
        assert await started.at_end() == b"421 4.3.2 Server is going down\r\n"
        late = await world.connect(greeting=False)
        assert (await late.reply()).startswith(b"421 4.3.2")
        busy.send(b".\r\n")
        assert (await busy.reply()).startswith(b"250 ")
        assert (await busy.at_end()).startswith(b"421 4.3.2")
        await asyncio.wait_for(shutdown, 5)
        assert len(world.store.delivered) == 1


async def test_shutdown_does_not_wait_for_ever() -> None:
    clock = FakeClock()
    async with smtp_world(clock=clock) as world:
        client = await world.connect()
        await client.hello()
        await client.begin("alice@example.test")
        shutdown = asyncio.create_task(world.server.shutdown())
        await asyncio.sleep(0)
        await clock.advance(world.settings.shutdown_grace + 1)
        await asyncio.wait_for(shutdown, 5)
        await until(lambda: world.server.connections == 0)
        assert world.store.delivered == []


async def test_one_timer_serves_a_whole_connection() -> None:
    clock = FakeClock()
    world = SmtpWorld(clock=clock)
    try:
        client = await world.connect()
        await client.hello()
        before = len(clock._timers)
        for _ in range(50):
            await client.message(b"\r\nx")
        assert len(clock._timers) == before
    finally:
        await world.close()
