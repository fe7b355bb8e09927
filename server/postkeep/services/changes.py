"""The one place where changes of mail are made known, after they are durable."""

import logging
from collections.abc import Callable

from postkeep.domain.change import Change

Callback = Callable[[Change], None]

_log = logging.getLogger(__name__)


class ChangeBus:
    """Callbacks per account, called on the loop in the order of the changes. Not for several threads.

    A callback must not block and must not raise; one that raises is logged and the others still hear. It
    may subscribe and unsubscribe: who was removed meanwhile hears nothing more, who came new hears the next.
    """

    __slots__ = ("_all", "_by_account")

    def __init__(self) -> None:
        self._by_account: dict[int, dict[object, Callback]] = {}
        self._all: dict[object, Callback] = {}

    def publish(self, *changes: Change) -> None:
        """Tell everybody concerned. Call it after the store's commit."""
        for change in changes:
            if self._all:
                self._tell(self._all, change)
            subscribers = self._by_account.get(change.account)
            if subscribers:
                self._tell(subscribers, change)

    def subscribe(self, account: int, callback: Callback) -> Callable[[], None]:
        """Hear of the account's changes until the returned function is called (twice is fine)."""
        key = object()
        self._by_account.setdefault(account, {})[key] = callback

        def unsubscribe() -> None:
            subscribers = self._by_account.get(account)
            if subscribers is None or subscribers.pop(key, None) is None:
                return
            if not subscribers:
                del self._by_account[account]

        return unsubscribe

    def subscribe_all(self, callback: Callback) -> Callable[[], None]:
        """Hear of every account's changes (an index, a counter of what is new)."""
        key = object()
        self._all[key] = callback

        def unsubscribe() -> None:
            self._all.pop(key, None)

        return unsubscribe

    def subscribers(self, account: int) -> int:
        return len(self._by_account.get(account, ()))

    @staticmethod
    def _tell(subscribers: dict[object, Callback], change: Change) -> None:
        for key, callback in list(subscribers.items()):
            if key not in subscribers:
                continue
            try:
                callback(change)
            except Exception:
                _log.exception("a subscriber of changes failed")
