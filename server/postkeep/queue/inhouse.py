"""Entries' recipients whose domain has become ours while they waited: into their mailboxes."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager

from postkeep.domain.errors import NotFound, OverQuota
from postkeep.queue.entry import Entry, Recipient
from postkeep.queue.files import Message
from postkeep.queue.reports import DeliverLocal
from postkeep.queue.transaction import Kind, Outcome


async def deliver_in_house(
    entry: Entry,
    recipients: Sequence[Recipient],
    reading: AbstractAsyncContextManager[Message],
    deliver_local: DeliverLocal,
) -> list[Outcome]:
    """One outcome for each of `recipients`; never raises, whatever the disk or the port does."""
    outcomes: list[Outcome] = []
    try:
        async with reading as message:
            for one in recipients:
                outcomes.append(await _deliver(entry, one, message, deliver_local))
    except Exception as error:
        rest = recipients[len(outcomes) :]
        outcomes += [Outcome(one, Kind.DEFERRED, "4.3.0", _words(error)) for one in rest]
    return outcomes


async def _deliver(entry: Entry, one: Recipient, message: Message, deliver_local: DeliverLocal) -> Outcome:
    try:
        await deliver_local(entry.parsed_sender, one.parsed, _blocks(message))
    except NotFound as error:
        return Outcome(one, Kind.FAILED, "5.1.1", str(error))
    except OverQuota as error:
        return Outcome(one, Kind.DEFERRED, "4.2.2", str(error))
    except Exception as error:
        return Outcome(one, Kind.DEFERRED, "4.3.0", _words(error))
    return Outcome(one, Kind.SENT, "2.0.0", "delivered", confirms=False)


async def _blocks(message: Message) -> AsyncIterator[bytes]:
    offset = 0
    while block := await message.read(offset):
        offset += len(block)
        yield block


def _words(error: Exception) -> str:
    return str(error) or type(error).__name__
