"""A mail server for tests that takes everything, unless its script says otherwise. Speaks SMTP on its own:
nothing of the product is used."""

import asyncio
import base64
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

DROP = "<drop>"
"""Answer of a script: close the connection without a word."""
SILENT = "<silent>"
"""Answer of a script: say nothing, go on."""

EXTENSIONS = ("PIPELINING", "8BITMIME", "SMTPUTF8", "DSN", "SIZE 104857600")


@dataclass
class Received:
    session: int
    tls: bool
    mail: str
    rcpts: list[str]
    data: bytes


@dataclass
class SinkSession:
    number: int
    tls: bool = False
    commands: list[str] = field(default_factory=list)
    mail: str = ""
    rcpts: list[str] = field(default_factory=list)
    login: str = ""
    ended: bool = False


Script = Callable[[SinkSession, str], str | None]
"""(session, line): the reply, or None for the usual one. The line is "" for the greeting, "." for the end of
data, else the command as it came."""


class Sink:
    def __init__(
        self,
        script: Script | None = None,
        *,
        extensions: tuple[str, ...] = EXTENSIONS,
        tls: ssl.SSLContext | None = None,
        implicit_tls: bool = False,
        name: str = "sink.example.net",
    ) -> None:
        self.script: Script = script or (lambda session, line: None)
        self.extensions = extensions
        self.tls = tls
        self.implicit_tls = implicit_tls
        self.name = name
        self.sessions: list[SinkSession] = []
        self.messages: list[Received] = []
        self.open = 0
        self.most_open = 0
        self.port = 0
        self._changed = asyncio.Condition()
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self, port: int = 0, host: str = "127.0.0.1") -> "Sink":
        self._server = await asyncio.start_server(
            self._accept, host, port, limit=1 << 20, ssl=self.tls if self.implicit_tls else None
        )
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    @property
    def commands(self) -> list[str]:
        return [line for session in self.sessions for line in session.commands]

    async def until(self, condition: Callable[[], bool], seconds: float = 10) -> None:
        """Wait until `condition` holds; it is looked at whenever the sink sees something."""
        async with asyncio.timeout(seconds), self._changed:
            await self._changed.wait_for(condition)

    async def got(self, count: int, seconds: float = 10) -> list[Received]:
        await self.until(lambda: len(self.messages) >= count, seconds)
        return self.messages

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        session = SinkSession(len(self.sessions), tls=self.implicit_tls)
        self.sessions.append(session)
        self.open += 1
        self.most_open = max(self.open, self.most_open)
        try:
            await self._tell()
            await self._serve(session, reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
            pass
        except asyncio.CancelledError:
            writer.transport.abort()
        finally:
            session.ended = True
            self.open -= 1
            self._tasks.discard(task)
            writer.close()
            with contextlib.suppress(asyncio.CancelledError):
                await self._tell()

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def _serve(
        self, session: SinkSession, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        if not await self._say(session, writer, "", f"220 {self.name} ESMTP sink"):
            return
        while line := (await reader.readuntil(b"\r\n")).decode("utf-8", "surrogateescape")[:-2]:
            session.commands.append(line)
            await self._tell()
            verb = line.upper().split(" ")[0].split(":")[0]
            if not await self._say(session, writer, line, self._usual(session, verb, line)):
                return
            if verb == "QUIT":
                return
            if verb == "STARTTLS" and self._answered == "220":
                if self.tls is None:
                    writer.write(b"500 what is this?\r\n")
                    return
                await writer.start_tls(self.tls)
                session.tls = True
            elif verb == "AUTH" and self._answered == "334":
                await self._login(session, reader, writer)
            elif verb == "DATA" and self._answered == "354":
                data = await self._data(reader)
                received = Received(session.number, session.tls, session.mail, list(session.rcpts), data)
                session.mail, session.rcpts = "", []
                if not await self._say(session, writer, ".", f"250 2.0.0 taken as {len(self.messages)}"):
                    return
                if self._answered.startswith("2"):
                    self.messages.append(received)
                    await self._tell()

    async def _say(self, session: SinkSession, writer: asyncio.StreamWriter, line: str, usual: str) -> bool:
        reply = self.script(session, line)
        if reply is None:
            reply = usual
        self._answered = reply[:3]
        self._note(session, line, reply)
        if reply == DROP:
            writer.transport.abort()
            return False
        if reply != SILENT:
            writer.write(reply.replace("\n", "\r\n").encode() + b"\r\n")
            await writer.drain()
        return True

    def _note(self, session: SinkSession, line: str, reply: str) -> None:
        verb = line.upper().split(":")[0]
        if reply.startswith("2"):
            if verb == "MAIL FROM":
                session.mail, session.rcpts = line, []
            elif verb == "RCPT TO":
                session.rcpts.append(line)

    def _usual(self, session: SinkSession, verb: str, line: str) -> str:
        match verb:
            case "EHLO":
                offered = list(self.extensions)
                if self.tls is not None and not session.tls:
                    offered.append("STARTTLS")
                lines = [self.name, *offered]
                return "\n".join(f"250{'-' if n < len(lines) - 1 else ' '}{x}" for n, x in enumerate(lines))
            case "STARTTLS":
                return "220 go on" if self.tls is not None else "502 5.5.1 no"
            case "AUTH":
                kind, _, token = line[5:].partition(" ")
                if kind.upper() == "PLAIN" and token:
                    session.login = base64.b64decode(token).decode().replace("\0", " ").strip()
                    return "235 2.7.0 in"
                return "334 VXNlcm5hbWU6"
            case "RCPT":
                return "250 2.1.5 ok" if session.mail else "503 5.5.1 MAIL first"
            case "DATA":
                return "354 go on" if session.rcpts else "554 5.5.1 no valid recipients"
            case "QUIT":
                return "221 2.0.0 bye"
            case "RSET":
                session.mail, session.rcpts = "", []
        return "250 2.0.0 ok"

    async def _login(
        self, session: SinkSession, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        user = base64.b64decode(await reader.readline()).decode()
        writer.write(b"334 UGFzc3dvcmQ6\r\n")
        password = base64.b64decode(await reader.readline()).decode()
        session.login = f"{user} {password}"
        writer.write(b"235 2.7.0 in\r\n")

    @staticmethod
    async def _data(reader: asyncio.StreamReader) -> bytes:
        lines = []
        while (line := await reader.readuntil(b"\n")) != b".\r\n":
            lines.append(line[1:] if line.startswith(b".") else line)
        return b"".join(lines)


@contextlib.asynccontextmanager
async def sink(script: Script | None = None, **more: object) -> AsyncIterator[Sink]:
    one = await Sink(script, **more).start()  # type: ignore[arg-type]
    try:
        yield one
    finally:
        await one.close()
