"""Trace fields, header watching, admission and the transaction, without a network."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from postkeep.domain.account import Account
from postkeep.domain.address import Address
from postkeep.domain.errors import StorageFull
from postkeep.services.admission import MAILBOX_FULL, NOT_YOURS, SENDER_OK, SESSION_OVER, TOO_BIG
from postkeep.services.envelope import Client, Transaction
from postkeep.services.trace import HEADER_LIMIT, Dates, HeaderWatch, protocol_name, received_from

from tests.support.clock import until
from tests.support.smtp import FakeResolution, SmtpWorld


def _watch(*chunks: bytes) -> HeaderWatch:
    watch = HeaderWatch()
    for chunk in chunks:
        watch.see(chunk)
    watch.end()
    return watch


def test_watch_counts_received_in_the_header_only() -> None:
    watch = _watch(b"Received: a\r\nRECEIVED: b\r\n\tfolded Received: no\r\nDate: x\r\n\r\nReceived: c\r\n")
    assert watch.hops == 2
    assert watch.has_date
    assert not watch.has_message_id


@pytest.mark.parametrize("step", [1, 3, 7, 1000])
def test_watch_does_not_care_for_chunks(step: int) -> None:
    data = b"Received: a\r\nMessage-Id: <x>\r\nSubject: y\r\n\r\nDate: in the body\r\n"
    watch = _watch(*(data[at : at + step] for at in range(0, len(data), step)))
    assert (watch.hops, watch.has_message_id, watch.has_date) == (1, True, False)


def test_watch_of_a_message_without_a_body() -> None:
    assert _watch(b"Date: x\r\nMessage-ID: <x>\r\n").has_date


def test_watch_of_a_message_without_a_header() -> None:
    assert _watch(b"\r\nDate: x\r\n").has_date is False
    assert _watch(b"\r\nDate: x\r\n").starts_with_header
    assert _watch(b"Dear all,\r\nDate: x\r\n").starts_with_header is False
    assert _watch(b"From alice Mon Jan 1\r\nSubject: x\r\n\r\n").starts_with_header
    assert _watch().starts_with_header


def test_watch_gives_up_on_an_endless_header() -> None:
    watch = HeaderWatch()
    watch.see(b"Received: a\r\n" * (HEADER_LIMIT // 13 + 2))
    assert watch.hops > 1000
    assert watch._head is None


def test_dates_are_formatted_once_a_second() -> None:
    dates = Dates()
    first = dates.text(1767225600.2)
    assert first == b"Thu, 01 Jan 2026 00:00:00 +0000"
    assert dates.text(1767225600.9) is first
    assert dates.text(1767225601.0) == b"Thu, 01 Jan 2026 00:00:01 +0000"


@pytest.mark.parametrize(
    ("extended", "tls", "login", "utf8", "expected"),
    [
        (False, False, False, False, "SMTP"),
        (True, False, False, False, "ESMTP"),
        (True, True, False, False, "ESMTPS"),
        (True, False, True, False, "ESMTPA"),
        (True, True, True, False, "ESMTPSA"),
        (True, False, False, True, "UTF8SMTP"),
        (True, True, True, True, "UTF8SMTPSA"),
    ],
)
def test_with_protocol(extended: bool, tls: bool, login: bool, utf8: bool, expected: str) -> None:
    assert protocol_name(extended=extended, tls=tls, authenticated=login, smtputf8=utf8) == expected


def test_received_of_an_ipv6_peer_with_a_hostile_name() -> None:
    line = received_from("x) (y\r\nBcc: z", "2001:db8::1", "mail.test", "ESMTP", "TLSv1.3 AES")
    assert line == (
        b"Received: from x???y??Bcc:?z ([IPv6:2001:db8::1])\r\n\tby mail.test with ESMTP\r\n\t(TLSv1.3 AES) id "
    )


@pytest.fixture
def world() -> SmtpWorld:
    return SmtpWorld(relay_networks=("192.0.2.0/24", "2001:db8::/32"))


@pytest.mark.parametrize(
    ("address", "trusted"),
    [
        ("192.0.2.7", True),
        ("::ffff:192.0.2.7", True),
        ("192.0.3.7", False),
        ("2001:db8::5", True),
        ("2001:db9::5", False),
        ("fe80::1%eth0", False),
        ("local", False),
    ],
)
async def test_relay_networks(world: SmtpWorld, address: str, trusted: bool) -> None:
    assert world.receiver.admission.is_trusted(address) is trusted


async def test_nobody_is_trusted_by_default() -> None:
    assert SmtpWorld().receiver.admission.is_trusted("127.0.0.1") is False


async def test_size_limit_of_the_users_domain(world: SmtpWorld) -> None:
    world.directory.size_limit = 1000
    admission = world.receiver.admission
    user = Client("192.0.2.1", account=world.directory.users["alice"])
    transaction = Transaction()
    transaction.size = 1001
    assert admission.sender(user, transaction, "alice@example.test") is TOO_BIG
    assert admission.sender(Client("192.0.2.1"), transaction, "a@outside.test") is SENDER_OK


async def test_a_user_whose_mail_is_forwarded_away_still_owns_the_address(
    world: SmtpWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    account: Account = replace(
        world.directory.users["alice"], forwards=("x@elsewhere.test",), keep_copy=False
    )
    world.directory.users["alice"] = account
    monkeypatch.setattr(
        world.directory,
        "resolve",
        lambda address: FakeResolution(((), (Address("x", "elsewhere.test"),), True)),
    )
    admission = world.receiver.admission
    client = Client("192.0.2.1", account=account)
    assert admission.sender(client, Transaction(), "al.ice@alias.test") is SENDER_OK
    assert admission.sender(client, Transaction(), "root@example.test") is NOT_YOURS


@pytest.mark.parametrize(
    "change", [{"enabled": False}, {"password_hash": "other"}, None], ids=["disabled", "password", "removed"]
)
async def test_a_login_that_no_longer_holds_sends_nothing_more(
    world: SmtpWorld, change: dict[str, Any] | None
) -> None:
    users, admission = world.directory.users, world.receiver.admission
    client, transaction = Client("192.0.2.1", account=users["alice"]), Transaction()
    assert admission.sender(client, transaction, "alice@example.test") is SENDER_OK
    alice = users.pop("alice")
    if change is not None:
        users["alice"] = replace(alice, **change)
    assert admission.recipient(client, transaction, "far@elsewhere.test") is SESSION_OVER
    assert admission.sender(client, Transaction(), "alice@example.test") is SESSION_OVER
    assert admission.sender(client, Transaction(), "") is SESSION_OVER
    assert transaction.remote == {}


async def test_other_changes_of_the_account_hold_in_its_open_session(world: SmtpWorld) -> None:
    users, admission = world.directory.users, world.receiver.admission
    client = Client("192.0.2.1", account=users["alice"])
    assert admission.sender(client, Transaction(), "new@example.test") is NOT_YOURS
    users["alice"] = replace(users["alice"], aliases=("new",))
    assert admission.sender(client, Transaction(), "new@example.test") is SENDER_OK


@pytest.mark.parametrize("gone", ["removed", "disabled"])
@pytest.mark.parametrize("others", [(), ("bob@example.test",), ("x@elsewhere.test",)])
async def test_a_recipient_gone_since_rcpt_gets_nothing_and_no_account(
    world: SmtpWorld, gone: str, others: tuple[str, ...]
) -> None:
    transaction = await _transaction(world, "alice@example.test", *others)
    alice = world.directory.users.pop("alice")
    if gone == "disabled":
        world.directory.users["alice"] = replace(alice, enabled=False)
    assert (await _take(world, transaction, b"\r\nx\r\n")).reply.startswith("451 4.2.0 ")
    assert world.store.accounts == {}
    assert world.store.delivered == []
    assert world.queue.activated == []
    assert world.store.bodies[0].discarded


async def test_a_recipient_gone_during_the_commit_is_put_off(world: SmtpWorld) -> None:
    transaction = await _transaction(world, "alice@example.test", "x@elsewhere.test")
    prepare = world.queue.prepare

    async def slow(*args: Any, **more: Any) -> Any:
        world.directory.users.pop("alice")
        return await prepare(*args, **more)

    world.queue.prepare = slow
    assert (await _take(world, transaction, b"\r\nx\r\n")).reply.startswith("451 4.2.0 ")
    assert world.queue.discarded == ["q1"]
    assert world.store.accounts == {}


async def _take(world: SmtpWorld, transaction: Transaction, content: bytes) -> Any:
    incoming = world.receiver.content()
    incoming.write(content)
    return await world.receiver.finish(Client("192.0.2.1", name="c", extended=True), transaction, incoming)


async def _transaction(world: SmtpWorld, *recipients: str, sender: str = "a@outside.test") -> Transaction:
    client = Client("192.0.2.1", trusted=True)
    transaction = Transaction()
    assert world.receiver.admission.sender(client, transaction, sender).ok
    for recipient in recipients:
        assert world.receiver.admission.recipient(client, transaction, recipient).ok
    return transaction


async def test_ids_are_unique(world: SmtpWorld) -> None:
    verdicts = set()
    for _ in range(500):
        verdicts.add((await _take(world, await _transaction(world, "alice@example.test"), b"\r\nx\r\n")).text)
    assert len(verdicts) == 500


async def test_full_mailbox_among_others_is_bounced_not_lost(world: SmtpWorld) -> None:
    await world.store.create_account("dave@example.test")
    world.store.used["dave@example.test"] = (9_990, 1)
    world.directory.lists["all@example.test"] = ("dave@example.test", "alice@example.test")
    transaction = await _transaction(world, "all@example.test", sender="bob@example.test")
    assert (await _take(world, transaction, b"Subject: long\r\n\r\n" + b"x" * 400 + b"\r\n")).ok
    assert len(world.store.messages("alice@example.test")) == 1
    assert world.store.messages("dave@example.test") == []
    (bounce,) = world.store.messages("bob@example.test")
    assert b"Status: 5.2.2" in bounce
    assert b"Final-Recipient: rfc822;all@example.test" in bounce.replace(b"; ", b";")
    assert b"one of those behind this address" in bounce
    assert b"dave" not in bounce, "whom an alias leads to is nobody's business"
    assert ", full=<dave@example.test>, " in world.logs.mail.lines[-1]
    (line,) = world.logs.security.lines
    assert line.startswith("Delivery failed: id=")
    assert ", from=<bob@example.test>, to=<dave@example.test>, peer=" in line
    assert line.endswith(": the mailbox is full")


LONG = b"Subject: long\r\n\r\n" + b"x" * 400 + b"\r\n"


async def _nearly_full(world: SmtpWorld, sender: str, *recipients: tuple[str, str, str]) -> Transaction:
    """Dave has no room for LONG, but at RCPT nobody knows its size. `recipients`: path, NOTIFY, ORCPT."""
    await world.store.create_account("dave@example.test")
    world.store.used["dave@example.test"] = (9_990, 1)
    world.directory.lists["d@example.test"] = ("dave@example.test",)
    world.directory.lists["all@example.test"] = ("dave@example.test", "alice@example.test")
    client, transaction = Client("192.0.2.1", trusted=True), Transaction()
    assert world.receiver.admission.sender(client, transaction, sender).ok
    for path, notify, original in recipients:
        assert world.receiver.admission.recipient(client, transaction, path, notify, original).ok
    return transaction


@pytest.mark.parametrize("other", ["alice@example.test", "x@elsewhere.test"])
async def test_message_without_a_sender_is_not_lost_to_a_full_mailbox(world: SmtpWorld, other: str) -> None:
    """Nobody could be told: with others it is kept over the quota, this once."""
    transaction = await _nearly_full(world, "", ("dave@example.test", "", ""), (other, "", ""))
    assert (await _take(world, transaction, LONG)).ok
    assert len(world.store.messages("dave@example.test")) == 1
    assert "full=" not in world.logs.mail.lines[0]
    world.store.used["dave@example.test"] = (10_400, 2)
    client = Client("192.0.2.1")
    assert world.receiver.admission.recipient(client, Transaction(), "dave@example.test") is MAILBOX_FULL


async def test_message_without_a_sender_to_a_full_mailbox_alone_is_put_off(world: SmtpWorld) -> None:
    transaction = await _nearly_full(world, "", ("dave@example.test", "", ""))
    assert await _take(world, transaction, LONG) is MAILBOX_FULL
    assert world.store.delivered == []
    assert ", full=<dave@example.test>, result=452 " in world.logs.mail.lines[0]


@pytest.mark.parametrize("notify", ["NEVER", "SUCCESS", "SUCCESS,DELAY"])
async def test_no_failure_report_where_none_is_wanted(world: SmtpWorld, notify: str) -> None:
    transaction = await _nearly_full(
        world, "a@outside.test", ("dave@example.test", notify, ""), ("alice@example.test", "", "")
    )
    assert (await _take(world, transaction, LONG)).ok
    assert world.queue.prepared == []
    assert ", full=<dave@example.test>, " in world.logs.mail.lines[0]


@pytest.mark.parametrize("notify", ["", "FAILURE", "SUCCESS,FAILURE"])
async def test_failure_report_names_what_the_sender_wrote(world: SmtpWorld, notify: str) -> None:
    transaction = await _nearly_full(
        world,
        "a@outside.test",
        ("d@example.test", notify, "rfc822;Old+2Bname@list.test"),
        ("alice@example.test", "SUCCESS", ""),
    )
    assert (await _take(world, transaction, LONG)).ok
    success, failure = (entry["content"].replace(b"; ", b";") for entry in world.queue.prepared)
    assert b"Action: delivered" in success
    assert b"Final-Recipient: rfc822;alice@example.test" in success
    assert b"d@example.test" not in success
    assert b"Action: failed" in failure
    assert b"Final-Recipient: rfc822;d@example.test" in failure
    assert b"Original-Recipient: rfc822;Old+name@list.test" in failure
    assert b"dave" not in failure
    assert failure.count(b"Final-Recipient") == 1


async def test_recipient_given_twice_is_reported_once(world: SmtpWorld) -> None:
    again = [("alice@example.test", "SUCCESS", ""), ("ALICE@example.test", "SUCCESS", "")]
    transaction = await _nearly_full(world, "a@outside.test", *again)
    assert (await _take(world, transaction, LONG)).ok
    (receipt,) = world.queue.prepared
    assert receipt["content"].count(b"Final-Recipient") == 1


async def test_alias_that_leads_elsewhere_only_is_for_the_queue_to_report(world: SmtpWorld) -> None:
    transaction = await _nearly_full(
        world,
        "a@outside.test",
        ("away@example.test", "SUCCESS", ""),
        ("d@example.test", "", ""),
        ("root@example.test", "", ""),
    )
    assert (await _take(world, transaction, LONG)).ok
    message, failure = world.queue.prepared
    assert [(str(one.address), one.notify) for one in message["recipients"]] == [
        ("someone@elsewhere.test", "SUCCESS")
    ]
    assert b"d@example.test" in failure["content"]


@pytest.mark.parametrize(("size", "code"), [(10_001, 452), (9_000, 250)])
async def test_a_message_announced_larger_than_the_quota_is_refused_at_rcpt(
    world: SmtpWorld, size: int, code: int
) -> None:
    """RFC 1870 §6.1: with SIZE nobody sends in vain. Dave may have 10,000 octets."""
    client, transaction = Client("192.0.2.1"), Transaction()
    assert world.receiver.admission.sender(client, transaction, "a@outside.test").ok
    transaction.size = size
    assert world.receiver.admission.recipient(client, transaction, "dave@example.test").code == code


async def test_every_left_out_account_is_logged_within_bounds(world: SmtpWorld) -> None:
    names = [f"user{number:02}" for number in range(30)]
    for name in names:
        world.directory.users[name] = Account(name, "example.test", quota_bytes=300)
    transaction = await _transaction(world, "alice@example.test", *(f"{name}@example.test" for name in names))
    assert (await _take(world, transaction, LONG)).ok
    assert "full=<user00@example.test>,<user01@example.test>" in world.logs.mail.lines[0]
    assert "<user19@example.test> and 10 more, result=250" in world.logs.mail.lines[0]


async def test_null_sender_gets_no_notification(world: SmtpWorld) -> None:
    client = Client("192.0.2.1")
    transaction = Transaction()
    world.receiver.admission.sender(client, transaction, "")
    world.receiver.admission.recipient(client, transaction, "alice@example.test", "SUCCESS")
    assert (await _take(world, transaction, b"\r\nx\r\n")).ok
    assert len(world.store.delivered) == 1
    assert world.queue.prepared == []


async def test_notification_that_fails_does_not_take_the_250_back(world: SmtpWorld) -> None:
    client = Client("192.0.2.1")
    transaction = Transaction()
    world.receiver.admission.sender(client, transaction, "far@outside.test")
    world.receiver.admission.recipient(client, transaction, "alice@example.test", "SUCCESS")
    world.queue.failure = StorageFull("full")
    assert (await _take(world, transaction, b"\r\nx\r\n")).ok
    assert "notification" in world.logs.error.lines[0]


async def test_cancelled_commit_discards_the_queue_files(world: SmtpWorld) -> None:
    world.store.gate = asyncio.Event()
    transaction = await _transaction(world, "alice@example.test", "x@elsewhere.test")
    task = asyncio.create_task(_take(world, transaction, b"\r\nx\r\n"))
    await until(lambda: world.queue.prepared)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert world.queue.discarded == ["q1"]
    assert world.queue.activated == []
    assert world.store.bodies[0].discarded


async def test_remote_recipients_that_differ_in_case_are_two(world: SmtpWorld) -> None:
    transaction = await _transaction(world, "Bob@elsewhere.test", "bob@elsewhere.test", "bob@ELSEWHERE.test")
    await _take(world, transaction, b"\r\nx\r\n")
    assert [one.address for one in world.queue.prepared[0]["recipients"]] == [
        Address("Bob", "elsewhere.test"),
        Address("bob", "elsewhere.test"),
    ]


async def test_log_line_of_many_recipients_is_bounded(world: SmtpWorld) -> None:
    transaction = await _transaction(world, *(f"user{number}@elsewhere.test" for number in range(100)))
    await _take(world, transaction, b"\r\nx\r\n")
    assert len(world.logs.mail.lines[0]) < 1000
    assert "and 80 more" in world.logs.mail.lines[0]
