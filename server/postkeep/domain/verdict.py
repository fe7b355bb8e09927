"""What a check or a service says of mail at the door."""

from enum import IntEnum
from typing import NamedTuple


class Action(IntEnum):
    """In rising order: the highest of several verdicts holds."""

    ACCEPT = 0
    TAG = 1
    DEFER = 2
    REJECT = 3


class Verdict(NamedTuple):
    """`code` and `enhanced` are the SMTP reply (RFC 5321 §4.2, RFC 3463); `text` is one clear line."""

    action: Action
    code: int = 250
    enhanced: str = "2.0.0"
    text: str = "OK"

    @property
    def ok(self) -> bool:
        return self.action <= Action.TAG

    @property
    def reply(self) -> str:
        return f"{self.code} {self.enhanced} {self.text}"


ACCEPT = Verdict(Action.ACCEPT)


def defer(text: str, code: int = 451, enhanced: str = "4.3.0") -> Verdict:
    return Verdict(Action.DEFER, code, enhanced, text)


def reject(text: str, code: int = 550, enhanced: str = "5.7.1") -> Verdict:
    return Verdict(Action.REJECT, code, enhanced, text)
