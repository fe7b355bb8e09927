"""Into local mailboxes: one durable store for all local recipients, then the news of it."""

from collections.abc import AsyncIterable, Sequence

from postkeep.domain.account import Account
from postkeep.domain.address import Address
from postkeep.domain.change import Appended
from postkeep.domain.errors import NotFound, OverQuota
from postkeep.domain.mailbox import INBOX
from postkeep.queue.queue import Queue, QueuedRecipient
from postkeep.queue.reports import Chunks
from postkeep.runtime.clock import Clock
from postkeep.runtime.logs import Logs
from postkeep.services.changes import ChangeBus
from postkeep.services.directory import Directory
from postkeep.services.outgoing import Outgoing, commit
from postkeep.services.quotas import Quotas
from postkeep.storage.bodies import Body
from postkeep.storage.store import MailStore, Target


class Deliverer:
    """The last stop of a message inside the house.

    `deliver_local` is the port that the queue is given for its bounces; `queue`, set by who owns both,
    takes a bounce on to an account's addresses elsewhere.
    """

    def __init__(
        self,
        store: MailStore,
        bus: ChangeBus,
        directory: Directory,
        quotas: Quotas,
        logs: Logs,
        clock: Clock,
    ) -> None:
        self.quotas = quotas
        self._store = store
        self._bus = bus
        self._directory = directory
        self._logs = logs
        self._clock = clock
        self.queue: Queue | None = None

    def is_live(self, account: Account) -> bool:
        """Is the account still there and enabled, now?"""
        present = self._directory.account(account.key)
        return present is not None and present.enabled

    async def deliver(self, body: Body, accounts: Sequence[Account], sender: Address | None) -> None:
        """Store `body` in INBOX of each account (named once each); durable on return, and published.

        Quotas are the caller's to check (`quotas`). Accounts that were removed or disabled since
        they were looked up get nothing. StorageFull, StorageFailed, or NotFound when none is left; then
        nothing was delivered and the body is still to be discarded.
        """
        store = self._store
        for account in accounts:
            if store.account_id(account.key) is None and self.is_live(account):
                await store.create_account(account.key)
        targets = []
        for account in accounts:  # looked at once more, and nothing is waited for until the store has them
            identity = store.account_id(account.key)
            if identity is not None and self.is_live(account):
                targets.append(Target(identity, store.mailbox(identity, INBOX).id))
        if not targets:
            raise NotFound("nobody of those who were to receive this is here any more")
        await store.deliver(body, targets, int(self._clock.now()), self._publish)

    def _publish(self, appended: tuple[Appended, ...]) -> None:
        self._bus.publish(*appended)

    async def deliver_local(self, sender: Address | None, recipient: Address, chunks: Chunks) -> None:
        """A message that this server made or kept itself, to one local address; durable on return.

        Raises NotFound (no such address, or nobody behind it), OverQuota, StorageFull, StorageFailed; then
        nobody has got it.
        """
        resolution = self._directory.resolve(recipient)
        accounts = [account for account in resolution.accounts if account.enabled]
        remote = resolution.remote if self.queue is not None else ()
        if not accounts and not remote:
            raise NotFound(f"nobody receives mail for {recipient}")
        path = return_path(sender)
        body = await self._take(chunks, path)
        size = body.size
        try:
            fitting = [account for account in accounts if not self.quotas.over(account, size)]
            if not fitting and not remote:
                raise OverQuota(f"the mailbox of {recipient} is full")

            async def keep() -> None:
                await self.deliver(body, fitting, sender)

            with self.quotas.hold(fitting, size):
                if self.queue is not None and remote:
                    outgoing = Outgoing(
                        sender,
                        [QueuedRecipient(address) for address in remote],
                        smtputf8=not all(address.is_ascii for address in remote),
                    )
                    await commit(self.queue, outgoing, body, len(path), keep if fitting else None)
                else:
                    await keep()
        finally:
            body.discard()
        origin = "<>" if sender is None else f"<{sender}>"
        self._logs.mail.write(
            f"Delivered: from={origin}, to=<{recipient}>, size={size - len(path)}, service=local"
        )
        for account in accounts:
            if account not in fitting:
                self._logs.security.write(
                    f"Delivery failed: from={origin}, to=<{account.key}> (by way of <{recipient}>): "
                    "the mailbox is full"
                )

    async def _take(self, chunks: Chunks, prefix: bytes) -> Body:
        incoming = self._store.incoming()
        try:
            if isinstance(chunks, AsyncIterable):
                async for chunk in chunks:
                    incoming.write(chunk)
            else:
                for chunk in chunks:
                    incoming.write(chunk)
            return await incoming.finish(prefix)
        except BaseException:
            incoming.abort()
            raise


def return_path(sender: Address | None) -> bytes:
    """The header line of final delivery (RFC 5321 §4.4)."""
    return b"Return-Path: <>\r\n" if sender is None else b"Return-Path: <%s>\r\n" % str(sender).encode()
