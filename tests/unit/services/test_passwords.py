"""Many new passwords at once: in parallel, in order, bounded, and out of the way of everything else."""

import asyncio
import os
import threading

import pytest
from postkeep.services.passwords import PasswordHashes

from tests.support.clock import settle


class SlowHasher:
    """Each hash waits until it is let go; counts those under way."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.go = threading.Semaphore(0)
        self.begun = threading.Semaphore(0)
        self.running = self.most = 0
        self.niceness: set[int] = set()

    def hash(self, password: str) -> str:
        with self.lock:
            self.running += 1
            self.most = max(self.most, self.running)
            self.niceness.add(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
        self.begun.release()
        assert self.go.acquire(timeout=20)
        with self.lock:
            self.running -= 1
        if password == "unusable":
            raise ValueError(password)
        return f"hash of {password}"


def slow(workers: int) -> tuple[PasswordHashes, SlowHasher]:
    hashes, hasher = PasswordHashes(workers, memory_kib=64, passes=1), SlowHasher()
    hashes._hasher = hasher  # type: ignore[assignment]
    return hashes, hasher


async def begun(hasher: SlowHasher, count: int) -> None:
    for _ in range(count):
        assert await asyncio.to_thread(hasher.begun.acquire, timeout=20)


async def test_many_are_hashed_in_parallel_and_come_in_order() -> None:
    hashes, hasher = slow(3)
    progress: list[int] = []
    names = [str(number) for number in range(20)]
    batch = asyncio.ensure_future(hashes.make_all(names, lambda: progress.append(1)))
    await begun(hasher, 3)
    assert hasher.running == 3
    assert not progress
    for _ in names:
        hasher.go.release()
    assert await batch == [f"hash of {name}" for name in names]
    assert hasher.most == 3  # bounded: argon2 takes 19 MiB each
    assert len(progress) == 20
    hashes.close()


async def test_progress_is_told_while_it_goes_on() -> None:
    hashes, hasher = slow(1)
    progress: list[int] = []
    batch = asyncio.ensure_future(hashes.make_all(["a", "b", "c"], lambda: progress.append(1)))
    for done in (1, 2):
        await begun(hasher, 1)
        hasher.go.release()
        await begun(hasher, 1)
        assert len(progress) == done
        hasher.begun.release()
    hasher.go.release()
    assert len(await batch) == 3
    hashes.close()


async def test_new_passwords_give_way_to_everything_else() -> None:
    own = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    hashes, hasher = slow(2)
    hasher.go.release(2)
    await hashes.make_all(["a", "b"])
    assert min(hasher.niceness) > own
    assert os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) == own
    hashes.close()


async def test_a_sandbox_that_forbids_priorities_makes_passwords_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(_: int) -> int:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "nice", refuse)
    hashes = PasswordHashes(2, memory_kib=64, passes=1)
    assert all(one.startswith("$argon2id$") for one in await hashes.make_all(["a", "b", "c"]))
    hashes.close()


async def test_one_that_fails_ends_the_batch() -> None:
    hashes, hasher = slow(1)
    hasher.go.release(100)
    with pytest.raises(ValueError, match="unusable"):
        await hashes.make_all(["a", "unusable", *"bcdefgh"])
    await settle()
    assert hasher.most == 1
    assert hasher.go._value >= 100 - 3  # no more were begun
    hashes.close()


async def test_a_batch_that_is_cancelled_begins_no_more() -> None:
    hashes, hasher = slow(1)
    batch = asyncio.ensure_future(hashes.make_all([str(number) for number in range(50)]))
    await begun(hasher, 1)
    batch.cancel()
    await asyncio.gather(batch, return_exceptions=True)
    hasher.go.release(50)
    await asyncio.to_thread(hashes._makers.shutdown)
    assert not hasher.begun.acquire(blocking=False)
    hashes.close()


async def test_none_is_no_batch() -> None:
    hashes = PasswordHashes(2, memory_kib=64, passes=1)
    assert await hashes.make_all([]) == []
    hashes.close()
