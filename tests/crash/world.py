"""What must be on the disk: a model of acknowledged operations, and how a store compares with it."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from postkeep.domain.change import Appended, Expunged
from postkeep.domain.mailbox import Mailbox
from postkeep.domain.message import FlagsRow, MessageRow
from postkeep.storage.store import MailStore

from tests.crash.load import find_mark

ALL = ((1, 0xFFFFFFFF),)

Place = tuple[int, int]
"""(account, mailbox)"""


class Held(NamedTuple):
    """One message in one mailbox."""

    mark: str
    flags: int
    keywords: frozenset[str]


class Waiting(NamedTuple):
    """One queue entry."""

    mark: str
    recipients: tuple[str, ...]
    tries: int


@dataclass(slots=True)
class World:
    """`top` is the highest (uid, modseq) ever acknowledged in a mailbox: it outlives the messages."""

    accounts: dict[str, int] = field(default_factory=dict)
    mailboxes: dict[Place, Mailbox] = field(default_factory=dict)
    messages: dict[Place, dict[int, Held]] = field(default_factory=dict)
    queue: dict[str, Waiting] = field(default_factory=dict)
    top: dict[Place, tuple[int, int]] = field(default_factory=dict)

    def copy(self) -> "World":
        held = {place: dict(messages) for place, messages in self.messages.items()}
        return World(dict(self.accounts), dict(self.mailboxes), held, dict(self.queue), dict(self.top))

    def same_as(self, other: "World") -> bool:
        return (
            self.accounts == other.accounts
            and self.mailboxes == other.mailboxes
            and self.messages == other.messages
            and self.queue == other.queue
        )

    def differences(self, other: "World") -> Iterator[str]:
        """What `other` (found) has otherwise than this one (expected), for people."""
        for name in ("accounts", "mailboxes", "messages", "queue"):
            expected, found = getattr(self, name), getattr(other, name)
            for key in expected.keys() | found.keys():
                mine, theirs = expected.get(key), found.get(key)
                if mine == theirs:
                    continue
                if isinstance(mine, dict) and isinstance(theirs, dict):
                    for inner in mine.keys() | theirs.keys():
                        if mine.get(inner) != theirs.get(inner):
                            yield f"{name} {key} {inner}: {mine.get(inner)} expected, {theirs.get(inner)} found"
                else:
                    yield f"{name} {key}: {mine} expected, {theirs} found"

    def seen(self, place: Place, uid: int, modseq: int) -> None:
        old_uid, old_modseq = self.top.get(place, (0, 0))
        self.top[place] = (max(old_uid, uid), max(old_modseq, modseq))

    # --- effects of acknowledged operations

    def account_made(self, key: str, account: int, mailboxes: Sequence[Mailbox]) -> None:
        self.accounts[key] = account
        self.mailboxes_are(account, mailboxes)

    def mailboxes_are(self, account: int, mailboxes: Sequence[Mailbox]) -> None:
        for place in [place for place in self.mailboxes if place[0] == account]:
            del self.mailboxes[place]
        for mailbox in mailboxes:
            self.mailboxes[account, mailbox.id] = mailbox
            self.messages.setdefault((account, mailbox.id), {})
        for place in [
            place for place in self.messages if place[0] == account and place not in self.mailboxes
        ]:
            del self.messages[place]

    def appended(self, change: Appended, names: Sequence[str], mark: str | dict[int, Held]) -> None:
        """`mark`: of the one delivered message, or what was copied, by new uid."""
        place = (change.account, change.mailbox)
        for row in change.rows:
            held = Held(mark, row.flags, keywords(row, names)) if isinstance(mark, str) else mark[row.uid]
            self.messages[place][row.uid] = held
            self.seen(place, row.uid, row.modseq)

    def flagged(self, place: Place, rows: Sequence[FlagsRow], names: Sequence[str]) -> None:
        for row in rows:
            held = self.messages[place][row.uid]
            self.messages[place][row.uid] = Held(held.mark, row.flags, keywords(row, names))
            self.seen(place, row.uid, row.modseq)

    def expunged(self, change: Expunged) -> None:
        place = (change.account, change.mailbox)
        for uid in change.uids:
            del self.messages[place][uid]
        if change.uids:
            self.seen(place, 0, change.modseq)


def keywords(row: FlagsRow | MessageRow, names: Sequence[str]) -> frozenset[str]:
    return frozenset(name for bit, name in enumerate(names) if row.keywords >> bit & 1)


class Step(NamedTuple):
    """One operation: begun at operation `start` of the disk, acknowledged at `end`."""

    start: int
    end: int
    effect: Callable[[World], None]


class History:
    """The steps of one run, and which worlds they allow at a cut."""

    def __init__(self, before: World) -> None:
        self._before = before
        self.steps: list[Step] = []

    def at(self, cut: int) -> tuple[World, list[Step]]:
        """The world of all that was acknowledged before `cut`, and the steps under way then."""
        world = self._before.copy()
        under_way: list[Step] = []
        for step in sorted(self.steps, key=lambda step: step.end):
            if step.end <= cut:
                step.effect(world)
            elif step.start <= cut:
                under_way.append(step)
        return world, under_way

    def match(self, cut: int, found: World) -> World | None:
        """The allowed world that `found` is: acknowledged steps, each one under way wholly or not at all."""
        base, under_way = self.at(cut)
        for size in range(len(under_way) + 1):
            for chosen in itertools.combinations(under_way, size):
                world = base.copy()
                for step in chosen:
                    step.effect(world)
                if world.same_as(found):
                    return world
        return None


async def read_world(
    store: MailStore, keys: Sequence[str], bodies: dict[str, bytes]
) -> tuple[World, list[str]]:
    """All that a store holds (its queue not), every body compared; and what is wrong with it."""
    world, wrong = World(), []
    for key in keys:
        account = store.account_id(key)
        if account is None:
            continue
        world.account_made(key, account, store.mailboxes(account))
        names = store.keywords(account)
        for mailbox in store.mailboxes(account):
            place = (account, mailbox.id)
            async for rows in store.rows(account, mailbox.id, ALL):
                for row, message in zip(rows, await store.messages(rows), strict=True):
                    if isinstance(message, Exception):
                        wrong.append(f"{key} {mailbox.name} uid {row.uid}: {message}")
                        continue
                    content = await message.read()
                    mark = find_mark(content) or "no mark"
                    if bodies.get(mark) != content or row.size != len(content):
                        wrong.append(
                            f"{key} {mailbox.name} uid {row.uid}: other bytes than were sent ({mark})"
                        )
                    world.messages[place][row.uid] = Held(mark, row.flags, keywords(row, names))
                    world.seen(place, row.uid, row.modseq)
            wrong += wrong_counters(store, world, mailbox)
    return world, wrong


def wrong_counters(store: MailStore, world: World, mailbox: Mailbox) -> Iterator[str]:
    place = (mailbox.account, mailbox.id)
    counters, held = store.counters(*place), world.messages[place].values()
    unseen = sum(1 for message in held if not message.flags & 1)
    uid, modseq = world.top.get(place, (0, 0))
    if (counters.messages, counters.unseen) != (len(held), unseen):
        yield f"{mailbox.name}: {counters} but {len(held)} messages, {unseen} unseen"
    if counters.uidnext <= uid or counters.modseq < modseq:
        yield f"{mailbox.name}: {counters} but uid {uid} and modseq {modseq} exist"


def went_back(store: MailStore, expected: World) -> Iterator[str]:
    """Mailboxes whose uidnext or modseq is behind what was acknowledged."""
    for (account, mailbox), (uid, modseq) in expected.top.items():
        if (account, mailbox) in expected.mailboxes:
            counters = store.counters(account, mailbox)
            if counters.uidnext <= uid or counters.modseq < modseq:
                yield f"account {account} mailbox {mailbox}: {counters} after uid {uid} modseq {modseq}"
