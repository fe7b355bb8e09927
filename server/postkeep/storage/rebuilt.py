"""What a rebuild ends in: its report, and the new database in the place of the old one."""

import time
from pathlib import Path
from typing import NamedTuple

from postkeep.runtime.files import Files
from postkeep.storage.convert import NEW
from postkeep.storage.rescue import Rescued


class Rebuilt(NamedTuple):
    """What came back. `damaged` are the stretches of packs that could not be read, one line each (`more`
    were not noted), `kept` is where the old database is now. `copied`: not from the packs, the old database
    could be copied whole."""

    accounts: int
    mailboxes: int
    messages: int
    records: int
    packs: int
    damaged: tuple[str, ...]
    more: int
    kept: Path | None
    copied: bool = False
    kept_rows: bool = False
    """All readable rows of the old database were kept; `rescued`: what the others came to, by mailbox."""
    rescued: tuple[Rescued, ...] = ()

    def __str__(self) -> str:
        damaged = len(self.damaged) + self.more
        lost = f"; {damaged} damaged stretches were left out" if damaged else ""
        kept = f"; the old database is {self.kept.name}" if self.kept else ""
        what = f"{self.accounts} accounts, {self.mailboxes} mailboxes, {self.messages} messages"
        if self.copied:
            return f"{what}: all of the old database could be read and was copied{kept}"
        if self.kept_rows:
            recovered = sum(one.recovered for one in self.rescued)
            missing = sum(one.lost for one in self.rescued)
            return (
                f"{what}: all that could be read was kept, {recovered} messages came back from the packs with"
                f" the flags of their delivery, {missing} are lost{lost}{kept}"
            )
        return f"{what} from {self.records} records in {self.packs} packs{lost}{kept}"


def take_place(files: Files, old: Path) -> Path | None:
    """The old database and its WAL go aside, then the new one takes the name; where the old one is now.

    A crash in between leaves no postkeep.db; an engine refuses to start on packs without one, and a new
    rebuild makes it."""
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    kept = None
    for suffix in ("", "-wal", "-shm"):
        path = old.with_name(old.name + suffix)
        if files.exists(path):
            target = _aside(files, old, stamp, suffix)
            files.rename(path, target)
            kept = kept or target
    files.sync_dir(old.parent)
    files.rename(old.parent / NEW, old)
    files.sync_dir(old.parent)
    return kept


def _aside(files: Files, old: Path, stamp: str, suffix: str) -> Path:
    target = old.with_name(f"{old.name}.bad-{stamp}{suffix}")
    number = 1
    while files.exists(target):
        number += 1
        target = old.with_name(f"{old.name}.bad-{stamp}-{number}{suffix}")
    return target
