"""Durable messages a second: us, Postfix → Dovecot, and the bare ceiling, in the same run.

`make bench-smtp`. Rounds are interleaved (each case: us, the peers, the ceiling; then the next round), every
measurement starts with empty mailboxes, figures are medians. A message counts when it is delivered: for us
and the ceiling at its 250, for the peers when the last Maildir file has appeared.
"""

import argparse
import statistics
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple

from tests.bench import contenders, load, messages, peers

USERS = messages.users(200)
RECIPIENTS = tuple(f"{user}@{peers.DOMAIN}" for user in USERS)
WARM_UP = 200
"""Messages before the clock starts: all processes are up, all mailboxes exist."""

ENDURANCE_MESSAGES, ENDURANCE_STEP = 100_000, 10_000
MEMORY_LIMIT = 150_000_000
SLOWDOWN_LIMIT = 0.9
RATIO_AIMS = {10_000: 4.0, 1_000_000: 2.0}
CEILING_AIMS = {10_000: 0.5}


class Case(NamedTuple):
    """`ours` and `theirs`: messages to us (and the ceiling) and to the peers, for a few seconds of load each."""

    size: int
    ours: int
    theirs: int

    @property
    def label(self) -> str:
        return f"{self.size // 1_000_000} MB" if self.size >= 1_000_000 else f"{self.size // 1_000} KB"


CASES = (Case(10_000, 8_000, 2_000), Case(1_000, 8_000, 2_000), Case(1_000_000, 400, 200))


class Measured(NamedTuple):
    rate: float
    """Messages delivered a second."""
    cpu: float
    """Milliseconds of CPU a message."""


Starter = Callable[[], AbstractContextManager[contenders.Contender]]


def measure(start: Starter, case: Case, reuse: bool, count: int) -> Measured:
    """One fresh start of one contender under one load."""
    with start() as contender:
        plan = load.Plan("127.0.0.1", contender.port, case.size, WARM_UP, True, RECIPIENTS, label="w")
        warm = _sent(load.run(plan))
        contender.delivered(warm, WARM_UP)
        used = contender.cpu()
        outcome = _sent(load.run(plan._replace(total=count, reuse=reuse, label="m")))
        end = contender.delivered(outcome, WARM_UP + count)
        used = contender.cpu() - used
    return Measured(count / (end - outcome.start), used / count * 1000)


def _sent(outcome: load.Outcome) -> load.Outcome:
    if outcome.errors:
        raise AssertionError(f"the load met errors: {outcome.errors[:3]}")
    return outcome


class Table:
    """Results by (case, reuse, contender)."""

    def __init__(self) -> None:
        self._results: dict[tuple[str, bool, str], list[Measured]] = {}

    def add(self, case: Case, reuse: bool, name: str, result: Measured) -> None:
        self._results.setdefault((case.label, reuse, name), []).append(result)

    def rate(self, case: Case, reuse: bool, name: str) -> float | None:
        found = self._results.get((case.label, reuse, name))
        return statistics.median(result.rate for result in found) if found else None

    def cpu(self, case: Case, reuse: bool, name: str) -> float | None:
        found = self._results.get((case.label, reuse, name))
        return statistics.median(result.cpu for result in found) if found else None

    def line(self, case: Case, reuse: bool) -> str:
        us = self.rate(case, reuse, "us")
        peer = self.rate(case, reuse, "peers")
        ceiling = self.rate(case, reuse, "ceiling")
        parts = [f"us {_figure(us)} msg/s", f"Postfix+Dovecot {_figure(peer)} msg/s"]
        parts.append(f"ratio {us / peer:.1f} x" if us and peer else "ratio -")
        parts.append(f"ceiling {us / ceiling * 100:.0f} %" if us and ceiling else "ceiling -")
        cpu = (
            f"{name} {value:.2f}"
            for name in ("us", "peers", "ceiling")
            if (value := self.cpu(case, reuse, name))
        )
        kind = "reused connections" if reuse else "new connections"
        return f"{case.label}: {', '.join(parts)}   [{kind}; CPU-ms a message: {', '.join(cpu)}]"

    def missed(self, case: Case, reuse: bool) -> list[str]:
        """Which aims this case does not reach (only what was measured)."""
        us, peer, ceiling = (self.rate(case, reuse, name) for name in ("us", "peers", "ceiling"))
        out = []
        aim = RATIO_AIMS.get(case.size)
        if us and peer and aim and us / peer < aim:
            out.append(f"{case.label}: ratio {us / peer:.1f} is below {aim:g}")
        share = CEILING_AIMS.get(case.size)
        if us and ceiling and share and us / ceiling < share:
            out.append(
                f"{case.label}: {us / ceiling * 100:.0f} % of the ceiling is below {share * 100:.0f} %"
            )
        return out


def _figure(rate: float | None) -> str:
    return "-" if rate is None else f"{rate:,.0f}" if rate >= 100 else f"{rate:.1f}"


def compare(stage: contenders.Stage, options: argparse.Namespace) -> int:
    starters: dict[str, Starter] = {"us": stage.us, "peers": stage.pair, "ceiling": stage.ceiling}
    chosen = [name for name in starters if name in options.only]
    if "peers" in chosen and (reason := peers.unavailable()):
        print(f"Postfix and Dovecot are not measured: {reason}")
        chosen.remove("peers")
    table = Table()
    cases = [case for case in CASES if case.label.replace(" ", "") in options.sizes]
    kinds = [kind == "reused" for kind in options.connections]
    for number in range(options.rounds):
        for case in cases:
            for reuse in kinds:
                for name in chosen:
                    count = (case.theirs if name == "peers" else case.ours) // options.divide
                    result = measure(starters[name], case, reuse, count)
                    table.add(case, reuse, name, result)
                    kind = "reused" if reuse else "new"
                    print(
                        f"  round {number + 1} of {options.rounds}: {case.label} {kind} {name}: "
                        f"{result.rate:,.0f} msg/s, {result.cpu:.2f} CPU-ms a message",
                        file=sys.stderr,
                        flush=True,
                    )
    missed = []
    for reuse in kinds:
        for case in cases:
            print(table.line(case, reuse), flush=True)
            missed += table.missed(case, reuse) if reuse else []
    for text in missed:
        print(f"missed: {text}")
    return 1 if missed else 0


def endure(stage: contenders.Stage) -> int:
    """100,000 messages of 10 KB: the engine's memory after them, and whether it slows down."""
    size = 10_000
    rates, total = [], 0
    with stage.us() as us:
        plan = load.Plan("127.0.0.1", us.port, size, WARM_UP, True, RECIPIENTS, label="w")
        _sent(load.run(plan))
        for step in range(ENDURANCE_MESSAGES // ENDURANCE_STEP):
            used = us.cpu()
            outcome = _sent(load.run(plan._replace(total=ENDURANCE_STEP, label=f"e{step}")))
            used = (us.cpu() - used) / outcome.sent * 1000
            rates.append(outcome.sent / (outcome.end - outcome.start))
            total += outcome.sent
            memory = us.engine.memory() / 1e6
            print(
                f"  {total:,}: {rates[-1]:,.0f} msg/s, {used:.2f} CPU-ms a message, {memory:.0f} MB",
                flush=True,
            )
        memory = us.engine.memory()
    share = rates[-1] / rates[0]
    print(
        f"after {total:,} messages of 10 KB: {memory / 1e6:.0f} MB resident, "
        f"last {ENDURANCE_STEP:,} at {rates[-1]:,.0f} msg/s, {share * 100:.0f} % of the first {rates[0]:,.0f}"
    )
    missed = (
        [f"{memory / 1e6:.0f} MB is not under {MEMORY_LIMIT / 1e6:.0f}"] if memory >= MEMORY_LIMIT else []
    )
    missed += (
        [f"the last messages came at {share * 100:.0f} % of the first speed"]
        if share < SLOWDOWN_LIMIT
        else []
    )
    for text in missed:
        print(f"missed: {text}")
    return 1 if missed else 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.bench.smtp", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="one round of a quarter of the messages")
    parser.add_argument("--sizes", default="10KB,1KB,1MB", type=_names)
    parser.add_argument("--connections", default="reused,new", type=_names)
    parser.add_argument("--only", default="us,peers,ceiling", type=_names)
    parser.add_argument("--endurance", action="store_true", help="only the 100,000 messages to us")
    parser.add_argument(
        "--folder", type=Path, help="where to put the data (a disk; default: the temporary folder)"
    )
    options = parser.parse_args()
    options.divide = 4 if options.quick else 1
    options.rounds = 1 if options.quick else options.rounds
    stage = contenders.Stage(options.folder, USERS)
    try:
        return endure(stage) if options.endurance else compare(stage, options)
    finally:
        stage.close()


def _names(text: str) -> list[str]:
    return text.split(",")


if __name__ == "__main__":
    sys.exit(main())
