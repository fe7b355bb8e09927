"""The demo mail: well-formed, varied, deterministic, delivered once."""

import email
import email.policy
import re
import zlib
from email.message import EmailMessage
from email.utils import parsedate_to_datetime
from pathlib import Path

import pytest
from postkeep.domain.account import Account
from postkeep.domain.errors import StorageFull
from postkeep.domain.message import Flag
from postkeep.formats.mime import headers
from postkeep.formats.mime.scanner import scan
from postkeep.formats.mime.source import BytesSource
from postkeep.services import demo_files
from postkeep.services.demo import DemoMessage, demo_messages, install_demo
from postkeep.storage.store import MailStore

from tests.support.clock import FakeClock
from tests.support.storing import all_rows, contents

NOW = 1795464000.0
ALICE, BOB = Account("alice", "example.test"), Account("bob", "example.test")
MESSAGES = demo_messages("example.test", NOW)


def parsed(message: DemoMessage) -> EmailMessage:
    found = email.message_from_bytes(message.content, policy=email.policy.default)
    assert isinstance(found, EmailMessage)
    return found


def test_thirty_of_them_and_the_same_again() -> None:
    assert len(MESSAGES) == 30
    assert demo_messages("example.test", NOW) == MESSAGES
    assert demo_messages("other.test", NOW) != MESSAGES
    assert len({message.message_id for message in MESSAGES}) == 30


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: message.message_id)
def test_each_is_well_formed(message: DemoMessage) -> None:
    assert b"\n" not in message.content.replace(b"\r\n", b"")
    assert max(map(len, message.content.split(b"\r\n"))) <= 998
    assert message.content.partition(b"\r\n\r\n")[0].isascii()
    mail = parsed(message)
    assert mail["From"].addresses
    assert mail["To"].addresses
    assert mail["Message-ID"] == message.message_id
    assert int(parsedate_to_datetime(mail["Date"]).timestamp()) == message.date
    assert NOW - 30 * 86400 < message.date < NOW
    for part in mail.walk():
        assert not part.defects, part.defects
        if part.get_content_maintype() == "text":
            part.get_content().encode("utf-8")
    structure = scan(BytesSource(message.content))
    assert structure.message_id == message.message_id
    assert structure.date == message.date
    inside = [p for p in mail.walk() if not p.get_content_type().startswith("message/delivery")]
    assert len(structure.parts) >= len(inside) - 3


def test_headers_survive_their_charsets() -> None:
    subjects = {
        headers.decode_header(
            headers.get(message.content.partition(b"\r\n\r\n")[0] + b"\r\n", "subject") or b""
        )
        for message in MESSAGES
    }
    assert {
        "Größere Ständer für Lastenräder",
        "自転車置き場について",
        "Вопрос о навесе",
        "תודה על האופניים",
        "车轮的报价",
    } <= subjects
    assert {str(parsed(message)["Subject"]) for message in MESSAGES} == subjects


def test_threads() -> None:
    known = {message.message_id for message in MESSAGES}
    long_thread = [
        m for m in MESSAGES if scan(BytesSource(m.content)).thread_root == "<shelter-1.demo@example.test>"
    ]
    assert len(long_thread) == 7
    for message in MESSAGES:
        references = headers.message_ids(parsed(message).get("References", "").encode())
        assert set(references) <= known
        if references:
            assert parsed(message)["In-Reply-To"] == references[-1]


def test_variety() -> None:
    kinds, charsets, boxes, flags = set(), set(), set(), 0
    for message in MESSAGES:
        for part in scan(BytesSource(message.content)).parts:
            kinds.add(f"{part.type}/{part.subtype}")
            charsets.add(part.params.get("charset", ""))
        for place in message.placements:
            boxes.add((place.user, place.mailbox))
            flags |= place.flags
    assert {"application/pdf", "image/png", "text/csv", "text/calendar", "text/vcard", "text/html", "message/rfc822",
            "multipart/related", "multipart/report", "message/delivery-status"} <= kinds  # fmt: skip
    assert {"utf-8", "iso-8859-1", "iso-2022-jp", "koi8-r"} <= charsets
    assert {
        ("alice", name) for name in ("INBOX", "Sent", "Drafts", "Junk", "Trash", "Projects/Harbour")
    } <= boxes
    assert ("bob", "INBOX") in boxes
    assert flags == Flag.SEEN | Flag.FLAGGED | Flag.ANSWERED | Flag.DRAFT
    assert any(b"List-Id:" in message.content for message in MESSAGES)


def test_inline_image_is_referred_to() -> None:
    (photos,) = (m for m in MESSAGES if m.message_id.startswith("<shelter-7."))
    ids = {part["Content-ID"].strip("<>") for part in parsed(photos).walk() if part["Content-ID"]}
    page = next(part for part in parsed(photos).walk() if part.get_content_type() == "text/html")
    assert set(re.findall(r"cid:([^\"]+)", page.get_content())) == ids


def test_png_is_one() -> None:
    data = demo_files.harbour()
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    at, kinds, pixels = 8, [], b""
    while at < len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        kind, body = data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
        assert int.from_bytes(data[at + 8 + length : at + 12 + length], "big") == zlib.crc32(kind + body)
        kinds.append(kind)
        pixels += zlib.decompress(body) if kind == b"IDAT" else b""
        at += 12 + length
    assert kinds == [b"IHDR", b"IDAT", b"IEND"]
    assert len(pixels) == 96 * (1 + 160 * 3)


def test_pdf_offsets_are_right() -> None:
    data = demo_files.pdf(["one (1)", "two \\ three"])
    start = int(data.rsplit(b"startxref\n", 1)[1].split()[0])
    assert data[start:].startswith(b"xref\n0 6\n")
    for number, line in enumerate(data[start:].splitlines()[3:8], 1):
        assert data[int(line[:10]) :].startswith(b"%d 0 obj\n" % number)
    length = int(re.search(rb"/Length (\d+)", data)[1])  # type: ignore[index]
    stream = data.split(b"stream\n", 1)[1]
    assert stream[length:].startswith(b"endstream")


async def test_install_delivers_once(tmp_path: Path) -> None:
    store = await MailStore.open(tmp_path / "store", FakeClock(NOW))
    try:
        assert await install_demo(store, [ALICE, BOB], NOW) == 30
        alice = await contents(store, ALICE.key)
        bob = await contents(store, BOB.key)
        placed = [(place.user, place.mailbox) for message in MESSAGES for place in message.placements]
        assert {name: len(found) for name, found in alice.items()} == {
            name: placed.count(("alice", name)) for user, name in set(placed) if user == "alice"
        }
        assert sum(map(len, bob.values())) == sum(user == "bob" for user, _ in placed)
        (draft,) = alice["Drafts"]
        assert draft[1] & Flag.DRAFT
        (junk,) = alice["Junk"]
        assert junk[2] == {"$Junk"}
        assert {date for found in alice.values() for *_, date in found} <= {
            message.date for message in MESSAGES
        }
        assert await install_demo(store, [ALICE, BOB], NOW + 86400) == 0
        account = store.account_id(ALICE.key)
        assert account is not None
        inbox = store.mailbox(account, "INBOX").id
        await store.expunge(account, inbox, list(await store.uids(account, inbox)))
        assert await install_demo(store, [ALICE, BOB], NOW) == 0
        assert len(await all_rows(store, account, inbox)) == 0
    finally:
        await store.close()


async def test_interrupted_install_is_taken_up_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = await MailStore.open(tmp_path / "store", FakeClock(NOW))
    try:
        deliver, left = store.deliver, [5]

        async def failing(*args: object) -> object:
            left[0] -= 1
            if left[0] < 0:
                args[0].discard()  # type: ignore[attr-defined]
                raise StorageFull("the disk is full")
            return await deliver(*args)  # type: ignore[arg-type]

        monkeypatch.setattr(store, "deliver", failing)
        with pytest.raises(StorageFull):
            await install_demo(store, [ALICE, BOB], NOW)
        monkeypatch.undo()
        await install_demo(store, [ALICE, BOB], NOW)
        found = [
            content
            for name in (ALICE, BOB)
            for box in (await contents(store, name.key)).values()
            for content, *_ in box
        ]
        placed = [message.content for message in MESSAGES for _ in message.placements]
        assert sorted(found) == sorted(placed)
    finally:
        await store.close()


async def test_other_accounts_get_nothing(tmp_path: Path) -> None:
    store = await MailStore.open(tmp_path / "store", FakeClock(NOW))
    try:
        assert await install_demo(store, [Account("carol", "example.test")], NOW) == 0
    finally:
        await store.close()
