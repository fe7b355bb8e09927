"""Stops, crashes and damaged files."""

import asyncio
import json
from pathlib import Path

import pytest
from postkeep.domain.address import parse_address
from postkeep.domain.errors import StorageFailed, StorageFull
from postkeep.queue.queue import QueuedRecipient
from postkeep.runtime.files import SystemFiles

from tests.support.clock import FakeClock
from tests.support.faulty import FaultyFiles
from tests.support.queueworld import MESSAGE, queue_world
from tests.support.resolver import FakeResolver
from tests.support.smtpsink import SILENT, SinkSession, sink


async def test_restart_in_the_middle_of_a_transfer(tmp_path: Path) -> None:
    def script(session: SinkSession, line: str) -> str | None:
        return SILENT if session.number == 0 and line == "." else None

    async with sink(script) as server, queue_world(tmp_path, server) as world:
        name = await world.send("bob@a.test")
        await server.until(lambda: "DATA" in server.commands)
        await world.until(lambda: world.queue.entries()[0].in_process)
        await world.restart()
        (message,) = await server.got(1)
        await world.empty()
        assert message.data == MESSAGE
        assert f"Sent: id={name}" in world.logs.mail


async def test_an_abandoned_transfer_is_not_taken_for_whole(tmp_path: Path) -> None:
    """Stopped inside DATA: the other side must see a broken connection, not a message."""
    big = [MESSAGE, *[b"x" * 998 + b"\r\n"] * 20_000]
    async with sink() as server, queue_world(tmp_path, server) as world:
        gate = asyncio.Event()
        read = world.queue._files.pread

        async def stuck(fd: int, length: int, offset: int) -> bytes:
            if offset > 1 << 20:
                await gate.wait()
            return await read(fd, length, offset)

        world.queue._files.pread = stuck  # type: ignore[method-assign]
        await world.send("bob@a.test", content=big)
        await server.until(lambda: "DATA" in server.commands)
        await world.restart()
        (message,) = await server.got(1, 20)
        assert len(message.data) == sum(map(len, big))
        assert "QUIT" not in server.sessions[0].commands


async def test_a_graceful_stop_lets_transfers_end(tmp_path: Path) -> None:
    gate = asyncio.Event()
    async with sink() as server, queue_world(tmp_path, server) as world:
        read = world.queue._files._run

        async def slow(call: object, *arguments: object) -> object:
            if getattr(call, "__name__", "") == "_open":
                await gate.wait()
            return await read(call, *arguments)  # type: ignore[arg-type]

        world.queue._files._run = slow  # type: ignore[method-assign,assignment]
        await world.send("bob@a.test")
        await server.until(lambda: len(server.sessions) == 1)
        stopping = asyncio.create_task(world.queue.stop(10))
        await asyncio.sleep(0)
        gate.set()
        await stopping
        assert len(server.messages) == 1
        assert world.names() == []


async def test_what_was_delivered_is_not_sent_again_after_a_restart(tmp_path: Path) -> None:
    def script(session: SinkSession, line: str) -> str | None:
        return "450 4.2.0 later" if line.startswith("RCPT TO:<late") else None

    clock = FakeClock()
    async with sink(script) as server, queue_world(tmp_path, server, clock=clock) as world:
        name = await world.send("now@a.test", "late@a.test")
        await world.until(lambda: bool(server.messages) and world.queue.entries()[0].tries == 1)
        await world.settled()
        stored = json.loads((world.folder / f"{name}.env").read_text())
        assert [one["state"] for one in stored["recipients"]] == ["done", "pending"]
        await world.restart()
        server.script = lambda session, line: None
        await clock.advance(400)
        messages = await server.got(2)
        await world.empty()
        assert [message.rcpts for message in messages] == [
            ["RCPT TO:<now@a.test>"],
            ["RCPT TO:<late@a.test>"],
        ]


async def test_leftovers_of_a_crash_are_removed_and_damage_is_kept(tmp_path: Path) -> None:
    folder = tmp_path / "queue"
    folder.mkdir()
    (folder / "1.eml").write_bytes(MESSAGE)  # never acknowledged: no .env
    (folder / "2.env.new").write_bytes(b"{")
    (folder / "3.eml").write_bytes(MESSAGE)
    (folder / "3.env").write_bytes(b'{"version": 1, "id": "3", "sender": "a@b.test')  # a flipped disk
    (folder / "4.env").write_bytes(b"{}")  # its message is gone: nothing to send
    (folder / "5.eml").write_bytes(MESSAGE)
    (folder / "5.env").write_bytes(
        b'{"version":99,"id":"5","sender":"","size":1,"created":1,"recipients":[]}'
    )
    (folder / "notes.txt").write_bytes(b"by hand")
    async with queue_world(tmp_path) as world:
        assert world.queue.entries() == []
        assert world.names() == ["3.eml", "3.env", "5.eml", "5.env", "notes.txt"]
        assert "3.env" in world.logs.error
        assert "4.env" in world.logs.warning
        assert "4.env" not in world.logs.error
        assert "version 99" in world.logs.error
        assert "removed 2 files" in world.logs.operations


async def test_an_envelope_without_its_message_is_removed_and_told_once(tmp_path: Path) -> None:
    """A power cut may keep the one name of an entry that was never acknowledged, and not the other."""
    async with queue_world(tmp_path, resolver=FakeResolver()) as world:
        name = await world.send("bob@[127.0.0.200]", "carl@[127.0.0.200]", sender="bob@b.test")
        await world.queue.stop(0)
        (world.folder / f"{name}.eml").unlink()
        await world.restart()
        assert world.names() == []
        (line,) = world.logs.warning.lines
        assert f"{name}.env (from=<bob@b.test>, to=<bob@[127.0.0.200]>, <carl@[127.0.0.200]>)" in line
        await world.restart()
        assert len(world.logs.warning.lines) == 1
        assert world.logs.error.lines == []


@pytest.mark.parametrize("call", ["write", "fdatasync", "rename", "sync_dir"])
@pytest.mark.parametrize(("number", "error"), [(28, StorageFull), (5, StorageFailed)], ids=["ENOSPC", "EIO"])
async def test_a_disk_that_refuses_leaves_nothing_behind(
    tmp_path: Path, call: str, number: int, error: type[Exception]
) -> None:
    files = FaultyFiles()
    async with queue_world(tmp_path) as world:
        world.files = files
        await world.restart()
        files.fail(call, number)
        with pytest.raises(error):
            await world.send("bob@a.test")
        files.heal()
        await world.until(lambda: world.names() == [])
        assert world.queue.entries() == []


async def test_a_state_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    files = FaultyFiles()
    clock = FakeClock()
    refuse = True

    def script(session: SinkSession, line: str) -> str | None:
        return "450 later" if refuse and line.startswith("RCPT") else None

    async with sink(script) as server, queue_world(tmp_path, server, clock=clock) as world:
        world.files = files
        await world.restart()
        prepared = await world.send("bob@a.test")
        files.fail("rename")
        await world.until(lambda: "could not be kept" in world.logs.error)
        files.heal()
        refuse = False
        await world.pass_time(lambda: bool(server.messages), step=60)
        await world.empty()
        assert f"Sent: id={prepared}" in world.logs.mail


async def test_short_content_is_never_accepted(tmp_path: Path) -> None:
    recipients = [QueuedRecipient(parse_address("bob@a.test"))]
    async with queue_world(tmp_path) as world:
        with pytest.raises(StorageFailed):
            await world.queue.prepare(None, recipients, [b"x"], size=2, smtputf8=False, eight_bit=False)
        await world.until(lambda: world.names() == [])


async def test_a_cancelled_prepare_leaves_nothing_behind(tmp_path: Path) -> None:
    async with queue_world(tmp_path) as world:
        for turns in range(12):
            task = asyncio.create_task(world.send("bob@nowhere.test", content=[MESSAGE] * 50))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        await world.until(lambda: world.names() == [])
        assert world.queue.entries() == []


async def test_many_prepared_at_once_share_the_folder_s_syncs(tmp_path: Path) -> None:
    class Counting(SystemFiles):
        syncs = 0

        def sync_dir(self, path: Path) -> None:
            Counting.syncs += 1
            super().sync_dir(path)

    async with queue_world(tmp_path) as world:
        world.files = Counting()
        await world.restart()
        Counting.syncs = 0
        await asyncio.gather(*(world.send("bob@[127.0.0.200]") for _ in range(64)))
        assert len(list(world.folder.glob("*.env"))) >= 1
        assert Counting.syncs < 64
