"""SMTP load that knows what it sent: every message has its own mark and its bytes follow from it."""

import asyncio
import base64
import contextlib
import hashlib
import random
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto

MARK = b"X-Load-Mark: "
TIME_LIMIT = 30.0


class Fate(Enum):
    """How far a message got. Only SENT and ACCEPTED ones may be found anywhere."""

    STARTED = auto()
    SENT = auto()
    """The end of data was written, no answer came."""
    ACCEPTED = auto()
    REFUSED = auto()


@dataclass(slots=True)
class Attempt:
    mark: str
    recipients: tuple[str, ...]
    size: int
    digest: bytes
    fate: Fate = Fate.STARTED


@dataclass(frozen=True, slots=True)
class Door:
    """One way in: `implicit` TLS and a login make remote recipients allowed."""

    port: int
    implicit: bool = False
    login: tuple[str, str] | None = None


@dataclass(slots=True)
class Load:
    """`sessions` concurrent clients. `step` is called at each moment worth a kill: connected, in the middle of
    the data, data sent, answered. `up` is set while the engine listens."""

    doors: Callable[[], Sequence[Door]]
    local: Sequence[str]
    remote: Sequence[str]
    step: Callable[[], None]
    seed: int
    sessions: int = 20
    big: int = 3_000_000
    up: asyncio.Event = field(default_factory=asyncio.Event)
    attempts: dict[str, Attempt] = field(default_factory=dict)
    stopping: bool = False
    disconnects: int = 0
    protocol_errors: list[str] = field(default_factory=list)

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for number in range(self.sessions):
                group.create_task(self._client(number))

    async def _client(self, number: int) -> None:
        rng = random.Random(self.seed * 1000 + number)
        while not self.stopping:
            await self.up.wait()
            session: Session | None = None
            try:
                doors = self.doors()
                door = doors[number % len(doors)]
                session = await Session.open(door)
                self.step()
                for _ in range(rng.randrange(1, 40)):
                    if self.stopping:
                        break
                    await self._message(session, door, rng, number)
                await session.command(b"QUIT")
            except (OSError, EOFError, TimeoutError):
                self.disconnects += 1
                await asyncio.sleep(0)  # let the kill be noticed before trying again
            except UnexpectedReply as error:
                self.protocol_errors.append(str(error))
            finally:
                if session is not None:
                    session.close()

    async def _message(self, session: "Session", door: Door, rng: random.Random, number: int) -> None:
        mark = f"{self.seed}-{number}-{len(self.attempts)}"
        recipients = rng.sample(self.local, rng.choice((1, 1, 1, 2, 3)))
        if door.login and rng.random() < 0.5:
            recipients = [*recipients[: rng.randrange(2)], rng.choice(self.remote)]
        size = self.big if rng.random() < 0.004 else rng.choice((200, 1000, 5000, 10_000, 40_000))
        content = compose(mark, recipients, size, rng.randrange(1 << 30))
        attempt = Attempt(mark, tuple(recipients), len(content), hashlib.sha256(content).digest())
        self.attempts[mark] = attempt
        sender = door.login[0] if door.login else "outside@elsewhere.test"
        await session.expect(b"MAIL FROM:<%s>" % sender.encode(), 250)
        for recipient in recipients:
            await session.expect(b"RCPT TO:<%s>" % recipient.encode(), 250)
        await session.expect(b"DATA", 354)
        wire = content.replace(b"\r\n.", b"\r\n..") + b".\r\n"
        half = len(wire) // 2
        session.writer.write(wire[:half])
        await session.writer.drain()
        if rng.random() < 0.2:
            self.step()
        attempt.fate = Fate.SENT  # the server may have all of it from here on
        session.writer.write(wire[half:])
        await session.writer.drain()
        self.step()
        code, text = await session.reply()
        attempt.fate = Fate.ACCEPTED if code == 250 else Fate.REFUSED
        if code != 250:
            raise UnexpectedReply(f"end of data: {code} {text}")
        self.step()


class UnexpectedReply(Exception):
    pass


class Session:
    """A plain SMTP client, one command at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def open(cls, door: Door) -> "Session":
        context = None
        if door.implicit:
            context = ssl.create_default_context()
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        async with asyncio.timeout(TIME_LIMIT):
            session = cls(*await asyncio.open_connection("127.0.0.1", door.port, ssl=context))
        try:
            code, text = await session.reply()
            if code != 220:
                raise UnexpectedReply(f"greeting: {code} {text}")
            await session.expect(b"EHLO load.example.test", 250)
            if door.login:
                name, password = door.login
                secret = base64.b64encode(f"\0{name}\0{password}".encode())
                await session.expect(b"AUTH PLAIN " + secret, 235)
        except BaseException:
            session.close()
            raise
        return session

    async def command(self, line: bytes) -> tuple[int, str]:
        self.writer.write(line + b"\r\n")
        await self.writer.drain()
        return await self.reply()

    async def expect(self, line: bytes, code: int) -> None:
        found, text = await self.command(line)
        if found != code:
            raise UnexpectedReply(f"{line[:60].decode('latin-1')}: {found} {text}")

    async def reply(self) -> tuple[int, str]:
        async with asyncio.timeout(TIME_LIMIT):
            while True:
                line = await self.reader.readline()
                if not line.endswith(b"\n"):
                    raise EOFError
                if line[3:4] != b"-":
                    return int(line[:3]), line[4:].decode("utf-8", "replace").strip()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.writer.transport.abort()


def compose(mark: str, recipients: Sequence[str], size: int, seed: int) -> bytes:
    """A message with lines that begin with dots, 8-bit text and about `size` octets of body."""
    noise = base64.b64encode(random.Random(seed).randbytes(max(1, size * 3 // 4)))
    lines = [noise[start : start + 70] for start in range(0, len(noise), 70)]
    head = (
        b"From: Sender <sender@example.test>\r\n"
        b"To: " + ", ".join(recipients).encode() + b"\r\n"
        b"Subject: load " + mark.encode() + b"\r\n"
        b"Date: Thu, 01 Jan 2026 00:00:00 +0000\r\n"
        b"Message-ID: <" + mark.encode() + b"@load.example.test>\r\n"
        b"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n"
        + MARK + mark.encode() + b"\r\n\r\n"
    )  # fmt: skip
    return head + b"..dots\r\n.\r\n" + "Grüße\r\n".encode() + b"\r\n".join(lines) + b"\r\n"


def find_mark(content: bytes) -> str | None:
    """The mark of a stored or received message; None when it has none."""
    start = content.find(b"\r\n" + MARK)
    if start < 0:
        return None
    start += 2 + len(MARK)
    return content[start : content.find(b"\r\n", start)].decode("ascii", "replace")
