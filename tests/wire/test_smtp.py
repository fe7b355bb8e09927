"""SMTP sessions over real sockets: extensions, order, recipients, relay control, replies."""

import asyncio
import base64

import pytest
from postkeep.domain.errors import StorageFailed, StorageFull

from tests.support.clock import until
from tests.support.smtp import smtp_world

ALICE = b"AUTH PLAIN " + base64.b64encode(b"\0alice\0secret alice")


async def test_greeting_and_extensions() -> None:
    async with smtp_world() as world:
        client = await world.connect(greeting=False)
        assert await client.reply() == b"220 mail.example.test ESMTP Postkeep\r\n"
        lines = (await client.hello()).decode().split("\r\n")
        assert lines[0] == "250-mail.example.test"
        assert {line[4:] for line in lines[1:-1]} == {
            "SIZE 134217728", "8BITMIME", "SMTPUTF8", "STARTTLS", "PIPELINING", "ENHANCEDSTATUSCODES", "DSN", "HELP",
        }  # fmt: skip
        assert lines[-2].startswith("250 ")


async def test_a_message_is_stored_with_its_trace() -> None:
    async with smtp_world() as world:
        client = await world.connect()
        await client.hello()
        reply = await client.message(b"Subject: hi\r\n\r\nbody", "alice@example.test")
        assert reply.startswith(b"250 2.0.0 Ok: id=")
        name = reply.split(b"id=")[1].strip()
        (content,) = world.store.messages("alice@example.test")
        lines = content.split(b"\r\n")
        assert lines[0] == b"Return-Path: <sender@outside.test>"
        assert lines[1] == b"Received: from client.example ([127.0.0.1])"
        assert lines[2] == b"\tby mail.example.test with ESMTP id " + name
        assert lines[3].startswith(b"\tfor <alice@example.test>; ")
        assert content.endswith(b"\r\nSubject: hi\r\n\r\nbody\r\n")
        assert f"id={name.decode()}," in world.logs.mail.lines[0]
        assert world.bus.changes[0].account == world.store.accounts["alice@example.test"]


async def test_two_messages_on_one_connection() -> None:
    async with smtp_world() as world:
        client = await world.connect()
        await client.hello()
        for number in range(3):
            await client.message(b"\r\n%d" % number)
        assert [content[-3:] for content in world.store.messages("alice@example.test")] == [
            b"0\r\n", b"1\r\n", b"2\r\n",
        ]  # fmt: skip


async def test_pipelined_commands_get_one_packet_of_replies() -> None:
    async with smtp_world() as world:
        client = await world.connect()
        await client.hello()
        client.send(
            b"MAIL FROM:<sender@outside.test>\r\nRCPT TO:<alice@example.test>\r\nRCPT TO:<nobody.here@example.test>\r\n"
            b"RCPT TO:<bob@example.test>\r\nDATA\r\n"
        )
        replies = await asyncio.wait_for(client.reader.read(10_000), 10)
        codes = [line[:3] for line in replies.splitlines()]
        assert codes == [b"250", b"250", b"550", b"250", b"354"]
        client.send(
            b"\r\nx\r\n.\r\nMAIL FROM:<second@outside.test>\r\nRCPT TO:<bob@example.test>\r\nDATA\r\n"
        )
        assert [(await client.reply())[:3] for _ in range(4)] == [b"250", b"250", b"250", b"354"]
        client.send(b"\r\ny\r\n.\r\nQUIT\r\n")
        assert [(await client.reply())[:3] for _ in range(2)] == [b"250", b"221"]
        assert len(world.store.messages("bob@example.test")) == 2
        assert len(world.store.messages("alice@example.test")) == 1
        assert world.store.commits == 2  # one for both recipients


async def test_a_message_pipelined_behind_data_is_still_one_message() -> None:
    async with smtp_world() as world:
        client = await world.connect()
        client.send(
            b"EHLO c\r\nMAIL FROM:<a@outside.test>\r\nRCPT TO:<alice@example.test>\r\nDATA\r\n\r\nx\r\n.\r\nQUIT\r\n"
        )
        rest = await client.at_end()
        assert [line[:4] for line in rest.splitlines()][-5:] == [b"250 ", b"250 ", b"354 ", b"250 ", b"221 "]
        assert len(world.store.delivered) == 1


async def test_half_closed_connection_gets_its_answers() -> None:
    async with smtp_world() as world:
        client = await world.connect()
        client.send(
            b"EHLO c\r\nMAIL FROM:<a@outside.test>\r\nRCPT TO:<alice@example.test>\r\nDATA\r\nx\r\n.\r\n"
        )
        client.writer.write_eof()
        assert b"250 2.0.0 Ok: id=" in await client.at_end()
        assert len(world.store.delivered) == 1


async def test_connection_lost_in_data_stores_nothing() -> None:
    async with smtp_world() as world:
        client = await world.connect()
        await client.hello()
        await client.begin("alice@example.test")
        client.send(b"Subject: half\r\n")
        client.writer.write_eof()
        assert await client.at_end() == b""
        assert world.store.delivered == []
        assert world.store.incomings[0].aborted


async def test_connection_lost_during_the_commit_does_not_stop_it() -> None:
    async with smtp_world() as world:
        world.store.gate = asyncio.Event()
        client = await world.connect()
        await client.hello()
        await client.begin("alice@example.test")
        client.send(b"x\r\n.\r\n")
        await until(lambda: world.store.bodies)
        client.reset()
        await until(lambda: not (world.server.connections))
        world.store.gate.set()
        await until(lambda: world.logs.mail.lines)
        assert len(world.store.delivered) == 1
        assert world.bus.changes, "what was stored must be published"


@pytest.mark.parametrize(
    ("recipient", "code"),
    [
        ("alice@example.test", b"250 2.1.5"),
        ("ALICE@EXAMPLE.TEST", b"250 2.1.5"),
        ("alice@alias.test", b"250 2.1.5"),
        ("al.ice@example.test", b"250 2.1.5"),
        ("sales@example.test", b"250 2.1.5"),
        ("away@example.test", b"250 2.1.5"),
        ("postmaster", b"250 2.1.5"),
        ("PostMaster", b"250 2.1.5"),
        ("postmaster@alias.test", b"250 2.1.5"),
        ('"alice"@example.test', b"250 2.1.5"),
        ("unknown@example.test", b"550 5.1.1"),
        ("nobody@example.test", b"550 5.1.1"),
        ("carol@example.test", b"550 5.2.1"),
        ("someone@elsewhere.test", b"550 5.7.1"),
        ("someone%elsewhere.test@example.test", b"550 5.1.1"),
        ("elsewhere.test!someone@example.test", b"550 5.1.1"),
        ("@example.test:someone@elsewhere.test", b"550 5.7.1"),
        ("someone@[192.0.2.1]", b"550 5.7.1"),
        ('"someone@elsewhere.test"@example.test', b"550 5.1.1"),
        ("alice", b"553 5.1.3"),
        ("x" * 65 + "@example.test", b"553 5.1.3"),
        ("a@b@example.test", b"553 5.1.3"),
        ("ü@example.test", b"553 5.6.7"),
    ],
)
async def test_recipient_at_the_door(recipient: str, code: bytes) -> None:
    async with smtp_world() as world:
        client = await world.connect()
        await client.hello()
        await client.do("MAIL FROM:<>")
        assert (await client.do(f"RCPT TO:<{recipient}>")).startswith(code)


async def test_relaying_is_denied_and_logged() -> None:
    async with smtp_world() as world:
        client = await world.connect()
        await client.hello()
        await client.do("MAIL FROM:<alice@example.test>")
        assert (await client.do("RCPT TO:<x@elsewhere.test>")).startswith(b"550 5.7.1 Relaying denied")
        assert (await client.do("DATA")).startswith(b"503 5.5.1")
        assert "relaying denied" in world.logs.security.lines[0]
        assert "peer=127.0.0.1" in world.logs.security.lines[0]


async def test_relay_networks_may_relay() -> None:
    async with smtp_world(relay_networks=("192.0.2.0/24", "127.0.0.0/8", "nonsense")) as world:
        assert "nonsense" in world.logs.error.lines[0]
        client = await world.connect()
        await client.hello()
        assert (await client.message(b"\r\nx", "x@elsewhere.test")).startswith(b"250 ")
        assert world.queue.activated == ["q1"]


async def test_relay_networks_help_no_longer_after_a_failed_login() -> None:
    async with smtp_world(relay_networks=("127.0.0.1",), authentication_without_tls=True) as world:
        client = await world.connect()
        await client.hello()
        await client.do(b"AUTH PLAIN " + base64.b64encode(b"\0alice\0wrong"))
        await client.do("MAIL FROM:<a@outside.test>")
        assert (await client.do("RCPT TO:<x@elsewhere.test>")).startswith(b"550 5.7.1")


async def test_many_recipients_are_put_off() -> None:
    async with smtp_world(maximum_recipients=2) as world:
        client = await world.connect()
        await client.hello()
        await client.do("MAIL FROM:<a@outside.test>")
        await client.do("RCPT TO:<alice@example.test>")
        await client.do("RCPT TO:<bob@example.test>")
        assert (await client.do("RCPT TO:<root@example.test>")).startswith(b"452 4.5.3")
        assert (await client.do("DATA")).startswith(b"354")


async def test_alias_and_user_together_get_one_copy() -> None:
    async with smtp_world() as world:
        client = await world.connect()
        await client.hello()
        await client.message(b"\r\nx", "sales@example.test", "alice@example.test", "twice@example.test")
        assert sorted(key for key, _ in world.store.delivered) == ["alice@example.test", "bob@example.test"]
        assert b"for <" not in world.store.delivered[0][1]


async def test_forward_goes_to_the_queue_with_the_first_sender() -> None:
    async with smtp_world() as world:
        client = await world.connect()
        await client.hello()
        await client.message(b"Subject: f\r\n\r\nx", "away@example.test")
        entry = world.queue.prepared[0]
        assert str(entry["sender"]) == "sender@outside.test"
        assert [str(one.address) for one in entry["recipients"]] == ["someone@elsewhere.test"]
        assert entry["content"].startswith(b"Received: ")  # no Return-Path before final delivery
        assert entry["size"] == len(entry["content"])
        assert world.store.bodies[0].discarded


async def test_null_sender() -> None:
    async with smtp_world() as world:
        client = await world.connect()
        await client.hello()
        await client.message(b"\r\nx", sender="")
        assert world.store.delivered[0][1].startswith(b"Return-Path: <>\r\n")


async def test_size_declared_over_the_limit() -> None:
    async with smtp_world(maximum_message_size=1000) as world:
        client = await world.connect()
        assert b"250-SIZE 1000\r\n" in await client.hello()
        assert (await client.do("MAIL FROM:<a@b.test> SIZE=1001")).startswith(b"552 5.3.4")
        assert (await client.do("MAIL FROM:<a@b.test> SIZE=1000")).startswith(b"250 ")


async def test_size_over_the_limit_on_the_way() -> None:
    async with smtp_world(maximum_message_size=1000) as world:
        client = await world.connect()
        await client.hello()
        reply = await client.message(b"\r\n" + b"x" * 70 + b"\r\n" + b"y" * 5000)
        assert reply.startswith(b"552 5.3.4")
        assert world.store.delivered == []
        assert world.store.incomings[0].aborted
        assert world.store.incomings[0].size < 1000
        assert (await client.message(b"\r\nsmall")).startswith(b"250 ")


async def test_quota_by_declared_and_by_real_size() -> None:
    async with smtp_world() as world:
        await world.store.create_account("dave@example.test")
        world.store.used["dave@example.test"] = (9_000, 10)
        client = await world.connect()
        await client.hello()
        await client.do("MAIL FROM:<a@b.test> SIZE=2000")
        assert (await client.do("RCPT TO:<dave@example.test>")).startswith(b"452 4.2.2")
        await client.do("RSET")
        assert (
            await client.message(b"\r\n" + b"x" * 900 + b"\r\n" + b"x" * 900, "dave@example.test")
        ).startswith(b"452 4.2.2")
        assert world.store.delivered == []
        assert (await client.message(b"\r\nsmall", "dave@example.test")).startswith(b"250 ")


async def test_full_disk_while_writing_is_452() -> None:
    async with smtp_world() as world:
        world.store.room = 100
        client = await world.connect()
        await client.hello()
        assert (await client.message(b"\r\n" + b"x" * 200)).startswith(b"452 4.3.1")
        assert (await client.message(b"\r\nsmall")).startswith(b"250 ")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (StorageFull("full"), b"452 4.3.1"),
        (StorageFailed("EIO"), b"451 4.3.0"),
        (RuntimeError("bug"), b"451 4.3.0"),
    ],
)
async def test_failure_of_the_commit_is_never_250(error: Exception, code: bytes) -> None:
    async with smtp_world(relay_networks=("127.0.0.1",)) as world:
        world.store.failure = error
        client = await world.connect()
        await client.hello()
        assert (await client.message(b"\r\nx", "alice@example.test", "x@elsewhere.test")).startswith(code)
        assert world.queue.discarded == ["q1"]
        assert world.queue.activated == []
        assert world.store.bodies[0].discarded
        assert (await client.do("NOOP")).startswith(b"250 ")


async def test_failure_of_the_queue_stores_nothing() -> None:
    async with smtp_world(relay_networks=("127.0.0.1",)) as world:
        world.queue.failure = StorageFull("full")
        client = await world.connect()
        await client.hello()
        assert (await client.message(b"\r\nx", "alice@example.test", "x@elsewhere.test")).startswith(
            b"452 4.3.1"
        )
        assert world.store.delivered == []


async def test_queue_files_first_then_the_store_then_the_queue_is_told() -> None:
    async with smtp_world(relay_networks=("127.0.0.1",)) as world:
        client = await world.connect()
        await client.hello()
        await client.message(b"\r\nx", "alice@example.test", "x@elsewhere.test")
        assert world.store.order == ["prepare", "store", "activate"]


async def test_dsn_parameters_reach_the_queue() -> None:
    async with smtp_world(relay_networks=("127.0.0.1",)) as world:
        client = await world.connect()
        await client.hello()
        await client.do("MAIL FROM:<a@outside.test> RET=HDRS ENVID=QQ314159 BODY=8BITMIME SIZE=20")
        await client.do(
            "RCPT TO:<Xy@elsewhere.test> NOTIFY=success,failure ORCPT=rfc822;Xy+2B@Elsewhere.test"
        )
        await client.do("DATA")
        client.send(b"\r\nx\r\n.\r\n")
        assert (await client.reply()).startswith(b"250 ")
        entry = world.queue.prepared[0]
        assert (entry["ret"], entry["envid"], entry["eight_bit"]) == ("HDRS", "QQ314159", True)
        recipient = entry["recipients"][0]
        assert (str(recipient.address), recipient.original, recipient.notify) == (
            "Xy@elsewhere.test", "rfc822;Xy+2B@Elsewhere.test", "SUCCESS,FAILURE",
        )  # fmt: skip


async def test_dsn_parameters_that_are_broken_or_misplaced() -> None:
    async with smtp_world() as world:
        client = await world.connect()
        await client.hello()
        assert (await client.do("MAIL FROM:<a@b.test> RET=MAYBE")).startswith(b"501 5.5.4")
        assert (await client.do("MAIL FROM:<a@b.test> NOTIFY=NEVER")).startswith(b"555 5.5.4")
        assert (await client.do("MAIL FROM:<a@b.test> RET=FULL")).startswith(b"250 ")
        assert (await client.do("RCPT TO:<alice@example.test> NOTIFY=NEVER,DELAY")).startswith(b"501 5.5.4")
        assert (await client.do("RCPT TO:<alice@example.test> RET=FULL")).startswith(b"555 5.5.4")
        assert (await client.do("RCPT TO:<alice@example.test> NOTIFY=NEVER")).startswith(b"250 ")


async def test_success_notification_for_a_local_recipient() -> None:
    async with smtp_world() as world:
        client = await world.connect()
        await client.hello()
        await client.do("MAIL FROM:<bob@example.test> ENVID=here")
        await client.do("RCPT TO:<alice@example.test> NOTIFY=SUCCESS ORCPT=rfc822;Alice@example.test")
        await client.do("DATA")
        client.send(b"Subject: tell me\r\n\r\nx\r\n.\r\n")
        assert (await client.reply()).startswith(b"250 ")
        assert (await client.do("NOOP")).startswith(b"250 ")
        (receipt,) = world.store.messages("bob@example.test")
        assert receipt.startswith(b"Return-Path: <>\r\n")
        for expected in (b"Action: delivered", b"Original-Recipient: rfc822;Alice@example.test", b"tell me"):
            assert expected in receipt


async def test_success_notification_for_a_sender_elsewhere_is_queued() -> None:
    async with smtp_world() as world:
        client = await world.connect()
        await client.hello()
        await client.do("MAIL FROM:<far@outside.test>")
        await client.do("RCPT TO:<alice@example.test> NOTIFY=SUCCESS")
        await client.do("DATA")
        client.send(b"\r\nx\r\n.\r\n")
        await client.reply()
        assert (await client.do("NOOP")).startswith(b"250 ")
        assert world.queue.prepared[0]["sender"] is None
        assert world.queue.activated == ["q1"]


async def test_smtputf8() -> None:
    async with smtp_world() as world:
        client = await world.connect()
        await client.hello()
        assert (await client.do("MAIL FROM:<jürgen@outside.test>")).startswith(b"553 5.6.7")
        assert (await client.do("MAIL FROM:<jürgen@bücher.example> SMTPUTF8")).startswith(b"250 ")
        assert (await client.do("RCPT TO:<ünknown@example.test>")).startswith(b"550 5.1.1")
        assert (await client.do(b"RCPT TO:<\xff\xfe@example.test>")).startswith(b"553 5.1.3")
        assert (await client.do("RCPT TO:<alice@example.test>")).startswith(b"250 ")
        await client.do("DATA")
        client.send("Subject: ü\r\n\r\nx\r\n.\r\n".encode())
        assert (await client.reply()).startswith(b"250 ")
        content = world.store.delivered[0][1]
        assert content.startswith("Return-Path: <jürgen@xn--bcher-kva.example>\r\n".encode())
        assert b"with UTF8SMTP id" in content


async def test_helo_without_extensions() -> None:
    async with smtp_world() as world:
        client = await world.connect()
        assert await client.do("HELO client.example") == b"250 mail.example.test\r\n"
        await client.message(b"\r\nx")
        assert b"with SMTP id" in world.store.delivered[0][1]


async def test_local_sender_must_log_in_when_the_setting_says_so() -> None:
    async with smtp_world(require_authentication_for_local_senders=True) as world:
        client = await world.connect()
        await client.hello()
        assert (await client.do("MAIL FROM:<bob@alias.test>")).startswith(b"550 5.7.1")
        assert (await client.do("MAIL FROM:<bob@outside.test>")).startswith(b"250 ")


async def test_ehlo_name_cannot_forge_header_fields() -> None:
    async with smtp_world() as world:
        client = await world.connect()
        await client.do("EHLO evil(;by\tx)<>,\"' [1.2.3.4]")
        await client.message(b"\r\nx")
        assert b"Received: from evil??by ([127.0.0.1])\r\n" in world.store.delivered[0][1]
