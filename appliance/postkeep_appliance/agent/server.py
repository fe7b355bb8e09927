"""The Unix socket: who may connect, lines in, lines out; everything bounded.

The peer is the console, which is unprivileged and might be taken over. So what it sends is hostile input.
"""

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from postkeep_appliance.agent.dispatch import Dispatcher
from postkeep_appliance.agent.peers import caller_of, may_call
from postkeep_appliance.agent.work import Caller, Work
from postkeep_appliance.api.codec import BadLine, decode_request, encode
from postkeep_appliance.api.types import MAX_REQUEST, Failure, Progress, Reply, Request
from postkeep_appliance.host.clock import Clock

_log = logging.getLogger("postkeep.agent")
_BUFFER = 1 << 16
_LOG_EVERY = 10.0


@dataclass(frozen=True, slots=True)
class Limits:
    """What one peer may take."""

    connections: int = 32
    calls: int = 8
    """Under way at a time on one connection."""
    idle_seconds: float = 900.0
    """A connection that asks nothing and waits for nothing is closed after so long."""
    write_seconds: float = 30.0
    """A peer that does not read its answers for so long is hung up."""


class _Connection:
    """One peer: reads requests, runs calls beside one another, writes replies whole."""

    def __init__(
        self,
        caller: Caller,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        dispatcher: Dispatcher,
        limits: Limits,
        clock: Clock,
    ) -> None:
        self.caller = caller
        self._reader = reader
        self._writer = writer
        self._dispatcher = dispatcher
        self._limits = limits
        self._clock = clock
        self._calls: set[asyncio.Task[None]] = set()
        self.used = clock.monotonic()
        writer.transport.set_write_buffer_limits(high=_BUFFER)

    @property
    def idle(self) -> bool:
        return not self._calls

    async def run(self) -> None:
        try:
            while (line := await self._line()) is not None:
                self.used = self._clock.monotonic()
                await self._take(decode_request(line))
        except BadLine as error:
            _log.warning("a line that is no request from %s: %.200s", self.caller, error)
            with contextlib.suppress(OSError, TimeoutError):
                await self._send(Failure(0, "invalid", f"This is no request: {str(error)[:500]}"))
        except (OSError, TimeoutError):
            pass  # it went away, or does not read
        finally:
            for task in self._calls:
                task.cancel()
            await asyncio.gather(*self._calls, return_exceptions=True)
            self._writer.close()

    def abort(self) -> None:
        self._writer.transport.abort()

    async def _line(self) -> bytes | None:
        """None at the end, or when the peer was silent for too long with nothing under way."""
        reading = asyncio.ensure_future(self._reader.readline())
        try:
            while not (await asyncio.wait({reading}, timeout=self._limits.idle_seconds))[0]:
                if not self._calls:
                    return None
            line = reading.result()
        except ValueError as error:
            raise BadLine(f"a line has at most {MAX_REQUEST} octets") from error
        finally:
            reading.cancel()
        return line if line.endswith(b"\n") else None

    async def _take(self, request: Request) -> None:
        if len(self._calls) >= self._limits.calls:
            await self._send(Failure(request.id, "busy", "Too many calls at a time."))
            return
        task = asyncio.create_task(self._call(request))
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)

    async def _call(self, request: Request) -> None:
        def say(text: str, done: int, total: int) -> None:
            """Progress may be left out when the peer does not keep up; answers may not."""
            if self._writer.transport.get_write_buffer_size() < _BUFFER and not self._writer.is_closing():
                self._writer.write(encode(Progress(request.id, text[:1000], done, total)))

        reply = await self._dispatcher.answer(request, Work(self.caller, request.session, say))
        try:
            await self._send(reply)
        except (OSError, TimeoutError):
            self.abort()

    async def _send(self, reply: Reply) -> None:
        try:
            line = encode(reply)
        except BadLine as error:
            line = encode(Failure(reply.id, "failed", str(error)))
        self._writer.write(line)
        async with asyncio.timeout(self._limits.write_seconds):
            await self._writer.drain()


class AgentServer:
    """Serves `path` (mode 0660, group `group`) to root, `uids` and members of `gids`."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        clock: Clock,
        uids: Collection[int],
        gids: Collection[int],
        limits: Limits | None = None,
        allowed: Callable[[Caller, Collection[int], Collection[int]], bool] = may_call,
    ) -> None:
        self._dispatcher = dispatcher
        self._clock = clock
        self._uids = uids
        self._gids = gids
        self._limits = limits or Limits()
        self._allowed = allowed
        self._connections: dict[_Connection, asyncio.Task[None]] = {}
        self._server: asyncio.Server | None = None
        self._refused_at = float("-inf")

    @property
    def connections(self) -> int:
        return len(self._connections)

    async def start(self, path: Path, group: int | None = None) -> None:
        """Raises OSError. A socket that an earlier agent left is replaced."""
        path.unlink(missing_ok=True)
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            before = os.umask(0o177)
            try:
                listening.bind(str(path))
            finally:
                os.umask(before)
            if group is not None:
                os.chown(path, -1, group)
            path.chmod(0o660)
            self._server = await asyncio.start_unix_server(
                self._accept, sock=listening, limit=MAX_REQUEST, backlog=64
            )
        except BaseException:
            listening.close()
            raise

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        for connection in list(self._connections):
            connection.abort()
        tasks = list(self._connections.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            caller = caller_of(writer.get_extra_info("socket"))
        except OSError:
            writer.close()
            return
        if not self._allowed(caller, self._uids, self._gids):
            self._refuse(writer, f"{caller} may not call the agent")
            return
        if len(self._connections) >= self._limits.connections and not self._make_room():
            self._refuse(writer, f"too many connections, the last one by {caller}")
            return
        connection = _Connection(caller, reader, writer, self._dispatcher, self._limits, self._clock)
        task = asyncio.current_task()
        assert task is not None
        self._connections[connection] = task
        try:
            await connection.run()
        finally:
            self._connections.pop(connection, None)

    def _make_room(self) -> bool:
        """The connection that was silent for longest goes: whoever opens many loses his own first."""
        idle = [one for one in self._connections if one.idle]
        if not idle:
            return False
        oldest = min(idle, key=lambda one: one.used)
        del self._connections[oldest]
        oldest.abort()
        return True

    def _refuse(self, writer: asyncio.StreamWriter, why: str) -> None:
        writer.transport.abort()
        now = self._clock.monotonic()
        if now - self._refused_at >= _LOG_EVERY:  # a flood must not fill the log
            self._refused_at = now
            _log.warning("a connection is refused: %s", why)
