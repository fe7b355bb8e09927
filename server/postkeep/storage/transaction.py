"""What an operation may do inside the writer's transaction, and how its marks in memory are undone."""

from collections.abc import Callable
from functools import partial
from typing import Any

import apsw
import orjson

from postkeep.domain.errors import LimitReached
from postkeep.storage.catalogue import AccountState, Catalogue, MailboxState
from postkeep.storage.database import Bindings, json_value

KEYWORD_LIMIT = 62
Owner = AccountState | MailboxState
_MISSING = object()


class Transaction:
    """One batch of the writer. SQL through `execute`; memory through `touch`/`put`/`after_commit`, so that an
    operation which fails, or a commit which fails, leaves no mark."""

    def __init__(self, connection: apsw.Connection, catalogue: Catalogue) -> None:
        self.connection = connection
        self.catalogue = catalogue
        self.touched: dict[MailboxState, None] = {}
        self._pending: dict[tuple[Owner, str], Any] = {}
        self._after: list[Callable[[], None]] = []
        self._undo: list[Callable[[], None]] = []

    def execute(self, sql: str, bindings: Bindings = ()) -> apsw.Cursor:
        return self.connection.execute(sql, bindings)

    def json(self, sql: str, bindings: Bindings = ()) -> Any:
        return json_value(self.connection, sql, bindings)

    # --- memory -----------------------------------------------------------------------------------

    def touch(self, state: MailboxState) -> None:
        """Call before changing a mailbox's numbers (and its account's)."""
        account = state.account
        self.touched[state] = None
        self._undo.append(
            partial(
                _restore,
                state,
                state.current(),
                state.dirty,
                (account.modseq, account.octets, account.messages),
            )
        )

    def flush(self, state: MailboxState) -> None:
        """Write the counters: every operation but a delivery does so in its own transaction, which is what
        makes the recovery of lazy counters exact (see Catalogue.load)."""
        self.connection.execute(
            "UPDATE mailbox SET uidnext = ?, modseq = ?, messages = ?, unseen = ?, deleted = ?, size = ?"
            " WHERE id = ?",
            (state.uidnext, state.modseq, state.messages, state.unseen, state.deleted, state.size, state.id),
        )
        state.dirty = False

    def next_modseq(self, state: MailboxState) -> int:
        """A new account-wide modseq, now the mailbox's highest. `touch` it first."""
        account = state.account
        account.modseq += 1
        state.modseq = account.modseq
        return account.modseq

    def get(self, owner: Owner, name: str) -> Any:
        """An attribute as this batch has left it so far."""
        value = self._pending.get((owner, name), _MISSING)
        return getattr(owner, name) if value is _MISSING else value

    def put(self, owner: Owner, name: str, value: Any) -> None:
        """Set an attribute when the batch commits (keywords and names by their setters)."""
        key = (owner, name)
        self._undo.append(partial(_reset, self._pending, key, self._pending.get(key, _MISSING)))
        self._pending[key] = value

    def after_commit(self, action: Callable[[], None]) -> None:
        self._undo.append(partial(self._after.remove, action))
        self._after.append(action)

    # --- used by the writer -----------------------------------------------------------------------

    def mark(self) -> int:
        return len(self._undo)

    def undo(self, mark: int = 0) -> None:
        """Take back in memory what was done after `mark`, latest first."""
        while len(self._undo) > mark:
            self._undo.pop()()

    def publish(self) -> None:
        """The commit is durable: let everybody see it."""
        for action in self._after:
            action()
        for (owner, name), value in self._pending.items():
            if name == "names" and isinstance(owner, AccountState):
                self.catalogue.set_names(owner, value)
            elif name == "keywords" and isinstance(owner, AccountState):
                owner.set_keywords(value)
            else:
                setattr(owner, name, value)
        for state in self.touched:
            state.publish()
            account = state.account
            account.usage = (account.octets, account.messages)
            account.committed_modseq = account.modseq

    def roll_back(self) -> None:
        self.undo()
        for state in self.touched:
            state.restore(state.counters)
            state.dirty = True
            account = state.account
            account.octets, account.messages = account.usage
            account.modseq = account.committed_modseq

    # --- keywords ---------------------------------------------------------------------------------

    def keyword_bits(self, account: AccountState, keywords: tuple[str, ...], create: bool = True) -> int:
        """The bits of these keywords, new ones added to the account's list (LimitReached), or left out."""
        known: tuple[str, ...] = self.get(account, "keywords")
        index = {word.lower(): bit for bit, word in enumerate(known)}
        bits, added = 0, False
        for word in keywords:
            bit = index.get(word.lower())
            if bit is None:
                if not create:
                    continue
                bit = len(known)
                if bit >= KEYWORD_LIMIT:
                    raise LimitReached(f"an account can have at most {KEYWORD_LIMIT} different keywords")
                known = (*known, word)
                index[word.lower()] = bit
                added = True
            bits |= 1 << bit
        if added:
            self.put(account, "keywords", known)
            self.execute(
                "UPDATE account SET keywords = ? WHERE id = ?", (orjson.dumps(known).decode(), account.id)
            )
        return bits


def _restore(state: MailboxState, counters: Any, dirty: bool, account: tuple[int, int, int]) -> None:
    state.restore(counters)
    state.dirty = dirty
    state.account.modseq, state.account.octets, state.account.messages = account


def _reset(pending: dict[tuple[Owner, str], Any], key: tuple[Owner, str], value: Any) -> None:
    if value is _MISSING:
        del pending[key]
    else:
        pending[key] = value
