"""An IMAP server in the test's own loop, with a real store in a folder, and a client of plain lines."""

import asyncio
import dataclasses
import re
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from postkeep.config.imap import ImapSettings
from postkeep.protocols.imap.server import ImapServer
from postkeep.runtime.clock import Clock
from postkeep.runtime.files import Files
from postkeep.storage.store import MailStore

from tests.support.mailhouse import LineClient, MailHouse, opened

LITERAL = re.compile(rb"\{(\d+)\}\r\n\Z")

MESSAGE = (
    b"From: Alice Example <alice@example.test>\r\n"
    b"To: Bob <bob@example.test>\r\n"
    b"Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\n"
    b"Date: Tue, 24 Nov 2026 17:40:01 +0100\r\n"
    b"Message-ID: <one@example.test>\r\n"
    b"\r\n"
    b"Hello Bob, here is the quarterly plan.\r\n"
)


class ImapHouse(MailHouse):
    server: ImapServer

    def __init__(self, settings: ImapSettings, store: MailStore, clock: Clock, folder: Path) -> None:
        super().__init__(store, clock, folder)
        self.serve(ImapServer, settings)

    async def deliver(self, message: bytes = MESSAGE, mailbox: str = "INBOX", **more: Any) -> int:
        return await super().deliver(message, mailbox, **more)

    async def client(
        self, *, login: bool = True, select: str = "", tls: bool = False, limit: int = 1 << 24
    ) -> "ImapClient":
        client = await ImapClient.greeted(*await self.connect(tls=tls, limit=limit))
        if login:
            assert (await client.command("LOGIN alice secret"))[-1].startswith(b"OK")
        if select:
            assert (await client.command(f"SELECT {select}"))[-1].startswith(b"OK")
        return client

    async def narrow_client(self) -> "ImapClient":
        """One with INBOX selected that takes a few kB and then reads only when it is asked to."""
        raw = socket.socket()
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        raw.setblocking(False)
        await asyncio.get_running_loop().sock_connect(raw, ("127.0.0.1", self.port))
        client = await ImapClient.greeted(*await asyncio.open_connection(sock=raw, limit=1 << 12))
        await client.command("LOGIN alice secret")
        await client.command("SELECT INBOX")
        return client


@asynccontextmanager
async def imap_house(
    folder: Path, *, clock: Clock | None = None, files: Files | None = None, **settings: object
) -> AsyncIterator[ImapHouse]:
    chosen = dataclasses.replace(ImapSettings(plaintext_login=True, login_delay=0.0), **settings)  # type: ignore[arg-type]
    async with opened(ImapHouse, chosen, folder, clock, files) as house:
        yield house


class ImapClient(LineClient):
    """Speaks IMAP in plain lines; replies come as one bytes object each, literals inside."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        super().__init__(reader, writer)
        self._number = 0

    async def line(self) -> bytes:
        """One reply without its CRLF; literals are followed. b"" at the end of the connection."""
        whole = b""
        while True:
            piece = await asyncio.wait_for(self.reader.readline(), 10)
            whole += piece
            literal = LITERAL.search(piece)
            if literal is None:
                return whole.removesuffix(b"\r\n")
            whole += await asyncio.wait_for(self.reader.readexactly(int(literal[1])), 10)

    async def command(self, text: str | bytes) -> list[bytes]:
        """Untagged replies, then the tagged one without its tag."""
        self._number += 1
        tag = b"t%d" % self._number
        self.send(tag + b" " + (text.encode() if isinstance(text, str) else text) + b"\r\n")
        return await self.until(tag)

    async def until(self, tag: bytes) -> list[bytes]:
        """All replies up to the one with this tag, which loses its tag."""
        replies = []
        while True:
            reply = await self.line()
            if not reply:
                raise ConnectionError(f"closed after {replies}")
            if reply.startswith(tag + b" "):
                return [*replies, reply[len(tag) + 1 :]]
            replies.append(reply)

    async def append(
        self, message: bytes, mailbox: str = "INBOX", *, options: str = "", plus: bool = False
    ) -> list[bytes]:
        self._number += 1
        tag = b"t%d" % self._number
        head = b"%b APPEND %b %b{%d%b}\r\n" % (
            tag,
            mailbox.encode(),
            (options + " ").encode() if options else b"",
            len(message),
            b"+" if plus else b"",
        )
        self.send(head)
        if not plus:
            reply = await self.line()
            if not reply.startswith(b"+"):
                return [reply.removeprefix(tag + b" ")]
        self.send(message + b"\r\n")
        return await self.until(tag)


class Held:
    """Wraps a method of the service that gives batches: they come only once `release` is set."""

    def __init__(self, real: Any) -> None:
        self._real = real
        self.asked = asyncio.Event()
        self.release = asyncio.Event()

    async def __call__(self, *arguments: Any, **named: Any) -> AsyncIterator[Any]:
        batches = [batch async for batch in self._real(*arguments, **named)]
        self.asked.set()
        await self.release.wait()
        for batch in batches:
            yield batch


async def rest(client: ImapClient) -> bytes:
    """All that still comes, be it ended by a close or a reset."""
    data = b""
    try:
        while piece := await asyncio.wait_for(client.reader.read(1 << 16), 10):
            data += piece
    except ConnectionResetError:
        pass
    return data
