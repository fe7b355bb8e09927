"""What senders are told: failures, delays, and that a message left for a server that confirms nothing."""

import secrets
from collections.abc import Awaitable, Callable, Sequence

from postkeep.domain.address import Address
from postkeep.domain.errors import NotFound
from postkeep.formats.dsn import Action, RecipientReport, Report, build_dsn
from postkeep.queue.entry import Entry, QueuedRecipient, Recipient
from postkeep.runtime.clock import Clock
from postkeep.runtime.logs import Logs

RETURN_LIMIT = 1 << 20
"""Octets of a message that is returned whole (RET=FULL); of a larger one only the header is."""

DeliverLocal = Callable[[Address | None, Address, bytes], Awaitable[None]]
"""(sender, local recipient, message): durable on return. NotFound: nobody there."""
Enqueue = Callable[[QueuedRecipient, bytes, bool], Awaitable[str]]
"""(recipient, message, smtputf8) from <>: the new Queue ID, durable on return."""
ReadHead = Callable[[str, int], Awaitable[bytes]]
"""(Queue ID, octets): the beginning of its message."""


class Notices:
    """Builds notifications (RFC 3464) and posts them. The null sender never gets one (RFC 5321 §4.5.5)."""

    def __init__(
        self,
        hostname: str,
        clock: Clock,
        logs: Logs,
        *,
        is_local: Callable[[str], bool],
        deliver_local: DeliverLocal,
        enqueue: Enqueue,
        read_head: ReadHead,
    ) -> None:
        self._hostname = hostname
        self._clock = clock
        self._logs = logs
        self._is_local = is_local
        self._deliver_local = deliver_local
        self._enqueue = enqueue
        self._read_head = read_head

    async def send(
        self, entry: Entry, recipients: Sequence[Recipient], action: Action, retry_until: float | None = None
    ) -> None:
        """One notification about `recipients`. Raises PostkeepError when it could not be stored for now."""
        sender = entry.parsed_sender
        if sender is None:
            if action == "failed":
                self._drop_double(entry, recipients)
            return
        full = action == "failed" and entry.ret.upper() == "FULL" and entry.size <= RETURN_LIMIT
        original = await self._read_head(entry.id, RETURN_LIMIT if full else 65_536)
        now = self._clock.now()
        report = Report(
            reporting_mta=self._hostname,
            postmaster=Address("postmaster", self._hostname),
            sender=sender,
            recipients=[self._about(one, action, retry_until) for one in recipients],
            message_id=f"<{int(now * 1000):x}.{secrets.token_hex(6)}@{self._hostname}>",
            date=now,
            original=original,
            return_full=full,
            arrival=entry.created,
            envelope_id=entry.envid,
            smtputf8=entry.smtputf8 or not sender.is_ascii,
        )
        await self._post(entry, sender, build_dsn(report), report.needs_smtputf8, action)

    async def _post(
        self, entry: Entry, sender: Address, content: bytes, smtputf8: bool, action: Action
    ) -> None:
        if self._is_local(sender.domain):
            try:
                await self._deliver_local(None, sender, content)
            except NotFound:
                self._logs.error.write(
                    f"Queue: id={entry.id}: the sender <{sender}> does not exist, the notification is dropped"
                )
                return
            where = "local"
        else:
            where = await self._enqueue(QueuedRecipient(sender, notify="NEVER"), content, smtputf8)
        self._logs.mail.write(f"Notified: id={entry.id}, sender=<{sender}>, about={action}, as={where}")

    def _about(self, one: Recipient, action: Action, retry_until: float | None) -> RecipientReport:
        return RecipientReport(
            recipient=one.parsed,
            action=action,
            status=one.status,
            diagnostic=one.reply,
            remote_mta=one.host,
            original=one.original,
            last_attempt=one.tried or None,
            retry_until=retry_until,
        )

    def _drop_double(self, entry: Entry, recipients: Sequence[Recipient]) -> None:
        for one in recipients:
            self._logs.error.write(
                f"Queue: id={entry.id}: the notification to <{one.address}> cannot be delivered and is "
                f"dropped: {one.reply}"
            )
