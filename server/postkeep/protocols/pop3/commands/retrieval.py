"""RETR and TOP (RFC 1939 §5, §7): messages in slices, never whole in memory."""

from postkeep.protocols.pop3.codec import Stuffer
from postkeep.protocols.pop3.session import Refused, Session
from postkeep.storage.bodies import StoredMessage

SLICE = 256 * 1024
"""Octets read and written at a time."""


async def retr(session: Session, argument: bytes) -> None:
    number = session.number(argument)
    message = await _open(session, number)
    size = message.size
    first = await message.read(0, min(SLICE, size))
    # After +OK there is no way to say that the record is damaged: look at all of it before. A client that
    # got half a message and a broken connection would stumble over it at every try and see no later one.
    for start in range(SLICE, size, SLICE):
        await message.read(start, SLICE)
    session.reply(f"{size} octets")
    session.streaming = True
    stuffer = Stuffer()
    session.wire.write(stuffer.feed(first))
    for start in range(SLICE, size, SLICE):
        await session.wire.drain()
        session.wire.write(stuffer.feed(await message.read(start, SLICE)))
    session.wire.write(stuffer.finish())
    session.streaming = False
    session.opened().mark_fetched(number)


async def top(session: Session, argument: bytes) -> None:
    which, _, count = argument.partition(b" ")
    if not count.isdigit() or len(count) > 10:
        raise Refused("A message number and a number of lines are expected", bad=True)
    message = await _open(session, session.number(which))
    body_start = message.structure.parts[0].body_start
    owed = int(count)
    stuffer = Stuffer()
    start, done = 0, False
    while not done:
        end = min(message.size, start + SLICE)
        data = await message.read(start, end - start)
        done = end == message.size
        if end >= body_start:
            stop, owed = _after_lines(data, max(0, body_start - start), owed)
            if not owed:
                data, done = data[:stop], True
        if start == 0:
            session.reply("Top of the message follows")
            session.streaming = True
        session.wire.write(stuffer.feed(data))
        start = end
        await session.wire.drain()
    session.wire.write(stuffer.finish())
    session.streaming = False


def _after_lines(data: bytes, start: int, lines: int) -> tuple[int, int]:
    """The octet after `lines` lines from octet `start`, and how many of them `data` lacks."""
    position = start
    while lines:
        end = data.find(b"\n", position)
        if end < 0:
            return len(data), lines
        position = end + 1
        lines -= 1
    return position, 0


async def _open(session: Session, number: int) -> StoredMessage:
    message = await session.opened().open(number)
    if message is None:
        raise Refused("This message was removed meanwhile")
    return message
