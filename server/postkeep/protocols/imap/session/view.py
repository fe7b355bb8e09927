"""The selected mailbox as the client was told it, and what it must be told next (RFC 3501 §5.2, §7).

Sequence numbers are positions in `uids`, which only `updates` changes. What other sessions do arrives
through `note` and waits, bounded: when too much waits it is dropped and the store is asked again.
"""

from array import array
from bisect import bisect_left, bisect_right
from typing import NamedTuple

from postkeep.domain.change import Appended, Change, Expunged, FlagsChanged, MailboxesChanged
from postkeep.domain.mailbox import Mailbox
from postkeep.domain.message import FlagsRow
from postkeep.protocols.imap.encoding import ALL_FLAGS, FlagNames
from postkeep.protocols.imap.sequence import MAXIMUM, Ranges, SequenceSet, format_set, present, resolve
from postkeep.protocols.imap.session.recent import RecentMessages
from postkeep.protocols.imap.syntax import BadSyntax
from postkeep.services.mailboxes import MailboxService

PENDING_LIMIT = 2000
"""Changes of one kind that may wait for a client."""


class Extensions(NamedTuple):
    """What the client has switched on (RFC 5161, RFC 7162)."""

    condstore: bool = False
    qresync: bool = False


class View:
    """`origin` marks the session's own changes. Load it once with `load` before use."""

    __slots__ = (
        "_appended",
        "_expunged",
        "_flags",
        "_flags_since",
        "_held",
        "_names",
        "_recent",
        "_recents",
        "_reload",
        "_service",
        "_tail",
        "account",
        "gone",
        "mailbox",
        "origin",
        "read_only",
        "uids",
    )

    def __init__(
        self,
        service: MailboxService,
        recents: RecentMessages,
        mailbox: Mailbox,
        origin: object,
        *,
        read_only: bool,
    ) -> None:
        self._service = service
        self._recents = recents
        self.mailbox = mailbox
        self.account = mailbox.account
        self.origin = origin
        self.read_only = read_only
        self.uids: array[int] = array("I")
        self.gone = False  # the mailbox was deleted
        self._names = FlagNames(service.keywords(mailbox.account))
        self._recent: Ranges = []
        self._appended: list[int] = []
        self._tail = False  # ask the store for what came after the last known UID
        self._expunged: set[int] = set()
        self._reload = False  # ask the store which UIDs are left
        self._held = 0  # MODSEQ of the first of these expunges, 0: none waits
        self._flags: dict[int, FlagsRow] = {}
        self._flags_since: int | None = None  # ask the store for flags changed after this MODSEQ

    async def load(self) -> None:
        """Read the UIDs. Changes may be noted meanwhile."""
        self.uids = await self._service.uids(self.account, self.mailbox.id)
        take = self._recents.first if self.read_only else self._recents.take
        self._add_recent(take(self.mailbox.id), self.uids[-1] if self.uids else 0)

    # --- numbers ------------------------------------------------------------------------------------

    @property
    def count(self) -> int:
        return len(self.uids)

    @property
    def recent_count(self) -> int:
        return sum(bisect_right(self.uids, high) - bisect_left(self.uids, low) for low, high in self._recent)

    def is_recent(self, uid: int) -> bool:
        return any(low <= uid <= high for low, high in self._recent)

    def has_recent(self, low: int, high: int) -> bool:
        """Whether any UID in low…high may be recent."""
        return any(first <= high and low <= last for first, last in self._recent)

    def number(self, uid: int) -> int | None:
        """The sequence number of a UID that the client knows."""
        index = bisect_left(self.uids, uid)
        return index + 1 if index < len(self.uids) and self.uids[index] == uid else None

    def select(self, written: SequenceSet, *, uid: bool) -> Ranges:
        """What a command names, as ranges of UIDs with no unknown messages at their ends.

        Unknown UIDs are no error (RFC 3501 §6.4.8); sequence numbers beyond the mailbox are (§9 seq-number),
        except that `1:*` of an empty mailbox names nothing.
        """
        uids = self.uids
        if not uids:
            if not uid and any(high not in (0,) and low not in (0,) for low, high in written):
                raise BadSyntax("Invalid message sequence number")
            return []
        if uid:
            last = uids[-1]
            ranges = resolve(written, last)
            # A range may reach over messages that the client has not been told of.
            return [(low, min(high, last)) for low, high in ranges if low <= last]
        ranges = resolve(written, len(uids))
        if ranges[-1][1] > len(uids):
            raise BadSyntax("Invalid message sequence number")
        return [(uids[low - 1], uids[high - 1]) for low, high in ranges]

    def members(self, ranges: Ranges) -> list[int]:
        """The known UIDs in ranges that `select` gave."""
        return present(self.uids, ranges)

    # --- flags --------------------------------------------------------------------------------------

    def flag_names(self) -> FlagNames:
        """(flags, keywords) → text, for the account's present keywords."""
        return self._names

    def new_keywords(self) -> list[bytes]:
        """FLAGS again when a keyword was added since the client heard of them (RFC 3501 §7.2.6)."""
        keywords = self._service.keywords(self.account)
        if keywords == self._names.names:
            return []
        self._names = FlagNames(keywords)
        return self.describe_flags()

    def describe_flags(self) -> list[bytes]:
        """FLAGS and PERMANENTFLAGS (RFC 3501 §7.1, §7.2.6)."""
        names = b" ".join([ALL_FLAGS, *(name.encode("ascii") for name in self._names.names)])
        permanent = b"" if self.read_only else names + b" \\*"
        return [
            b"* FLAGS (%b)\r\n" % names,
            b"* OK [PERMANENTFLAGS (%b)] Flags that can be changed\r\n" % permanent,
        ]

    def flags_text(self, uid: int, flags: int, keywords: int) -> bytes:
        text = self._names[flags, keywords]
        if self._recent and self.is_recent(uid):
            return text + b" \\Recent" if text else b"\\Recent"
        return text

    # --- changes ------------------------------------------------------------------------------------

    @property
    def pending(self) -> bool:
        return (
            bool(self._appended or self._tail or self._expunged or self._reload or self._flags)
            or self._flags_since is not None
        )

    @property
    def held_modseq(self) -> int:
        """MODSEQ of the first expunge that the client is still to be told of, 0 when there is none."""
        return self._held

    def note(self, change: Change) -> None:
        """Remember a change of this account for the next `updates`."""
        if isinstance(change, MailboxesChanged):
            self._note_mailboxes(change)
        elif change.mailbox != self.mailbox.id:
            return
        elif isinstance(change, Appended):
            self._note_appended(change)
        elif isinstance(change, Expunged):
            self._hold(change.modseq)
            if len(self._expunged) + len(change.uids) > PENDING_LIMIT:
                self._ask_again()
            else:
                self._expunged.update(change.uids)
        elif change.origin is not self.origin:
            self._note_flags(change)
        else:
            # The command tells its own changes; what waits for the same messages must not undo them.
            for row in change.rows:
                if row.uid in self._flags:
                    self._flags[row.uid] = row

    def _note_mailboxes(self, change: MailboxesChanged) -> None:
        if self.mailbox.id in change.removed:
            self.gone = True
            return
        # Renaming INBOX takes its messages away (RFC 3501 §6.3.5).
        counters = self._service.counters(self.account, self.mailbox.id)
        if counters.messages < len(self.uids) - len(self._expunged):
            self._hold(counters.modseq)
            self._ask_again()

    def _hold(self, modseq: int) -> None:
        self._held = min(self._held, modseq) if self._held else modseq

    def _ask_again(self) -> None:
        """Expunges are dropped; so what waits as appended may be gone already and is asked for too."""
        self._reload = self._tail = True

    def _note_appended(self, change: Appended) -> None:
        take = self._recents.first if self.read_only else self._recents.take
        if change.rows:
            self._add_recent(take(self.mailbox.id), change.rows[-1].uid)
        if len(self._appended) + len(change.rows) > PENDING_LIMIT:
            self._tail = True
        else:
            self._appended.extend(row.uid for row in change.rows)

    def _note_flags(self, change: FlagsChanged) -> None:
        if self._flags_since is None and len(self._flags) + len(change.rows) <= PENDING_LIMIT:
            for row in change.rows:
                self._flags[row.uid] = row
            return
        dropped = [*self._flags.values(), *change.rows]
        since = min((row.modseq for row in dropped), default=1) - 1
        self._flags_since = since if self._flags_since is None else min(since, self._flags_since)
        self._flags = {}

    def _add_recent(self, first: int | None, last: int) -> None:
        if first is None or first > last:
            return
        if self._recent and first <= self._recent[-1][1] + 1:
            self._recent[-1] = (self._recent[-1][0], last)
        else:
            self._recent.append((first, last))

    async def updates(self, extensions: Extensions, *, expunge: bool) -> list[bytes]:
        """The untagged replies that bring the client up to date; `uids` is so from now on.

        Without `expunge` messages that are gone keep their numbers until a later call (RFC 3501 §5.5).
        """
        if not self.pending:
            return []
        lines: list[bytes] = []
        if expunge:
            lines += await self._tell_expunged(extensions)
        lines += await self._tell_appended()
        if extensions.condstore and self._held:
            # Their MODSEQs are higher than that of an expunge that may not be told now (or came just now).
            return lines
        if self._flags or self._flags_since is not None:
            lines += await self._tell_flags(extensions)
        return lines

    async def _tell_expunged(self, extensions: Extensions) -> list[bytes]:
        gone = self._expunged
        if self._reload:
            self._reload = False
            left = set(await self._service.uids(self.account, self.mailbox.id))
            gone = {uid for uid in self.uids if uid not in left} | self._expunged
        self._expunged = set()
        if not self._reload:
            self._held = 0
        uids = self.uids
        found = sorted(uid for uid in gone if self.number(uid) is not None)
        self._appended = [uid for uid in self._appended if uid not in gone]
        if not found:
            return []
        numbers = [bisect_left(uids, uid) + 1 for uid in found]
        kept = array("I")
        start = 0
        for number in numbers:
            kept.extend(uids[start : number - 1])
            start = number
        kept.extend(uids[start:])
        self.uids = kept
        if extensions.qresync:
            return [b"* VANISHED %b\r\n" % format_set(found)]  # RFC 7162 §3.2.10
        # Each EXPUNGE renumbers what follows (RFC 3501 §7.4.1).
        return [b"* %d EXPUNGE\r\n" % (number - before) for before, number in enumerate(numbers)]

    async def _tell_appended(self) -> list[bytes]:
        if not (self._appended or self._tail):
            return []
        last = self.uids[-1] if self.uids else 0
        new = sorted({uid for uid in self._appended if uid > last and uid not in self._expunged})
        contiguous = not self._tail and bool(new) and new[0] == last + 1 and new[-1] - new[0] + 1 == len(new)
        self._appended = []
        self._tail = False
        if not contiguous:
            # Published out of order or with gaps: the store has the truth, numbers must rise with UIDs.
            new = []
            async for rows in self._service.flags(self.account, self.mailbox.id, [(last + 1, MAXIMUM)]):
                new.extend(row.uid for row in rows)
        if not new:
            return []
        self.uids.extend(new)
        return [b"* %d EXISTS\r\n" % len(self.uids), b"* %d RECENT\r\n" % self.recent_count]

    async def _tell_flags(self, extensions: Extensions) -> list[bytes]:
        rows = sorted(self._flags.values())
        since = self._flags_since
        self._flags = {}
        self._flags_since = None
        lines = self.new_keywords()
        if since is not None:
            rows = []
            last = self.uids[-1] if self.uids else 0
            ranges = [(1, last)] if last else []
            async for batch in self._service.flags(
                self.account, self.mailbox.id, ranges, changed_since=since
            ):
                rows += batch
        lines += self.flag_lines(rows, extensions)
        return lines

    def flag_lines(
        self, rows: list[FlagsRow], extensions: Extensions, *, uid: bool = False, flags: bool = True
    ) -> list[bytes]:
        """FETCH replies for changed flags. Once CONDSTORE is on they name the MODSEQ (RFC 7162 §3.2)."""
        lines = []
        with_uid = uid or extensions.condstore
        for row in rows:
            number = self.number(row.uid)
            if number is None:
                continue
            parts = [b"UID %d" % row.uid] if with_uid else []
            if flags:
                parts.append(b"FLAGS (%b)" % self.flags_text(row.uid, row.flags, row.keywords))
            if extensions.condstore:
                parts.append(b"MODSEQ (%d)" % row.modseq)
            lines.append(b"* %d FETCH (%b)\r\n" % (number, b" ".join(parts)))
        return lines
