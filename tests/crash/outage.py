"""Runs a workload on a simulated disk, cuts the power at many points and looks at each state that is left."""

import random
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from postkeep.domain.errors import PostkeepError
from postkeep.queue.files import QueueFiles
from postkeep.storage.store import MailStore
from postkeep.storage.verify import verify

from tests.crash.load import compose
from tests.crash.workload import KEYS, PACK_LIMIT, Workload, read_queue
from tests.crash.world import History, World, read_world, went_back
from tests.support.power import SimulatedDisk, cut_points
from tests.support.storing import deliver, inbox, open_store

SYNCS: dict[str, Callable[[str, Path], bool]] = {
    "the sync of a pack": lambda kind, path: kind == "file" and path.parent.name == "mail",
    "the sync of a big message's file": lambda kind, path: kind == "file" and path.parent.name == "spool",
    "the sync of the database": lambda kind, path: kind == "file" and path.name.startswith("postkeep.db"),
    "the sync of a queue file": lambda kind, path: kind == "file" and path.parent.name == "queue",
    "the sync of the mail folder": lambda kind, path: kind == "dir" and path.name == "mail",
    "the sync of the queue folder": lambda kind, path: kind == "dir" and path.name == "queue",
    "the sync of the store folder": lambda kind, path: kind == "dir" and path.name == "store",
}
"""What can be left out, one at a time."""


@dataclass
class Outcome:
    """`failures` has one line for each cut that lost something; `done` counts the acknowledged steps."""

    points: int = 0
    recoveries_cut: int = 0
    operations: int = 0
    failures: list[str] = field(default_factory=list)
    done: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        steps = ", ".join(f"{count} {name}" for name, count in sorted(self.done.items()))
        return (
            f"{self.points} cuts among {self.operations} disk operations, {self.recoveries_cut} more during the "
            f"recovery: {len(self.failures)} lost something. Acknowledged: {steps}."
        )


async def survive(
    folder: Path,
    *,
    seed: int,
    generations: int,
    points: int,
    rounds: int = 40,
    big: int = 2_200_000,
    without: str | None = None,
) -> Outcome:
    """Each generation works on what the last cut of the one before left, so damage would add up."""
    rng = random.Random(seed)
    outcome = Outcome()
    world, bodies = World(), dict[str, bytes]()
    current = folder / "0"
    (current / "store").mkdir(parents=True)
    for generation in range(generations):
        disk = SimulatedDisk(current, SYNCS[without] if without else None)
        first = disk.count
        history = await _work(disk, world, bodies, seed * 100 + generation, rounds, big, outcome)
        outcome.operations += disk.count
        left = None
        cuts = cut_points(rng, first, disk.count, points)
        for number, at in enumerate(cuts):
            if left is not None:
                shutil.rmtree(left[0])
            target = folder / f"{generation + 1}-{number}"
            disk.cut(rng, target, at)
            outcome.points += 1
            last = number == len(cuts) - 1
            left = target, await _examine(target, history, at, bodies, rng, outcome, keep=last)
        disk.close()
        shutil.rmtree(current)
        if left is None or left[1] is None:
            break
        current, world = left
    return outcome


async def _work(
    disk: SimulatedDisk,
    world: World,
    bodies: dict[str, bytes],
    seed: int,
    rounds: int,
    big: int,
    outcome: Outcome,
) -> History:
    store = await open_store(disk.folder / "store", files=disk.files, vfs=disk.vfs, pack_limit=PACK_LIMIT)
    queue = QueueFiles(disk.folder / "queue", disk.files)
    loaded = await queue.load()
    workload = Workload(disk, store, queue, world, bodies, seed)
    workload.resume(loaded.entries)
    await workload.run(rounds, big)
    await queue.close()
    await store.close()
    outcome.done.update(workload.done)
    return workload.history


async def _examine(
    folder: Path,
    history: History,
    at: int,
    bodies: dict[str, bytes],
    rng: random.Random,
    outcome: Outcome,
    keep: bool,
) -> World | None:
    """The world that the state holds, None if it is none of those allowed. A third of the states lose the
    power again while they recover; the test then goes on with what that leaves. `keep`: change nothing."""
    where = f"cut at {at}"
    try:
        if rng.random() < 0.33:
            await _cut_the_recovery(folder, rng)
            where += " and again in the recovery"
            outcome.recoveries_cut += 1
        world, wrong = await _look(folder, history, at, bodies, keep)
    except PostkeepError as error:
        world, wrong = None, [f"does not open: {error}"]
    if wrong:
        outcome.failures.append(f"{where}: " + "; ".join(wrong[:4]))
        return None
    return world


async def _cut_the_recovery(folder: Path, rng: random.Random) -> None:
    disk = SimulatedDisk(folder)
    try:
        store = await open_store(folder / "store", files=disk.files, vfs=disk.vfs)
        recovered = disk.count
        await store.close()
        again = folder.with_name(folder.name + "-again")
        disk.cut(rng, again, rng.randrange(recovered + 1))
    finally:
        disk.close()
    shutil.rmtree(folder)
    again.rename(folder)


async def _look(
    folder: Path, history: History, at: int, bodies: dict[str, bytes], keep: bool
) -> tuple[World | None, list[str]]:
    disk = SimulatedDisk(folder)  # its syncs cost nothing
    queue = QueueFiles(folder / "queue", disk.files)
    store: MailStore | None = None
    try:
        store = await open_store(folder / "store", files=disk.files, vfs=disk.vfs)
        found, wrong = await read_world(store, KEYS, bodies)
        found.queue, wrong_queue = await read_queue(queue, folder / "queue", bodies)
        report = await verify(folder / "store", queue=folder / "queue", rate=0, vfs=disk.vfs)
        wrong += wrong_queue + [str(problem) for problem in report.problems]
        world = history.match(at, found)
        if world is None:
            expected, _ = history.at(at)
            wrong += list(expected.differences(found))[:3] or ["differs"]
        else:
            wrong += went_back(store, world)
            if not keep:
                wrong += await _go_on(store, world)
        return world, wrong
    finally:
        await queue.close()
        if store is not None:
            await store.close()
        disk.close()


async def _go_on(store: MailStore, world: World) -> list[str]:
    """UIDs and modseqs must not go back with the next message either."""
    wrong = []
    for key in world.accounts:
        target = await inbox(store, key)
        (change,) = await deliver(store, compose("next", [key], 300, 1), [target])
        row = change.rows[0]
        uid, _ = world.top.get((target.account, target.mailbox), (0, 0))
        tops = [top for place, top in world.top.items() if place[0] == target.account]
        modseq = max((highest for _, highest in tops), default=0)  # account-wide, removed mailboxes too
        if row.uid <= uid or row.modseq <= modseq:
            wrong.append(f"{key}: uid {row.uid} modseq {row.modseq} given after {uid}, {modseq}")
    return wrong
