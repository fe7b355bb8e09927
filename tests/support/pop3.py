"""A POP3 server in the test's own loop, with a real store in a folder, and a client of plain lines."""

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from postkeep.config.pop3 import Pop3Settings
from postkeep.domain.message import MessageRow
from postkeep.protocols.pop3.server import Pop3Server
from postkeep.runtime.clock import Clock
from postkeep.runtime.files import Files
from postkeep.storage.store import MailStore

from tests.support.mailhouse import LineClient, MailHouse, opened

ONE = b"Subject: one\r\nFrom: a@example.org\r\n\r\nfirst\r\n.second\r\n..\r\nthird\r\n"
TWO = b"Subject: two\r\n\r\nno end of line"


class Pop3House(MailHouse):
    server: Pop3Server

    def __init__(self, settings: Pop3Settings, store: MailStore, clock: Clock, folder: Path) -> None:
        super().__init__(store, clock, folder)
        self.serve(Pop3Server, settings)

    async def rows(self) -> list[MessageRow]:
        """What is in Alice's INBOX."""
        inbox = self.store.mailbox(self.account, "INBOX").id
        return [
            row async for batch in self.store.rows(self.account, inbox, [(1, 0xFFFFFFFF)]) for row in batch
        ]

    async def client(self, *, login: bool = True, tls: bool = False) -> "Pop3Client":
        client = await Pop3Client.greeted(*await self.connect(tls=tls, limit=1 << 24))
        if login:
            assert (await client.command("USER alice")).startswith(b"+OK")
            assert (await client.command("PASS secret")).startswith(b"+OK")
        return client


@asynccontextmanager
async def pop3_house(
    folder: Path, *, clock: Clock | None = None, files: Files | None = None, **settings: object
) -> AsyncIterator[Pop3House]:
    chosen = dataclasses.replace(Pop3Settings(plaintext_login=True, login_delay=0.0), **settings)  # type: ignore[arg-type]
    async with opened(Pop3House, chosen, folder, clock, files) as house:
        yield house


class Pop3Client(LineClient):
    async def command(self, text: str | bytes) -> bytes:
        """The status line."""
        self.send((text.encode() if isinstance(text, str) else text) + b"\r\n")
        return await self.line()

    async def data(self) -> bytes:
        """The rest of a multi-line reply as the octets it stands for."""
        lines = []
        while True:
            line = await asyncio.wait_for(self.reader.readline(), 10)
            if line == b".\r\n":
                return b"".join(lines)
            if not line:
                raise ConnectionError("closed inside a reply")
            lines.append(line[1:] if line.startswith(b".") else line)

    async def fetch(self, text: str) -> bytes:
        """A command that must succeed, and its lines."""
        status = await self.command(text)
        assert status.startswith(b"+OK"), status
        return await self.data()
