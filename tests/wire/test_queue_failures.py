"""Ports that fail as nobody foresaw, and removals at the worst moment: no message is lost, nothing spins."""

import asyncio
from pathlib import Path

import pytest
from postkeep.domain.errors import StorageFailed
from postkeep.queue.entry import Entry
from postkeep.queue.files import BLOCK

from tests.support.clock import FakeClock, settle
from tests.support.faulty import FaultyFiles
from tests.support.queueworld import MESSAGE, queue_world, resolver_for
from tests.support.resolver import FakeResolver
from tests.support.smtpsink import SinkSession, sink


async def test_a_bug_behind_deliver_local_does_not_spin(tmp_path: Path) -> None:
    """The sender cannot be told, by an error that is not the disk's: told later, not at once and for ever."""
    clock = FakeClock()
    async with queue_world(tmp_path, clock=clock, resolver=FakeResolver()) as world:
        world.local.failure = RuntimeError("a bug in the store")
        name = await world.send("bob@nowhere.test")
        await world.until(lambda: "cannot be told" in world.logs.error)
        for _ in range(200):
            await settle()
        assert len(world.logs.error.lines) == 1
        assert "RuntimeError('a bug in the store')" in world.logs.error.lines[0]
        world.local.failure = None
        await world.pass_time(lambda: bool(world.local.mail), step=300)
        await world.empty()
        assert f"Notified: id={name}" in world.logs.mail


async def test_a_state_that_cannot_be_kept_is_not_tried_again_at_once(tmp_path: Path) -> None:
    clock = FakeClock()
    async with queue_world(tmp_path, clock=clock, resolver=FakeResolver()) as world:
        name = await world.send("bob@[127.0.0.200]")
        await world.settled()
        await world.until(lambda: world.queue.entries()[0].tries == 1)

        async def broken(entry: Entry, outcomes: object) -> None:
            raise RuntimeError("a bug in the ledger")

        note = world.queue._ledger.note
        world.queue._ledger.note = broken  # type: ignore[method-assign,assignment]
        await world.queue.retry(name)
        await world.until(lambda: "could not be kept" in world.logs.error)
        for _ in range(200):
            await settle()
        assert len(world.logs.error.lines) == 1
        world.queue._ledger.note = note  # type: ignore[method-assign]
        (entry,) = world.queue.entries()
        assert entry.next_try is not None
        assert entry.next_try >= clock.now() + 300


async def test_a_bug_in_a_delivery_costs_a_try_and_not_the_message(tmp_path: Path) -> None:
    clock = FakeClock()
    async with sink() as server, queue_world(tmp_path, server, clock=clock) as world:
        mx = world.resolver.mx

        async def broken(domain: str) -> list[tuple[int, str]]:
            raise RuntimeError("a bug in the resolver")

        world.resolver.mx = broken  # type: ignore[method-assign]
        first = await world.send("bob@a.test")
        second = await world.send("carl@a.test")
        await world.until(lambda: all(entry.tries == 1 for entry in world.queue.entries()))
        await world.settled()
        assert [line for line in world.logs.error.lines if "a bug in the resolver" in line]
        assert world.queue.entries()[0].last_reply == "internal error: RuntimeError"
        world.resolver.mx = mx  # type: ignore[method-assign]
        await world.pass_time(lambda: len(server.messages) == 2, step=60)
        await world.empty()
        assert all(f"Sent: id={name}" in world.logs.mail for name in (first, second))


async def test_a_bug_inside_a_transfer_breaks_the_connection_off(tmp_path: Path) -> None:
    """The other side must not take what it has for whole."""
    clock = FakeClock()
    async with sink() as server, queue_world(tmp_path, server, clock=clock) as world:
        pread = world.queue._files.pread

        async def broken(fd: int, length: int, offset: int) -> bytes:
            raise RuntimeError("a bug in the files")

        world.queue._files.pread = broken  # type: ignore[method-assign]
        big = [MESSAGE, b"x" * 998 + b"\r\n"] * 300
        await world.send("bob@a.test", content=big)
        await world.until(lambda: world.queue.entries()[0].tries == 1)
        assert server.messages == []
        assert "QUIT" not in server.commands
        world.queue._files.pread = pread  # type: ignore[method-assign]
        await world.pass_time(lambda: len(server.messages) == 1, step=60)
        assert server.messages[0].data == b"".join(big)


async def test_a_bug_behind_deliver_local_costs_one_recipient_a_try(tmp_path: Path) -> None:
    clock = FakeClock()
    async with queue_world(tmp_path, clock=clock, resolver=resolver_for()) as world:
        world.local.domains.add("new.test")
        world.local.failure = RuntimeError("a bug in the store")
        await world.send("bob@new.test", "carl@new.test")
        await world.until(lambda: bool(world.queue.entries()[0].tries))
        world.local.failure = None
        await world.pass_time(lambda: len(world.local.mail) == 2, step=60)
        await world.empty()
        assert len(world.local.mail) == 2  # neither twice


async def test_a_large_message_for_our_own_users_is_never_whole_in_memory(tmp_path: Path) -> None:
    big = [MESSAGE, *[b"x" * 998 + b"\r\n"] * 3000]
    async with queue_world(tmp_path, resolver=resolver_for()) as world:
        world.local.domains.add("new.test")
        await world.send("bob@new.test", "carl@new.test", content=big)
        await world.empty()
        assert [content == b"".join(big) for _, _, content in world.local.mail] == [True, True]
        assert world.local.longest <= BLOCK


async def test_a_message_removed_while_its_state_is_written_stays_removed(tmp_path: Path) -> None:
    def script(session: SinkSession, line: str) -> str | None:
        return "450 4.2.0 later" if line.startswith("RCPT") else None

    async with sink(script) as server, queue_world(tmp_path, server) as world:
        queue, removed = world.queue, []
        update = queue._files.update

        async def meanwhile(entry: Entry) -> None:
            task = asyncio.create_task(queue.remove(entry.id))  # the administrator's request comes just now
            await asyncio.sleep(0)
            await update(entry)
            await task
            removed.append(entry.id)

        queue._files.update = meanwhile  # type: ignore[method-assign]
        name = await world.send("bob@a.test")
        await world.until(lambda: removed == [name])
        await world.restart()
        assert world.names() == []
        assert world.queue.entries() == []
        assert world.logs.error.lines == world.logs.warning.lines == []


async def test_a_removal_that_the_disk_refuses_is_not_forgotten(tmp_path: Path) -> None:
    files = FaultyFiles()
    async with queue_world(tmp_path) as world:
        world.files = files
        await world.restart()
        name = await world.send("bob@[127.0.0.200]")
        await world.until(lambda: world.queue.entries()[0].tries == 1)
        await world.settled()
        files.fail("sync_dir", 5)
        with pytest.raises(StorageFailed):
            await world.queue.remove(name)
        assert [entry.id for entry in world.queue.entries()] == [name]
        files.heal()
        await world.queue.remove(name)
        assert world.names() == []
