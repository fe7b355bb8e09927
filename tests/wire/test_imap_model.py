"""A client that believes every untagged reply, beside others that change the mailbox at random.

After each command its picture must be one that the mailbox had, and at the end the one it has (RFC 3501
§5.2, §5.5, §7.4.1). The same with VANISHED once QRESYNC is on (RFC 7162 §3.2.10).
"""

import random
import re
from pathlib import Path

import pytest
from postkeep.domain.message import FlagMode
from postkeep.protocols.imap.encoding import FlagNames
from postkeep.protocols.imap.sequence import MAXIMUM
from postkeep.protocols.imap.session import view

from tests.support.imap import ImapClient, ImapHouse, imap_house

FETCHED = re.compile(rb"\* (\d+) FETCH \((?:UID (\d+) ?)?(?:FLAGS \(([^)]*)\))?")
QUIET = {"FETCH", "STORE", "SEARCH"}


class Picture:
    """UIDs by sequence number (None: not asked yet) and flags, from untagged replies alone."""

    def __init__(self) -> None:
        self.uids: list[int | None] = []
        self.flags: list[set[bytes] | None] = []

    def believe(self, reply: bytes, verb: str) -> None:
        if found := re.fullmatch(rb"\* (\d+) EXISTS", reply):
            count = int(found[1])
            assert count >= len(self.uids), "EXISTS never shrinks a mailbox"
            self.uids += [None] * (count - len(self.uids))
            self.flags += [None] * (count - len(self.flags))
        elif found := re.fullmatch(rb"\* (\d+) EXPUNGE", reply):
            assert verb not in QUIET
            del self.uids[int(found[1]) - 1]
            del self.flags[int(found[1]) - 1]
        elif found := re.fullmatch(rb"\* VANISHED ([\d:,]+)", reply):
            assert verb not in QUIET
            for part in found[1].split(b","):
                low, _, high = part.partition(b":")
                for uid in range(int(low), int(high or low) + 1):
                    index = self.uids.index(uid)
                    del self.uids[index]
                    del self.flags[index]
        elif found := FETCHED.match(reply):
            index = int(found[1]) - 1
            if found[2]:
                assert self.uids[index] in (None, int(found[2]))
                self.uids[index] = int(found[2])
            if found[3] is not None:
                self.flags[index] = set(found[3].split()) - {b"\\Recent"}


async def _command(client: ImapClient, picture: Picture, text: str) -> None:
    replies = await client.command(text)
    assert replies[-1].startswith(b"OK"), replies
    for reply in replies[:-1]:
        picture.believe(reply, text.split(" ")[0])


async def _disturb(house: ImapHouse, chance: random.Random) -> None:
    """Another session does something."""
    service, account = house.mailboxes, house.account
    box = service.mailbox(account, "INBOX").id
    uids = list(await service.uids(account, box))
    some = sorted(chance.sample(uids, min(len(uids), chance.randint(1, 4))))
    match chance.randint(0, 5):
        case 0 | 1:
            for _ in range(chance.randint(1, 3)):
                await house.deliver()
        case 2 if some:
            await service.expunge(account, box, some)
        case 3 if some:
            await service.move(account, box, some, service.mailbox(account, "Trash").id)
        case 4 | 5 if some:
            mode = chance.choice([FlagMode.ADD, FlagMode.REMOVE])
            await service.store_flags(account, box, some, mode, chance.randint(1, 31))


def _next(chance: random.Random, picture: Picture) -> str:
    count = len(picture.uids)
    if not count:
        return "NOOP"
    low, high = sorted((chance.randint(1, count), chance.randint(1, count)))
    return chance.choice(
        [
            "NOOP", "CHECK", "SEARCH ALL", "UID SEARCH UNSEEN",
            f"FETCH {low}:{high} (UID FLAGS)", "UID FETCH 1:* (FLAGS)", f"FETCH {low} BODY[]",
            f"STORE {low}:{high} +FLAGS (\\Flagged)", f"STORE {low} -FLAGS.SILENT (\\Draft)",
            f"COPY {low} Sent", f"MOVE {high} Trash", f"STORE {low} +FLAGS (\\Deleted)", "EXPUNGE",
        ]
    )  # fmt: skip


@pytest.mark.parametrize("limit", [2000, 3], ids=["told", "asked again"])
@pytest.mark.parametrize("qresync", [False, True], ids=["EXPUNGE", "VANISHED"])
async def test_the_client_is_never_misled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int, qresync: bool
) -> None:
    monkeypatch.setattr(view, "PENDING_LIMIT", limit)
    chance = random.Random(f"{limit} {qresync}")
    async with imap_house(tmp_path) as house:
        for _ in range(8):
            await house.deliver()
        client = await house.client()
        if qresync:
            await client.command("ENABLE QRESYNC")
        picture = Picture()
        await _command(client, picture, "SELECT INBOX")
        await _command(client, picture, "FETCH 1:* (UID FLAGS)")
        for _ in range(250):
            for _ in range(chance.randint(0, 3)):
                await _disturb(house, chance)
            command = _next(chance, picture)
            await _command(client, picture, command)
            if command.split(" ")[0] not in QUIET:
                await _compare(house, picture)
            if qresync:
                # VANISHED speaks of UIDs: this client asks for those of new messages at once.
                await _command(client, picture, "UID FETCH 1:* (FLAGS)")
        await _command(client, picture, "UID FETCH 1:* (FLAGS)")
        await _compare(house, picture)
        assert None not in picture.uids
        assert house.logs.error.lines == []


async def _compare(house: ImapHouse, picture: Picture) -> None:
    """What the client believes is so; what it has not asked for it may not know."""
    box = house.mailboxes.mailbox(house.account, "INBOX").id
    rows = [row async for batch in house.mailboxes.flags(house.account, box, [(1, MAXIMUM)]) for row in batch]
    assert len(picture.uids) == len(rows)
    names = FlagNames(())
    for uid, flags, row in zip(picture.uids, picture.flags, rows, strict=True):
        assert uid in (None, row.uid)
        if flags is not None:
            # \Draft is what the client itself changes silently.
            assert flags - {b"\\Draft"} == set(names[row.flags, 0].split()) - {b"\\Draft"}
