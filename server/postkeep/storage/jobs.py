"""What is handed to the writer thread."""

import asyncio
from collections.abc import Callable
from typing import Any, NamedTuple

from postkeep.domain.change import Appended
from postkeep.storage.bodies import Body
from postkeep.storage.catalogue import MailboxState
from postkeep.storage.records import Delivery as DeliveredTo
from postkeep.storage.records import hash64
from postkeep.storage.spool import SpoolFile
from postkeep.storage.transaction import Transaction


class Target(NamedTuple):
    """A mailbox that gets a message: storage ids, Flag bits, keywords by name."""

    account: int
    mailbox: int
    flags: int = 0
    keywords: tuple[str, ...] = ()


class Job:
    """`records` are bytes for the active pack: any number of whole records, `length` octets together.

    `then` is called on the loop with the result once that is durable, also when nobody waits for it any more:
    what must follow a commit belongs there."""

    __slots__ = ("future", "held", "length", "place", "records", "then")

    def __init__(
        self,
        future: asyncio.Future[Any],
        records: tuple[bytes, ...] = (),
        length: int = 0,
        then: Callable[[Any], None] | None = None,
    ) -> None:
        self.future = future
        self.records = records
        self.length = self.held = length
        """`held` are octets in memory: none when the record lies in a spool file."""
        self.then = then
        self.place: tuple[int, int] = (0, 0)
        """Pack and offset where `records` begin; set by the writer."""

    def settle(self) -> None:
        """On the loop, when the writer is done with it, whatever came of it."""


class Operation(Job):
    """`change` runs under a savepoint of its own; what it raises fails this operation alone.

    It may run again (after a failed batch), so it must not change anything but through the Transaction."""

    __slots__ = ("change",)

    def __init__(
        self,
        future: asyncio.Future[Any],
        change: Callable[[Transaction, tuple[int, int]], Any],
        records: tuple[bytes, ...] = (),
        then: Callable[[Any], None] | None = None,
    ) -> None:
        super().__init__(future, records, sum(map(len, records)), then)
        self.change = change


class Delivery(Job):
    """One record and a new row in each target: the fast path. With `spool` the record lies there.

    The body is the job's from here on: nobody else can free it, only `settle` does."""

    __slots__ = ("body", "date", "msgid", "result", "size", "spool", "targets", "thread")

    def __init__(
        self,
        future: asyncio.Future[tuple[Appended, ...]],
        records: tuple[bytes, ...],
        length: int,
        targets: list[tuple[MailboxState, int, int]],
        row: tuple[int, int, int, int],
        body: Body,
        spool: SpoolFile | None = None,
        then: Callable[[tuple[Appended, ...]], None] | None = None,
    ) -> None:
        self.future = future
        self.records = records
        self.length = length
        self.held = length if spool is None else 0
        self.then = then
        self.place = (0, 0)
        self.targets = targets
        self.size, self.date, self.msgid, self.thread = row
        self.body = body
        self.spool = spool
        self.result: tuple[Appended, ...] = ()
        body.taken = True

    def settle(self) -> None:
        self.body.free()


def deliver(
    future: asyncio.Future[tuple[Appended, ...]],
    body: Body,
    places: list[tuple[MailboxState, Target]],
    bits: list[int],
    date: int,
    then: Callable[[tuple[Appended, ...]], None] | None,
) -> Delivery:
    """The job that stores `body` in these mailboxes; `bits` are their targets' keywords."""
    delivered = tuple(
        [DeliveredTo(state.account.key, state.name, to.flags, to.keywords) for state, to in places]
    )
    pieces, length, spool = body.record(date, delivered)
    structure = body.structure
    msgid = hash64(structure.message_id)
    root = structure.thread_root
    thread = msgid if root == structure.message_id and root else hash64(root)
    if not root:  # a thread of its own
        thread = int.from_bytes(body.digest[:8], "little", signed=True)
    targets = [(state, int(to.flags), word) for (state, to), word in zip(places, bits, strict=True)]
    return Delivery(future, pieces, length, targets, (body.size, date, msgid, thread), body, spool, then)
