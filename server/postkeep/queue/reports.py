"""Reports to senders (RFC 3464): built here and posted, for the queue's recipients and for local ones."""

import secrets
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable, Sequence

from postkeep.domain.address import Address
from postkeep.formats.dsn import RecipientReport, Report, build_dsn
from postkeep.queue.entry import QueuedRecipient
from postkeep.runtime.clock import Clock

Chunks = Iterable[bytes] | AsyncIterable[bytes]
"""A message, piece by piece: no more of it need be in memory."""
DeliverLocal = Callable[[Address | None, Address, Chunks], Awaitable[None]]
"""(sender, local recipient, message): durable on return. NotFound: nobody there."""
Post = Callable[[Address | None, Sequence[QueuedRecipient], bytes, bool], Awaitable[str]]
"""(sender, recipients elsewhere, message, smtputf8): the Queue ID, durable on return."""


class Reporter:
    """Tells one sender about recipients of one kind. From <>, so that nothing ever answers it."""

    def __init__(
        self,
        hostname: str,
        clock: Clock,
        *,
        is_local: Callable[[str], bool],
        deliver_local: DeliverLocal,
        post: Post,
    ) -> None:
        self._hostname = hostname
        self._clock = clock
        self._is_local = is_local
        self._deliver_local = deliver_local
        self._post = post

    async def send(
        self,
        sender: Address,
        recipients: Sequence[RecipientReport],
        original: bytes,
        *,
        arrival: float,
        envelope_id: str = "",
        return_full: bool = False,
        smtputf8: bool = False,
    ) -> str:
        """Durable on return: "local", or the report's own Queue ID.

        `original` is the message or its header. Raises NotFound when the sender should be one of our users
        and is none, and what `deliver_local` and `post` raise when they cannot store it.
        """
        now = self._clock.now()
        report = Report(
            reporting_mta=self._hostname,
            postmaster=Address("postmaster", self._hostname),
            sender=sender,
            recipients=recipients,
            message_id=f"<{int(now * 1000):x}.{secrets.token_hex(6)}@{self._hostname}>",
            date=now,
            original=original,
            return_full=return_full,
            arrival=arrival,
            envelope_id=envelope_id,
            smtputf8=smtputf8,
        )
        content = build_dsn(report)
        if self._is_local(sender.domain):
            await self._deliver_local(None, sender, (content,))
            return "local"
        # RFC 3461 §6.2: nobody is told of a report that fails
        return await self._post(
            None, (QueuedRecipient(sender, notify="NEVER"),), content, report.needs_smtputf8
        )
