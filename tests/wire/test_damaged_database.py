"""Attack: a bit of postkeep.db flips. Clients hear a clear refusal where it hits them, and nothing elsewhere."""

import asyncio
import imaplib
from collections import Counter
from pathlib import Path

from postkeep.runtime.clock import SystemClock
from postkeep.services.changes import ChangeBus
from postkeep.storage import database
from postkeep.storage.rebuild import rebuild
from postkeep.storage.store import MailStore
from postkeep.storage.verify import verify

from tests.support.imap import imap_house
from tests.support.smtp import SmtpWorld
from tests.support.storing import deliver, inbox, letter

ALICE, BOB = "alice@example.test", "bob@example.test"


async def damaged_store(folder: Path) -> None:
    """Alice and Bob have 300 messages each; the last page of Alice's INBOX alone is damaged."""
    store = await MailStore.open(folder, SystemClock())
    alice, bob = await inbox(store, ALICE), await inbox(store, BOB)
    for number in range(3):
        await deliver(store, letter(f"m{number}"), [alice] * 100)
        await deliver(store, letter(f"n{number}"), [bob] * 100)
    await store.close()
    path = folder / database.NAME
    for leftover in folder.glob(f"{database.NAME}-*"):
        leftover.unlink()
    connection = database.open_reader(path)
    leaves = [
        page
        for (page,) in connection.execute(
            "SELECT pageno FROM dbstat WHERE name = 'message' AND pagetype = 'leaf' ORDER BY path"
        )
    ]
    connection.close()
    data = bytearray(path.read_bytes())
    data[(leaves[1] - 1) * 4096 + 2000] ^= 4  # in the middle of what is Alice's: she comes first in the table
    path.write_bytes(data)


async def test_imap_serves_what_is_left_of_the_mailbox_and_the_next_whole(tmp_path: Path) -> None:
    await damaged_store(tmp_path / "store")
    async with imap_house(tmp_path) as house:
        client = await house.client()
        lines = await client.command("SELECT INBOX")
        assert lines[0].startswith(b"* NO [ALERT] ")
        assert b"postkeep rebuild" in lines[0]
        assert lines[-1].startswith(b"OK [READ-ONLY]")
        (exists,) = [int(line.split()[1]) for line in lines if line.endswith(b"EXISTS")]
        assert 200 <= exists < 300
        fetched = (await client.command("FETCH 1:* (UID FLAGS BODY.PEEK[])"))[:-1]
        numbers = [int(line.split()[1]) for line in fetched if b" FETCH " in line]
        assert numbers == list(range(1, exists + 1))
        status = (await client.command("STATUS INBOX (MESSAGES UNSEEN)"))[0]
        assert b"MESSAGES %d UNSEEN %d" % (exists, exists) in status
        assert len((await client.command("SEARCH ALL"))[0].split()) == exists + 2
        assert (await client.command("STORE 1 +FLAGS (\\Seen)"))[-1].startswith(b"NO")
        assert (await client.command("COPY 1 Trash"))[-1].startswith(b"OK")
        other = await house.client(login=False)
        assert (await other.command("LOGIN bob secret"))[-1].startswith(b"OK")
        lines = await other.command("SELECT INBOX")
        assert b"* 300 EXISTS" in lines
        assert lines[-1].startswith(b"OK [READ-WRITE]")
        assert len(await other.command("FETCH 1:* (UID FLAGS INTERNALDATE)")) == 301


async def test_imaplib_sees_the_others_and_after_a_rebuild_all(tmp_path: Path) -> None:
    """A real client, one damaged leaf: nothing of the sound ones is missing, and flags outlive the rebuild."""
    await damaged_store(tmp_path / "store")
    async with imap_house(tmp_path) as house:
        before, writable = await asyncio.to_thread(look, house.port)
    assert not writable
    assert 200 <= len(before) < 300
    result = await rebuild(tmp_path / "store")
    assert [one.lost for one in result.rescued] == [0]
    assert result.rescued[0].recovered == 300 - len(before)
    assert (await verify(tmp_path / "store", rate=0)).problems == ()
    async with imap_house(tmp_path) as house:
        after, writable = await asyncio.to_thread(look, house.port)
    assert writable
    assert after.items() >= before.items()
    subjects = Counter(text.split(" (")[0] for text in after.values())
    assert subjects == {f"Subject: letter m{number}": 100 for number in range(3)}


def look(port: int) -> tuple[dict[int, str], bool]:
    """({uid: subject and flags} of Alice's INBOX, could it be selected for writing)."""
    client = imaplib.IMAP4("127.0.0.1", port)
    client.login("alice", "secret")
    writable = True
    try:
        _, found = client.select("INBOX")
    except imaplib.IMAP4.readonly:  # this library wants it said that this is known
        writable = False
        _, found = client.select("INBOX", readonly=True)
    count = int(found[0] or b"0")
    _, uids = client.uid("SEARCH", "ALL")
    assert len(uids[0].split()) == count
    _, parts = client.fetch("1:*", "(UID FLAGS BODY.PEEK[HEADER.FIELDS (SUBJECT)])")
    letters = {}
    for part in parts:
        if isinstance(part, tuple):
            words = part[0].replace(b"\\Recent", b"").split()
            uid = int(words[words.index(b"(UID") + 1])
            letters[uid] = f"{part[1].decode().strip()} {words[words.index(b'FLAGS') + 1].decode()}"
    assert len(letters) == count
    client.logout()
    return letters, writable


async def test_smtp_puts_off_mail_for_a_mailbox_whose_end_is_damaged(tmp_path: Path) -> None:
    await damaged_store(tmp_path / "store")
    store = await MailStore.open(tmp_path / "store", SystemClock())
    alice = store.account_id(ALICE)
    assert alice is not None
    store.catalogue.states[
        store.mailbox(alice, "INBOX").id
    ].damaged = True  # as a start finds it, see unit tests
    world = SmtpWorld(store=store, bus=ChangeBus())
    try:
        client = await world.connect()
        await client.hello()
        assert (await client.message(b"Subject: one\r\n\r\nx", ALICE)).startswith(b"451 ")
        assert (await client.message(b"Subject: two\r\n\r\nx", BOB)).startswith(b"250 ")
    finally:
        await world.close()
        await store.close()
