"""When to try again, when to tell the sender, when to give up (RFC 5321 §4.5.4.1). Pure, times in seconds."""

import heapq
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from postkeep.config.queue import QueueSettings
from postkeep.queue.entry import Entry, Recipient, State

DAY = 86_400.0
FIRST_RETRY = 300.0
"""Greylisting servers accept after about this time."""
JITTER = 0.1
"""Share of an interval that is random, so that a burst does not come back as a burst."""

K = TypeVar("K")


@dataclass(frozen=True, slots=True)
class Times:
    """The administrator's choices, in seconds."""

    retry: float = 1800.0
    delay_notice: float = 14_400.0
    """0: never."""
    bounce: float = 432_000.0

    @classmethod
    def of(cls, settings: QueueSettings) -> "Times":
        return cls(
            settings.retry_minutes * 60.0,
            settings.delay_notice_hours * 3600.0,
            settings.bounce_hours * 3600.0,
        )


def interval(tries: int, age: float, times: Times) -> float:
    """Seconds to wait after try number `tries` (1…) of a message that is `age` old, without jitter.

    5, 10, 20 minutes, then the set interval; after a day twice that.

    >>> [interval(n, 0, Times()) for n in (1, 2, 3, 4, 5)]
    [300.0, 600.0, 1200.0, 1800.0, 1800.0]
    """
    early = FIRST_RETRY * 2.0 ** (min(max(tries, 1), 20) - 1)
    return min(early, times.retry if age < DAY else 2 * times.retry)


def next_try(tries: int, created: float, now: float, times: Times, random: Callable[[], float]) -> float:
    """When to try again after a temporary failure at `now`; never later than the end, for one last try.

    `random` gives numbers from 0 to 1.
    """
    wait = interval(tries, now - created, times) * (1.0 - JITTER / 2 + JITTER * random())
    end = created + times.bounce
    return min(now + wait, end) if now < end else now


def expired(created: float, now: float, times: Times) -> bool:
    return now - created >= times.bounce


def delay_due(entry: Entry, recipient: Recipient, now: float, times: Times) -> bool:
    """Is the sender to be told now that the message is late for this recipient?"""
    return (
        times.delay_notice > 0
        and recipient.state is State.PENDING
        and not recipient.delay_told
        and now - entry.created >= times.delay_notice
        and recipient.wants("DELAY")
        and bool(entry.sender)
    )


def host_down_interval(failures: int, times: Times) -> float:
    """How long a destination is left alone after its `failures`th connection failure in a row.

    1, 2, 4, … minutes, at most the retry interval: one probe for all that waits, not one try a message.
    """
    return float(min(60.0 * 2.0 ** (min(max(failures, 1), 20) - 1), times.retry))


class Agenda(Generic[K]):
    """Keys by due time. Setting a key again moves it; O(log n), no timer or task a key."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, K]] = []
        self._due: dict[K, tuple[float, int]] = {}
        self._order = itertools.count()

    def __len__(self) -> int:
        return len(self._due)

    def __contains__(self, key: K) -> bool:
        return key in self._due

    def set(self, key: K, due: float) -> None:
        number = next(self._order)
        self._due[key] = (due, number)
        heapq.heappush(self._heap, (due, number, key))
        if len(self._heap) > 64 and len(self._heap) > 4 * len(self._due):
            self._heap = [(at, order, one) for one, (at, order) in self._due.items()]
            heapq.heapify(self._heap)

    def drop(self, key: K) -> None:
        self._due.pop(key, None)

    def next_due(self) -> float | None:
        """The earliest time, None when empty."""
        while self._heap:
            due, number, key = self._heap[0]
            if self._due.get(key) == (due, number):
                return due
            heapq.heappop(self._heap)
        return None

    def take(self, now: float) -> list[K]:
        """Remove and return all that is due, earliest first."""
        found = []
        while (due := self.next_due()) is not None and due <= now:
            key = heapq.heappop(self._heap)[2]
            del self._due[key]
            found.append(key)
        return found
