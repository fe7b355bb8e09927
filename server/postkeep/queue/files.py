"""The queue's folder: <id>.eml and <id>.env, durable in that order (row SMT-4).

Any number of messages at once: each is written by a thread, and all that wait share one sync of the folder.

What a crash may leave: an .eml without its .env (never acknowledged, or finished), and *.new. The .env is
renamed into place after the .eml is whole on the disk, and a message is acknowledged when both names are
durable; the .eml is removed only after the removal of the .env is durable. So an .env without its .eml is of
a message that was never acknowledged (a power cut may keep either of two names that were not synced), or
somebody deleted the .eml: nothing is there to send. A start removes all of these.
"""

import asyncio
import contextlib
import errno
import functools
import os
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, ParamSpec, TypeVar

from postkeep.domain.errors import PostkeepError, StorageFailed, StorageFull
from postkeep.queue.entry import Entry, Names, decode_entry, encode_entry
from postkeep.runtime.files import Files, write_all

BLOCK = 64 * 1024
HEADER_LIMIT = 64 * 1024
"""Octets of a message that are searched for the end of its header, or returned in a notification."""
_ENVELOPE_LIMIT = 16 << 20
_THREADS = 8
_FULL = {errno.ENOSPC, errno.EDQUOT}

P = ParamSpec("P")
T = TypeVar("T")


class Loaded(NamedTuple):
    """What a start found: entries to resume, leftovers removed, files that are damaged (left in place)."""

    entries: list[Entry]
    leftovers: list[str]
    damaged: list[str]
    orphans: list[str]
    """Removed: the names of .env files without .eml, and who would have got the message."""


class Written(NamedTuple):
    size: int
    eight_bit: bool
    utf8_header: bool


@dataclass(slots=True)
class _Guard:
    """Who changes an entry's files: one at a time, and nobody once its removal has begun."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    users: int = 0
    removed: bool = False


class QueueFiles:
    """All methods that touch the disk run in threads; StorageFull or StorageFailed when it refuses."""

    def __init__(self, folder: Path, files: Files) -> None:
        self._folder = folder
        self._files = files
        self._names = Names()
        self._threads = ThreadPoolExecutor(_THREADS, "queue")
        self._guards: dict[str, _Guard] = {}  # of entries whose files are being changed
        self._next_sync: asyncio.Future[None] | None = None
        self._syncing: asyncio.Task[None] | None = None
        self._cleaning: set[asyncio.Task[None]] = set()

    async def load(self) -> Loaded:
        """Once, before anything else."""
        return await self._run(self._load)

    async def add(
        self, make: Callable[[str], Entry], now: float, chunks: Iterable[bytes], size: int
    ) -> Entry:
        """Write a new entry: .eml, then .env. Durable on return; nothing is left behind on an error.

        `chunks` is read in a thread and must give `size` octets.
        """
        writing = asyncio.ensure_future(self._run(self._add, make, now, chunks, size))
        try:
            entry = await asyncio.shield(writing)
            await self._sync_folder()
        except BaseException:
            # Also when the caller is cancelled: the thread goes on, and nobody wants its files.
            self._clean(self._abandon(writing))
            raise
        return entry

    async def update(self, entry: Entry) -> None:
        """Replace the .env by the entry's state as it is now. Durable on return.

        Nothing happens when `remove` was called meanwhile.
        """
        async with self._guard(entry.id) as guard:
            if guard.removed:
                return
            await self._run(self._replace, entry.id, encode_entry(entry))
        await self._sync_folder()

    async def remove(self, name: str) -> None:
        """Durable on return; the .eml goes after its .env for certain."""
        async with self._guard(name) as guard:
            guard.removed = True
            await self._run(self._unlink, self._env(name))
            await self._sync_folder()
            await self._run(self._unlink, self._eml(name))

    async def head(self, name: str, limit: int = HEADER_LIMIT) -> bytes:
        """The first octets of the message, at most `limit`."""
        async with self.reading(name) as message:
            return await message.read(0, limit)

    @contextlib.asynccontextmanager
    async def reading(self, name: str) -> AsyncIterator["Message"]:
        opening = asyncio.ensure_future(self._run(self._open, name))
        try:
            fd, first = await asyncio.shield(opening)
        except asyncio.CancelledError:
            self._clean(self._close_unwanted(opening))  # the thread goes on and opens it
            raise
        try:
            yield Message(self, fd, first)
        finally:
            self._files.close(fd)

    async def pread(self, fd: int, length: int, offset: int) -> bytes:
        return await self._run(self._files.pread, fd, length, offset)

    async def close(self) -> None:
        rest = [*self._cleaning, *([self._syncing] if self._syncing else [])]
        if rest:
            await asyncio.wait(rest)
        await asyncio.to_thread(self._threads.shutdown, wait=True)

    # --- on the loop ---------------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def _guard(self, name: str) -> AsyncIterator[_Guard]:
        guard = self._guards.setdefault(name, _Guard())
        guard.users += 1
        try:
            async with guard.lock:
                yield guard
        finally:
            guard.users -= 1
            if not guard.users:
                del self._guards[name]

    def _clean(self, work: Coroutine[None, None, None]) -> None:
        cleaning = asyncio.create_task(work)
        self._cleaning.add(cleaning)
        cleaning.add_done_callback(self._cleaning.discard)

    async def _close_unwanted(self, opening: asyncio.Future[tuple[int, bytes]]) -> None:
        with contextlib.suppress(Exception):
            self._files.close((await opening)[0])

    async def _abandon(self, writing: asyncio.Future[Entry]) -> None:
        with contextlib.suppress(Exception):
            entry = await writing
            await self._run(self._forget, entry.id)

    async def _run(self, call: Callable[P, T], *arguments: P.args, **keywords: P.kwargs) -> T:
        work = functools.partial(call, *arguments, **keywords)
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        except OSError as error:
            raise _translated(error) from error

    async def _sync_folder(self) -> None:
        """Make all names up to now durable; callers that come while a sync runs share the next one."""
        if self._next_sync is None:
            self._next_sync = asyncio.get_running_loop().create_future()
            if self._syncing is None:
                self._syncing = asyncio.create_task(self._sync_until_idle())
        await asyncio.shield(self._next_sync)

    async def _sync_until_idle(self) -> None:
        while self._next_sync is not None:
            waiting, self._next_sync = self._next_sync, None
            try:
                await self._run(self._files.sync_dir, self._folder)
            except PostkeepError as error:
                waiting.set_exception(error)
                waiting.exception()  # heard, even if every caller was cancelled
            else:
                waiting.set_result(None)
        self._syncing = None

    # --- in a thread ---------------------------------------------------------------------------------------

    def _eml(self, name: str) -> Path:
        return self._folder / f"{name}.eml"

    def _env(self, name: str) -> Path:
        return self._folder / f"{name}.env"

    def _load(self) -> Loaded:
        files, folder = self._files, self._folder
        files.mkdir(folder)
        names = set(files.list_dir(folder))
        loaded = Loaded([], [], [], [])
        for file in sorted(names):
            name, _, kind = file.rpartition(".")
            if kind == "env":
                try:
                    entry = decode_entry(self._read(folder / file), name)
                except (PostkeepError, OSError) as error:
                    entry, reason = None, error
                if f"{name}.eml" not in names:
                    self._unlink(folder / file)
                    loaded.orphans.append(file if entry is None else f"{file} ({_envelope(entry)})")
                elif entry is None:
                    loaded.damaged.append(f"{file}: {reason}")
                else:
                    loaded.entries.append(entry)
            elif kind == "new" or (kind == "eml" and f"{name}.env" not in names):
                self._unlink(folder / file)
                loaded.leftovers.append(file)
        return loaded

    def _open(self, name: str) -> tuple[int, bytes]:
        fd = self._files.open(self._eml(name), os.O_RDONLY)
        try:
            return fd, self._files.pread(fd, BLOCK, 0)
        except BaseException:
            self._files.close(fd)
            raise

    def _read(self, path: Path) -> bytes:
        fd = self._files.open(path, os.O_RDONLY)
        try:
            return self._files.pread(fd, _ENVELOPE_LIMIT, 0)
        finally:
            self._files.close(fd)

    def _add(self, make: Callable[[str], Entry], now: float, chunks: Iterable[bytes], size: int) -> Entry:
        name, fd = self._create(now)
        try:
            try:
                written = self._write(fd, chunks)
                self._files.fdatasync(fd)
            finally:
                self._files.close(fd)
            if written.size != size:
                raise StorageFailed(f"the message has {written.size} octets, {size} were announced")
            entry = make(name)
            entry.size, entry.eight_bit = written.size, written.eight_bit
            entry.smtputf8 = entry.smtputf8 and written.utf8_header
            self._replace(name, encode_entry(entry))
        except BaseException:
            self._forget(name)
            raise
        return entry

    def _create(self, now: float) -> tuple[str, int]:
        while True:
            name = self._names.make(now)
            try:
                return name, self._files.open(self._eml(name), os.O_WRONLY | os.O_CREAT | os.O_EXCL)
            except FileExistsError:
                continue

    def _write(self, fd: int, chunks: Iterable[bytes]) -> Written:
        size, eight_bit, utf8_header = 0, False, False
        header = b""  # what may still be header
        in_header = True
        for chunk in chunks:
            write_all(self._files, fd, chunk)
            size += len(chunk)
            if not chunk.isascii():
                eight_bit = True
            if in_header:
                header += chunk[: HEADER_LIMIT - len(header)]
                end = header.find(b"\r\n\r\n")
                if end >= 0 or len(header) >= HEADER_LIMIT:
                    in_header = False
                    utf8_header = not header[: end if end >= 0 else None].isascii()
                    header = b""
        return Written(size, eight_bit, utf8_header or (in_header and not header.isascii()))

    def _replace(self, name: str, data: bytes) -> None:
        """The new .env is whole on the disk before it takes the old one's name; the name is synced later."""
        path = self._env(name)
        temporary = path.with_name(path.name + ".new")
        fd = self._files.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        try:
            try:
                write_all(self._files, fd, data)
                self._files.fdatasync(fd)
            finally:
                self._files.close(fd)
            self._files.rename(temporary, path)
        except OSError:
            with contextlib.suppress(OSError):
                self._files.unlink(temporary)
            raise

    def _unlink(self, path: Path) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._files.unlink(path)

    def _forget(self, name: str) -> None:
        """An entry that was never acknowledged: best effort, a start removes the rest."""
        for path in (self._env(name), self._env(name).with_suffix(".env.new"), self._eml(name)):
            with contextlib.suppress(OSError):
                self._files.unlink(path)


class Message:
    """An open .eml; its first block is here already, and most messages are no longer."""

    def __init__(self, owner: QueueFiles, fd: int, first: bytes) -> None:
        self._owner = owner
        self._fd = fd
        self._first = first

    async def read(self, offset: int, length: int = BLOCK) -> bytes:
        """Octets from `offset`; fewer than `length` only at the end."""
        first = self._first
        if offset + length <= len(first) or len(first) < BLOCK:
            return first[offset : offset + length]
        return await self._owner.pread(self._fd, length, offset)


def _envelope(entry: Entry) -> str:
    """For the log, bounded."""
    to = ", ".join(f"<{one.address}>" for one in entry.recipients[:3])
    return f"from=<{entry.sender}>, to={to}{', …' if len(entry.recipients) > 3 else ''}"


def _translated(error: OSError) -> PostkeepError:
    if error.errno in _FULL:
        return StorageFull("the disk is full")
    return StorageFailed(f"the queue's folder: {error.strerror or error}")
