"""What one session hears of others: IDLE, NOOP, \\Recent, renumbering, QRESYNC; pipelining and log-in."""

import asyncio
import base64
import imaplib
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from postkeep.domain.change import FlagsChanged
from postkeep.domain.errors import Throttled

from tests.support.clock import FakeClock, settle
from tests.support.imap import MESSAGE, ImapClient, ImapHouse, imap_house


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[ImapHouse]:
    async with imap_house(tmp_path) as house:
        yield house


async def idle(client: ImapClient) -> None:
    client.send(b"i IDLE\r\n")
    assert await client.line() == b"+ idling"


# --- IDLE and updates -------------------------------------------------------------------------------


async def test_idle_hears_of_new_mail_flags_and_expunges(house: ImapHouse) -> None:
    client = await house.client(select="INBOX")
    other = await house.client(select="INBOX")
    await idle(client)
    await house.deliver()
    assert [await client.line(), await client.line()] == [b"* 1 EXISTS", b"* 1 RECENT"]
    await other.command("NOOP")
    await other.command("STORE 1 +FLAGS (\\Deleted $Todo)")
    assert (await client.line()).startswith(b"* FLAGS (")
    assert (await client.line()).startswith(b"* OK [PERMANENTFLAGS")
    assert await client.line() == b"* 1 FETCH (FLAGS (\\Deleted $Todo \\Recent))"
    await other.command("EXPUNGE")
    assert await client.line() == b"* 1 EXPUNGE"
    client.send(b"DONE\r\n")
    assert await client.until(b"i") == [b"OK IDLE completed"]


async def test_idle_ends_with_done_only(house: ImapHouse) -> None:
    client = await house.client(select="INBOX")
    await idle(client)
    client.send(b"NOOP\r\n")
    assert await client.until(b"i") == [b"BAD Expected DONE"]
    client.send(b"i IDLE\r\ndone\r\nn NOOP\r\n")
    assert await client.until(b"n") == [b"+ idling", b"i OK IDLE completed", b"OK NOOP completed"]


async def test_idle_without_a_mailbox(house: ImapHouse) -> None:
    client = await house.client()
    await idle(client)
    await house.deliver()
    client.send(b"DONE\r\n")
    assert await client.until(b"i") == [b"OK IDLE completed"]


async def test_an_idle_session_costs_no_task_and_leaves_no_subscriber(house: ImapHouse) -> None:
    client = await house.client(select="INBOX")
    await idle(client)
    await settle()
    names = {task.get_coro().__qualname__ for task in asyncio.all_tasks()}  # type: ignore[union-attr]
    assert not any("ImapConnection" in name for name in names)
    assert house.bus.subscribers(house.account) == 1
    client.close()
    for _ in range(200):
        if not house.server.connections:
            break
        await asyncio.sleep(0.005)
    assert house.bus.subscribers(house.account) == 0
    assert house.limiter.open == 0


async def test_no_expunge_is_told_during_fetch_store_and_search(house: ImapHouse) -> None:
    for _ in range(3):
        await house.deliver()
    client = await house.client(select="INBOX")
    other = await house.client(select="INBOX")
    await other.command("STORE 1 +FLAGS.SILENT (\\Deleted)")
    await other.command("EXPUNGE")
    # RFC 3501 §5.5: the client counts on its numbers until a command that may tell.
    replies = await client.command("FETCH 2 UID")
    assert b"* 2 FETCH (UID 2)" in replies
    assert not any(b"EXPUNGE" in reply for reply in replies)
    assert (await client.command("FETCH 1 UID"))[-1].startswith(b"OK [EXPUNGEISSUED]")
    assert (await client.command("STORE 3 +FLAGS (\\Flagged)"))[
        0
    ] == b"* 3 FETCH (FLAGS (\\Flagged \\Recent))"
    assert (await client.command("STORE 1 +FLAGS (\\Flagged)"))[-1].startswith(b"OK [EXPUNGEISSUED]")
    assert (await client.command("SEARCH ALL"))[0] == b"* SEARCH 2 3"
    assert (await client.command("COPY 1 Sent"))[0] == b"* 1 EXPUNGE"
    assert (await client.command("FETCH 1:* UID"))[:2] == [b"* 1 FETCH (UID 2)", b"* 2 FETCH (UID 3)"]


async def test_uid_commands_may_tell_expunges(house: ImapHouse) -> None:
    await house.deliver()
    client = await house.client(select="INBOX")
    other = await house.client(select="INBOX")
    await other.command("STORE 1 +FLAGS.SILENT (\\Deleted)")
    await other.command("EXPUNGE")
    assert b"* 1 EXPUNGE" in await client.command("UID FETCH 1:* FLAGS")


async def test_own_changes_are_not_told_twice(house: ImapHouse) -> None:
    await house.deliver()
    client = await house.client(select="INBOX")
    await client.command("STORE 1 +FLAGS.SILENT (\\Seen)")
    assert await client.command("NOOP") == [b"OK NOOP completed"]


async def test_recent_belongs_to_the_first_session(house: ImapHouse) -> None:
    await house.deliver()
    first = await house.client()
    assert b"* 1 RECENT" in await first.command("EXAMINE INBOX")
    assert b"* 1 RECENT" in await first.command("SELECT INBOX")
    second = await house.client()
    assert b"* 0 RECENT" in await second.command("SELECT INBOX")
    await house.deliver()
    assert b"* 2 RECENT" in await first.command("NOOP")
    assert b"* 0 RECENT" in await second.command("NOOP")
    assert (await second.command("FETCH 2 FLAGS"))[0] == b"* 2 FETCH (FLAGS ())"
    assert (await first.command("SEARCH RECENT"))[0] == b"* SEARCH 1 2"
    assert b"* 0 RECENT" in await first.command("SELECT INBOX")


async def test_a_flood_of_changes_is_kept_small_and_told_whole(house: ImapHouse) -> None:
    """More than PENDING_LIMIT changes wait: they are dropped and read from the store again."""
    from postkeep.protocols.imap.session import view

    for _ in range(30):
        await house.deliver()
    client = await house.client(select="INBOX")
    other = await house.client(select="INBOX")
    limit, view.PENDING_LIMIT = view.PENDING_LIMIT, 5
    try:
        for _ in range(12):
            await house.deliver()
        await other.command("NOOP")
        await other.command("STORE 1:20 +FLAGS.SILENT (\\Seen)")
        await other.command("STORE 11:20 +FLAGS.SILENT (\\Deleted)")
        await other.command("EXPUNGE")
        (session,) = [
            c.session for c in house.server._connections if c.session.view and c.session.view.pending
        ]
        assert session.view is not None
        assert len(session.view._appended) + len(session.view._flags) + len(session.view._expunged) <= 15
        replies = await client.command("NOOP")
    finally:
        view.PENDING_LIMIT = limit
    assert [line for line in replies if line.endswith(b"EXPUNGE")] == [b"* 11 EXPUNGE"] * 10
    assert b"* 32 EXISTS" in replies
    assert [line for line in replies if b"FETCH" in line] == [
        b"* %d FETCH (FLAGS (\\Seen%b))" % (number, b" \\Recent") for number in range(1, 11)
    ]
    assert (await client.command("UID SEARCH ALL"))[0] == (
        b"* SEARCH" + b"".join(b" %d" % uid for uid in [*range(1, 11), *range(21, 43)])
    )


# --- QRESYNC ----------------------------------------------------------------------------------------


async def test_qresync(house: ImapHouse) -> None:
    for _ in range(5):
        await house.deliver()
    client = await house.client()
    assert (await client.command("SELECT INBOX (QRESYNC (1 1))"))[-1].startswith(b"BAD")
    assert (await client.command("ENABLE QRESYNC X-FOO"))[0] == b"* ENABLED QRESYNC"
    replies = b"\n".join(await client.command("SELECT INBOX"))
    validity = re.search(rb"UIDVALIDITY (\d+)", replies)[1].decode()  # type: ignore[index]
    modseq = re.search(rb"HIGHESTMODSEQ (\d+)", replies)[1].decode()  # type: ignore[index]
    await client.command("UNSELECT")
    other = await house.client(select="INBOX")
    await other.command("STORE 2 +FLAGS.SILENT (\\Seen)")
    await other.command("STORE 4:5 +FLAGS.SILENT (\\Deleted)")
    await other.command("EXPUNGE")
    replies_ = await client.command(f"SELECT INBOX (QRESYNC ({validity} {modseq} 1:5))")
    assert b"* VANISHED (EARLIER) 4:5" in replies_
    assert next(line for line in replies_ if b"FETCH" in line).startswith(b"* 2 FETCH (UID 2 FLAGS (\\Seen")
    await other.command("STORE 1 +FLAGS.SILENT (\\Deleted)")
    await other.command("EXPUNGE")
    assert b"* VANISHED 1" in await client.command("NOOP")
    replies_ = await client.command(f"UID FETCH 1:* (FLAGS) (CHANGEDSINCE {modseq} VANISHED)")
    assert replies_[0] == b"* VANISHED (EARLIER) 1,4:5"
    assert replies_[1].startswith(b"* 1 FETCH (UID 2 FLAGS (\\Seen")
    await client.command("STORE 1 +FLAGS (\\Deleted)")
    replies_ = await client.command("EXPUNGE")
    assert replies_[0] == b"* VANISHED 2"
    assert re.match(rb"OK \[HIGHESTMODSEQ \d+\]", replies_[-1])


# --- order and log-in -------------------------------------------------------------------------------


async def test_pipelined_commands_are_answered_in_order(house: ImapHouse) -> None:
    await house.deliver()
    client = await house.client(login=False)
    client.send(
        b"a LOGIN alice secret\r\nb SELECT INBOX\r\nc STORE 1 +FLAGS.SILENT (\\Seen)\r\n"
        b"d FETCH 1 FLAGS\r\ne LOGIN alice secret\r\nf LOGOUT\r\n"
    )
    text = await client.closed()
    assert re.findall(rb"^([a-f]) (\w+)", text, re.MULTILINE) == [
        (b"a", b"OK"), (b"b", b"OK"), (b"c", b"OK"), (b"d", b"OK"), (b"e", b"BAD"), (b"f", b"OK"),
    ]  # fmt: skip
    assert b"* 1 FETCH (FLAGS (\\Seen \\Recent))" in text
    assert text.endswith(b"* BYE Goodbye\r\nf OK LOGOUT completed\r\n")


async def test_the_rest_is_answered_when_the_client_has_closed_its_side(house: ImapHouse) -> None:
    client = await house.client(login=False)
    client.send(b"a LOGIN alice secret\r\nb SELECT INBOX\r\nc NOOP\r\n")
    client.writer.write_eof()
    assert (await client.closed()).endswith(b"c OK NOOP completed\r\n")


@pytest.mark.parametrize("initial", [True, False])
async def test_authenticate_plain_and_login(house: ImapHouse, initial: bool) -> None:
    token = base64.b64encode(b"\0alice\0secret")
    client = await house.client(login=False)
    if initial:
        client.send(b"a AUTHENTICATE PLAIN " + token + b"\r\n")
    else:
        client.send(b"a AUTHENTICATE PLAIN\r\n" + token + b"\r\n")
        assert await client.line() == b"+ "
    assert (await client.until(b"a"))[-1].startswith(b"OK [CAPABILITY IMAP4rev1")
    client = await house.client(login=False)
    client.send(b"a AUTHENTICATE LOGIN\r\n")
    assert base64.b64decode((await client.line())[2:]) == b"Username:"
    client.send(base64.b64encode(b"alice") + b"\r\n")
    assert base64.b64decode((await client.line())[2:]) == b"Password:"
    client.send(base64.b64encode(b"secret") + b"\r\n")
    assert (await client.until(b"a"))[-1].startswith(b"OK")
    assert house.authenticator.tried[-1][2:] == ("127.0.0.1", "IMAP")


@pytest.mark.parametrize(
    ("response", "answer"),
    [
        (b"*", b"BAD Authentication cancelled"),
        (b"%%%", b"BAD Invalid base64"),
        (base64.b64encode(b"alice\0secret"), b"BAD Invalid SASL message"),
        (base64.b64encode(b"bob\0alice\0secret"), b"NO [AUTHORIZATIONFAILED]"),
        (base64.b64encode(b"\0alice\0wrong"), b"NO [AUTHENTICATIONFAILED]"),
        (base64.b64encode(b"\0\xff\0x"), b"BAD Invalid UTF-8"),
        (b"", b"BAD Invalid SASL message"),
    ],
)
async def test_bad_sasl_responses(house: ImapHouse, response: bytes, answer: bytes) -> None:
    client = await house.client(login=False)
    client.send(b"a AUTHENTICATE PLAIN\r\n")
    assert await client.line() == b"+ "
    client.send(response + b"\r\n")
    assert (await client.until(b"a"))[-1].startswith(answer)


async def test_wrong_passwords_wait_and_then_hang_up(tmp_path: Path) -> None:
    clock = FakeClock()
    async with imap_house(tmp_path, clock=clock, login_delay=2.0, failed_logins=2) as house:
        client = await house.client(login=False)
        client.send(b"a LOGIN alice wrong\r\nb LOGIN alice wrong\r\n")
        await _turned(clock, client, 1.9)
        assert client.reader._buffer == b""  # type: ignore[attr-defined]
        await _turned(clock, client, 0.2)
        assert await client.line() == b"a NO [AUTHENTICATIONFAILED] Wrong name or password"
        await _turned(clock, client, 2.1)
        assert await client.closed() == (
            b"b NO [AUTHENTICATIONFAILED] Wrong name or password\r\n* BYE Too many wrong passwords\r\n"
        )


async def _turned(clock: FakeClock, client: ImapClient, seconds: float) -> None:
    await asyncio.sleep(0.05)
    await clock.advance(seconds)
    await asyncio.sleep(0.05)


async def test_throttled_log_in(house: ImapHouse) -> None:
    house.authenticator.error = Throttled("too many tries")
    client = await house.client(login=False)
    assert (await client.command("LOGIN alice secret"))[-1].startswith(b"NO [UNAVAILABLE]")


async def test_passwords_in_the_clear_are_refused_by_default(tmp_path: Path) -> None:
    async with imap_house(tmp_path, plaintext_login=False) as house:
        client = await house.client(login=False)
        assert b"LOGINDISABLED" in client.greeting
        assert b"AUTH=" not in client.greeting
        assert (await client.command("LOGIN alice secret"))[-1].startswith(b"NO [PRIVACYREQUIRED]")
        assert (await client.command("AUTHENTICATE PLAIN"))[-1].startswith(b"NO [PRIVACYREQUIRED]")
        assert house.authenticator.tried == []


async def test_id_and_enable(house: ImapHouse) -> None:
    client = await house.client()
    assert (await client.command('ID ("name" "x" "version" NIL)'))[0].startswith(b'* ID ("name" "Postkeep"')
    assert (await client.command("ENABLE CONDSTORE"))[0] == b"* ENABLED CONDSTORE"
    assert (await client.command("ENABLE UNKNOWN"))[0] == b"* ENABLED"
    assert (await client.command("ENABLE"))[-1].startswith(b"BAD")


async def test_a_publication_by_another_origin_only_is_told(house: ImapHouse) -> None:
    await house.deliver()
    client = await house.client(select="INBOX")
    box = house.store.mailbox(house.account, "INBOX").id
    house.bus.publish(FlagsChanged(house.account, box + 1, ()), FlagsChanged(house.account + 1, box, ()))
    assert await client.command("NOOP") == [b"OK NOOP completed"]


# --- Python's own client ----------------------------------------------------------------------------


async def test_imaplib(house: ImapHouse) -> None:
    def drive() -> None:
        with imaplib.IMAP4("127.0.0.1", house.port) as client:
            client.login("alice", "secret")
            assert client.select()[1] == [b"0"]
            assert client.append("INBOX", "\\Seen", imaplib.Time2Internaldate(0), MESSAGE)[0] == "OK"
            assert client.noop()[0] == "OK"
            status, data = client.fetch("1", "(FLAGS BODY[])")
            assert status == "OK"
            assert data[0][1] == MESSAGE  # type: ignore[index]
            assert client.search("UTF-8", "SUBJECT", '"Grüße"'.encode())[1] == [b"1"]  # type: ignore[arg-type]
            assert client.copy("1", "Sent")[0] == "OK"
            assert client.store("1", "+FLAGS", "\\Deleted")[0] == "OK"
            assert client.expunge()[1] == [b"1"]
            assert client.list()[0] == "OK"
            assert client.uid("search", "ALL")[1] == [b""]  # type: ignore[arg-type]
            assert client.close()[0] == "OK"

    await asyncio.to_thread(drive)
