"""The way from the loop to the writer thread: in order, and no more at a time than memory allows."""

import queue
from collections import deque

from postkeep.storage.jobs import Job

BATCH_JOBS = 512
BATCH_OCTETS = 16 << 20
QUEUE_JOBS = 4096
QUEUE_OCTETS = 64 << 20


class JobQueue:
    """So many jobs, and so many octets in memory, are on their way at a time; what comes then waits before
    the door. Nobody passes another: a job that needs much room gets it when its turn comes."""

    def __init__(self) -> None:
        self.jobs = self.octets = 0
        """Under way: handed to the thread and not yet `done`."""
        self._thread: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._waiting: deque[Job] = deque()

    # --- on the loop ------------------------------------------------------------------------------

    def put(self, job: Job) -> None:
        if self._waiting or not self._fits(job):
            self._waiting.append(job)
        else:
            self._admit(job)

    def done(self, jobs: int, octets: int) -> None:
        """So much is no longer under way: let in whose turn it is, as many as fit."""
        self.jobs -= jobs
        self.octets -= octets
        while self._waiting:
            job = self._waiting[0]
            if job.future.cancelled():
                self._waiting.popleft()
                job.settle()
                continue
            if not self._fits(job):
                return
            self._admit(self._waiting.popleft())

    def close(self) -> list[Job]:
        """Tell the thread that nothing comes any more; the jobs that were not let in."""
        left = list(self._waiting)
        self._waiting.clear()
        self._thread.put(None)
        return left

    def _fits(self, job: Job) -> bool:
        return self.jobs < QUEUE_JOBS and (self.octets + job.held <= QUEUE_OCTETS or not self.jobs)

    def _admit(self, job: Job) -> None:
        self.jobs += 1
        self.octets += job.held
        self._thread.put(job)

    # --- in the writer thread ---------------------------------------------------------------------

    def take(self, timeout: float | None) -> tuple[list[Job], int, bool]:
        """(what waits, up to a batch; its octets in memory; was that all that ever comes). Blocks until there
        is something, or `timeout` seconds: then the batch is empty."""
        batch: list[Job] = []
        octets = 0
        try:
            job = self._thread.get(timeout=timeout)
            while job is not None:
                batch.append(job)
                octets += job.held
                if len(batch) >= BATCH_JOBS or octets >= BATCH_OCTETS:
                    return batch, octets, False
                job = self._thread.get_nowait()
        except queue.Empty:
            return batch, octets, False
        return batch, octets, True
