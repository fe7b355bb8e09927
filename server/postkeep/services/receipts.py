"""Notifications about local recipients: delivered as asked (RFC 3461 §4.1), or mailbox full."""

from collections.abc import Sequence

from postkeep.domain.account import Account
from postkeep.domain.address import Address, parse_address
from postkeep.formats.dsn import RecipientReport
from postkeep.queue.reports import Reporter
from postkeep.runtime.clock import Clock
from postkeep.runtime.logs import Logs
from postkeep.services.directory import Directory
from postkeep.services.envelope import Transaction

_HEADER_LIMIT = 64 * 1024
"""Octets of the message that a notification may return; headers beyond it are cut."""


class Receipts:
    """Makes and posts them. A notification that fails is logged: the message itself has been taken."""

    def __init__(self, directory: Directory, reporter: Reporter, logs: Logs, clock: Clock) -> None:
        self._directory = directory
        self._reporter = reporter
        self._logs = logs
        self._clock = clock

    async def send(self, transaction: Transaction, full: Sequence[Account], head: bytes) -> None:
        """Tell the sender of `transaction.notify` (delivered) and of accounts that were `full`.

        `head` is the beginning of the message. The null sender is told nothing (RFC 3461 §6.1). Never raises.
        """
        sender = transaction.sender
        if sender is None:
            return
        delivered = [
            RecipientReport(one.address, "delivered", "2.0.0", original=one.original)
            for one in transaction.notify
            if not self._is_full(one.address, full)
        ]
        failed = [
            RecipientReport(parse_address(account.key), "failed", "5.2.2", "The mailbox is full.")
            for account in full
        ]
        for reports in (delivered, failed):
            if reports:
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

    def _is_full(self, address: Address, full: Sequence[Account]) -> bool:
        if not full:
            return False
        keys = {account.key for account in full}
        return all(account.key in keys for account in self._directory.resolve(address).accounts)
