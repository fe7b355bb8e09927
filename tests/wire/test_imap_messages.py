"""Messages over the wire: APPEND, FETCH, STORE, SEARCH, COPY, MOVE, EXPUNGE."""

import dataclasses
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from postkeep.domain.message import Flag

from tests.support.imap import MESSAGE, ImapClient, ImapHouse, imap_house

NESTED = b"""From: a@example.test\r
Subject: outer\r
MIME-Version: 1.0\r
Content-Type: multipart/mixed; boundary=XX\r
\r
preamble\r
--XX\r
Content-Type: text/plain; charset=iso-8859-1\r
Content-Transfer-Encoding: quoted-printable\r
\r
S=FC=DFe Gr=FC=DFe\r
--XX\r
Content-Type: message/rfc822\r
\r
From: b@example.test\r
Subject: inner\r
Content-Type: multipart/alternative; boundary=YY\r
\r
--YY\r
\r
plain inner\r
--YY\r
Content-Type: text/html\r
Content-Transfer-Encoding: base64\r
\r
PGI+aGlkZGVuIHRyZWFzdXJlPC9iPg==\r
--YY--\r
\r
--XX--\r
"""


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[ImapHouse]:
    async with imap_house(tmp_path) as house:
        yield house


@pytest.fixture
async def client(house: ImapHouse) -> ImapClient:
    """INBOX with MESSAGE as 1 and NESTED as 2."""
    await house.deliver()
    await house.deliver(NESTED, date=1_600_000_000)
    return await house.client(select="INBOX")


def section(reply: bytes, label: bytes) -> bytes:
    found = re.search(re.escape(label) + rb" \{(\d+)\}\r\n", reply)
    assert found is not None, reply
    return reply[found.end() : found.end() + int(found[1])]


# --- FETCH ------------------------------------------------------------------------------------------


async def test_fetch_gives_the_message_byte_for_byte(client: ImapClient) -> None:
    for number, message in ((1, MESSAGE), (2, NESTED)):
        (reply, done) = await client.command(f"FETCH {number} BODY.PEEK[]")
        assert section(reply, b"BODY[]") == message
        assert done == b"OK FETCH completed"


@pytest.mark.parametrize(
    ("item", "label", "expected"),
    [
        ("BODY.PEEK[HEADER]", b"BODY[HEADER]", NESTED[: NESTED.index(b"\r\n\r\n") + 4]),
        ("RFC822.HEADER", b"RFC822.HEADER", NESTED[: NESTED.index(b"\r\n\r\n") + 4]),
        ("BODY.PEEK[TEXT]", b"BODY[TEXT]", NESTED[NESTED.index(b"\r\n\r\n") + 4 :]),
        ("BODY.PEEK[1]", b"BODY[1]", b"S=FC=DFe Gr=FC=DFe"),
        ("BODY.PEEK[1.MIME]", b"BODY[1.MIME]", b"Content-Type: text/plain; charset=iso-8859-1\r\n"
         b"Content-Transfer-Encoding: quoted-printable\r\n\r\n"),
        ("BODY.PEEK[2.HEADER]", b"BODY[2.HEADER]", b"From: b@example.test\r\nSubject: inner\r\n"
         b"Content-Type: multipart/alternative; boundary=YY\r\n\r\n"),
        ("BODY.PEEK[2.1]", b"BODY[2.1]", b"plain inner"),
        ("BODY.PEEK[2.2]", b"BODY[2.2]", b"PGI+aGlkZGVuIHRyZWFzdXJlPC9iPg=="),
        ("BODY.PEEK[2.HEADER.FIELDS (SUBJECT)]", b"BODY[2.HEADER.FIELDS (SUBJECT)]", b"Subject: inner\r\n\r\n"),
        ("BODY.PEEK[HEADER.FIELDS.NOT (Subject From)]", b"BODY[HEADER.FIELDS.NOT (Subject From)]",
         b"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=XX\r\n\r\n"),
        ("BODY.PEEK[]<6.14>", b"BODY[]<6>", b"a@example.test"),
        ("BODY.PEEK[]<99999.10>", b"BODY[]<99999>", b""),
        ("BODY.PEEK[1]<13.99>", b"BODY[1]<13>", b"S=FC=DFe Gr=FC=DFe"[13:]),
    ],
)  # fmt: skip
async def test_fetch_sections(client: ImapClient, item: str, label: bytes, expected: bytes) -> None:
    (reply, done) = await client.command(f"FETCH 2 ({item})")
    assert section(reply, label) == expected
    assert done == b"OK FETCH completed"


async def test_fetch_of_parts_that_do_not_exist_is_nil(client: ImapClient) -> None:
    (reply, _) = await client.command("FETCH 1 (BODY.PEEK[2] BODY.PEEK[1.HEADER] BODY.PEEK[7.MIME])")
    assert reply == b"* 1 FETCH (BODY[2] NIL BODY[1.HEADER] NIL BODY[7.MIME] NIL)"


async def test_fetch_macros_and_structures(client: ImapClient) -> None:
    (reply, _) = await client.command("FETCH 1 FAST")
    assert reply == (
        b'* 1 FETCH (FLAGS (\\Recent) INTERNALDATE "14-Nov-2023 22:13:20 +0000" RFC822.SIZE %d)'
        % len(MESSAGE)
    )
    (reply, _) = await client.command("FETCH 2 (BODYSTRUCTURE ENVELOPE UID)")
    assert reply.startswith(b"* 2 FETCH (UID 2 BODYSTRUCTURE ((")
    assert b'"message" "rfc822"' in reply.lower()
    assert b'ENVELOPE (NIL "outer" ((' in reply


async def test_reading_a_body_sets_seen_and_says_so(house: ImapHouse, client: ImapClient) -> None:
    other = await house.client(select="INBOX")
    (reply, _) = await client.command("FETCH 1 BODY[TEXT]")
    assert b"FLAGS (\\Seen \\Recent)" in reply
    (reply, _) = await client.command("FETCH 1 BODY[TEXT]")
    assert b"FLAGS" not in reply
    (reply, _) = await client.command("FETCH 2 BODY.PEEK[TEXT]")
    assert b"FLAGS" not in reply
    assert b"* 1 FETCH (FLAGS (\\Seen))" in await other.command("NOOP")


async def test_examine_changes_nothing(house: ImapHouse) -> None:
    await house.deliver()
    reader = await house.client()
    assert (await reader.command("EXAMINE INBOX"))[-1].startswith(b"OK [READ-ONLY]")
    await reader.command("FETCH 1 BODY[]")
    assert (await reader.command("FETCH 1 FLAGS"))[0] == b"* 1 FETCH (FLAGS (\\Recent))"
    for command in ("STORE 1 +FLAGS (\\Seen)", "EXPUNGE", "MOVE 1 Trash", "UID EXPUNGE 1"):
        assert (await reader.command(command))[-1].startswith(b"NO"), command
    assert (await reader.command("CLOSE"))[-1].startswith(b"OK")


async def test_numbers_beyond_the_mailbox_and_unknown_uids(client: ImapClient) -> None:
    assert (await client.command("FETCH 3 FLAGS"))[-1] == b"BAD Invalid message sequence number"
    assert await client.command("UID FETCH 3,77 FLAGS") == [b"OK UID FETCH completed"]
    assert (await client.command("UID FETCH 77:* UID"))[0] == b"* 2 FETCH (UID 2)"
    assert (await client.command("FETCH * UID"))[0] == b"* 2 FETCH (UID 2)"
    await client.command("SELECT Drafts")
    assert await client.command("FETCH 1:* FLAGS") == [b"OK FETCH completed"]
    assert (await client.command("FETCH 1 FLAGS"))[-1].startswith(b"BAD")


# --- APPEND -----------------------------------------------------------------------------------------


async def test_append_with_flags_and_date(client: ImapClient) -> None:
    replies = await client.append(
        b"A: b\r\n\r\n\xff\0x", options='(\\Seen $Todo) "17-Jul-1996 02:44:25 -0700"'
    )
    assert b"* 3 EXISTS" in replies
    assert re.fullmatch(rb"OK \[APPENDUID \d+ 3\] APPEND completed", replies[-1])
    replies = await client.command("FETCH 3 (FLAGS INTERNALDATE BODY.PEEK[])")
    (reply,) = [line for line in replies if line.startswith(b"* 3 FETCH")]
    assert b'FLAGS (\\Seen $Todo \\Recent) INTERNALDATE "17-Jul-1996 09:44:25 +0000"' in reply
    assert section(reply, b"BODY[]") == b"A: b\r\n\r\n\xff\0x"


async def test_append_elsewhere_by_literal_plus(client: ImapClient) -> None:
    assert (await client.append(MESSAGE, "Sent", plus=True))[-1].startswith(b"OK [APPENDUID")
    assert (await client.command("STATUS Sent (MESSAGES)"))[0] == b"* STATUS Sent (MESSAGES 1)"


async def test_append_to_a_missing_mailbox_is_refused_before_the_message(client: ImapClient) -> None:
    assert await client.append(MESSAGE, "Nope") == [b"NO [TRYCREATE] No such mailbox"]
    assert (await client.append(MESSAGE, "Nope", plus=True))[-1] == b"NO [TRYCREATE] No such mailbox"
    assert (await client.command("NOOP"))[-1] == b"OK NOOP completed"


async def test_append_takes_one_message_and_no_empty_one(client: ImapClient) -> None:
    assert (await client.append(b"", plus=True))[-1].startswith(b"NO")
    client.send(b"m APPEND INBOX {1+}\r\na {1+}\r\nb\r\n")
    assert (await client.until(b"m"))[-1].startswith(b"BAD")
    assert (await client.command("STATUS INBOX (MESSAGES)"))[0] == b"* STATUS INBOX (MESSAGES 2)"


# --- STORE ------------------------------------------------------------------------------------------


async def test_store_modes(client: ImapClient) -> None:
    assert (await client.command("STORE 1:2 +FLAGS (\\Flagged)"))[:2] == [
        b"* 1 FETCH (FLAGS (\\Flagged \\Recent))",
        b"* 2 FETCH (FLAGS (\\Flagged \\Recent))",
    ]
    assert (await client.command("STORE 1 FLAGS \\Seen \\Draft"))[
        0
    ] == b"* 1 FETCH (FLAGS (\\Seen \\Draft \\Recent))"
    assert (await client.command("UID STORE 1 -FLAGS (\\Seen)"))[
        0
    ] == b"* 1 FETCH (UID 1 FLAGS (\\Draft \\Recent))"
    assert await client.command("STORE 1 +FLAGS.SILENT (\\Seen)") == [b"OK STORE completed"]
    assert (await client.command("FETCH 1 FLAGS"))[0] == b"* 1 FETCH (FLAGS (\\Seen \\Draft \\Recent))"
    assert (await client.command("STORE 1 FLAGS ()"))[0] == b"* 1 FETCH (FLAGS (\\Recent))"


async def test_a_new_keyword_is_announced_first(client: ImapClient) -> None:
    replies = await client.command("STORE 1 +FLAGS ($Todo)")
    assert replies[0] == b"* FLAGS (\\Answered \\Flagged \\Deleted \\Seen \\Draft $Todo)"
    assert replies[1].startswith(b"* OK [PERMANENTFLAGS (\\Answered")
    assert replies[2] == b"* 1 FETCH (FLAGS ($Todo \\Recent))"


async def test_condstore(client: ImapClient) -> None:
    (reply, _) = await client.command("FETCH 1 (MODSEQ)")
    before = int(re.search(rb"MODSEQ \((\d+)\)", reply)[1])  # type: ignore[index]
    (reply, done) = await client.command(f"STORE 1 (UNCHANGEDSINCE {before}) +FLAGS.SILENT (\\Seen)")
    after = int(re.search(rb"MODSEQ \((\d+)\)", reply)[1])  # type: ignore[index]
    assert after > before
    assert b"FLAGS" not in reply
    assert done == b"OK STORE completed"
    replies = await client.command(f"STORE 1,2 (UNCHANGEDSINCE {before}) +FLAGS (\\Flagged)")
    assert replies[-1].startswith(b"OK [MODIFIED 1")
    assert (await client.command("FETCH 1 FLAGS"))[0] == b"* 1 FETCH (FLAGS (\\Seen \\Recent))"
    replies = await client.command(f"FETCH 1:* (FLAGS) (CHANGEDSINCE {after})")
    assert all(line.startswith(b"* 2 ") for line in replies[:-1])
    replies = await client.command(f"SEARCH MODSEQ {after}")
    assert re.fullmatch(rb"\* SEARCH 1( 2)? \(MODSEQ \d+\)", replies[0])


# --- SEARCH -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("program", "numbers"),
    [
        ("ALL", b" 1 2"),
        ("2", b" 2"),
        ("UID 2:*", b" 2"),
        ("NOT 1", b" 2"),
        ("UNSEEN NEW", b" 1 2"),
        ("OLD", b""),
        ("FROM alice", b" 1"),
        ("FROM EXAMPLE.TEST", b" 1 2"),
        ('SUBJECT "grüße"', b" 1"),
        ("SUBJECT inner", b""),
        ("TO bob OR SUBJECT x SUBJECT Gr", b" 1"),
        ("HEADER Message-ID one@", b" 1"),
        ('HEADER MIME-Version ""', b" 2"),
        ("BODY quarterly", b" 1"),
        ("BODY alice", b""),
        ("TEXT alice", b" 1"),
        ("TEXT inner", b" 2"),
        ('BODY "Süße Grüße"', b" 2"),
        ('BODY "hidden treasure"', b" 2"),
        ("LARGER 300", b" 2"),
        ("SMALLER 300", b" 1"),
        ("SINCE 1-Jan-2023", b" 1"),
        ("BEFORE 1-Jan-2023", b" 2"),
        ("ON 14-Nov-2023", b" 1"),
        ("SENTON 24-Nov-2026", b" 1"),
        ("SENTSINCE 25-Nov-2026", b""),
        ("SENTBEFORE 25-Nov-2026", b" 1"),
        ("KEYWORD $None", b""),
        ("UNKEYWORD $None", b" 1 2"),
        ("OR (FROM alice BODY quarterly) (NOT FROM alice LARGER 99999)", b" 1"),
        ("CHARSET UTF-8 NOT (OR FROM alice SUBJECT outer)", b""),
    ],
)
async def test_search(client: ImapClient, program: str, numbers: bytes) -> None:
    assert await client.command(f"SEARCH {program}") == [b"* SEARCH" + numbers, b"OK SEARCH completed"]


@pytest.mark.parametrize(
    "program", ["ALL", "UID 1:*", "1:*", "*", "NOT UID 5,7", "TEXT x", "MODSEQ 1", "RECENT"]
)
async def test_search_in_an_empty_mailbox(client: ImapClient, program: str) -> None:
    await client.command("SELECT Drafts")
    assert await client.command(f"UID SEARCH {program}") == [b"* SEARCH", b"OK UID SEARCH completed"]


async def test_search_replies(client: ImapClient) -> None:
    await client.command("STORE 1 +FLAGS.SILENT (\\Deleted)")
    await client.command("EXPUNGE")
    assert (await client.command("UID SEARCH ALL"))[0] == b"* SEARCH 2"
    replies = await client.command("UID SEARCH RETURN (MIN MAX COUNT ALL) ALL")
    assert re.fullmatch(rb'\* ESEARCH \(TAG "t\d+"\) UID COUNT 1 MIN 2 MAX 2 ALL 2', replies[0])
    replies = await client.command("SEARCH RETURN (COUNT MIN) FROM nobody")
    assert re.fullmatch(rb'\* ESEARCH \(TAG "t\d+"\) COUNT 0', replies[0])
    assert (await client.command("SEARCH CHARSET KOI8-R ALL"))[-1].startswith(
        b"NO [BADCHARSET (US-ASCII UTF-8)]"
    )


# --- COPY, MOVE, EXPUNGE ----------------------------------------------------------------------------


async def test_copy_and_move(client: ImapClient) -> None:
    assert re.fullmatch(
        rb"OK \[COPYUID \d+ 1:2 1:2\] COPY completed", (await client.command("COPY 1:2 Sent"))[-1]
    )
    assert (await client.command("UID COPY 1 Nope"))[-1].startswith(b"NO [TRYCREATE]")
    assert (await client.command("UID MOVE 1 Nope"))[-1].startswith(b"NO [TRYCREATE]")
    replies = await client.command("UID MOVE 1:2 Trash")
    assert re.fullmatch(rb"\* OK \[COPYUID \d+ 1:2 1:2\] Moved", replies[0])
    assert replies[1:] == [b"* 1 EXPUNGE", b"* 1 EXPUNGE", b"OK UID MOVE completed"]
    await client.command("SELECT Trash")
    (reply, _) = await client.command("FETCH 1 BODY.PEEK[]")
    assert section(reply, b"BODY[]") == MESSAGE


async def test_copy_within_the_selected_mailbox_shows_the_copy(client: ImapClient) -> None:
    replies = await client.command("COPY 1 INBOX")
    assert b"* 3 EXISTS" in replies


async def test_expunge_numbers_fall_as_messages_go(house: ImapHouse, client: ImapClient) -> None:
    for _ in range(4):
        await house.deliver()
    await client.command("NOOP")
    await client.command("STORE 1,3,4,6 +FLAGS.SILENT (\\Deleted)")
    assert await client.command("EXPUNGE") == [
        b"* 1 EXPUNGE",
        b"* 2 EXPUNGE",
        b"* 2 EXPUNGE",
        b"* 3 EXPUNGE",
        b"OK EXPUNGE completed",
    ]
    assert (await client.command("UID SEARCH ALL"))[0] == b"* SEARCH 2 5"


async def test_uid_expunge_takes_only_what_is_named_and_deleted(client: ImapClient) -> None:
    await client.command("STORE 1 +FLAGS.SILENT (\\Deleted)")
    assert await client.command("UID EXPUNGE 2") == [b"OK UID EXPUNGE completed"]
    assert (await client.command("UID EXPUNGE 1:2"))[0] == b"* 1 EXPUNGE"


async def test_close_expunges_silently_and_unselect_does_not(house: ImapHouse, client: ImapClient) -> None:
    await client.command("STORE 1 +FLAGS.SILENT (\\Deleted)")
    assert await client.command("UNSELECT") == [b"OK UNSELECT completed"]
    assert house.store.counters(house.account, house.store.mailbox(house.account, "INBOX").id).messages == 2
    await client.command("SELECT INBOX")
    assert await client.command("CLOSE") == [b"OK CLOSE completed"]
    assert house.store.counters(house.account, house.store.mailbox(house.account, "INBOX").id).messages == 1
    assert (await client.command("FETCH 1 FLAGS"))[-1].startswith(b"BAD")


async def test_eight_bit_headers_come_as_literals(house: ImapHouse) -> None:
    await house.deliver(b"Subject: caf\xe9 \xff\r\nFrom: x@example.test\r\n\r\nx")
    client = await house.client(select="INBOX")
    (reply, _) = await client.command("FETCH 1 ENVELOPE")
    assert re.search(rb"ENVELOPE \(NIL \{\d+\}\r\n", reply)


async def test_quota(house: ImapHouse) -> None:
    house.authenticator.accounts["alice"] = dataclasses.replace(house.alice, quota_bytes=300, quota_items=3)
    await house.deliver()
    client = await house.client(select="INBOX")
    assert (await client.append(MESSAGE))[-1].startswith(b"NO [OVERQUOTA]")
    assert (await client.append(MESSAGE, plus=True))[-1].startswith(b"NO [OVERQUOTA]")
    assert (await client.command("COPY 1 Sent"))[-1].startswith(b"NO [OVERQUOTA]")
    assert (await client.command("MOVE 1 Trash"))[-1].startswith(b"OK")
    assert (await client.append(b"a: b\r\n\r\n"))[-1].startswith(b"OK")


async def test_flags_survive_in_the_store(house: ImapHouse, client: ImapClient) -> None:
    await client.command("STORE 1 +FLAGS (\\Seen \\Flagged)")
    box = house.store.mailbox(house.account, "INBOX").id
    rows = [row async for batch in house.store.rows(house.account, box, [(1, 1)]) for row in batch]
    assert rows[0].flags == Flag.SEEN | Flag.FLAGGED


async def test_attack_many_appends_at_once_do_not_pass_a_quota_together(house: ImapHouse) -> None:
    """Each has room when it is announced; only so many as fit are stored, deliveries counted with them."""
    fitting, tries = 5, 20
    owner = dataclasses.replace(house.alice, quota_bytes=len(MESSAGE) * fitting + 10)
    house.authenticator.accounts["alice"] = owner
    clients = [await house.client() for _ in range(tries)]
    for client in clients:
        client.send(b"a APPEND INBOX {%d}\r\n" % len(MESSAGE))
        assert (await client.line()).startswith(b"+")
    for client in clients:
        client.send(MESSAGE + b"\r\n")
    replies = [(await client.until(b"a"))[-1] for client in clients]
    stored = sum(reply.startswith(b"OK") for reply in replies)
    # Room may count twice for the moment between commit and release: one may be refused, none passes.
    assert 1 <= stored <= fitting
    assert sum(reply.startswith(b"NO [OVERQUOTA]") for reply in replies) == tries - stored
    assert house.mailboxes.usage(house.account) == (len(MESSAGE) * stored, stored)


async def test_attack_many_copies_at_once_do_not_pass_a_quota_together(house: ImapHouse) -> None:
    house.authenticator.accounts["alice"] = dataclasses.replace(house.alice, quota_items=4)
    await house.deliver()
    clients = [await house.client(select="INBOX") for _ in range(10)]
    for client in clients:
        client.send(b"a COPY 1 Sent\r\n")
    replies = [(await client.until(b"a"))[-1] for client in clients]
    copied = sum(reply.startswith(b"OK") for reply in replies)
    assert 1 <= copied <= 3
    assert house.mailboxes.usage(house.account)[1] == 1 + copied
