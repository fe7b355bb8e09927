"""Notifications about local recipients: delivered as asked (RFC 3461 §4.1), or mailbox full."""

from collections.abc import Sequence

from postkeep.domain.account import Account
from postkeep.formats.dsn import RecipientReport
from postkeep.queue.reports import Reporter
from postkeep.runtime.clock import Clock
from postkeep.runtime.logs import Logs
from postkeep.services.envelope import LocalRecipient, Transaction

_HEADER_LIMIT = 64 * 1024
"""Octets of the message that a notification may return; headers beyond it are cut."""


class Receipts:
    """Makes and posts them. A notification that fails is logged: the message itself has been taken."""

    def __init__(self, reporter: Reporter, logs: Logs, clock: Clock) -> None:
        self._reporter = reporter
        self._logs = logs
        self._clock = clock

    def reports(self, transaction: Transaction, full: Sequence[Account]) -> list[list[RecipientReport]]:
        """What the sender is to be told, one list for each notification, given the accounts that are `full`.

        Of the addresses that he wrote, once each, and as he asked for each: never whom an alias leads to.
        The null sender is told nothing (RFC 3461 §6.1).
        """
        if transaction.sender is None:
            return []
        keys = {account.key for account in full}
        delivered, failed = [], []
        for one in transaction.local.values():
            wish = one.recipient.notify
            if not keys.isdisjoint(one.accounts):
                if not wish or "FAILURE" in wish:  # RFC 3461 §4.1: not with NEVER, nor with SUCCESS alone
                    failed.append(_failed(one, keys))
            elif "SUCCESS" in wish:
                address, original, _ = one.recipient
                delivered.append(RecipientReport(address, "delivered", "2.0.0", original=original))
        return [reports for reports in (delivered, failed) if reports]

    async def send(
        self, transaction: Transaction, notifications: Sequence[Sequence[RecipientReport]], head: bytes
    ) -> None:
        """Post what `reports` gave. `head` is the beginning of the message. Never raises."""
        sender = transaction.sender
        if sender is None:
            return
        for reports in notifications:
            try:
                await self._reporter.send(
                    sender,
                    reports,
                    head[:_HEADER_LIMIT],
                    arrival=self._clock.now(),
                    envelope_id=transaction.envid,
                    smtputf8=transaction.smtputf8,
                )
            except Exception as error:
                self._logs.error.write(f"SMTP: a notification to <{sender}> was lost: {error!r}")


def _failed(one: LocalRecipient, full: set[str]) -> RecipientReport:
    reason = "The mailbox is full."
    if not full.issuperset(one.accounts):
        reason = "The mailbox of one of those behind this address is full; the others have the message."
    address, original, _ = one.recipient
    return RecipientReport(address, "failed", "5.2.2", reason, original=original)
