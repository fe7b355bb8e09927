"""What a busy server does to its disk, each step written down with when it was acknowledged."""

import asyncio
import random
from collections.abc import Callable, Sequence
from pathlib import Path

from postkeep.domain.address import Address
from postkeep.domain.change import Appended, Expunged
from postkeep.domain.mailbox import Mailbox
from postkeep.domain.message import Flag, FlagMode
from postkeep.queue.entry import Entry, QueuedRecipient, Recipient, make_entry
from postkeep.queue.files import QueueFiles
from postkeep.storage.compaction import Compactor
from postkeep.storage.messages import CopyResult
from postkeep.storage.store import MailStore, Target

from tests.crash.load import compose
from tests.crash.world import Held, History, Place, Step, Waiting, World
from tests.support.power import SimulatedDisk
from tests.support.storing import PREFIX, HastyClock

KEYS = tuple(f"user{number}@example.test" for number in range(4))
PACK_LIMIT = 24_000
_FLAGS = (Flag.SEEN, Flag.ANSWERED, Flag.FLAGGED, Flag.DELETED, Flag.DRAFT)
_WORDS = ("$Forwarded", "$Label1", "Später")


class Workload:
    """Runs on one open store and one queue folder. `bodies` is all that was ever sent, by its mark."""

    def __init__(
        self,
        disk: SimulatedDisk,
        store: MailStore,
        queue: QueueFiles,
        world: World,
        bodies: dict[str, bytes],
        seed: int,
    ) -> None:
        self._disk = disk
        self._store = store
        self._queue = queue
        self.world = world.copy()
        self.history = History(world)
        self._bodies = bodies
        self._seed = seed
        self._envelopes: dict[str, Entry] = {}
        self.done: dict[str, int] = {}

    def resume(self, entries: Sequence[Entry]) -> None:
        """Take over what the queue found in its folder."""
        self._envelopes = {entry.id: entry for entry in entries}

    def _acknowledge(self, name: str, start: int, effect: Callable[[World], None]) -> None:
        effect(self.world)
        self.history.steps.append(Step(start, self._disk.count, effect))
        self.done[name] = self.done.get(name, 0) + 1

    async def run(self, rounds: int, big: int) -> None:
        """Accounts first; then one session for each account, two deliverers and a queue runner side by side,
        each for `rounds` steps. Now and then a message of `big` octets."""
        for key in KEYS:
            await self._make_account(key)
        work = asyncio.gather(
            *[self._session(key, rounds) for key in KEYS],
            *[self._deliverer(number, rounds, big) for number in range(2)],
            self._queue_runner(rounds),
        )
        compactor = Compactor(self._store, HastyClock(), grace=0, dead_ratio=0.3)
        while not work.done():
            await self._compact(compactor)
        await work
        await self._compact(compactor)

    async def _make_account(self, key: str) -> None:
        if self._store.account_id(key) is not None:
            return
        start = self._disk.count
        account = await self._store.create_account(key)
        mailboxes = self._store.mailboxes(account)
        self._acknowledge("account", start, lambda world: world.account_made(key, account, mailboxes))

    # --- delivery -----------------------------------------------------------------------------------

    def _letter(self, rng: random.Random, recipients: Sequence[str], size: int) -> tuple[str, bytes]:
        mark = f"{self._seed}-{len(self._bodies)}"
        content = compose(mark, recipients, size, rng.randrange(1 << 30))
        self._bodies[mark] = PREFIX + content
        return mark, content

    async def _deliverer(self, number: int, rounds: int, big: int) -> None:
        rng = random.Random(self._seed * 100 + number)
        for turn in range(rounds):
            keys = rng.sample(KEYS, rng.choice((1, 1, 2, 4)))
            size = big if turn and turn % 12 == number else rng.choice((100, 700, 3000, 9000))
            remote = rng.random() < 0.3
            mark, content = self._letter(rng, keys, size)
            incoming = self._store.incoming()
            for start in range(0, len(content), 65536):
                incoming.write(content[start : start + 65536])
            body = await incoming.finish(PREFIX)
            if remote:  # the queue's files first, then the local commit, as services/receive does
                await self._enqueue(mark, list(body.chunks()))
            targets = [self._inbox(key, rng) for key in keys]
            start = self._disk.count
            changes = await self._store.deliver(body, targets, 1_700_000_000 + turn)
            names = [self._store.keywords(target.account) for target in targets]
            self._acknowledge("delivery", start, _all_appended(changes, names, mark))

    def _inbox(self, key: str, rng: random.Random) -> Target:
        account = self.world.accounts[key]
        flags = int(Flag.SEEN) if rng.random() < 0.2 else 0
        return Target(account, self._store.mailbox(account, "INBOX").id, flags)

    # --- sessions -----------------------------------------------------------------------------------

    async def _session(self, key: str, rounds: int) -> None:
        """What one user does, one step after the other, to the messages that are acknowledged."""
        rng = random.Random(f"{self._seed} {key}")
        account = self.world.accounts[key]
        steps = [
            self._flag,
            self._move,
            self._copy,
            self._mailbox,
            self._append,
            self._expunge,
            self._expunge,
        ]
        for _ in range(rounds):
            await rng.choice(steps)(account, rng)
            await asyncio.sleep(0)

    def _some(self, account: int, rng: random.Random) -> tuple[Place, list[int]]:
        places = [place for place, held in self.world.messages.items() if place[0] == account and held]
        if not places:
            return (account, self._store.mailbox(account, "INBOX").id), []
        place = rng.choice(places)
        uids = sorted(self.world.messages[place])
        return place, sorted(rng.sample(uids, min(len(uids), rng.choice((1, 1, 2, 5)))))

    def _other(self, account: int, rng: random.Random) -> Mailbox:
        return rng.choice([mailbox for mailbox in self._store.mailboxes(account) if mailbox.name != "INBOX"])

    async def _flag(self, account: int, rng: random.Random) -> None:
        place, uids = self._some(account, rng)
        mode = rng.choice(list(FlagMode))
        flags = int(rng.choice(_FLAGS))
        words = tuple(rng.sample(_WORDS, rng.randrange(3)))
        start = self._disk.count
        result = await self._store.store_flags(*place, uids, mode, flags, words)
        names = self._store.keywords(account)
        self._acknowledge("flags", start, lambda world: world.flagged(place, result.rows, names))

    async def _move(self, account: int, rng: random.Random) -> None:
        place, uids = self._some(account, rng)
        target = self._other(account, rng)
        if target.id == place[1]:
            return
        await self._transfer("move", place, uids, target.id)

    async def _copy(self, account: int, rng: random.Random) -> None:
        place, uids = self._some(account, rng)
        await self._transfer("copy", place, uids, self._other(account, rng).id)

    async def _transfer(self, verb: str, place: Place, uids: list[int], target: int) -> None:
        before = dict(self.world.messages[place])
        start = self._disk.count
        work = self._store.move if verb == "move" else self._store.copy
        result = await work(*place, uids, target)
        names = self._store.keywords(place[0])
        self._acknowledge(verb, start, _transferred(result, names, before))

    async def _expunge(self, account: int, rng: random.Random) -> None:
        place, uids = self._some(account, rng)
        asked = None if rng.random() < 0.3 else uids
        start = self._disk.count
        gone = await self._store.expunge(*place, asked)
        self._acknowledge("expunge", start, lambda world: world.expunged(gone))

    async def _append(self, account: int, rng: random.Random) -> None:
        mailbox = self._other(account, rng)
        mark, content = self._letter(rng, ["appended"], rng.choice((100, 2000)))
        words = tuple(rng.sample(_WORDS, rng.randrange(2)))
        incoming = self._store.incoming()
        incoming.write(content)
        body = await incoming.finish(PREFIX)
        start = self._disk.count
        target = Target(account, mailbox.id, int(rng.choice(_FLAGS)), words)
        changes = await self._store.deliver(body, [target], 1_600_000_000)
        self._acknowledge("append", start, _all_appended(changes, [self._store.keywords(account)], mark))

    async def _mailbox(self, account: int, rng: random.Random) -> None:
        """Make, rename, remove or unsubscribe one."""
        names = [mailbox.name for mailbox in self._store.mailboxes(account)]
        own = [name for name in names if name.startswith("Folder")]
        new = f"Folder {rng.randrange(1000)}"
        if rng.random() < 0.5:
            new += "/Inner"
        start = self._disk.count
        if new in names or new.split("/")[0] in names:
            return
        if len(own) < 2:
            await self._store.create_mailbox(account, new)
        elif (choice := rng.random()) < 0.4:
            await self._store.rename_mailbox(account, rng.choice(own), new)
        elif choice < 0.7:
            await self._store.delete_mailbox(account, rng.choice(own))
        else:
            await self._store.subscribe(account, rng.choice(own), rng.random() < 0.5)
        now = self._store.mailboxes(account)
        self._acknowledge("mailbox", start, lambda world: world.mailboxes_are(account, now))

    # --- queue and compaction -----------------------------------------------------------------------

    async def _enqueue(self, mark: str, chunks: list[bytes]) -> None:
        recipients = (f"{mark}@remote.test", "second@remote.test")

        def make(name: str) -> Entry:
            queued = [QueuedRecipient(Address(*to.split("@"))) for to in recipients]
            return make_entry(
                name, Address("sender", "example.test"), queued, 1_700_000_000.0, smtputf8=False
            )

        start = self._disk.count
        entry = await self._queue.add(make, 1_700_000_000.0, chunks, sum(map(len, chunks)))
        self._envelopes[entry.id] = entry
        waiting = Waiting(mark, recipients, 0)
        self._acknowledge("queued", start, lambda world: world.queue.__setitem__(entry.id, waiting))

    async def _queue_runner(self, rounds: int) -> None:
        """Tries that fail (the envelope is rewritten) and deliveries that succeed (the entry goes)."""
        rng = random.Random(self._seed + 7)
        for _ in range(rounds):
            await asyncio.sleep(0)
            if not self._envelopes:
                await self._enqueue(*_own_letter(self, rng))
                continue
            name = rng.choice(sorted(self._envelopes))
            start = self._disk.count
            if rng.random() < 0.4:
                del self._envelopes[name]
                await self._queue.remove(name)
                self._acknowledge("sent", start, lambda world, name=name: world.queue.pop(name))  # type: ignore[misc]
                continue
            entry = self._envelopes[name]
            for recipient in entry.recipients:
                recipient.tries += 1
            await self._queue.update(entry)
            tried = _waiting(self.world.queue[name].mark, entry.recipients)
            self._acknowledge(
                "tried",
                start,
                lambda world, name=name, tried=tried: world.queue.__setitem__(name, tried),  # type: ignore[misc]
            )

    async def _compact(self, compactor: Compactor) -> None:
        done = await compactor.run_once()
        self.done["compacted"] = self.done.get("compacted", 0) + done.moved
        self.done["packs removed"] = self.done.get("packs removed", 0) + done.removed


def _own_letter(workload: Workload, rng: random.Random) -> tuple[str, list[bytes]]:
    mark, content = workload._letter(rng, ["remote"], 400)
    return mark, [PREFIX, content]


def _waiting(mark: str, recipients: Sequence[Recipient]) -> Waiting:
    return Waiting(mark, tuple(one.address for one in recipients), recipients[0].tries)


def _all_appended(
    changes: Sequence[Appended], names: Sequence[tuple[str, ...]], mark: str
) -> Callable[[World], None]:
    def effect(world: World) -> None:
        for change, words in zip(changes, names, strict=True):
            world.appended(change, words, mark)

    return effect


def _transferred(
    result: CopyResult, names: tuple[str, ...], before: dict[int, Held]
) -> Callable[[World], None]:
    copied = result.copied
    held = {
        target: before[source] for source, target in zip(copied.source_uids, copied.target_uids, strict=True)
    }

    def effect(world: World) -> None:
        for change in result.changes:
            if isinstance(change, Appended):
                world.appended(change, names, held)
            elif isinstance(change, Expunged):
                world.expunged(change)

    return effect


async def read_queue(
    files: QueueFiles, folder: Path, bodies: dict[str, bytes]
) -> tuple[dict[str, Waiting], list[str]]:
    """What a start finds in the queue's folder, each message compared; and what is wrong with it.

    An envelope alone is removed and is no loss here: of an entry that was never acknowledged the one name may
    be on the disk and the other not. An acknowledged one would be missed."""
    found: dict[str, Waiting] = {}
    loaded = await files.load()
    wrong = list(loaded.damaged)
    for entry in loaded.entries:
        content = (folder / f"{entry.id}.eml").read_bytes()
        mark = next((mark for mark, body in bodies.items() if body == content), None)
        if mark is None or entry.size != len(content):
            wrong.append(f"queue entry {entry.id} holds other bytes than were sent")
        found[entry.id] = _waiting(mark or "", entry.recipients)
    return found, wrong
