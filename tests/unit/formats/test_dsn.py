"""Delivery status notifications, read back with the stdlib (RFC 3464, 6533)."""

import dataclasses
import email
import email.message
import email.policy
from email.message import Message

import pytest
from postkeep.domain.address import Address
from postkeep.formats.dsn import RecipientReport, Report, build_dsn

NOW = 1795424400.0
BOB = RecipientReport(
    Address("bob", "example.org"),
    "failed",
    "5.1.1",
    "550 5.1.1 No such user here",
    "mx.example.org",
    "rfc822;Bob+2Bmail@example.org",
    NOW - 60,
)
ORIGINAL = (
    b"From: alice@example.test\r\nTo: bob@example.org\r\nSubject: lunch\r\nMessage-ID: <q@example.test>\r\n"
    b"\r\nToday at noon?\r\n"
)
REPORT = Report(
    reporting_mta="mail.example.test",
    postmaster=Address("postmaster", "example.test"),
    sender=Address("alice", "example.test"),
    recipients=[BOB],
    message_id="<dsn.1@mail.example.test>",
    date=NOW,
    original=ORIGINAL,
    return_full=True,
    arrival=NOW - 3600,
    envelope_id="QQ+2B314159",
)


def parts(report: Report) -> tuple[Message, str, Message, list[Message], Message]:
    """(whole, text, per-message fields, per-recipient fields, returned part)."""
    data = build_dsn(report)
    assert b"\n" not in data.replace(b"\r\n", b"")
    message = email.message_from_bytes(data)
    assert message.get_content_type() == "multipart/report"
    assert message.get_param("report-type") == "delivery-status"
    text, status, returned = message.get_payload()  # type: ignore[misc]
    assert isinstance(text, Message)
    assert isinstance(status, Message)
    assert isinstance(returned, Message)
    start = data.index(b"delivery-status\r\n", data.index(b"Delivery report")) + len(b"delivery-status\r\n")
    raw = data[data.index(b"\r\n\r\n", start - 2) + 4 : data.index(b"\r\n--report-", start)].decode()
    groups = [
        email.message_from_string(group, policy=email.policy.default) for group in raw.split("\r\n\r\n")
    ]
    about, *recipients = (group for group in groups if len(group))  # type: ignore[arg-type, union-attr]
    words = text.get_payload(decode=True)
    assert isinstance(words, bytes)
    return message, words.decode(), about, recipients, returned  # type: ignore[return-value]


def test_failure() -> None:
    message, text, about, (bob,), returned = parts(REPORT)
    assert message["To"] == "<alice@example.test>"
    assert message["From"] == "Mail Delivery System <postmaster@example.test>"
    assert message["Auto-Submitted"] == "auto-replied"
    assert message["Message-ID"] == "<dsn.1@mail.example.test>"
    assert message["References"] == message["In-Reply-To"] == "<q@example.test>"
    assert message["Date"] == "Mon, 23 Nov 2026 09:00:00 +0000"
    assert about.items() == [
        ("Original-Envelope-Id", "QQ+314159"),
        ("Reporting-MTA", "dns;mail.example.test"),
        ("Arrival-Date", "Mon, 23 Nov 2026 08:00:00 +0000"),
    ]
    assert bob.items() == [
        ("Original-Recipient", "rfc822;Bob+mail@example.org"),
        ("Final-Recipient", "rfc822;bob@example.org"),
        ("Action", "failed"),
        ("Status", "5.1.1"),
        ("Remote-MTA", "dns;mx.example.org"),
        ("Diagnostic-Code", "smtp;550 5.1.1 No such user here"),
        ("Last-Attempt-Date", "Mon, 23 Nov 2026 08:59:00 +0000"),
    ]
    assert "could not be delivered" in text
    assert "bob@example.org" in text
    assert "The server mx.example.org said: 550 5.1.1 No such user here" in text
    assert returned.get_content_type() == "message/rfc822"
    assert returned.get_payload()[0]["Subject"] == "lunch"  # type: ignore[index]
    assert ORIGINAL in build_dsn(REPORT)


def test_headers_only() -> None:
    report = dataclasses.replace(REPORT, return_full=False)
    _, text, _, _, returned = parts(report)
    assert returned.get_content_type() == "text/rfc822-headers"
    assert "Subject: lunch" in returned.get_payload()  # type: ignore[operator]
    assert b"Today at noon" not in build_dsn(report)
    assert "header is attached" in text


def test_delay_gives_no_full_message_and_says_until_when() -> None:
    late = dataclasses.replace(
        BOB, action="delayed", status="4.4.1", diagnostic="", remote_mta="", retry_until=NOW + 86400
    )
    message, text, _, (bob,), returned = parts(dataclasses.replace(REPORT, recipients=[late]))
    assert bob["Action"] == "delayed"
    assert bob["Status"] == "4.4.1"
    assert bob["Will-Retry-Until"] == "Tue, 24 Nov 2026 09:00:00 +0000"
    assert "Diagnostic-Code" not in bob
    assert "need not send it again" in text
    assert "tried until Tue, 24 Nov 2026" in text
    assert returned.get_content_type() == "text/rfc822-headers"
    assert "Delayed" in message["Subject"]


@pytest.mark.parametrize("action", ["delivered", "relayed", "expanded"])
def test_success(action: str) -> None:
    done = dataclasses.replace(BOB, action=action, status="2.0.0")  # type: ignore[arg-type]
    message, text, _, (bob,), _ = parts(dataclasses.replace(REPORT, recipients=[done]))
    assert bob["Action"] == action
    assert "confirmation" in text
    assert "Delivered" in message["Subject"]


def test_several_recipients() -> None:
    carol = dataclasses.replace(
        BOB, recipient=Address("carol d", "example.org"), original="", diagnostic="over quota", remote_mta=""
    )
    _, text, _, found, _ = parts(dataclasses.replace(REPORT, recipients=[BOB, carol]))
    assert [r["Final-Recipient"] for r in found] == ["rfc822;bob@example.org", 'rfc822;"carol d"@example.org']
    assert found[1]["Diagnostic-Code"] == "x-postkeep;over quota"
    assert "Original-Recipient" not in found[1]
    assert "over quota" in text


JOERG = dataclasses.replace(
    BOB, recipient=Address("jörg", "xn--bcher-kva.example"), original="utf-8;j\\x{F6}rg@example"
)


def test_utf8_recipient_to_a_sender_who_takes_it() -> None:
    report = dataclasses.replace(
        REPORT, recipients=[JOERG], smtputf8=True, original="Subject: Grüße\r\n\r\nä\r\n".encode()
    )
    assert report.needs_smtputf8
    message, _, _, (joerg,), returned = parts(report)
    assert message.get_payload()[1].get_content_type() == "message/global-delivery-status"  # type: ignore[index, union-attr]
    assert joerg["Final-Recipient"] == "utf-8;jörg@xn--bcher-kva.example"
    assert joerg["Original-Recipient"] == "utf-8;jörg@example"
    assert returned.get_content_type() == "message/global"
    header_only = parts(dataclasses.replace(report, return_full=False))[4]
    assert header_only.get_content_type() == "message/global-headers"


def test_utf8_recipient_to_a_sender_who_does_not() -> None:
    report = dataclasses.replace(REPORT, recipients=[JOERG])
    assert not report.needs_smtputf8
    _, text, _, (joerg,), _ = parts(report)
    assert joerg["Final-Recipient"] == "utf-8;j\\x{F6}rg@xn--bcher-kva.example"
    assert joerg["Original-Recipient"] == "utf-8;j\\x{F6}rg@example"
    assert "jörg@" in text


def test_smtputf8_is_not_needed_for_ascii_addresses() -> None:
    assert not dataclasses.replace(REPORT, smtputf8=True).needs_smtputf8


def test_attack_foreign_words_cannot_end_a_field() -> None:
    evil = dataclasses.replace(
        BOB,
        diagnostic="550 no\r\nAction: delivered\r\n\r\n--boundary\x00\x1b[2J",
        remote_mta="mx\r\nStatus: 2.0.0",
        original="rfc822;a\r\nAction: x+0D+0AAction: y",
        status="2.0.0\r\nX: y",
    )
    report = dataclasses.replace(REPORT, recipients=[evil], envelope_id="a+0D+0AReporting-MTA: evil")
    _, _, about, found, _ = parts(report)
    assert len(found) == 1
    assert found[0].get_all("Action") == ["failed"]
    assert found[0]["Status"] == "5.0.0"
    assert about.get_all("Reporting-MTA") == ["dns;mail.example.test"]
    assert b"\x00" not in build_dsn(report)
    assert b"\x1b" not in build_dsn(report)


def test_attack_original_that_quotes_the_boundary() -> None:
    first = email.message_from_bytes(build_dsn(REPORT)).get_boundary()
    assert first is not None
    report = dataclasses.replace(REPORT, original=ORIGINAL + b"--" + first.encode() + b"--\r\n")
    message = email.message_from_bytes(build_dsn(report))
    assert message.get_boundary() != first
    assert len(message.get_payload()) == 3


def test_long_words_are_folded() -> None:
    evil = dataclasses.replace(BOB, diagnostic="x" * 5000 + " " + "ä" * 3000 + " end")
    data = build_dsn(dataclasses.replace(REPORT, recipients=[evil], return_full=False))
    assert max(len(line) for line in data.split(b"\r\n")) < 998
    assert b"end" in data


@pytest.mark.parametrize(
    "original", [b"", b"\r\n", b"no header", b"Subject: x\nTo: y\n\nbody", b"\xff\x00\r\n\r\n"]
)
def test_any_original_is_taken(original: bytes) -> None:
    for full in (True, False):
        message = email.message_from_bytes(
            build_dsn(dataclasses.replace(REPORT, original=original, return_full=full))
        )
        assert len(message.get_payload()) == 3


def test_8bit_content_is_declared() -> None:
    message = email.message_from_bytes(
        build_dsn(dataclasses.replace(REPORT, original=ORIGINAL + b"\xe4\r\n"))
    )
    assert message.get_payload()[2]["Content-Transfer-Encoding"] == "8bit"  # type: ignore[index, call-overload]
    plain = email.message_from_bytes(build_dsn(REPORT))
    assert plain.get_payload()[2]["Content-Transfer-Encoding"] is None  # type: ignore[index, call-overload]
