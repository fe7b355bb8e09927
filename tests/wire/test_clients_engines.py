"""Mail between two engines: by MX and STARTTLS, and back as a bounce."""

import re
from collections.abc import Iterator
from email import message_from_bytes
from pathlib import Path

import pytest

from tests.support.clients import ALICE, BOB, open_imap, subjects, swaks, wait_until
from tests.support.engine import Engine

pytestmark = pytest.mark.clients


@pytest.fixture
def two(tmp_path: Path) -> Iterator[tuple[Engine, Engine]]:
    """First and second engine; the first finds the second by MX through the resolver file."""
    zone = tmp_path / "zone"
    zone.write_text("second.test MX 10 mx.second.test\nmx.second.test A 127.0.0.1\n")
    second = Engine(tmp_path / "second", domain="second.test", users={"bob": BOB})
    settings = {"ResolverFile": str(zone), "DeliveryPort": second.ports.smtp}
    first = Engine(tmp_path / "first", users={"alice": ALICE}, settings=settings)
    with second, first:
        yield first, second


def test_mail_reaches_a_second_engine_by_mx_and_starttls(two: tuple[Engine, Engine]) -> None:
    first, second = two
    swaks(
        first,
        "across",
        "--port",
        str(first.ports.submission),
        "--tls",
        "--auth",
        "PLAIN",
        "--to",
        "bob@second.test",
    )
    with open_imap(second, "bob", BOB) as imap:
        wait_until(lambda: subjects(imap) == ["across"], "the delivery to the second engine")
        content = imap.fetch("1", "(BODY.PEEK[])")[1][0][1]
    received = message_from_bytes(content).get_all("Received")
    assert len(received) == 2
    assert "mail.second.test" in received[0]
    assert re.search(r"with (UTF8)?E?SMTPS", received[0]), received[0]  # RFC 3848: S says TLS


def test_a_refused_recipient_bounces(two: tuple[Engine, Engine]) -> None:
    first, _ = two
    options = (
        "--port",
        str(first.ports.submission),
        "--tls",
        "--auth",
        "PLAIN",
        "--to",
        "nobody@second.test",
    )
    swaks(first, "refused", *options)
    with open_imap(first, "alice", ALICE) as imap:
        wait_until(lambda: len(subjects(imap)) == 1, "the bounce")
        bounce = message_from_bytes(imap.fetch("1", "(BODY.PEEK[])")[1][0][1])
    assert bounce["Return-Path"] == "<>"
    assert bounce.get_content_type() == "multipart/report"
    assert bounce.get_param("report-type") == "delivery-status"
    _, status, returned = bounce.get_payload()
    fields = status.get_payload()[1]
    assert fields["Action"] == "failed"
    assert fields["Status"] == "5.1.1"
    assert fields["Final-Recipient"].endswith("nobody@second.test")
    assert "Subject: refused" in returned.as_string()
