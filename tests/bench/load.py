"""The load generator: smtp-source's way of sending (EHLO, no pipelining, one message a transaction), with
mail spread over many recipients, which smtp-source cannot do.

Four processes with five sessions each, every one an epoll loop over blocking-style state machines; bodies
are rendered beforehand. `python -m tests.bench.load HOST PORT` measures the generator alone (against
Postfix's smtp-sink, say).
"""

import multiprocessing
import select
import socket
import sys
import time
from collections import deque
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import NamedTuple

from tests.bench import messages

SENDER = "sender@load.test"
REPLY_LIMIT = 60.0
"""Seconds without any reply after which a process gives up."""


class Plan(NamedTuple):
    """What to send. `size` in octets; with `reuse` a session keeps its connection, else one a message."""

    host: str
    port: int
    size: int
    total: int
    reuse: bool
    recipients: Sequence[str]
    processes: int = 4
    sessions: int = 5
    label: str = "m"


class Outcome(NamedTuple):
    """`start` and `end` (first connect, last reply) in seconds since 1970; `cpu` seconds of the generator."""

    start: float
    end: float
    sent: int
    cpu: float
    errors: tuple[str, ...]


class _Session:
    """One smtp-source session: `todo` are (recipient, data) pairs, sent one by one."""

    def __init__(self, plan: Plan, todo: deque[tuple[bytes, bytes]], poll: select.epoll) -> None:
        self._address = (plan.host, plan.port)
        self._reuse = plan.reuse
        self._todo = todo
        self._poll = poll
        self._pending = memoryview(b"")
        self._reply = b""
        self.sent = 0
        self.connect()

    def connect(self) -> None:
        self.socket = socket.create_connection(self._address, REPLY_LIMIT)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self._poll.register(self.socket, select.EPOLLIN)
        self._step = self._greeted

    def readable(self) -> bool:
        """Read and answer; False when this session has nothing left to do."""
        data = self.socket.recv(4096)
        if not data:
            raise ConnectionError("the server closed the connection")
        reply = self._reply + data if self._reply else data
        last = reply.rfind(b"\r\n", 0, len(reply) - 2) + 2 if reply.count(b"\n") > 1 else 0
        if not reply.endswith(b"\r\n") or reply[last + 3 : last + 4] == b"-":
            self._reply = reply
            return True
        self._reply = b""
        if reply[0] not in b"23":
            raise ConnectionError(f"refused: {reply[:200]!r}")
        return self._step()

    def drop(self) -> None:
        """Close without a word, after an error."""
        if self.socket.fileno() >= 0:
            self._poll.unregister(self.socket)
            self.socket.close()

    def writable(self) -> None:
        sent = self.socket.send(self._pending)
        self._pending = self._pending[sent:]
        if not self._pending:
            self._poll.modify(self.socket, select.EPOLLIN)

    def _send(self, data: bytes) -> None:
        try:
            sent = self.socket.send(data)
        except BlockingIOError:
            sent = 0
        if sent < len(data):
            self._pending = memoryview(data)[sent:]
            self._poll.modify(self.socket, select.EPOLLIN | select.EPOLLOUT)

    def _greeted(self) -> bool:
        self._send(b"EHLO load.test\r\n")
        self._step = self._begin
        return True

    def _begin(self) -> bool:
        if not self._todo:
            return self._quit()
        self._recipient, self._data = self._todo.popleft()
        self._send(b"MAIL FROM:<" + SENDER.encode() + b">\r\n")
        self._step = self._mail_taken
        return True

    def _mail_taken(self) -> bool:
        self._send(b"RCPT TO:<" + self._recipient + b">\r\n")
        self._step = self._recipient_taken
        return True

    def _recipient_taken(self) -> bool:
        self._send(b"DATA\r\n")
        self._step = self._data_wanted
        return True

    def _data_wanted(self) -> bool:
        self._send(self._data)
        self._step = self._delivered
        return True

    def _delivered(self) -> bool:
        self.sent += 1
        return self._begin() if self._reuse else self._quit()

    def _quit(self) -> bool:
        self._send(b"QUIT\r\n")
        self._step = self._closed
        return True

    def _closed(self) -> bool:
        self._poll.unregister(self.socket)
        self.socket.close()
        if not self._todo:
            return False
        self.connect()
        return True


def _render(plan: Plan, process: int) -> deque[tuple[bytes, bytes]]:
    """All messages of one process. A MB message shares its body: only references to the same octets."""
    texts = messages.bodies(plan.size)
    todo: deque[tuple[bytes, bytes]] = deque()
    for number in range(process, plan.total, plan.processes):
        recipient = plan.recipients[number % len(plan.recipients)]
        top = messages.header(SENDER, recipient, f"{plan.label}.{number}")
        body = texts[(number // plan.processes) % len(texts)]
        todo.append(
            (recipient.encode(), top + body[: max(0, plan.size - len(top))].rstrip(b"\r") + b"\r\n.\r\n")
        )
    return todo


def _work(plan: Plan, process: int, ready: Connection) -> None:
    todo = _render(plan, process)
    ready.send("ready")
    ready.recv()
    used = time.process_time()
    start = time.time()
    poll = select.epoll()
    sessions: dict[int, _Session] = {}
    errors: list[str] = []
    done = 0
    try:
        for _ in range(min(plan.sessions, len(todo))):
            session = _Session(plan, todo, poll)
            sessions[session.socket.fileno()] = session
    except OSError as error:
        errors.append(str(error))
    while sessions:
        events = poll.poll(REPLY_LIMIT)
        if not events:
            errors.append(f"no reply in {REPLY_LIMIT:.0f} s")
            break
        for descriptor, event in events:
            session = sessions.pop(descriptor)
            try:
                if event & select.EPOLLOUT:
                    session.writable()
                going = session.readable() if event & ~select.EPOLLOUT else True
            except OSError as error:
                errors.append(str(error))
                session.drop()
                going = False
            if going:
                sessions[session.socket.fileno()] = session
            else:
                done += session.sent
    ready.send((start, time.time(), done, time.process_time() - used, tuple(errors)))


def run(plan: Plan) -> Outcome:
    """Send it all; returns when the last message is answered. Errors are returned, not raised."""
    context = multiprocessing.get_context("spawn")
    pairs = []
    for number in range(plan.processes):
        ours, theirs = context.Pipe()
        process = context.Process(target=_work, args=(plan, number, theirs), daemon=True)
        process.start()
        pairs.append((process, ours))
    for _, pipe in pairs:
        pipe.recv()
    for _, pipe in pairs:
        pipe.send("go")
    results = [Outcome(*pipe.recv()) for _, pipe in pairs]
    for process, _ in pairs:
        process.join()
    return Outcome(
        start=min(result.start for result in results),
        end=max(result.end for result in results),
        sent=sum(result.sent for result in results),
        cpu=sum(result.cpu for result in results),
        errors=tuple(error for result in results for error in result.errors),
    )


def main() -> None:
    host, port = sys.argv[1], int(sys.argv[2])
    recipients = [f"{user}@bench.test" for user in messages.users(200)]
    for size, count in ((1_000, 20_000), (10_000, 20_000), (1_000_000, 500)):
        for reuse in (True, False):
            outcome = run(Plan(host, port, size, count, reuse, recipients))
            rate = outcome.sent / (outcome.end - outcome.start)
            each = outcome.cpu / max(1, outcome.sent) * 1000
            kind = "reused" if reuse else "new"
            print(
                f"{size:>9} octets, {kind} connections: {rate:,.0f} msg/s, {each:.3f} CPU-ms, {outcome.errors[:2]}"
            )


if __name__ == "__main__":
    main()
