"""Attack: a bit of postkeep.db flips. Clients hear a clear refusal where it hits them, and nothing elsewhere."""

from pathlib import Path

from postkeep.runtime.clock import SystemClock
from postkeep.services.changes import ChangeBus
from postkeep.storage import database
from postkeep.storage.store import MailStore

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
