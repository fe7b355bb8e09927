"""Jobs on their way to the writer: in order, bounded, nobody passed."""

import asyncio
from pathlib import Path

import pytest
from postkeep.storage import jobqueue
from postkeep.storage.jobqueue import JobQueue
from postkeep.storage.jobs import Job

from tests.support.storing import PREFIX, deliver, inbox, letter, open_store


class Noted(Job):
    def __init__(self, octets: int) -> None:
        super().__init__(asyncio.get_running_loop().create_future(), (b"",), octets)
        self.settled = False

    def settle(self) -> None:
        self.settled = True


async def test_nobody_passes_one_that_waits_for_much_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobqueue, "QUEUE_OCTETS", 100)
    queue = JobQueue()
    first, big, small = Noted(60), Noted(80), Noted(1)
    for job in (first, big, small):
        queue.put(job)
    assert queue.take(0) == ([first], 60, False)
    queue.done(1, 60)
    assert queue.take(0) == ([big, small], 81, False)
    queue.done(2, 81)
    assert queue.jobs == queue.octets == 0


async def test_one_larger_than_all_room_comes_in_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobqueue, "QUEUE_OCTETS", 100)
    queue = JobQueue()
    first, huge, last = Noted(10), Noted(1000), Noted(10)
    for job in (first, huge, last):
        queue.put(job)
    for expected in (first, huge, last):
        batch, octets, _ = queue.take(0)
        assert batch == [expected]
        queue.done(1, octets)


async def test_one_that_is_cancelled_before_its_turn_frees_what_it_holds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(jobqueue, "QUEUE_JOBS", 1)
    queue = JobQueue()
    jobs = [Noted(1) for _ in range(3)]
    for job in jobs:
        queue.put(job)
    jobs[1].future.cancel()
    queue.take(0)
    queue.done(1, 1)
    assert [job.settled for job in jobs] == [False, True, False]
    assert queue.take(0)[0] == [jobs[2]]


async def test_a_big_message_does_not_starve_under_load(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Attack: as long as others deliver, a message longer than the queue's bound waits for ever."""
    monkeypatch.setattr(jobqueue, "QUEUE_OCTETS", 1 << 20)
    store = await open_store(tmp_path)
    target = await inbox(store, "a@example.test")
    incoming = store.incoming()
    incoming.write(letter("big", 3 << 20))
    body = await incoming.finish(PREFIX)
    done = asyncio.Event()

    async def pump(number: int) -> int:
        count = 0
        while not done.is_set():
            await deliver(store, letter(f"{number}-{count}"), [target])
            count += 1
        return count

    pumps = [asyncio.ensure_future(pump(number)) for number in range(20)]
    await asyncio.sleep(0)
    try:
        async with asyncio.timeout(20):
            await store.deliver(body, [target], 1)
    finally:
        done.set()
        small = sum(await asyncio.gather(*pumps))
    assert small < 2000
    await store.close()
