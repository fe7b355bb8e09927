"""SIGKILL under load: every answered message is there exactly once, no other one is damaged (issue 9, 2)."""

import asyncio
import hashlib
import random
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from postkeep.runtime.clock import SystemClock
from postkeep.storage.store import MailStore

from tests.crash.load import Door, Fate, Load, find_mark
from tests.crash.sink import Sink
from tests.crash.world import ALL
from tests.support.engine import Engine

KILLS = 50
SESSIONS = 20
USERS = [f"user{number}" for number in range(8)]
PASSWORD = "load password 1"
DOMAIN = "example.test"
REMOTE = "remote.test"
LIMIT = 120.0
"""Seconds that any one wait may take before the test fails."""


class Killer:
    """Counts steps of the load and kills the engine at the one that was drawn."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._left = 0
        self.struck = asyncio.Event()

    def arm(self, steps: int) -> None:
        self.struck.clear()
        self._left = steps

    def step(self) -> None:
        if self._left:
            self._left -= 1
            if not self._left:
                self.strike()

    def strike(self) -> None:
        if self._engine.process is not None:
            self._engine.process.kill()
        self.struck.set()


async def start(engine: Engine, killer: Killer, rng: random.Random, usual: float) -> bool:
    """Start the engine; now and then kill it while it starts (True when it runs)."""
    starting = asyncio.create_task(asyncio.to_thread(engine.start))
    if usual and rng.random() < 0.2:
        done, _ = await asyncio.wait({starting}, timeout=rng.uniform(usual * 0.4, usual))
        if not done:
            killer.strike()
            await asyncio.wait({starting})
        if starting.exception() is None:
            await asyncio.to_thread(engine.kill)
        return False
    await starting
    return True


async def kill_many_times(engine: Engine, load: Load, killer: Killer, rng: random.Random) -> int:
    """KILLS kills; the number of those that struck while the engine was starting."""
    early, usual = 0, 0.0
    for _ in range(KILLS):
        begun = time.monotonic()
        if not await start(engine, killer, rng, usual):
            early += 1
            continue
        usual = usual or time.monotonic() - begun
        killer.arm(rng.randrange(1, 600))
        load.up.set()
        await asyncio.wait_for(killer.struck.wait(), LIMIT)
        load.up.clear()
        await asyncio.to_thread(engine.kill)
    return early


async def everything_sent_on(load: Load, sink: Sink) -> None:
    due = {
        (attempt.mark, recipient)
        for attempt in load.attempts.values()
        if attempt.fate is Fate.ACCEPTED
        for recipient in attempt.recipients
        if recipient.endswith(REMOTE)
    }
    while due - sink.received.keys():
        sink.changed.clear()
        await sink.changed.wait()


async def stored_messages(folder: Path) -> AsyncIterator[tuple[str, bytes]]:
    """(address, content) of all that lies in the users' mailboxes of a stopped engine."""
    store = await MailStore.open(folder, SystemClock())
    try:
        for user in USERS:
            account = store.account_id(f"{user}@{DOMAIN}")
            assert account is not None
            for mailbox in store.mailboxes(account):
                async for rows in store.rows(account, mailbox.id, ALL):
                    for message in await store.messages(rows):
                        assert not isinstance(message, Exception), message
                        yield f"{user}@{DOMAIN}", await message.read()
    finally:
        await store.close()


def added_fields(content: bytes) -> set[bytes]:
    """Names of the header fields that the server put before what was sent."""
    added = content[: content.find(b"From: Sender ")]
    return {line.split(b":")[0].lower() for line in added.split(b"\r\n") if line and line[:1] not in b" \t"}


async def compare(load: Load, sink: Sink, folder: Path) -> Counter[str]:
    """Counts; fails at the first message that is missing, doubled or damaged."""
    stored: Counter[tuple[str, str]] = Counter()
    async for address, content in stored_messages(folder):
        mark = find_mark(content)
        assert mark in load.attempts, f"{address} holds what nobody sent: {content[:300]!r}"
        assert added_fields(content) <= {b"return-path", b"received"}
        sent = content[content.find(b"From: Sender ") :]
        assert hashlib.sha256(sent).digest() == load.attempts[mark].digest, f"{mark} is damaged"
        stored[mark, address] += 1
    counts: Counter[str] = Counter()
    for attempt in load.attempts.values():
        counts[attempt.fate.name.lower()] += 1
        for recipient in attempt.recipients:
            local = recipient.endswith(DOMAIN)
            copies = (stored if local else sink.received)[attempt.mark, recipient]
            match attempt.fate:
                case Fate.ACCEPTED if local:
                    assert copies == 1, f"{attempt.mark} was answered 250, {recipient} has it {copies} times"
                case Fate.ACCEPTED:
                    assert copies >= 1, f"{attempt.mark} was answered 250, {recipient} never got it"
                case Fate.SENT:
                    assert copies <= 1 or not local, f"{recipient} has {attempt.mark} {copies} times"
                case _:
                    assert copies == 0, f"{recipient} has {attempt.mark}, which was never wholly sent"
            counts["local copies" if local else "remote copies"] += copies
    for mark, digests in sink.digests.items():
        assert digests == {load.attempts[mark].digest}, f"{mark} went out damaged"
    assert sink.strangers == 0, "the sink got messages that nobody sent (bounces?)"
    unanswered = [a for a in load.attempts.values() if a.fate is Fate.SENT]
    counts["unanswered yet stored"] = sum(any(stored[a.mark, r] for r in a.recipients) for a in unanswered)
    return counts


@pytest.mark.crash
async def test_fifty_kills_under_load_lose_and_double_nothing(tmp_path: Path) -> None:
    rng = random.Random(20261124)
    sink = Sink()
    port = await sink.start()
    zone = tmp_path / "zone"
    zone.write_text(f"{REMOTE} MX 10 mx.{REMOTE}\nmx.{REMOTE} A 127.0.0.1\n")
    engine = await asyncio.to_thread(
        lambda: Engine(
            tmp_path,
            domain=DOMAIN,
            users=dict.fromkeys(USERS, PASSWORD),
            settings={"ResolverFile": str(zone), "DeliveryPort": port},
        )
    )
    killer = Killer(engine)
    doors = [
        Door(engine.ports.smtp),
        Door(engine.ports.smtps, implicit=True, login=(f"{USERS[0]}@{DOMAIN}", PASSWORD)),
    ]
    load = Load(
        doors=lambda: doors,
        local=[f"{user}@{DOMAIN}" for user in USERS],
        remote=[f"someone{number}@{REMOTE}" for number in range(5)],
        step=killer.step,
        seed=rng.randrange(1 << 30),
        sessions=SESSIONS,
    )
    running = asyncio.create_task(load.run())
    try:
        early = await kill_many_times(engine, load, killer, rng)
        load.stopping = True
        await asyncio.to_thread(engine.start)
        load.up.set()
        await asyncio.wait_for(running, LIMIT)
        await asyncio.wait_for(everything_sent_on(load, sink), LIMIT)
        await asyncio.to_thread(engine.stop)
        verified = await asyncio.to_thread(engine.run, "verify")
        counts = await compare(load, sink, engine.data / "store")
    finally:
        running.cancel()
        await sink.stop()
        await asyncio.to_thread(engine.close)
    assert not load.protocol_errors, load.protocol_errors[:5]
    assert counts["accepted"] > KILLS
    print(f"\n{KILLS} kills ({early} of them during the start), {SESSIONS} sessions: {dict(counts)}")
    print(f"{load.disconnects} broken connections; verify: {verified.stdout.strip().splitlines()[-1]}")
