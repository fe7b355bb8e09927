"""Stages of the build: each names what it is made from, and is skipped while none of it changed.

A stamp is the SHA-256 over the contents of a stage's inputs, its words, and the stamps of the stages that it
builds on, so a change runs all that follows from it and nothing else. It is written when the stage has ended
well, never before.
"""

import hashlib
import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

_LEFT_OUT = {"__pycache__", ".mypy_cache", ".ruff_cache", "node_modules", ".ansible"}


class Watcher(Protocol):
    """What is told about the run (progress.Display)."""

    def begin(self, number: int, total: int, name: str) -> None: ...
    def say(self, text: str) -> None: ...
    def end(self, name: str, seconds: float, skipped: bool) -> None: ...


@dataclass(frozen=True)
class Stage:
    """`after`: stages that it builds on; `inputs`: files or folders; `words`: settings; `outputs`: what must
    be there for the stage to be skipped."""

    name: str
    after: tuple[str, ...]
    inputs: tuple[Path, ...]
    words: tuple[str, ...]
    outputs: tuple[Path, ...]
    make: Callable[[Callable[[str], None]], None]


def _files(path: Path) -> Iterator[Path]:
    if path.is_symlink() or path.is_file():
        yield path
        return
    for folder, names, files in os.walk(path):
        names[:] = sorted(name for name in names if name not in _LEFT_OUT and not name.endswith(".egg-info"))
        for name in sorted(files):
            yield Path(folder) / name


def digest(inputs: Iterable[Path], words: Iterable[str]) -> str:
    """Over names, modes and contents; a missing input counts as such."""
    total = hashlib.sha256()
    for word in words:
        total.update(f"word {len(word)} {word}\n".encode())
    for given in inputs:
        for path in _files(given):
            name = f"{given.name}/{path.relative_to(given)}" if path != given else given.name
            if path.is_symlink():
                total.update(f"link {name} {os.readlink(path)}\n".encode())
            elif path.exists():
                with path.open("rb") as file:
                    content = hashlib.file_digest(file, "sha256").hexdigest()
                total.update(f"file {name} {path.stat().st_mode & 0o777:o} {content}\n".encode())
            else:
                total.update(f"none {name}\n".encode())
    return total.hexdigest()


def run(
    stages: Iterable[Stage],
    stamps: Path,
    watcher: Watcher,
    *,
    force: bool = False,
    clock: Callable[[], float] = time.monotonic,
) -> list[tuple[str, float, bool]]:
    """Runs what is needed; (name, seconds, skipped) of each."""
    todo = tuple(stages)
    stamps.mkdir(parents=True, exist_ok=True)
    known_stamps: dict[str, str] = {}
    done: list[tuple[str, float, bool]] = []
    for number, stage in enumerate(todo, 1):
        watcher.begin(number, len(todo), stage.name)
        began = clock()
        stamp = digest(stage.inputs, (*stage.words, *(known_stamps[name] for name in stage.after)))
        mark = stamps / stage.name.replace(" ", "-")
        known = mark.read_text() if mark.exists() else ""
        skipped = not force and known == stamp and all(output.exists() for output in stage.outputs)
        if not skipped:
            mark.unlink(missing_ok=True)
            stage.make(watcher.say)
            missing = [str(output) for output in stage.outputs if not output.exists()]
            if missing:
                raise RuntimeError(f"{stage.name} ended without making {', '.join(missing)}")
            fresh = mark.with_suffix(".new")
            fresh.write_text(stamp)
            fresh.replace(mark)
        seconds = clock() - began
        watcher.end(stage.name, seconds, skipped)
        done.append((stage.name, seconds, skipped))
        known_stamps[stage.name] = stamp
    return done
