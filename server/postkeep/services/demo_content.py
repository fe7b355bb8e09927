# ruff: noqa: E501 -- a letter reads best on its own line
"""What the demo mail says. Everybody in it is invented; example.org, .net and .com are nobody's (RFC 2606)."""

from collections.abc import Callable
from dataclasses import dataclass, field

from postkeep.domain.address import Address
from postkeep.domain.message import Flag
from postkeep.formats.dsn import RecipientReport, Report, build_dsn
from postkeep.services import demo_files

SEEN, ANSWERED, FLAGGED, DRAFT = int(Flag.SEEN), int(Flag.ANSWERED), int(Flag.FLAGGED), int(Flag.DRAFT)
NEW = 0
HARBOUR = "Projects/Harbour"

Person = tuple[str, str]
ALICE: Person = ("Alice Meyer", "alice")
BOB: Person = ("Bob Tanaka", "bob")
CAROL: Person = ("Carol Nguyen", "carol@example.org")
DAVID: Person = ("David Okafor", "david.okafor@example.net")
LIST: Person = ("", "velo-dev@lists.example.org")


@dataclass(frozen=True)
class Part:
    """A MIME entity: a leaf with `data`, or a multipart with `children`. `headers` are whole lines."""

    type: str
    data: bytes = b""
    encoding: str = ""
    headers: tuple[str, ...] = ()
    children: tuple["Part", ...] = ()


Body = Callable[[str, int], Part]
"""Given the domain and the message's date."""


@dataclass(frozen=True)
class Letter:
    """One message. `placements`: user, mailbox, Flag bits[, keywords]. `reply_to` is another letter's key."""

    key: str
    age_minutes: int
    """Before the start of today (UTC)."""
    sender: Person
    to: tuple[Person, ...]
    subject: str
    body: Body
    placements: tuple[tuple, ...]  # type: ignore[type-arg]
    reply_to: str = ""
    cc: tuple[Person, ...] = ()
    charset: str = "utf-8"
    headers: tuple[tuple[str, str], ...] = field(default=())


def text(words: str, charset: str = "utf-8", encoding: str = "quoted-printable", more: str = "") -> Body:
    """A text/plain message; lines of `words` become CRLF lines."""
    part = plain(words, charset, encoding, more)
    return lambda domain, date: part


def plain(words: str, charset: str = "utf-8", encoding: str = "quoted-printable", more: str = "") -> Part:
    data = (words.strip("\n") + "\n").replace("\n", "\r\n").encode(charset)
    return Part(f"text/plain; charset={charset}{more}", data, encoding)


def html(markup: str) -> Part:
    page = f'<!DOCTYPE html>\n<html><body style="font-family:sans-serif">\n{markup.strip()}\n</body></html>\n'
    return Part("text/html; charset=utf-8", page.replace("\n", "\r\n").encode(), "quoted-printable")


def attached(kind: str, name: str, data: bytes) -> Part:
    return Part(
        f'{kind}; name="{name}"', data, "base64", (f'Content-Disposition: attachment; filename="{name}"',)
    )


def inline(kind: str, content_id: str, name: str, data: bytes) -> Part:
    headers = (f"Content-ID: <{content_id}>", f'Content-Disposition: inline; filename="{name}"')
    return Part(f'{kind}; name="{name}"', data, "base64", headers)


def mixed(*children: Part) -> Part:
    return Part("multipart/mixed", children=children)


def alternative(*children: Part) -> Part:
    return Part("multipart/alternative", children=children)


def days(count: int, hour: int, minute: int = 0) -> int:
    """Minutes before today's midnight of a time of day `count` days ago."""
    return count * 1440 - hour * 60 - minute


# --- bodies that need more than text ---------------------------------------------------------------------


def _invoice(domain: str, date: int) -> Part:
    lines = ["Invoice 2214", "", "12 bicycle stands, galvanised      1,440.00", "Delivery                               60.00",
             "", "Total                               1,500.00", "", "Thank you for your order."]  # fmt: skip
    note = "Dear Alice,\n\nplease find our invoice 2214 for the stands attached. Thirty days, as usual.\n\nDavid Okafor"
    return mixed(plain(note), attached("application/pdf", "invoice-2214.pdf", demo_files.pdf(lines)))


def _photos(domain: str, date: int) -> Part:
    page = html(
        "<p>Hi Alice,</p><p>last evening at the <b>harbour</b>, right where the shelter will stand:</p>"
        f'<p><img src="cid:evening@{domain}" alt="Sunset over the harbour"></p><p>Bob</p>'
    )
    picture = inline("image/png", f"evening@{domain}", "evening.png", demo_files.harbour())
    related = Part('multipart/related; type="text/html"', children=(page, picture))
    return alternative(plain("Hi Alice,\n\nlast evening at the harbour (see the picture).\n\nBob"), related)


def _counts(domain: str, date: int) -> Part:
    rows: list[list[object]] = [["week", "north gate", "south gate", "total"]]
    for week in range(40, 47):
        north, south = 310 + week * 7 % 60, 270 + week * 11 % 80
        rows.append([week, north, south, north + south])
    note = "Here are the counts by week.\n\nThe south gate is quieter than we thought.\n\nBob"
    return mixed(plain(note), attached("text/csv; charset=utf-8", "counts.csv", demo_files.csv(rows)))


def _meeting(domain: str, date: int) -> Part:
    calendar = demo_files.invitation(
        f"review.demo@{domain}",
        date + 6 * 86400,
        60,
        "Design review: bike shelter",
        f"bob@{domain}",
        f"alice@{domain}",
    )
    words = plain(
        "Bob Tanaka invites you to: Design review: bike shelter\nHarbour office, first floor, one hour."
    )
    event = Part("text/calendar; charset=utf-8; method=REQUEST", calendar, "8bit")
    return mixed(alternative(words, event), attached("application/ics", "invite.ics", calendar))


def _card(domain: str, date: int) -> Part:
    card = demo_files.vcard("Carol Nguyen", "Nguyen", "Carol", "carol@example.org", "+1 555 0100")
    note = "Hi both,\n\nmy new number is on the card; the old one dies on Friday.\n\nCarol"
    return mixed(plain(note), attached("text/vcard; charset=utf-8", "carol.vcf", card))


def _newsletter(domain: str, date: int) -> Part:
    page = html(
        f'<table width="100%"><tr><td><img src="cid:logo@{domain}" width="48" height="48" alt="Two Wheels"></td>'
        '<td><h1 style="color:#145a8c">Two Wheels Weekly</h1></td></tr></table>'
        "<h2>Winter is for riding</h2><p>Studded tyres, tested on ice: five pairs, <em>one winner</em>.</p>"
        "<ul><li>Lights that last a week</li><li>How to wash a chain</li><li>Letters</li></ul>"
        '<p style="font-size:small"><a href="https://news.example.com/leave">Leave this list</a></p>'
    )
    words = "TWO WHEELS WEEKLY\n\nWinter is for riding: studded tyres, tested on ice.\n\n* Lights that last a week\n* How to wash a chain"
    picture = inline("image/png", f"logo@{domain}", "logo.png", demo_files.logo())
    return alternative(plain(words), Part('multipart/related; type="text/html"', children=(page, picture)))


def _forward(domain: str, date: int) -> Part:
    original = (
        f"From: Harbour Authority <permits@example.net>\nTo: bob@{domain}\nSubject: Permit 77/B granted\n"
        "Date: Mon, 02 Nov 2026 08:12:00 +0000\nMessage-ID: <permit-77b@example.net>\nMIME-Version: 1.0\n"
        "Content-Type: text/plain; charset=us-ascii\n\nYour permit 77/B has been granted. It is valid for two years.\n"
    )
    inside = Part(
        "message/rfc822",
        original.replace("\n", "\r\n").encode("ascii"),
        "7bit",
        ("Content-Disposition: attachment",),
    )
    return mixed(plain("We have it! See below.\n\nBob"), inside)


def _bounce(domain: str, date: int) -> Part:
    """The parts of a real notification."""
    mail = Report(
        reporting_mta=f"mail.{domain}",
        postmaster=Address("postmaster", domain),
        sender=Address("alice", domain),
        recipients=[
            RecipientReport(
                Address("dorothy", "example.com"), "failed", "5.1.1", "550 5.1.1 No such mailbox", "mx.example.com",
                last_attempt=float(date),
            )
        ],
        message_id=f"<bounce.demo@{domain}>",
        date=float(date),
        original=f"From: alice@{domain}\r\nTo: dorothy@example.com\r\nSubject: Are you still there?\r\n\r\n".encode(),
    )  # fmt: skip
    header, _, body = build_dsn(mail).partition(b"\r\n\r\n")
    kind = header[header.index(b"Content-Type: ") + 14 :].decode("ascii")
    return Part(kind, body)


_QUOTE = "> Ten stands or twelve?\n"
_LIST_HEADERS = (
    ("List-Id", "Development of Velo <velo-dev.lists.example.org>"),
    ("List-Post", "<mailto:velo-dev@lists.example.org>"),
    ("List-Unsubscribe", "<mailto:velo-dev-leave@lists.example.org>"),
    ("Precedence", "list"),
)
_NEWS_HEADERS = (
    ("List-Id", "Two Wheels Weekly <weekly.news.example.com>"),
    ("List-Unsubscribe", "<https://news.example.com/leave>"),
    ("List-Unsubscribe-Post", "List-Unsubscribe=One-Click"),
    ("Precedence", "bulk"),
)


def _both(
    flags: int, sender_mailbox: str = "Sent", to: str = "alice", by: str = "bob", where: str = "INBOX"
) -> tuple[tuple, ...]:  # type: ignore[type-arg]
    """With the receiver, and in the sender's Sent: stored once."""
    return ((to, where, flags), (by, sender_mailbox, SEEN))


LETTERS: tuple[Letter, ...] = (
    # --- a long thread, filed by Alice ------------------------------------------------------------
    Letter("shelter-1", days(21, 9, 5), BOB, (ALICE,), "Bike shelter at the harbour",
           text("Hi Alice,\n\nthe town gives us the strip beside the crane. Shall we plan a shelter there?\n\nBob"),
           _both(SEEN | ANSWERED, where=HARBOUR), cc=(CAROL,)),
    Letter("shelter-2", days(21, 11, 40), ALICE, (BOB,), "Re: Bike shelter at the harbour",
           text("> Shall we plan a shelter there?\n\nYes! Ten stands or twelve?\n\n-- \nAlice Meyer\nSeaside Cycles"),
           _both(SEEN | ANSWERED, to="bob", by="alice"), reply_to="shelter-1", cc=(CAROL,)),
    Letter("shelter-3", days(20, 8, 15), CAROL, (ALICE, BOB), "Re: Bike shelter at the harbour",
           text(f"{_QUOTE}\nTwelve. The ferry brings twenty bicycles on a Sunday.\n\nCarol"),
           (("alice", HARBOUR, SEEN), ("bob", "INBOX", SEEN)), reply_to="shelter-2"),
    Letter("shelter-4", days(19, 16, 20), DAVID, (ALICE,), "Re: Bike shelter at the harbour",
           text("Twelve galvanised stands are 1,440 and a delivery. Roof on request.\n\nDavid Okafor\nOkafor Metalwork"),
           (("alice", HARBOUR, SEEN | FLAGGED, ("$Label1",)),), reply_to="shelter-3", cc=(BOB,)),
    Letter("shelter-5", days(15, 10), ALICE, (DAVID,), "Re: Bike shelter at the harbour",
           text("> Roof on request.\n\nWe take the roof, please. In grey.\n\nAlice"),
           (("alice", "Sent", SEEN), ("bob", "INBOX", SEEN)), reply_to="shelter-4", cc=(BOB, CAROL)),
    Letter("shelter-6", days(12, 7, 50), BOB, (ALICE,), "Re: Bike shelter at the harbour",
           _forward, _both(SEEN, where=HARBOUR), reply_to="shelter-5"),
    Letter("shelter-7", days(3, 18, 30), BOB, (ALICE,), "Re: Bike shelter at the harbour",
           _photos, _both(NEW), reply_to="shelter-6"),
    # --- a short one ------------------------------------------------------------------------------
    Letter("lunch-1", days(1, 9, 55), BOB, (ALICE,), "Lunch?",
           text("Soup place at noon?\n\nBob", "us-ascii", "7bit", "; format=flowed"), _both(SEEN | ANSWERED)),
    Letter("lunch-2", days(1, 10, 2), ALICE, (BOB,), "Re: Lunch?",
           text("> Soup place at noon?\n\nHalf past. Save me the window.", "us-ascii", "7bit"),
           _both(NEW, to="bob", by="alice"), reply_to="lunch-1"),
    # --- attachments ------------------------------------------------------------------------------
    Letter("invoice", days(8, 13, 10), DAVID, (ALICE,), "Invoice 2214", _invoice,
           (("alice", "INBOX", SEEN | FLAGGED),), headers=(("X-Priority", "2"),)),
    Letter("counts", days(6, 17, 45), BOB, (ALICE,), "Counts of October", _counts, _both(SEEN)),
    Letter("meeting", days(2, 14), BOB, (ALICE,), "Invitation: Design review: bike shelter", _meeting, _both(NEW)),
    Letter("card", days(10, 12, 30), CAROL, (ALICE, BOB), "New number", _card,
           (("alice", "INBOX", SEEN), ("bob", "INBOX", NEW))),
    # --- many languages, many charsets ------------------------------------------------------------
    Letter("german", days(9, 8), ("Jörg Müßiggang", "joerg@example.net"), (ALICE,), "Größere Ständer für Lastenräder",
           text("Liebe Alice,\n\nkönnten zwei der Stellplätze für Lastenräder breiter werden? Die Füße stoßen an.\n\nViele Grüße\nJörg",
                "iso-8859-1"),
           (("alice", "INBOX", SEEN),), charset="iso-8859-1"),
    Letter("japanese", days(7, 2, 20), ("田中 花子", "hanako@example.org"), (BOB, ALICE), "自転車置き場について",
           text("アリスさん、ボブさん\n\n写真をありがとうございます。来月そちらへ行きますので、駐輪場を見せてください。\n\n花子",
                "iso-2022-jp", "7bit"),
           (("alice", "INBOX", SEEN), ("bob", "INBOX", SEEN | ANSWERED)), charset="iso-2022-jp"),
    Letter("russian", days(5, 6, 45), ("Ирина Волкова", "irina@example.com"), (ALICE,), "Вопрос о навесе",
           text("Здравствуйте, Алиса!\n\nБудет ли навес освещён ночью? Нам это важно для прогулок зимой.\n\nС уважением,\nИрина",
                "koi8-r"),
           (("alice", "INBOX", NEW),), charset="koi8-r"),
    Letter("french", days(4, 15, 5), ("Zoé Lefèvre", "zoe@example.org"), (ALICE,), "Visite de l’atelier à Noël",
           text("Bonjour Alice,\n\nnotre école aimerait visiter l’atelier juste avant Noël : est-ce possible ?\n\nÀ bientôt,\nZoé"),
           (("alice", "INBOX", SEEN | ANSWERED),)),
    Letter("hebrew", days(11, 5, 30), ("נועה לוי", "noa@example.net"), (ALICE,), "תודה על האופניים",
           text("שלום אליס,\n\nהאופניים הגיעו בשלום ונוסעים נפלא. תודה רבה!\n\nנועה", encoding="base64"),
           (("alice", "INBOX", SEEN),)),
    Letter("chinese", days(13, 3, 15), ("王小明", "xiaoming@example.com"), (BOB,), "车轮的报价",
           text("Bob 您好:\n\n二十个车轮的报价是 2,400 元,一周内可以发货。\n\n王小明", encoding="base64"),
           (("bob", "INBOX", SEEN | FLAGGED),)),
    # --- lists and newsletters --------------------------------------------------------------------
    Letter("list-1", days(14, 20, 10), ("Elena Rossi", "elena@example.org"), (LIST,), "[velo-dev] Units in the speed field",
           text("Some sensors report metres a second, some kilometres an hour. I would store metres a second\nand convert when showing it. Objections?\n\nElena"),
           (("bob", "INBOX", SEEN),), headers=_LIST_HEADERS),
    Letter("list-2", days(14, 21, 33), ("Sam Wilder", "sam@example.com"), (LIST,), "Re: [velo-dev] Units in the speed field",
           text("> Objections?\n\nNone, but write the unit into the name of the column.\n\nSam"),
           (("bob", "INBOX", SEEN),), reply_to="list-1", headers=_LIST_HEADERS),
    Letter("list-3", days(13, 7, 5), BOB, (LIST,), "Re: [velo-dev] Units in the speed field",
           text("+1, and a patch is on its way.\n\n--- a/speed.txt\n+++ b/speed.txt\n-speed\n+speed_mps\n\nBob"),
           (("bob", "INBOX", SEEN), ("bob", "Sent", SEEN)), reply_to="list-2", headers=_LIST_HEADERS),
    Letter("news-1", days(9, 6), ("Two Wheels Weekly", "weekly@news.example.com"), (ALICE,), "Winter is for riding",
           _newsletter, (("alice", "INBOX", SEEN),), headers=_NEWS_HEADERS),
    Letter("news-2", days(2, 6), ("Two Wheels Weekly", "weekly@news.example.com"), (ALICE, BOB), "❄ Five lights for dark mornings",
           _newsletter, (("alice", "INBOX", NEW), ("bob", "INBOX", NEW)), headers=_NEWS_HEADERS),
    # --- what else lies about ---------------------------------------------------------------------
    Letter("dorothy", days(5, 11, 58), ALICE, (("Dorothy", "dorothy@example.com"),), "Are you still there?",
           text("Dear Dorothy,\n\nwe have not heard of you for a year. Does the red one still run?\n\nAlice"),
           (("alice", "Sent", SEEN),)),
    Letter("bounce", days(5, 12), ("Mail Delivery System", "postmaster"), (("", "alice"),), "Undelivered mail: your message was returned",
           _bounce, (("alice", "INBOX", SEEN),), reply_to="dorothy", headers=(("Auto-Submitted", "auto-replied"),)),
    Letter("junk-1", days(4, 1, 11), ("Prince of Somewhere", "prince@example.net"), (ALICE,), "YOUR 4,500,000 ARE WAITING!!!",
           text("Dear friend,\n\nI need only your bank details and a small fee.\n\nThe Prince"), (("alice", "Junk", NEW, ("$Junk",)),)),
    Letter("junk-2", days(2, 4, 44), ("Cheap Pills", "pills@example.com"), (BOB,), "90 % off, today only",
           lambda domain, date: alternative(plain("90 % off"), html("<h1>90&nbsp;% off</h1><p>Click <a href='https://example.com/'>here</a></p>")),
           (("bob", "Junk", SEEN, ("$Junk",)),)),
    Letter("trash", days(16, 9, 9), ("Parcel service", "noreply@example.com"), (ALICE,), "Your parcel was delivered",
           text("Your parcel lies at the neighbour's, second door.", "us-ascii", "7bit"), (("alice", "Trash", SEEN),)),
    Letter("draft", days(1, 16, 40), ALICE, (("Zoé Lefèvre", "zoe@example.org"),), "Re: Visite de l’atelier à Noël",
           text("Bonjour Zoé,\n\navec plaisir ! Le 18 ou le 19 décembre, vers"), (("alice", "Drafts", SEEN | DRAFT),), reply_to="french"),
)  # fmt: skip
