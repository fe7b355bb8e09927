"""STAT, LIST and UIDL (RFC 1939 §5, §7)."""

from collections.abc import Callable

from postkeep.protocols.pop3.codec import END
from postkeep.protocols.pop3.session import Refused, Session

_BLOCK = 4096
"""Lines that are written at once."""


async def stat(session: Session, argument: bytes) -> None:
    if argument:
        raise Refused("STAT takes no argument", bad=True)
    count, octets = session.opened().totals()
    session.reply(f"{count} {octets}")


async def list_(session: Session, argument: bytes) -> None:
    size = session.opened().size
    await _listing(session, argument, lambda number: b"%d" % size(number))


async def uidl(session: Session, argument: bytes) -> None:
    await _listing(session, argument, session.opened().uidl)


async def _listing(session: Session, argument: bytes, value: Callable[[int], bytes]) -> None:
    if argument:
        number = session.number(argument)
        session.reply(f"{number} {value(number).decode('ascii')}")
        return
    count, octets = session.opened().totals()
    session.reply(f"{count} messages ({octets} octets)")
    lines: list[bytes] = []
    for number in session.opened().numbers():
        lines.append(b"%d %b\r\n" % (number, value(number)))
        if len(lines) >= _BLOCK:
            session.wire.write(b"".join(lines))
            lines.clear()
            await session.wire.drain()
    session.wire.write(b"".join(lines) + END)
