"""Blocks of a big message are compressed by a worker while the next comes in, and never out of order."""

import errno
import hashlib
import random
from collections.abc import Callable
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

import pytest
from postkeep.domain.errors import StorageFailed, StorageFull
from postkeep.runtime.files import SystemFiles
from postkeep.storage import spool
from postkeep.storage.records import BLOCK
from postkeep.storage.spool import AHEAD, SpoolFile

from tests.support.faulty import FaultyFiles


class Idle(Executor):
    """Workers that do nothing until they are told to."""

    def __init__(self) -> None:
        self.waiting: list[Callable[[], Any]] = []
        self.closed = False

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        if self.closed:
            raise RuntimeError("cannot schedule new futures after shutdown")
        self.waiting.append(lambda: fn(*args, **kwargs))
        return Future()

    def work(self) -> None:
        while self.waiting:
            self.waiting.pop(0)()


def body(blocks: float) -> bytes:
    return random.Random(4).randbytes(int(blocks * BLOCK))


def content(file: SpoolFile) -> bytes:
    pieces = []
    place = 0
    while piece := file.read(100_000, place):
        pieces.append(piece)
        place += len(piece)
    return b"".join(pieces)


def test_writing_leaves_the_compressing_to_a_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoded: list[int] = []
    real = spool.records.encode_block
    monkeypatch.setattr(
        spool.records, "encode_block", lambda block: (encoded.append(len(block)), real(block))[1]
    )
    workers = Idle()
    file = SpoolFile(SystemFiles(), tmp_path, 1, workers)
    file.write(body(1.5))
    assert encoded == []
    workers.work()
    assert encoded == [BLOCK]
    file.discard()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("works", [True, False])
def test_all_blocks_are_there_in_order_whoever_did_the_work(tmp_path: Path, works: bool) -> None:
    """Workers that never come: the sender and the end do it themselves, memory stays bounded."""
    workers = Idle()
    data = body(7.3)
    file = SpoolFile(SystemFiles(), tmp_path, 1, workers)
    for start in range(0, len(data), 300_000):
        file.write(data[start : start + 300_000])
        assert len(file._waiting) <= AHEAD
        if works:
            workers.work()
    assert file.end() == hashlib.sha256(data).digest()[:16]
    workers.work()  # come too late, find nothing to do
    assert content(file) == data
    file.discard()


def test_a_failure_in_a_worker_comes_out_of_the_next_write_and_of_the_end(tmp_path: Path) -> None:
    files, workers = FaultyFiles(), Idle()
    file = SpoolFile(files, tmp_path, 1, workers)
    file.write(body(1))
    files.fail("pwrite", errno.ENOSPC)
    workers.work()
    files.heal()
    with pytest.raises(StorageFull):
        file.write(b"more")
    with pytest.raises(StorageFull):
        file.end()
    file.discard()
    assert list(tmp_path.iterdir()) == []


def test_a_file_at_which_a_worker_writes_is_removed_behind_it(tmp_path: Path) -> None:
    """Attack: the sender hangs up while a block is being written: no other file gets its octets."""
    workers = Idle()
    file = SpoolFile(SystemFiles(), tmp_path, 1, workers)
    file.write(body(1))
    with file._lock:  # a worker is at it
        file.discard()
        file.discard()
        assert file._fd >= 0
    workers.work()
    assert file._fd < 0
    assert list(tmp_path.iterdir()) == []


def test_when_the_workers_are_gone_writing_fails_and_discarding_does_not(tmp_path: Path) -> None:
    workers = Idle()
    file = SpoolFile(SystemFiles(), tmp_path, 1, workers)
    workers.closed = True
    with pytest.raises(StorageFailed, match="closed"):
        file.write(body(1))
    file.discard()
    assert list(tmp_path.iterdir()) == []
