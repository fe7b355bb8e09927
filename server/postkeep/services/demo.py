"""Demo mail: thirty messages that make a first look at the server worthwhile (threads, attachments, HTML,
several languages and charsets, lists, a bounce), delivered to the demo users alice and bob."""

import base64
import contextlib
import quopri
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from email.header import Header
from email.utils import formatdate

from postkeep.domain.account import Account
from postkeep.domain.errors import MailboxExists
from postkeep.domain.mailbox import INBOX
from postkeep.services.demo_content import LETTERS, Letter, Part
from postkeep.storage.records import hash64
from postkeep.storage.store import MailStore, Target

DAY = 86400


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a message lies: the user's name, the mailbox, Flag bits and keywords."""

    user: str
    mailbox: str
    flags: int
    keywords: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DemoMessage:
    """One message, stored once for all its placements. `date` is seconds since 1970."""

    content: bytes
    message_id: str
    date: int
    placements: tuple[Placement, ...]


def demo_messages(domain: str, now: float) -> list[DemoMessage]:
    """Thirty messages of the last weeks before `now`, oldest first; the same for the same arguments."""
    today = int(now) // DAY * DAY
    letters = sorted(LETTERS, key=lambda letter: -letter.age_minutes)
    return [_build(letter, domain, today - letter.age_minutes * 60, LETTERS) for letter in letters]


async def install_demo(store: MailStore, accounts: Sequence[Account], now: float) -> int:
    """Deliver the demo mail to the accounts named alice and bob, all of one domain; how many messages.

    Does nothing for an account whose INBOX has ever held mail, so that what a user deleted stays away.
    What an interrupted run has delivered elsewhere is not delivered again.
    """
    users: dict[str, int] = {}
    domain = ""
    for owner in accounts:
        if owner.name not in ("alice", "bob"):
            continue
        account = store.account_id(owner.key)
        if account is None:
            account = await store.create_account(owner.key)
        if store.counters(account, store.mailbox(account, INBOX).id).uidnext == 1:
            users[owner.name] = account
            domain = owner.domain
    known = {name: await _message_hashes(store, account) for name, account in users.items()}
    messages = demo_messages(domain, now) if users else []
    # INBOX last: an interrupted run is taken up again.
    messages.sort(key=lambda message: any(place.mailbox == INBOX for place in message.placements))
    delivered = 0
    for message in messages:
        places = [
            place
            for place in message.placements
            if place.user in users and hash64(message.message_id) not in known[place.user]
        ]
        if places:
            await _deliver(store, message, places, users)
            delivered += 1
    return delivered


async def _message_hashes(store: MailStore, account: int) -> set[int]:
    found: set[int] = set()
    for mailbox in store.mailboxes(account):
        async for batch in store.rows(account, mailbox.id, [(1, 0xFFFFFFFF)]):
            found.update(row.msgid for row in batch)
    return found


async def _deliver(
    store: MailStore, message: DemoMessage, places: Sequence[Placement], users: Mapping[str, int]
) -> None:
    targets = []
    for place in places:
        account = users[place.user]
        if place.mailbox not in {mailbox.name for mailbox in store.mailboxes(account)}:
            with contextlib.suppress(MailboxExists):
                await store.create_mailbox(account, place.mailbox)
        mailbox = store.mailbox(account, place.mailbox)
        targets.append(Target(account, mailbox.id, place.flags, place.keywords))
    incoming = store.incoming()
    try:
        incoming.write(message.content)
        body = await incoming.finish()
    except BaseException:
        incoming.abort()
        raise
    await store.deliver(body, targets, message.date)


# --- a letter as octets -----------------------------------------------------------------------------------


def _build(letter: Letter, domain: str, date: int, letters: Sequence[Letter]) -> DemoMessage:
    message_id = _message_id(letter.key, domain)
    lines = [
        ("From", _addresses((letter.sender,), domain, letter.charset)),
        ("To", _addresses(letter.to, domain, letter.charset)),
    ]
    if letter.cc:
        lines.append(("Cc", _addresses(letter.cc, domain, letter.charset)))
    lines += [
        ("Subject", _encode(letter.subject, letter.charset)),
        ("Date", formatdate(date).replace("-0000", "+0000")),
        ("Message-ID", message_id),
    ]
    ancestors = _ancestors(letter, letters)
    if ancestors:
        ids = [_message_id(key, domain) for key in ancestors]
        lines.append(("In-Reply-To", ids[-1]))
        lines.append(("References", "\r\n ".join(ids)))
    lines += [(name, value.replace("{domain}", domain)) for name, value in letter.headers]
    lines.append(("MIME-Version", "1.0"))
    body = _entity(letter.body(domain, date), letter.key)
    head = "".join(f"{name}: {value}\r\n" for name, value in lines).encode("ascii")
    placements = tuple(Placement(*place) for place in letter.placements)
    return DemoMessage(head + body, message_id, date, placements)


def _ancestors(letter: Letter, letters: Sequence[Letter]) -> list[str]:
    by_key = {other.key: other for other in letters}
    found: list[str] = []
    key = letter.reply_to
    while key:
        found.insert(0, key)
        key = by_key[key].reply_to
    return found


def _message_id(key: str, domain: str) -> str:
    return f"<{key}.demo@{domain}>"


def _addresses(people: Sequence[tuple[str, str]], domain: str, charset: str) -> str:
    """("Alice Meyer", "alice") is local, ("Carol", "carol@example.org") is not."""
    found = []
    for name, address in people:
        where = address if "@" in address else f"{address}@{domain}"
        found.append(f"{_encode(name, charset)} <{where}>" if name else where)
    return ",\r\n ".join(found)


def _encode(text: str, charset: str) -> str:
    """Encoded words in the letter's own charset (RFC 2047); ASCII stays."""
    if text.isascii():
        return text
    return Header(text, charset, maxlinelen=70).encode(linesep="\r\n")


def _entity(part: Part, key: str) -> bytes:
    """Header fields of the part, a blank line, its body."""
    headers = [f"Content-Type: {part.type}"]
    if part.children:
        boundary = f"=_{key}_{part.type.partition(';')[0].rpartition('/')[2]}"
        headers[0] += f';\r\n boundary="{boundary}"'
        delimiter = b"--" + boundary.encode("ascii")
        body = b"".join(delimiter + b"\r\n" + _entity(child, key) + b"\r\n" for child in part.children)
        body += delimiter + b"--\r\n"
    elif part.encoding == "base64":
        body = base64.encodebytes(part.data).replace(b"\n", b"\r\n")
    elif part.encoding == "quoted-printable":
        lines = part.data.split(b"\r\n")
        body = b"\r\n".join(
            quopri.encodestring(line).replace(b"=\n", b"=\r\n").rstrip(b"\n") for line in lines
        )
    else:
        body = part.data
    if part.encoding:
        headers.append(f"Content-Transfer-Encoding: {part.encoding}")
    headers += part.headers
    return "\r\n".join(headers).encode("ascii") + b"\r\n\r\n" + body
