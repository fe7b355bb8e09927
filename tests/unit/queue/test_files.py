"""The queue's folder: changes and removals that meet, readings that fail."""

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from postkeep.domain.address import parse_address
from postkeep.domain.errors import StorageFailed
from postkeep.queue.entry import Entry, QueuedRecipient, make_entry
from postkeep.queue.files import QueueFiles

from tests.support.faulty import FaultyFiles


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


class Folder:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.disk = FaultyFiles()
        self.files = QueueFiles(path, self.disk)

    async def add(self) -> Entry:
        to = (QueuedRecipient(parse_address("bob@a.test")),)
        return await self.files.add(
            lambda name: make_entry(name, None, to, 1.0, smtputf8=False), 1.0, (b"\r\nx\r\n",), 5
        )

    def names(self) -> list[str]:
        return sorted(os.listdir(self.path))


@pytest.fixture
async def folder(tmp_path: Path) -> AsyncIterator[Folder]:
    one = Folder(tmp_path / "queue")
    await one.files.load()
    yield one
    await one.files.close()


@pytest.mark.parametrize("turns", range(6))
@pytest.mark.parametrize("first", ["remove", "update"])
async def test_a_removed_entry_does_not_come_back(folder: Folder, first: str, turns: int) -> None:
    """The administrator removes a message while the ledger writes down what became of a try."""
    entry = await folder.add()
    calls: dict[str, Callable[[], object]] = {
        "remove": lambda: asyncio.create_task(folder.files.remove(entry.id)),
        "update": lambda: asyncio.create_task(folder.files.update(entry)),
    }
    tasks = [calls.pop(first)()]
    for _ in range(turns):
        await asyncio.sleep(0)
    tasks += [call() for call in calls.values()]
    tasks.append(asyncio.create_task(folder.files.update(entry)))
    await asyncio.gather(*tasks)  # type: ignore[arg-type]
    assert folder.names() == []
    assert folder.files._guards == {}


async def test_a_removal_that_fails_can_be_done_again(folder: Folder) -> None:
    entry = await folder.add()
    folder.disk.fail("sync_dir", 5, times=1)
    with pytest.raises(StorageFailed):
        await folder.files.remove(entry.id)
    await folder.files.update(entry)
    assert len(folder.names()) == 2
    await folder.files.remove(entry.id)
    assert folder.names() == []


async def test_a_reading_that_fails_leaves_no_file_open(folder: Folder) -> None:
    entry = await folder.add()
    folder.disk.fail("pread", 5)
    before = descriptors()
    for _ in range(30):
        with pytest.raises(StorageFailed):
            await folder.files.head(entry.id)
    assert descriptors() == before


async def test_a_reading_that_is_cancelled_leaves_no_file_open(folder: Folder) -> None:
    entry = await folder.add()
    gate = threading.Event()
    await folder.files.head(entry.id)  # the threads are there
    before = descriptors()
    folder.disk.before = lambda name: bool(name == "pread" and gate.wait(10)) or None
    tasks = [asyncio.create_task(folder.files.head(entry.id)) for _ in range(6)]
    while descriptors() < before + 6:  # noqa: ASYNC110 - the threads tell nobody
        await asyncio.sleep(0.001)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    gate.set()
    await folder.files.close()
    assert descriptors() <= before
