"""What senders are told: failures, delays, and that a message left for a server that confirms nothing."""

from collections.abc import Awaitable, Callable, Sequence

from postkeep.domain.errors import NotFound
from postkeep.formats.dsn import Action, RecipientReport
from postkeep.queue.entry import Entry, Recipient
from postkeep.queue.reports import Reporter
from postkeep.runtime.logs import Logs

RETURN_LIMIT = 1 << 20
"""Octets of a message that is returned whole (RET=FULL); of a larger one only the header is."""

ReadHead = Callable[[str, int], Awaitable[bytes]]
"""(Queue ID, octets): the beginning of its message."""


class Notices:
    """Notifications about the queue's entries. The null sender never gets one (RFC 5321 §4.5.5)."""

    def __init__(self, reporter: Reporter, read_head: ReadHead, logs: Logs) -> None:
        self._reporter = reporter
        self._read_head = read_head
        self._logs = logs

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
        try:
            where = await self._reporter.send(
                sender,
                [self._about(one, action, retry_until) for one in recipients],
                original,
                arrival=entry.created,
                envelope_id=entry.envid,
                return_full=full,
                smtputf8=entry.smtputf8 or not sender.is_ascii,
            )
        except NotFound:
            self._logs.error.write(
                f"Queue: id={entry.id}: the sender <{sender}> does not exist, the notification is dropped"
            )
            return
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
