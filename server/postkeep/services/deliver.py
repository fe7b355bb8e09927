"""Into local mailboxes: one durable store for all local recipients, then the news of it."""

from collections.abc import Awaitable, Callable, Sequence

from postkeep.domain.account import Account
from postkeep.domain.address import Address
from postkeep.domain.errors import NotFound, OverQuota
from postkeep.domain.mailbox import INBOX
from postkeep.runtime.clock import Clock
from postkeep.runtime.logs import Logs
from postkeep.services.changes import ChangeBus
from postkeep.services.directory import Directory
from postkeep.storage.bodies import Body
from postkeep.storage.store import MailStore, Target

Forward = Callable[[Address | None, Sequence[Address], bytes], Awaitable[None]]
"""(sender, remote recipients, message): durable in the queue on return."""


class Deliverer:
    """The last stop of a message inside the house.

    `deliver_local` is the port that the queue is given for its bounces; `forward`, set by who owns both,
    takes a bounce on to an account's addresses elsewhere.
    """

    def __init__(
        self, store: MailStore, bus: ChangeBus, directory: Directory, logs: Logs, clock: Clock
    ) -> None:
        self._store = store
        self._bus = bus
        self._directory = directory
        self._logs = logs
        self._clock = clock
        self.forward: Forward | None = None

    def over_quota(self, account: Account, size: int) -> bool:
        """Would a message of `size` octets pass the account's quota (octets or items, USR-5)?"""
        if not account.quota_bytes and not account.quota_items:
            return False
        identity = self._store.account_id(account.key)
        octets, items = (0, 0) if identity is None else self._store.usage(identity)
        return bool(
            (account.quota_bytes and octets + size > account.quota_bytes)
            or (account.quota_items and items + 1 > account.quota_items)
        )

    async def deliver(self, body: Body, accounts: Sequence[Account], sender: Address | None) -> None:
        """Store `body` in INBOX of each account (named once each); durable on return, then published.

        Quotas are the caller's to check (`over_quota`). Raises StorageFull, StorageFailed or NotFound; then
        nothing was delivered and the body is still to be discarded.
        """
        store = self._store
        targets = []
        for account in accounts:
            identity = store.account_id(account.key)
            if identity is None:
                identity = await store.create_account(account.key)
            targets.append(Target(identity, store.mailbox(identity, INBOX).id))
        appended = await store.deliver(body, targets, int(self._clock.now()))
        self._bus.publish(*appended)

    async def deliver_local(self, sender: Address | None, recipient: Address, content: bytes) -> None:
        """A message made by this server itself, to one local address; durable on return.

        Raises NotFound (no such address, or nobody behind it), OverQuota, StorageFull, StorageFailed.
        """
        resolution = self._directory.resolve(recipient)
        accounts = [account for account in resolution.accounts if account.enabled]
        remote = resolution.remote if self.forward is not None else ()
        if not accounts and not remote:
            raise NotFound(f"nobody receives mail for {recipient}")
        if accounts:
            fitting = [account for account in accounts if not self.over_quota(account, len(content))]
            if not fitting and not remote:
                raise OverQuota(f"the mailbox of {recipient} is full")
            if fitting:
                await self._store_made(sender, fitting, content)
        if remote and self.forward is not None:
            await self.forward(sender, remote, content)
        origin = "<>" if sender is None else f"<{sender}>"
        self._logs.mail.write(
            f"Delivered: from={origin}, to=<{recipient}>, size={len(content)}, service=local"
        )

    async def _store_made(self, sender: Address | None, accounts: Sequence[Account], content: bytes) -> None:
        incoming = self._store.incoming()
        try:
            incoming.write(content)
            body = await incoming.finish(return_path(sender))
        except BaseException:
            incoming.abort()
            raise
        try:
            await self.deliver(body, accounts, sender)
        except BaseException:
            body.discard()
            raise


def return_path(sender: Address | None) -> bytes:
    """The header line of final delivery (RFC 5321 §4.4)."""
    return b"Return-Path: <>\r\n" if sender is None else b"Return-Path: <%s>\r\n" % str(sender).encode()
