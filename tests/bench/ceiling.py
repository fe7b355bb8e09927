"""The ceiling: what the store and the event loop allow when there is no server around them.

A bare asyncio.Protocol on uvloop that speaks just enough SMTP (fixed replies, CRLF.CRLF ends a message) and
delivers into the same MailStore: same scan, compression, packs, database and group commit, 250 after the
commit. No parsing, no session, no limits, no time-outs, no log. `python -m tests.bench.ceiling FOLDER USERS`
prints `ready PORT` and runs until SIGTERM.
"""

import asyncio
import signal
import sys
import time
from pathlib import Path
from typing import cast

import uvloop
from postkeep.runtime.clock import SystemClock
from postkeep.storage.store import MailStore, Target

from tests.bench import messages
from tests.bench.peers import DOMAIN

END = b"\r\n.\r\n"
PREFIX = (
    b"Return-Path: <sender@load.test>\r\n"
    b"Received: from load.test ([127.0.0.1])\r\n"
    b"\tby mail.bench.test with ESMTP id 0123456789abcdef\r\n"
    b"\tfor <user@bench.test>; Tue, 24 Nov 2026 12:00:00 +0000\r\n"
)


class BareReceiver(asyncio.Protocol):
    """Trusts its client to send one command at a time, as the load generator does."""

    transport: asyncio.Transport

    def __init__(self, store: MailStore, targets: dict[bytes, Target]) -> None:
        self._store = store
        self._targets = targets
        self._in_data = False
        self._tail = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's own class
        self.transport.write(b"220 ceiling\r\n")

    def data_received(self, data: bytes) -> None:
        verb = data[:4]
        if self._in_data:
            self._body(data)
        elif verb == b"RCPT":
            self._target = self._targets[data[data.index(b"<") + 1 : data.index(b">")]]
            self.transport.write(b"250 2.1.5 OK\r\n")
        elif verb == b"DATA":
            self._in_data = True
            self._tail = b""
            self._incoming = self._store.incoming()
            self.transport.write(b"354 go on\r\n")
        elif verb == b"EHLO":
            self.transport.write(b"250-ceiling\r\n250 SIZE\r\n")
        elif verb == b"QUIT":
            self.transport.write(b"221 2.0.0 bye\r\n")
            self.transport.close()
        else:
            self.transport.write(b"250 2.1.0 OK\r\n")

    def _body(self, data: bytes) -> None:
        # Four octets are held back: they may be the beginning of the end.
        whole = self._tail + data if self._tail else data
        if whole.endswith(END):
            self._in_data = False
            self._incoming.write(whole[:-3])
            self._task = asyncio.ensure_future(self._deliver())
        else:
            self._incoming.write(whole[:-4])
            self._tail = whole[-4:]

    async def _deliver(self) -> None:
        body = await self._incoming.finish(PREFIX)
        await self._store.deliver(body, (self._target,), int(time.time()))
        self.transport.write(b"250 2.0.0 OK\r\n")


async def serve(folder: Path, count: int) -> None:
    store = await MailStore.open(folder, SystemClock())
    try:
        keys = [f"{user}@{DOMAIN}" for user in messages.users(count)]
        await store.create_accounts(keys)
        targets = {}
        for key in keys:
            account = store.account_id(key)
            assert account is not None
            targets[key.encode()] = Target(account, store.mailbox(account, "INBOX").id)
        loop = asyncio.get_running_loop()
        stopped = asyncio.Event()
        loop.add_signal_handler(signal.SIGTERM, stopped.set)
        server = await loop.create_server(lambda: BareReceiver(store, targets), "127.0.0.1", 0)
        print("ready", server.sockets[0].getsockname()[1], flush=True)
        await stopped.wait()
        server.close()
    finally:
        await store.close()


if __name__ == "__main__":
    uvloop.run(serve(Path(sys.argv[1]), int(sys.argv[2])))
