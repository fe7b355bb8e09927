"""Notifications about local recipients: delivered as asked (RFC 3461 §4.1), or mailbox full."""

import secrets
from collections.abc import Sequence

from postkeep.domain.account import Account
from postkeep.domain.address import Address, parse_address
from postkeep.formats.dsn import RecipientReport, Report, build_dsn
from postkeep.queue.queue import Queue, QueuedRecipient
from postkeep.runtime.clock import Clock
from postkeep.runtime.logs import Logs
from postkeep.services.deliver import Deliverer
from postkeep.services.directory import Directory
from postkeep.services.envelope import Transaction

_HEADER_LIMIT = 64 * 1024
"""Octets of the message that a notification may return; headers beyond it are cut."""


class Receipts:
    """Makes and posts them. A notification that fails is logged: the message itself has been taken."""

    def __init__(
        self,
        directory: Directory,
        queue: Queue,
        deliverer: Deliverer,
        logs: Logs,
        clock: Clock,
        hostname: str,
    ) -> None:
        self._directory = directory
        self._queue = queue
        self._deliverer = deliverer
        self._logs = logs
        self._clock = clock
        self._hostname = hostname

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
                    await self._post(sender, transaction, reports, head)
                except Exception as error:
                    self._logs.error.write(f"SMTP: a notification to <{sender}> was lost: {error!r}")

    def _is_full(self, address: Address, full: Sequence[Account]) -> bool:
        if not full:
            return False
        keys = {account.key for account in full}
        return all(account.key in keys for account in self._directory.resolve(address).accounts)

    async def _post(
        self, sender: Address, transaction: Transaction, reports: Sequence[RecipientReport], head: bytes
    ) -> None:
        now = self._clock.now()
        report = Report(
            reporting_mta=self._hostname,
            postmaster=Address("postmaster", self._hostname),
            sender=sender,
            recipients=reports,
            message_id=f"<{int(now * 1000):x}.{secrets.token_hex(6)}@{self._hostname}>",
            date=now,
            original=head[:_HEADER_LIMIT],
            arrival=now,
            envelope_id=transaction.envid,
            smtputf8=transaction.smtputf8,
        )
        content = build_dsn(report)
        if self._directory.is_local(sender.domain):
            await self._deliverer.deliver_local(None, sender, content)
            return
        prepared = await self._queue.prepare(
            None,
            (QueuedRecipient(sender, notify="NEVER"),),
            (content,),
            size=len(content),
            smtputf8=report.needs_smtputf8,
            eight_bit=not content.isascii(),
        )
        self._queue.activate(prepared)
