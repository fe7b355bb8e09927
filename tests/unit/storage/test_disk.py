"""A full or failing disk is told in the Error log, once a minute at most, and so is its end."""

import errno
import logging
from pathlib import Path

import pytest
from postkeep.domain.errors import LimitReached, StorageFailed, StorageFull
from postkeep.storage.disk import DiskWatch

from tests.support.clock import FakeClock
from tests.support.faulty import FaultyFiles
from tests.support.storing import deliver, inbox, letter, open_store

ALICE = "alice@example.test"


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [
        one.getMessage()
        for one in caplog.records
        if one.name == "postkeep.storage.disk" and one.levelno == logging.ERROR
    ]


async def test_a_full_disk_is_told_once_and_its_end(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    files = FaultyFiles()
    store = await open_store(tmp_path, files=files)
    target = await inbox(store, ALICE)
    files.fail("pwrite", errno.ENOSPC)
    for number in range(3):
        with pytest.raises(StorageFull):
            await deliver(store, letter(f"m{number}"), [target])
    assert said(caplog) == [
        f"the disk is full: messages are refused with 452 until there is room in {tmp_path}"
    ]
    files.heal()
    for number in range(3):
        await deliver(store, letter(f"n{number}"), [target])
    assert said(caplog)[1:] == [f"the disk takes messages again: {tmp_path}"]
    await store.close()


async def test_a_disk_that_fills_while_a_message_comes_in(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    files = FaultyFiles()
    store = await open_store(tmp_path, files=files)
    await inbox(store, ALICE)
    files.fail("pwrite", errno.ENOSPC)
    incoming = store.incoming()
    incoming.write(b"x")
    with pytest.raises(StorageFull):
        incoming.write(b"x" * (4 << 20))
    incoming.abort()
    assert len(said(caplog)) == 1
    assert "the disk is full" in said(caplog)[0]
    await store.close()


async def test_no_more_than_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    clock = FakeClock()
    watch = DiskWatch(Path("/store"), clock.monotonic)
    watch.works()
    assert said(caplog) == []
    for _ in range(100):
        watch.failed(StorageFull("the disk is full"))
        watch.works()
    assert len(said(caplog)) == 2  # that it is full, that it works
    await clock.advance(61)
    watch.failed(StorageFailed("the disk failed: Input/output error"))
    assert said(caplog)[2] == (
        "the disk failed: Input/output error: messages are refused until /store can be written again"
    )
    await clock.advance(61)
    watch.failed(StorageFull("the disk is full"))
    assert len(said(caplog)) == 4


def test_other_errors_are_none_of_the_disk(caplog: pytest.LogCaptureFixture) -> None:
    watch = DiskWatch(Path("/store"), FakeClock().monotonic)
    watch.failed(LimitReached("too many keywords"))
    watch.failed(RuntimeError("a bug"))
    assert said(caplog) == []
    assert not watch.trouble
