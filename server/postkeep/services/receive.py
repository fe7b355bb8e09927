"""The transaction that takes a message: queue files, then the store, then 250.

Order (SMT-4): the queue files of remote recipients are durable first, then the local commit, then the queue
is told, then the peer. A crash between leaves a message that was not answered: the peer sends it again.
"""

import secrets
from collections.abc import Sequence

from postkeep.config.smtp import SmtpSettings
from postkeep.domain.account import Account
from postkeep.domain.errors import NotFound, StorageFull
from postkeep.domain.verdict import Action, Verdict, defer, reject
from postkeep.queue.queue import Queue
from postkeep.queue.reports import Reporter
from postkeep.runtime.clock import Clock
from postkeep.runtime.logs import Logs
from postkeep.services.admission import MAILBOX_FULL, Admission
from postkeep.services.deliver import Deliverer, return_path
from postkeep.services.directory import Directory
from postkeep.services.envelope import Client, Transaction
from postkeep.services.outgoing import Outgoing, commit
from postkeep.services.receipts import Receipts
from postkeep.services.trace import Dates, HeaderWatch, protocol_name, received_from
from postkeep.storage.bodies import Body, Incoming
from postkeep.storage.store import MailStore

LOOP = reject("Too many hops, this message runs in a loop", 554, "5.4.6")
DISK_FULL = defer("Insufficient system storage", 452, "4.3.1")
RECIPIENT_GONE = defer("A recipient's mailbox was removed or disabled, try again", 451, "4.2.0")
LOCAL_ERROR = defer("Local error, try again later", 451, "4.3.0")

_SHOWN = 20
"""Recipients named in a log line."""


class Content:
    """A message's octets on their way in: watched, then given to storage."""

    __slots__ = ("incoming", "watch")

    def __init__(self, incoming: Incoming) -> None:
        self.incoming = incoming
        self.watch = HeaderWatch()

    def write(self, data: bytes) -> None:
        """Raises StorageFull, StorageFailed."""
        self.watch.see(data)
        self.incoming.write(data)

    def abort(self) -> None:
        self.incoming.abort()


class Receiver:
    """Takes messages, one transaction each. One for all sessions; `admission` judges before."""

    def __init__(
        self,
        settings: SmtpSettings,
        store: MailStore,
        directory: Directory,
        queue: Queue,
        deliverer: Deliverer,
        logs: Logs,
        clock: Clock,
        hostname: str,
    ) -> None:
        self.admission = Admission(settings, directory, deliverer, logs, clock, hostname)
        self._settings = settings
        self._store = store
        self._queue = queue
        self._deliverer = deliverer
        self._logs = logs
        self._clock = clock
        self._hostname = hostname
        self._dates = Dates()
        self._serial = secrets.randbits(12)
        reporter = Reporter(
            hostname,
            clock,
            is_local=directory.is_local,
            deliver_local=deliverer.deliver_local,
            post=queue.post,
        )
        self._receipts = Receipts(reporter, logs, clock)

    def content(self) -> Content:
        """Where DATA goes: `write` it, then `finish` or `abort`."""
        return Content(self._store.incoming())

    async def finish(self, client: Client, transaction: Transaction, content: Content) -> Verdict:
        """The message is here whole: make it durable for all its recipients, or for none of them.

        Never raises; `content` is used up.
        """
        watch = content.watch
        watch.end()
        if watch.hops > self._settings.maximum_hops:
            content.abort()
            self.log(client, transaction, content.incoming.size, LOOP)
            return LOOP
        name = self._name()
        path = return_path(transaction.sender)
        verdict = Verdict(Action.ACCEPT, 250, "2.0.0", f"Ok: id={name}")
        queued = ""
        left_out: Sequence[Account] = ()
        try:
            body = await content.incoming.finish(path + self._prefix(client, transaction, watch, name))
            try:
                refusal, queued, left_out = await self._commit(transaction, body, len(path))
            finally:
                body.discard()
            verdict = refusal or verdict
        except StorageFull as error:
            self._store.disk.failed(error)  # the queue's files are on it too
            content.abort()
            verdict = DISK_FULL
        except NotFound:
            content.abort()
            verdict = RECIPIENT_GONE
        except Exception as error:
            content.abort()
            self._logs.error.write(f"SMTP: message {name} from {client.address} was not taken: {error!r}")
            verdict = LOCAL_ERROR
        except BaseException:
            content.abort()
            raise
        self.log(client, transaction, content.incoming.size, verdict, name, queued, left_out)
        if left_out:
            self._logs.security.write(
                f"Delivery failed: id={name}, from={transaction.path}, "
                f"to={_shown([one.key for one in left_out])}, peer={client.address}: the mailbox is full"
            )
        return verdict

    async def _commit(
        self, transaction: Transaction, body: Body, skip: int
    ) -> tuple[Verdict | None, str, Sequence[Account]]:
        """Both homes, in order: (refusal, queue id, accounts left out because they are full).

        A refusal or an exception means that neither home has it. Without one, the refusal is None and the
        queue id "" when nothing is for other servers.
        """
        # Put off rather than left out: the next try learns at RCPT who is gone, and so does the sender.
        if not all(map(self._deliverer.is_live, transaction.accounts.values())):
            return RECIPIENT_GONE, "", ()
        accounts, full = self._fitting(transaction, body.size)
        if full and not accounts and not transaction.remote:
            return MAILBOX_FULL, "", full
        reports = self._receipts.reports(transaction, full)
        # Taken now: a delivered body is used up.
        head = next(iter(body.chunks(skip)), b"") if reports else b""
        queued = ""

        async def keep() -> None:
            await self._deliverer.deliver(body, accounts, transaction.sender)

        with self._deliverer.quotas.hold(accounts, body.size):
            if transaction.remote:
                outgoing = Outgoing(
                    transaction.sender,
                    tuple(transaction.remote.values()),
                    smtputf8=transaction.smtputf8,
                    eight_bit=transaction.eight_bit,
                    envid=transaction.envid,
                    ret=transaction.ret,
                )
                queued = await commit(self._queue, outgoing, body, skip, keep if accounts else None)
            elif accounts:
                await keep()
        await self._receipts.send(transaction, reports, head)
        return None, queued, full

    def _fitting(self, transaction: Transaction, size: int) -> tuple[Sequence[Account], Sequence[Account]]:
        """(accounts that get it, accounts that are full), now that the real size is known.

        Of a message without a sender nobody could be told that it is lost, and it may be the report of a loss
        itself: where somebody has room for it, the others get it too, that one over their quota.
        """
        over_quota = self._deliverer.quotas.over
        accounts = tuple(transaction.accounts.values())
        full = [account for account in accounts if over_quota(account, size)]
        if not full:
            return accounts, ()
        fitting = [account for account in accounts if account not in full]
        if transaction.sender is None and (fitting or transaction.remote):
            return accounts, ()
        return fitting, full

    def _prefix(self, client: Client, transaction: Transaction, watch: HeaderWatch, name: str) -> bytes:
        """Received, and for users the fields that their program left out (RFC 6409 §8.1, §8.2)."""
        trace = client.traces.get(transaction.smtputf8)
        if trace is None:
            protocol = protocol_name(
                extended=client.extended,
                tls=bool(client.tls),
                authenticated=client.account is not None,
                smtputf8=transaction.smtputf8,
            )
            trace = received_from(client.name, client.address, self._hostname, protocol, client.tls)
            client.traces[transaction.smtputf8] = trace
        date = self._dates.text(self._clock.now())
        # RFC 5321 §7.6: "for" would show one recipient to the others
        target = b""
        if len(transaction.recipients) == 1:
            target = b"\r\n\tfor <%s>" % transaction.recipients[0].encode("utf-8", "replace")
        prefix = b"%s%s%s; %s\r\n" % (trace, name.encode(), target, date)
        if client.account is not None:
            if not watch.has_date:
                prefix += b"Date: %s\r\n" % date
            if not watch.has_message_id:
                prefix += b"Message-ID: <%s.%s@%s>\r\n" % (
                    name.encode(), secrets.token_hex(4).encode(), self._hostname.encode(),
                )  # fmt: skip
        return prefix if watch.starts_with_header else prefix + b"\r\n"

    def _name(self) -> str:
        """A message's id: milliseconds since 1970 and a serial number, in hexadecimal."""
        self._serial = (self._serial + 1) & 0xFFF
        return f"{int(self._clock.now() * 1000):x}{self._serial:03x}"

    def refuse(
        self, client: Client, transaction: Transaction, size: int, verdict: Verdict, error: Exception | None
    ) -> None:
        """The message was refused on its way in: for the logs. `error` is the disk's, if it was that."""
        if error is not None:
            self._logs.error.write(f"SMTP: a message from {client.address} was not taken: {error!r}")
        self.log(client, transaction, size, verdict)

    def log(
        self,
        client: Client,
        transaction: Transaction,
        size: int,
        verdict: Verdict,
        name: str = "-",
        queued: str = "",
        left_out: Sequence[Account] = (),
    ) -> None:
        """The one line of the Mail log for a message that got as far as DATA."""
        login = "" if client.account is None else f", user={client.account.key}"
        waits = f", queue={queued}" if queued else ""
        full = f", full={_shown([account.key for account in left_out])}" if left_out else ""
        self._logs.mail.write(
            f"Received: id={name}, service={client.service}, from={transaction.path}, "
            f"to={_shown(transaction.recipients)}, size={size}, peer={client.address}{login}{waits}{full}, "
            f"result={verdict.reply}"
        )


def _shown(addresses: Sequence[str]) -> str:
    """For a log line, which is bounded."""
    more = f" and {len(addresses) - _SHOWN} more" if len(addresses) > _SHOWN else ""
    return f"<{'>,<'.join(addresses[:_SHOWN])}>{more}"
