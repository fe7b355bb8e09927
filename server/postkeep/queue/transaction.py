"""One mail transaction: MAIL, RCPT, DATA, with the outcome of each recipient (RFC 5321 §3.3, RFC 2920)."""

from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple, Protocol

from postkeep.queue.codec import DotStuffer, Reply, mail_command, rcpt_command
from postkeep.queue.connection import ConnectionFailed
from postkeep.queue.entry import Entry, Recipient
from postkeep.queue.session import (
    BLOCK_LIMIT,
    COMMAND_LIMIT,
    DATA_LIMIT,
    ENVELOPE_LIMIT,
    FINAL_LIMIT,
    MINIMUM_RATE,
    Session,
)

RECIPIENT_LIMIT = 100
"""Recipients a transaction: the least that every server takes (RFC 5321 §4.5.3.1.8)."""


class Kind(StrEnum):
    SENT = "sent"
    FAILED = "failed"
    DEFERRED = "deferred"
    AGAIN = "again"
    """Not refused, only too many for one transaction: goes at once into another one."""


class Outcome(NamedTuple):
    """What became of one recipient. `host` is "" when `words` are ours."""

    recipient: Recipient
    kind: Kind
    status: str
    words: str
    host: str = ""
    confirms: bool = False
    """The next server takes over the duty of delivery confirmations (DSN)."""


class Stale(Exception):
    """A connection kept from an earlier message was of no more use; nothing was sent over it."""


class Content(Protocol):
    async def read(self, offset: int) -> bytes:
        """A block from `offset`, b"" at the end."""


async def transmit(
    session: Session, entry: Entry, recipients: Sequence[Recipient], content: Content
) -> list[Outcome]:
    """Send the message to `recipients` (at most RECIPIENT_LIMIT, none twice); one outcome for each.

    Raises Stale when the session turned out to be closed already. When it fails in the middle the open
    recipients are deferred and session.usable is False.
    """
    outcomes = _impossible(session, entry, recipients)
    settled = {id(outcome.recipient) for outcome in outcomes}
    rest = [one for one in recipients if id(one) not in settled]
    if not rest:
        return outcomes
    return outcomes + await _Transaction(session, entry, rest, content).run()


def _impossible(session: Session, entry: Entry, recipients: Sequence[Recipient]) -> list[Outcome]:
    """Recipients that this server cannot be asked for: it lacks an extension that the message needs."""
    offered, host = session.offered, session.hop

    def fail(ones: Sequence[Recipient], status: str, words: str) -> list[Outcome]:
        return [Outcome(one, Kind.FAILED, status, words) for one in ones]

    if offered.size and entry.size > offered.size:  # RFC 1870 §6.1: need not even be tried
        words = f"the message has {entry.size} octets, {host} takes {offered.size}"
        return fail(recipients, "5.3.4", words)
    if entry.eight_bit and not offered.eight_bit:  # RFC 6152 §3, case 2: not converted, returned
        return fail(recipients, "5.6.3", f"the message has 8-bit content, which {host} does not take")
    if offered.smtputf8:
        return []
    if not entry.sender.isascii():
        return fail(recipients, "5.6.7", f"{host} takes no internationalized sender address")
    if entry.smtputf8:
        return fail(recipients, "5.6.9", f"the message has an internationalized header, {host} takes none")
    named = [one for one in recipients if not one.address.isascii()]
    return fail(named, "5.6.7", f"{host} takes no internationalized addresses")


class _Transaction:
    def __init__(
        self, session: Session, entry: Entry, recipients: Sequence[Recipient], content: Content
    ) -> None:
        self._session = session
        self._entry = entry
        self._content = content
        self._open = list(recipients)
        self._outcomes: list[Outcome] = []
        self._begun = session.messages == 0
        self._sent = False

    async def run(self) -> list[Outcome]:
        session = self._session
        session.connection.allow(ENVELOPE_LIMIT + self._entry.size / MINIMUM_RATE)
        try:
            if session.dirty:
                if not (await session.command(b"RSET\r\n")).ok:
                    session.connection.close()
                    raise Stale
                session.dirty = False
            accepted = await self._envelope()
            if accepted:
                await self._data(accepted)
        except ConnectionFailed as error:
            if not self._begun:
                raise Stale from error
            words = f"{session.hop}: {error}"
            if self._sent:
                words += ", after the whole message was sent: it may arrive twice"
            self._settle(self._open, Kind.DEFERRED, "4.4.2", words)
        except Stale:
            raise
        except BaseException:
            # Ended in the middle (or the disk failed): the other side must not take what it has for whole
            session.connection.abort()
            raise
        session.connection.allow()
        session.messages += 1
        return self._outcomes

    # --- MAIL and RCPT --------------------------------------------------------------------------------

    async def _envelope(self) -> list[Recipient]:
        """The recipients that were accepted and wait for the data; DATA is answered with 354."""
        entry, offered = self._entry, self._session.offered
        mail = mail_command(
            entry.sender,
            offered,
            size=entry.size,
            eight_bit=entry.eight_bit,
            smtputf8=entry.smtputf8
            or not entry.sender.isascii()
            or any(not one.address.isascii() for one in self._open),
            envid=entry.envid,
            ret=entry.ret,
        )
        commands = [rcpt_command(one.address, offered, one.notify, one.original) for one in self._open]
        if offered.pipelining:
            return await self._pipelined(mail, commands)
        return await self._step_by_step(mail, commands)

    async def _pipelined(self, mail: bytes, commands: list[bytes]) -> list[Recipient]:
        """RFC 2920 §3.1: one write for all; the replies come in order."""
        connection = self._session.connection
        connection.write(mail + b"".join(commands) + b"DATA\r\n")
        first = await self._first_reply()
        replies = [await connection.reply(COMMAND_LIMIT) for _ in commands]
        data = await connection.reply(DATA_LIMIT)
        if not first.ok:
            self._refused(self._open, first)
            accepted = []
        else:
            accepted = self._judge(replies)
        if data.code == 354 and not accepted:
            # RFC 2920 §3.1: a server may say 354 although nobody is to get it: an empty message ends that
            connection.write(b".\r\n")
            await connection.reply(FINAL_LIMIT)
            return []
        if data.code != 354:
            self._session.dirty = True
            self._refused(accepted, data)
            return []
        return accepted

    async def _step_by_step(self, mail: bytes, commands: list[bytes]) -> list[Recipient]:
        session = self._session
        session.connection.write(mail)
        first = await self._first_reply()
        session.dirty = True  # until DATA is through
        if not first.ok:
            self._refused(self._open, first)
            return []
        accepted = self._judge([await session.command(line) for line in commands])
        if not accepted:
            return []
        data = await session.command(b"DATA\r\n", DATA_LIMIT)
        if data.code != 354:
            self._refused(accepted, data)
            return []
        session.dirty = False
        return accepted

    async def _first_reply(self) -> Reply:
        reply = await self._session.connection.reply(COMMAND_LIMIT)
        if reply.code == 421 and not self._begun:
            self._session.connection.close()
            raise Stale  # it had waited too long for us; the message is not to blame
        self._begun = True
        return reply

    def _judge(self, replies: Sequence[Reply]) -> list[Recipient]:
        pairs = list(zip(self._open, replies, strict=True))
        accepted = [one for one, reply in pairs if reply.ok]
        for one, reply in pairs:
            if reply.ok:
                continue
            # RFC 5321 §4.5.3.1.10: too many recipients, also spelt 552
            if accepted and reply.code in (452, 552) and reply.status[2:] in ("5.3", "0.0"):
                self._settle([one], Kind.AGAIN, reply.status, reply.words, self._session.hop.host)
            else:
                self._refused([one], reply)
        return accepted

    # --- DATA -----------------------------------------------------------------------------------------

    async def _data(self, accepted: Sequence[Recipient]) -> None:
        connection = self._session.connection
        stuffer = DotStuffer()
        offset = 0
        while block := await self._content.read(offset):
            offset += len(block)
            if connection.answered:
                # It will not hear the end; what it says now is its answer
                self._refused(accepted, await connection.reply(FINAL_LIMIT))
                connection.close()
                return
            await connection.send(stuffer.feed(block), BLOCK_LIMIT)
        self._sent = True
        await connection.send(stuffer.finish(), BLOCK_LIMIT)
        connection.allow()  # it may be taking it just now: hanging up would send it twice
        reply = await connection.reply(FINAL_LIMIT)
        if reply.ok:
            confirms = self._session.offered.dsn
            host = self._session.hop.host
            self._settle(accepted, Kind.SENT, reply.status, reply.words, host, confirms)
        else:
            self._refused(accepted, reply)

    # --- outcomes -------------------------------------------------------------------------------------

    def _refused(self, ones: Sequence[Recipient], reply: Reply) -> None:
        kind = Kind.FAILED if reply.permanent else Kind.DEFERRED
        # 2yz or 3yz where neither belongs: the server is confused, try another day
        status = reply.status if reply.code >= 400 else "4.5.0"
        self._settle(ones, kind, status, reply.words, self._session.hop.host)
        if reply.code < 400 or reply.code == 421:
            self._session.connection.close()

    def _settle(
        self,
        ones: Sequence[Recipient],
        kind: Kind,
        status: str,
        words: str,
        host: str = "",
        confirms: bool = False,
    ) -> None:
        done = {id(one) for one in ones}
        self._outcomes += [Outcome(one, kind, status, words, host, confirms) for one in ones]
        self._open = [one for one in self._open if id(one) not in done]
