"""A stand-in for the outside world: an SMTP server on loopback that keeps count of what it accepted."""

import asyncio
import hashlib
from collections import Counter

from tests.crash.load import find_mark


class Sink:
    """Accepts everything. `received[(mark, recipient)]` counts, `digests[mark]` are sha256 of the content
    without trace fields put before it (from `From: ` on)."""

    def __init__(self) -> None:
        self.received: Counter[tuple[str, str]] = Counter()
        self.digests: dict[str, set[bytes]] = {}
        self.strangers = 0
        self.changed = asyncio.Event()
        self._server: asyncio.Server | None = None

    async def start(self, port: int = 0) -> int:
        """Listen on loopback; the port."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", port, limit=1 << 20)
        return self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._talk(reader, writer)
        except (OSError, EOFError):
            pass  # the engine was killed
        finally:
            writer.close()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        recipients: list[str] = []
        writer.write(b"220 sink.remote.test ESMTP\r\n")
        while line := await reader.readline():
            verb = line[:4].upper().strip()
            if verb == b"DATA":
                writer.write(b"354 go\r\n")
                self._accept(await read_data(reader), recipients)
                writer.write(b"250 2.0.0 kept\r\n")
            elif verb == b"EHLO":
                writer.write(b"250-sink.remote.test\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 SMTPUTF8\r\n")
            elif verb == b"QUIT":
                writer.write(b"221 2.0.0 bye\r\n")
                return
            else:
                if verb in (b"MAIL", b"RSET"):
                    recipients = []
                if verb == b"RCPT":
                    recipients.append(line[line.find(b"<") + 1 : line.find(b">")].decode())
                writer.write(b"250 2.1.0 ok\r\n")
            await writer.drain()

    def _accept(self, content: bytes, recipients: list[str]) -> None:
        mark = find_mark(content)
        if mark is None:
            self.strangers += 1
            return
        for recipient in recipients:
            self.received[mark, recipient] += 1
        start = content.find(b"From: Sender ")
        self.digests.setdefault(mark, set()).add(hashlib.sha256(content[start:]).digest())
        self.changed.set()


async def read_data(reader: asyncio.StreamReader) -> bytes:
    """The content, dots unstuffed (RFC 5321 §4.5.2)."""
    content = bytearray()
    while True:
        line = await reader.readline()
        if not line.endswith(b"\n"):
            raise EOFError
        if line == b".\r\n":
            return bytes(content)
        content += line[1:] if line.startswith(b".") else line
