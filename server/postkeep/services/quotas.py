"""What accounts may hold (row USR-5), and the room kept for what is on its way into them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from postkeep.domain.account import Account
from postkeep.domain.errors import OverQuota
from postkeep.storage.store import MailStore


class Quotas:
    """One for a store: whatever puts messages into it asks here, and holds room while they are written."""

    def __init__(self, store: MailStore) -> None:
        self._store = store
        self._held: dict[str, tuple[int, int]] = {}
        """By account: octets and items of messages that are on their way into it."""

    def over(self, account: Account, octets: int, items: int = 1) -> bool:
        """Would so much more pass the account's quota (octets or items)?"""
        return bool(self._excess(account, octets, items))

    def check(self, account: Account, octets: int, items: int = 1) -> None:
        """Raises OverQuota, saying which quota it is."""
        if excess := self._excess(account, octets, items):
            raise OverQuota(excess)

    @contextmanager
    def hold(self, accounts: Sequence[Account], octets: int, items: int = 1) -> Iterator[None]:
        """Keep room in each of these accounts while messages are stored, so that many at the same time do not
        pass a quota together. Enter it at once after `over` or `check`."""
        keys = [account.key for account in accounts if account.quota_bytes or account.quota_items]
        for key in keys:
            held = self._held.get(key, (0, 0))
            self._held[key] = held[0] + octets, held[1] + items
        try:
            yield
        finally:
            for key in keys:
                held = self._held[key]
                left = held[0] - octets, held[1] - items
                if any(left):
                    self._held[key] = left
                else:
                    del self._held[key]

    def _excess(self, account: Account, octets: int, items: int) -> str:
        if not (account.quota_bytes or account.quota_items):
            return ""
        identity = self._store.account_id(account.key)
        used, present = (0, 0) if identity is None else self._store.usage(identity)
        coming, more = self._held.get(account.key, (0, 0))
        if account.quota_bytes and used + coming + octets > account.quota_bytes:
            return "the mailbox would be larger than its quota"
        if account.quota_items and present + more + items > account.quota_items:
            return "the mailbox would hold more messages than its quota"
        return ""
