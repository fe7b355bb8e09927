"""The sequence that takes a message for other servers and for our own users: for all of them, or for none.

The queue files are durable first, then the mailboxes, then the queue is told (row SMT-4). A crash between
leaves an entry that a start delivers although nobody was answered: the message comes again, it is not lost.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

from postkeep.domain.address import Address
from postkeep.queue.queue import Queue, QueuedRecipient
from postkeep.storage.bodies import Body


class Outgoing(NamedTuple):
    """What the queue has to know of a message; the fields of `Queue.prepare`."""

    sender: Address | None
    recipients: Sequence[QueuedRecipient]
    smtputf8: bool = False
    eight_bit: bool = False
    envid: str = ""
    ret: str = ""


async def commit(
    queue: Queue,
    outgoing: Outgoing,
    body: Body,
    skip: int,
    keep: Callable[[], Awaitable[None]] | None,
) -> str:
    """Durable everywhere on return; the Queue ID. An exception means that neither side has it.

    `skip` octets at the beginning of `body` are not sent on: RFC 5321 §4.4, no Return-Path before final
    delivery. `keep` makes the message durable in our own mailboxes; it may use `body` up.
    """
    prepared = await queue.prepare(
        outgoing.sender,
        outgoing.recipients,
        body.chunks(skip),
        size=body.size - skip,
        smtputf8=outgoing.smtputf8,
        eight_bit=outgoing.eight_bit,
        envid=outgoing.envid,
        ret=outgoing.ret,
    )
    if keep is not None:
        try:
            await keep()
        except BaseException:
            await queue.discard(prepared)
            raise
    queue.activate(prepared)
    return prepared.id
