"""Where each part of a millisecond of CPU goes when one message is delivered.

`make bench-profile`. The engine runs as always, with a kernel timer on the CPU time of the event loop's
thread whose signal notes what that thread is doing, and with the kernel's own account of each thread. Nothing
is instrumented, so the figures add up to what bench-smtp shows. A sample that falls into C code (zstd, SHA-256,
a send) belongs to the Python function that called it; reading sockets and waking belong to the loop itself.

The file is both sides: `python -m tests.bench.profile [SIZE] [new]` measures (new: one connection a message), `… --inside FILE serve …` is the engine.
"""

import collections
import ctypes
import dis
import json
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import NamedTuple

from tests.bench import load, messages, peers
from tests.bench.contenders import PASSWORD
from tests.support.engine import Engine, cpu_seconds

INTERVAL = 0.001
"""Seconds of CPU between two samples."""
USERS = messages.users(200)
SIZE, WARM_UP, COUNT = 10_000, 2_000, 10_000
LOOP = "event loop:reading sockets, waking, timers"
OUTSIDE = "libraries:elsewhere"
RUNNERS = {"asyncio.runners", "asyncio.base_events", "uvloop"}
RESUME = dis.opmap["RESUME"]

CLOCK_THREAD_CPUTIME_ID = 3
SIGEV_THREAD_ID = 4


# --- inside the engine ----------------------------------------------------------------------------


class ThreadTimer:
    """timer_create(2) on this thread's CPU time: SIGPROF to this thread each INTERVAL of CPU it uses."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        event = (ctypes.c_int * 16)()  # struct sigevent: value (8 octets), signo, notify, thread id
        event[2], event[3], event[4] = signal.SIGPROF, SIGEV_THREAD_ID, threading.get_native_id()
        self._timer = ctypes.c_void_p()
        if self._libc.timer_create(CLOCK_THREAD_CPUTIME_ID, event, ctypes.byref(self._timer)):
            raise OSError(ctypes.get_errno(), "timer_create")

    def set(self, seconds: float) -> None:
        """0 stops it."""
        step = int(seconds * 1e9)
        spec = (ctypes.c_long * 4)(0, step, 0, step)
        if self._libc.timer_settime(self._timer, 0, spec, None):
            raise OSError(ctypes.get_errno(), "timer_settime")


class Sampler:
    """Counts samples by the innermost function of Postkeep; writes them to `path` on SIGUSR2."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._counts: collections.Counter[str] = collections.Counter()
        self._timer = ThreadTimer()
        signal.signal(signal.SIGPROF, self._sample)
        signal.signal(signal.SIGUSR1, self._begin)
        signal.signal(signal.SIGUSR2, self._write)

    def _begin(self, number: int, frame: FrameType | None) -> None:
        self._counts.clear()
        self._timer.set(INTERVAL)

    def _sample(self, number: int, frame: FrameType | None) -> None:
        self._counts[_place(frame)] += 1

    def _write(self, number: int, frame: FrameType | None) -> None:
        self._timer.set(0)
        names = {thread.native_id: thread.name for thread in threading.enumerate()}
        result = {"samples": dict(self._counts), "threads": names}
        temporary = self._path.with_suffix(".new")
        temporary.write_text(json.dumps(result))
        temporary.rename(self._path)


def _place(frame: FrameType | None) -> str:
    if frame is None or _module(frame) in RUNNERS:
        return LOOP
    if _module(frame.f_back) in RUNNERS and frame.f_code.co_code[frame.f_lasti] == RESUME:
        return LOOP  # a callback that only begins: what the signal met was the loop before it
    while frame is not None:
        module = _module(frame)
        if module.startswith("postkeep.") and not module.startswith(
            ("postkeep.app", "postkeep.house", "postkeep.cli")
        ):
            return f"{module.removeprefix('postkeep.')}:{frame.f_code.co_qualname}"
        frame = frame.f_back
    return OUTSIDE


def _module(frame: FrameType | None) -> str:
    return "" if frame is None else frame.f_globals.get("__name__", "")


def inside(path: Path, arguments: list[str]) -> None:
    from postkeep.cli.main import main as postkeep

    Sampler(path)
    sys.argv = ["postkeep", *arguments]
    postkeep()


# --- outside --------------------------------------------------------------------------------------


class Report(NamedTuple):
    """Milliseconds of CPU a message: in all, by thread, and of the loop's thread by function."""

    total: float
    threads: dict[str, float]
    functions: dict[str, float]


def thread_cpu(pid: int) -> dict[int, float]:
    """CPU seconds of each thread."""
    found = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        fields = (task / "stat").read_text().rpartition(")")[2].split()
        found[int(task.name)] = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return found


def measure(size: int, count: int, reuse: bool = True) -> Report:
    with tempfile.TemporaryDirectory(prefix="postkeep-bench-") as folder:
        out = Path(folder) / "samples.json"
        program = (sys.executable, "-m", "tests.bench.profile", "--inside", str(out))
        maker = Engine(Path(folder) / "engine", domain=peers.DOMAIN, program=program)
        maker.users_add(USERS, PASSWORD)
        with maker as engine:
            recipients = [f"{user}@{peers.DOMAIN}" for user in USERS]
            plan = load.Plan(
                engine.host, engine.ports.smtp, size, min(WARM_UP, count), True, recipients, label="w"
            )
            load.run(plan)
            os.kill(engine.pid, signal.SIGUSR1)
            before, threads = cpu_seconds(engine.pid), thread_cpu(engine.pid)
            outcome = load.run(plan._replace(total=count, label="p", reuse=reuse))
            assert not outcome.errors, outcome.errors[:3]
            total, after = cpu_seconds(engine.pid) - before, thread_cpu(engine.pid)
            os.kill(engine.pid, signal.SIGUSR2)
            _await(out.exists)
            result = json.loads(out.read_text())
            main = engine.pid
    return _report(total / count * 1000, threads, after, result, main, count)


def _report(
    total: float,
    before: dict[int, float],
    after: dict[int, float],
    result: dict[str, dict[str, int]],
    main: int,
    count: int,
) -> Report:
    names = result["threads"]
    by_thread: dict[str, float] = collections.defaultdict(float)
    for task, used in after.items():
        name = "event loop" if task == main else str(names.get(str(task), "other")).rstrip("_0123456789")
        by_thread[name] += (used - before.get(task, 0.0)) / count * 1000
    samples = result["samples"]
    share = by_thread["event loop"] / max(1, sum(samples.values()))
    return Report(total, dict(by_thread), {place: hits * share for place, hits in samples.items()})


def _await(condition: Callable[[], bool]) -> None:
    pause = threading.Event()
    for _ in range(200):
        if condition():
            return
        pause.wait(0.05)
    raise AssertionError("the engine wrote no samples")


def say(report: Report, top: int = 25) -> None:
    print(f"{report.total:.3f} CPU-ms a message; by thread:")
    for name, used in sorted(report.threads.items(), key=lambda item: -item[1]):
        if used >= 0.001:
            print(f"  {used:.3f}  {name}")
    print("the event loop's thread, by room:")
    rooms: dict[str, float] = collections.defaultdict(float)
    for place, used in report.functions.items():
        rooms[place.partition(":")[0]] += used
    for room, used in sorted(rooms.items(), key=lambda item: -item[1]):
        if used >= 0.002:
            print(f"  {used:.3f}  {room}")
    print(f"the {top} dearest functions (with the C code that they call):")
    for place, used in sorted(report.functions.items(), key=lambda item: -item[1])[:top]:
        print(f"  {used:.3f}  {place}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--inside"]:
        inside(Path(sys.argv[2]), sys.argv[3:])
    else:
        size = next((int(word) for word in sys.argv[1:] if word.isdigit()), SIZE)
        say(measure(size, COUNT if size < 500_000 else 500, reuse="new" not in sys.argv))
