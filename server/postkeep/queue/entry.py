"""An entry of the queue: envelope, state of each recipient, and its text form, the .env file (row SMT-4)."""

import secrets
from collections.abc import Iterator, Sequence
from enum import StrEnum
from typing import NamedTuple

import msgspec

from postkeep.domain.address import Address, parse_address
from postkeep.domain.errors import InvalidAddress, PostkeepError

VERSION = 1
WORDS_LIMIT = 1000
"""Characters kept of a remote server's words."""


class State(StrEnum):
    """PENDING: to be tried at `next`. FAILED: refused for good, sender not told yet. DONE: nothing left."""

    PENDING = "pending"
    FAILED = "failed"
    DONE = "done"


class QueuedRecipient(NamedTuple):
    """`original` and `notify` as they came with RCPT (ORCPT, NOTIFY: RFC 3461 §4.1, §4.2), else ""."""

    address: Address
    original: str = ""
    notify: str = ""


class Recipient(msgspec.Struct):
    """One recipient in the .env file. Times are seconds since 1970."""

    address: str
    original: str = ""
    notify: str = ""
    state: State = State.PENDING
    tries: int = 0
    next: float = 0.0
    reply: str = ""
    """Last words of the remote server, or ours when it did not get that far."""
    status: str = ""
    """RFC 3463 status that goes with `reply`."""
    host: str = ""
    """Host that said `reply`; "" when it was this server."""
    tried: float = 0.0
    delay_told: bool = False

    @property
    def parsed(self) -> Address:
        return parse_address(self.address)

    @property
    def domain(self) -> str:
        return self.address.rpartition("@")[2]

    def wants(self, event: str) -> bool:
        """Is the sender to be told of `event` (SUCCESS, FAILURE, DELAY)? RFC 3461 §4.1"""
        if not self.notify:
            return event in ("FAILURE", "DELAY")
        return event in self.notify.upper().replace(" ", "").split(",")


class Entry(msgspec.Struct):
    """One message on its way out. `id` is its Queue ID and the name of its files."""

    version: int
    id: str
    sender: str
    """"" is the null reverse-path <>."""
    size: int
    created: float
    recipients: list[Recipient]
    smtputf8: bool = False
    """The header holds UTF-8 (RFC 6532); addresses speak for themselves."""
    eight_bit: bool = False
    """The message holds octets above 127."""
    envid: str = ""
    ret: str = ""

    @property
    def parsed_sender(self) -> Address | None:
        return parse_address(self.sender) if self.sender else None

    def pending(self) -> Iterator[Recipient]:
        return (one for one in self.recipients if one.state is State.PENDING)

    @property
    def finished(self) -> bool:
        return all(one.state is State.DONE for one in self.recipients)


class QueueEntry(NamedTuple):
    """What the administration shows of an entry. `next_try` is None while it is in process."""

    id: str
    sender: str
    recipients: tuple[str, ...]
    size: int
    created: float
    next_try: float | None
    in_process: bool
    tries: int
    last_reply: str


class Prepared(NamedTuple):
    """An entry that is durable but not yet scheduled."""

    entry: Entry

    @property
    def id(self) -> str:
        return self.entry.id


class Names:
    """Queue IDs: milliseconds since 1970 and a serial number, so that they sort by time."""

    def __init__(self) -> None:
        self._serial = secrets.randbits(16)

    def make(self, now: float) -> str:
        self._serial = (self._serial + 1) & 0xFFFF
        return f"{int(now * 1000):012x}{self._serial:04x}"


def make_entry(
    name: str,
    sender: Address | None,
    recipients: Sequence[QueuedRecipient],
    now: float,
    *,
    smtputf8: bool,
    envid: str = "",
    ret: str = "",
) -> Entry:
    """size and eight_bit are known once the content is written, and whether it needs SMTPUTF8."""
    return Entry(
        version=VERSION,
        id=name,
        sender="" if sender is None else str(sender),
        size=0,
        created=now,
        recipients=[Recipient(str(one.address), one.original, one.notify, next=now) for one in recipients],
        smtputf8=smtputf8,
        envid=envid,
        ret=ret,
    )


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Entry)


def encode_entry(entry: Entry) -> bytes:
    """JSON text, one line."""
    return _encoder.encode(entry) + b"\n"


def decode_entry(data: bytes, name: str) -> Entry:
    """The entry in file <name>.env; PostkeepError says why it is none."""
    try:
        entry = _decoder.decode(data)
        if entry.version != VERSION:
            raise PostkeepError(f"version {entry.version} is not known to this server")
        if entry.id != name:
            raise PostkeepError(f"it is the envelope of {entry.id[:40]!r}")
        if not entry.recipients:
            raise PostkeepError("it has no recipients")
        for address in filter(None, [entry.sender, *(one.address for one in entry.recipients)]):
            parse_address(address)
    except (msgspec.MsgspecError, InvalidAddress, ValueError, RecursionError) as error:
        raise PostkeepError(str(error)) from error
    return entry


def view(entry: Entry, *, in_process: bool) -> QueueEntry:
    open_ones = [one for one in entry.recipients if one.state is not State.DONE]
    latest = max(open_ones, key=lambda one: one.tried, default=None)
    return QueueEntry(
        entry.id,
        entry.sender,
        tuple(one.address for one in open_ones),
        entry.size,
        entry.created,
        None if in_process else min((one.next for one in open_ones), default=None),
        in_process,
        max((one.tries for one in open_ones), default=0),
        latest.reply if latest else "",
    )
