"""The console's end of the agent's socket: one connection, many calls at a time, connects again by itself.

    client = AgentClient("/run/postkeep-agent/agent.sock")
    await client.call(Unlock(password), Unlocked)            # from here on the session goes along
    await client.call(Engine("restart"), Done, progress=show)

Nothing here blocks the event loop. A connection that was lost fails the calls that were under way with
`AgentError(code="lost")`; the next call opens a new one. A session lives in the agent, not in the
connection: it survives a new connection, and `AgentError(code="locked")` tells when it has ended.
"""

import asyncio
from collections.abc import Callable
from typing import Literal, TypeVar

from postkeep_appliance.api.codec import BadLine, decode_reply, encode
from postkeep_appliance.api.types import (
    MAX_LINE,
    Answer,
    Call,
    Failure,
    Lock,
    Progress,
    Request,
    Result,
    Unlocked,
)

SOCKET = "/run/postkeep-agent/agent.sock"
CONNECT_SECONDS = 5.0

R = TypeVar("R")
Code = Literal["locked", "denied", "invalid", "busy", "failed", "lost"]
OnProgress = Callable[[Progress], None]


class AgentError(Exception):
    """A call that did not succeed: the agent's Failure, or code "lost" when the agent could not be reached.

    `field` names the entry to correct, as in the call; "" when it is none.
    """

    def __init__(self, code: Code, text: str, field: str = "") -> None:
        super().__init__(text)
        self.code: Code = code
        self.text = text
        self.field = field


class _Waiting:
    """One call under way."""

    def __init__(self, progress: OnProgress | None) -> None:
        self.progress = progress
        self.result: asyncio.Future[Result] = asyncio.get_running_loop().create_future()


class AgentClient:
    """Calls to the agent at `path`. Use from one event loop. `session` is that of the last Unlock."""

    def __init__(self, path: str = SOCKET) -> None:
        self._path = path
        self._next = 0
        self._waiting: dict[int, _Waiting] = {}
        self._writer: asyncio.StreamWriter | None = None
        self._reading: asyncio.Task[None] | None = None
        self._connecting = asyncio.Lock()
        self.session = ""

    @property
    def connected(self) -> bool:
        return self._writer is not None

    async def connect(self) -> None:
        """Does nothing when there is a connection. Raises AgentError("lost")."""
        async with self._connecting:
            if self._writer is not None:
                return
            try:
                reader, writer = await asyncio.wait_for(
                    asyncio.open_unix_connection(self._path, limit=MAX_LINE + 1), CONNECT_SECONDS
                )
            except (OSError, TimeoutError) as error:
                raise AgentError("lost", f"The appliance's agent does not answer: {error}") from error
            self._writer = writer
            self._reading = asyncio.create_task(self._read(reader, writer))

    async def close(self) -> None:
        """Ends the connection; calls under way fail with "lost"."""
        reading = self._reading
        if reading is not None:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    async def call(self, call: Call, answer: type[R], progress: OnProgress | None = None) -> R:
        """Asks and waits for the end of the call, which is an `answer`. Raises AgentError.

        `progress` is called for each Progress in between, from the event loop. Cancelling stops the
        waiting, not what the agent does.
        """
        await self.connect()
        writer = self._writer
        if writer is None:
            raise AgentError("lost", "The appliance's agent closed the connection.")
        self._next += 1
        number = self._next
        waiting = self._waiting[number] = _Waiting(progress)
        try:
            try:
                writer.write(encode(Request(number, call, self.session)))
                await writer.drain()
            except BadLine as error:
                raise AgentError("invalid", str(error)) from error
            except OSError as error:
                raise AgentError("lost", f"The appliance's agent closed the connection: {error}") from error
            result = await waiting.result
        finally:
            del self._waiting[number]
            waiting.result.cancel()
        if isinstance(result, Unlocked):
            self.session = result.session
        elif isinstance(call, Lock):
            self.session = ""
        if not isinstance(result, answer):
            raise AgentError("failed", f"The agent answered {type(result).__name__}: versions do not match.")
        return result

    async def _read(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                self._take(decode_reply(line))
        except (OSError, ValueError):
            pass  # ValueError: a line that is too long or no reply; the other side is no agent of ours
        finally:
            self._writer = self._reading = None
            writer.close()
            lost = AgentError("lost", "The connection to the appliance's agent was lost.")
            for waiting in self._waiting.values():
                if not waiting.result.done():
                    waiting.result.set_exception(lost)

    def _take(self, reply: Answer | Progress | Failure) -> None:
        waiting = self._waiting.get(reply.id)
        if waiting is None or waiting.result.done():
            return  # its caller does not wait any more
        if isinstance(reply, Progress):
            if waiting.progress is not None:
                waiting.progress(reply)
        elif isinstance(reply, Answer):
            waiting.result.set_result(reply.result)
        else:
            waiting.result.set_exception(AgentError(reply.code, reply.text, reply.field))
