"""What became of a try: the entry's new state on the disk, the notifications, the mail log."""

from collections.abc import Callable, Sequence

from postkeep.domain.errors import PostkeepError
from postkeep.queue.entry import Entry, Recipient, State
from postkeep.queue.files import QueueFiles
from postkeep.queue.notices import Notices
from postkeep.queue.schedule import Times, delay_due, expired, interval, next_try
from postkeep.queue.transaction import Kind, Outcome
from postkeep.runtime.clock import Clock
from postkeep.runtime.logs import Logs

_WORDS = {Kind.SENT: "Sent", Kind.DEFERRED: "Deferred", Kind.FAILED: "Failed"}


class Ledger:
    """Keeps `entries`, all that is in the queue by Queue ID, in step with the files.

    What raises here (the disk) leaves the entry's state right in memory and old on the disk: at worst a
    recipient is tried again after a restart. Call `put_off` then, so that it is not tried again at once.
    """

    def __init__(
        self,
        files: QueueFiles,
        notices: Notices,
        times: Times,
        logs: Logs,
        clock: Clock,
        random: Callable[[], float],
    ) -> None:
        self.entries: dict[str, Entry] = {}
        self.times = times
        self._files = files
        self._notices = notices
        self._logs = logs
        self._clock = clock
        self._random = random

    async def note(self, entry: Entry, outcomes: Sequence[Outcome]) -> None:
        """Durable on return, and the senders told."""
        now = self._clock.now()
        for outcome in outcomes:
            self._apply(entry, outcome, now)
        sent = [one for one in outcomes if one.kind is Kind.SENT]
        unconfirmed = [one.recipient for one in sent if not one.confirms and one.recipient.wants("SUCCESS")]
        failed = [one for one in entry.recipients if one.state is State.FAILED and one.next <= now]
        late = [one for one in entry.pending() if delay_due(entry, one, now, self.times)]
        if sent and (failed or late or unconfirmed):
            await self._update(entry)  # what was delivered is never sent again, whatever comes
        await self._tell(entry, failed, late, unconfirmed)
        if outcomes or failed:
            await self.save(entry)

    def _apply(self, entry: Entry, outcome: Outcome, now: float) -> None:
        one = outcome.recipient
        one.tries += 1
        one.tried = now
        one.reply, one.status, one.host = outcome.words, outcome.status, outcome.host
        if outcome.kind is Kind.SENT:
            one.state = State.DONE
        elif outcome.kind is Kind.FAILED:
            one.state, one.next = State.FAILED, now
            self._log_lost(entry, one)
        elif expired(entry.created, now, self.times):
            one.state, one.next = State.FAILED, now
            one.status = "4.4.7"  # RFC 3463 §3.5: delivery time expired; the last words stay
            self._logs.mail.write(f"Expired: id={entry.id}, to=<{one.address}>, tries={one.tries}")
            self._log_lost(entry, one)
        else:
            one.next = next_try(one.tries, entry.created, now, self.times, self._random)

    def _log_lost(self, entry: Entry, one: Recipient) -> None:
        said = f"{one.host} said: {one.reply}" if one.host else one.reply
        self._logs.security.write(
            f"Delivery failed: id={entry.id}, from=<{entry.sender}>, to=<{one.address}>, "
            f"status={one.status} ({said})"
        )

    async def _tell(
        self,
        entry: Entry,
        failed: Sequence[Recipient],
        late: Sequence[Recipient],
        unconfirmed: Sequence[Recipient],
    ) -> None:
        """Post the notifications. A failure that cannot be told now is told later."""
        wanted = [one for one in failed if one.wants("FAILURE")]
        try:
            if wanted:
                await self._notices.send(entry, wanted, "failed")
        except Exception as error:  # also a bug behind the port: it must not come back at once
            now = self._clock.now()
            self._logs.error.write(f"Queue: id={entry.id}: the sender cannot be told now: {_words(error)}")
            if now - entry.created < 2 * self.times.bounce:
                for one in wanted:
                    one.next = now + interval(4, 0.0, self.times)
                failed = [one for one in failed if one not in wanted]
        for one in failed:
            one.state = State.DONE
        try:
            if late:
                await self._notices.send(entry, late, "delayed", entry.created + self.times.bounce)
            if unconfirmed:
                # RFC 3461 §5.2.2: the next server confirms nothing, so this one says how far it went
                await self._notices.send(entry, unconfirmed, "relayed")
        except Exception as error:
            self._logs.error.write(f"Queue: id={entry.id}: the sender cannot be told: {_words(error)}")
        for one in late:
            one.delay_told = True

    async def save(self, entry: Entry) -> None:
        """Make the entry's state durable: its .env replaced, or its files removed when nothing is left."""
        if not entry.finished:
            await self._update(entry)
        elif self.entries.pop(entry.id, None) is not None:
            await self._files.remove(entry.id)

    async def _update(self, entry: Entry) -> None:
        if entry.id in self.entries:  # else an administrator removed it
            await self._files.update(entry)

    def put_off(self, entry: Entry) -> None:
        """Nothing of it is due before a first retry's time."""
        until = self._clock.now() + interval(1, 0.0, self.times)
        for one in entry.recipients:
            if one.state is not State.DONE:
                one.next = max(one.next, until)

    def log(self, name: str, entry: Entry | None, outcome: Outcome, relay: str) -> None:
        """One line of the Mail log. Called before note(), which counts the try."""
        one = outcome.recipient
        delay = self._clock.now() - entry.created if entry is not None else 0.0
        said = f"{outcome.host} said: {outcome.words}" if outcome.host else outcome.words
        self._logs.mail.write(
            f"{_WORDS[outcome.kind]}: id={name}, to=<{one.address}>, relay={relay}, delay={delay:.1f}, "
            f"tries={one.tries + 1}, status={outcome.status} ({said})"
        )


def _words(error: Exception) -> str:
    return str(error) if isinstance(error, PostkeepError) else repr(error)
