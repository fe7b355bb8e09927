"""What is handed to the writer thread."""

import asyncio
from collections.abc import Callable
from typing import Any, NamedTuple

from postkeep.domain.change import Appended
from postkeep.storage.bodies import Body
from postkeep.storage.catalogue import MailboxState
from postkeep.storage.spool import SpoolFile
from postkeep.storage.transaction import Transaction


class Target(NamedTuple):
    """A mailbox that gets a message: storage ids, Flag bits, keywords by name."""

    account: int
    mailbox: int
    flags: int = 0
    keywords: tuple[str, ...] = ()


class Job:
    """`records` are bytes for the active pack: any number of whole records, `length` octets together."""

    __slots__ = ("future", "length", "place", "records")

    def __init__(self, future: asyncio.Future[Any], records: tuple[bytes, ...] = (), length: int = 0) -> None:
        self.future = future
        self.records = records
        self.length = length
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
    ) -> None:
        super().__init__(future, records, sum(map(len, records)))
        self.change = change


class Delivery(Job):
    """One record and a new row in each target: the fast path. With `spool` the record lies there."""

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
    ) -> None:
        self.future = future
        self.records = records
        self.length = length
        self.place = (0, 0)
        self.targets = targets
        self.size, self.date, self.msgid, self.thread = row
        self.body = body
        self.spool = spool
        self.result: tuple[Appended, ...] = ()

    def settle(self) -> None:
        self.body.discard()
