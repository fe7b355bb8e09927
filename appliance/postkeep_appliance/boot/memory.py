"""What first boot remembers from one start to the next, and what it has to say on the console."""

import contextlib
from collections.abc import Callable, Mapping, Sequence

import msgspec
from msgspec import Struct, structs

from postkeep_appliance.agent.status import NOTICES_STATE
from postkeep_appliance.host.port import StatePort

STATE = "boot"
_TEXT_LIMIT = 300
_NOTICE_LIMIT = 20

Say = Callable[[str], None]


class Remembered(Struct, frozen=True):
    """`instance`: the virtual machine that has this identity; `applied`: the one whose deployment was heeded.

    "" is none yet. `notices` by topic.
    """

    instance: str = ""
    applied: str = ""
    notices: Mapping[str, tuple[str, ...]] = {}


class Memory:
    """Durable at each change (StatePort). What cannot be read counts as nothing: steps can be repeated."""

    def __init__(self, state: StatePort) -> None:
        self._state = state
        self._now = Remembered()
        with contextlib.suppress(msgspec.MsgspecError):
            self._now = msgspec.json.decode(state.read(STATE) or b"{}", type=Remembered)

    @property
    def instance(self) -> str:
        return self._now.instance

    @property
    def applied(self) -> str:
        return self._now.applied

    @property
    def notices(self) -> tuple[str, ...]:
        return tuple(text for texts in self._now.notices.values() for text in texts)[:_NOTICE_LIMIT]

    def set_instance(self, instance: str) -> None:
        self._write(structs.replace(self._now, instance=instance))

    def set_applied(self, instance: str) -> None:
        self._write(structs.replace(self._now, applied=instance))

    def notify(self, topic: str, texts: Sequence[str]) -> None:
        """These are all that is to be said of `topic` now."""
        notices = {name: found for name, found in self._now.notices.items() if name != topic}
        if texts:
            notices[topic] = tuple(text[:_TEXT_LIMIT] for text in texts)
        if notices != self._now.notices:
            self._write(structs.replace(self._now, notices=notices))

    def _write(self, new: Remembered) -> None:
        self._now = new
        self._state.write(STATE, msgspec.json.encode(new))
        self._state.write(NOTICES_STATE, msgspec.json.encode(self.notices))
