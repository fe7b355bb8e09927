"""The queue against scripted servers on real sockets."""

import asyncio
import json
from pathlib import Path

import pytest
from postkeep.domain.address import Address, parse_address
from postkeep.domain.errors import NotFound, StorageFull
from postkeep.queue.queue import QueuedRecipient

from tests.support.clock import FakeClock
from tests.support.queueworld import MESSAGE, queue_world, resolver_for
from tests.support.smtpsink import DROP, SILENT, SinkSession, sink


async def test_a_message_is_delivered_and_its_files_go(tmp_path: Path) -> None:
    async with sink() as server, queue_world(tmp_path, server) as world:
        name = await world.send("bob@a.test")
        (message,) = await server.got(1)
        await world.empty()
        assert message.data == MESSAGE
        assert message.mail == f"MAIL FROM:<alice@example.test> SIZE={len(MESSAGE)}"
        assert message.rcpts == ["RCPT TO:<bob@a.test>"]
        assert world.names() == []
        assert (
            f"Sent: id={name}, to=<bob@a.test>, relay=mx.a.test[127.0.0.1]:{server.port}" in world.logs.mail
        )
        assert "250 2.0.0 taken as 0" in world.logs.mail
        assert server.sessions[0].commands[0] == "EHLO mail.example.test"


async def test_the_files_are_there_before_prepare_returns(tmp_path: Path) -> None:
    async with queue_world(tmp_path) as world:
        prepared = await world.queue.prepare(
            parse_address("alice@example.test"),
            [QueuedRecipient(parse_address("bob@a.test"), "rfc822;bob@a.test", "DELAY")],
            [MESSAGE[:10], MESSAGE[10:]],
            size=len(MESSAGE),
            smtputf8=False,
            eight_bit=True,
            envid="QQ314159",
            ret="HDRS",
        )
        assert world.names() == [f"{prepared.id}.eml", f"{prepared.id}.env"]
        assert (world.folder / f"{prepared.id}.eml").read_bytes() == MESSAGE
        text = json.loads((world.folder / f"{prepared.id}.env").read_text())
        assert text["version"] == 1
        assert text["sender"] == "alice@example.test"
        assert text["envid"] == "QQ314159"
        assert text["eight_bit"] is False  # declared, but the content is ASCII
        assert text["recipients"][0]["notify"] == "DELAY"
        assert world.queue.entries() == []  # not active yet
        await world.queue.discard(prepared)
        assert world.names() == []


async def test_4xx_then_250(tmp_path: Path) -> None:
    tries = 0

    def script(session: SinkSession, line: str) -> str | None:
        nonlocal tries
        if line.startswith("RCPT"):
            tries += 1
            return "451 4.7.1 greylisted, come back" if tries == 1 else None
        return None

    clock = FakeClock()
    async with sink(script) as server, queue_world(tmp_path, server, clock=clock) as world:
        await world.send("bob@a.test")
        await world.until(lambda: any(entry.tries for entry in world.queue.entries()))
        await world.settled()
        (entry,) = world.queue.entries()
        assert entry.last_reply == "451 4.7.1 greylisted, come back"
        assert entry.next_try is not None
        assert 280 <= entry.next_try - clock.now() <= 320
        stored = json.loads((world.folder / f"{entry.id}.env").read_text())
        assert stored["recipients"][0]["tries"] == 1
        await clock.advance(330)
        await server.got(1)
        await world.empty()
        assert world.names() == []
        assert world.local.mail == []


async def test_5xx_bounces_to_a_local_sender(tmp_path: Path) -> None:
    def script(session: SinkSession, line: str) -> str | None:
        return "550 5.1.1 no such user here" if line.startswith("RCPT") else None

    async with sink(script) as server, queue_world(tmp_path, server) as world:
        await world.send("bob@a.test", envid="QQ1")
        await world.empty()
        ((sender, recipient, content),) = world.local.mail
        assert sender is None
        assert recipient == Address("alice", "example.test")
        assert b"multipart/report; report-type=delivery-status" in content
        assert b"Final-Recipient: rfc822;bob@a.test" in content
        assert b"Action: failed" in content
        assert b"Status: 5.1.1" in content
        assert b"Diagnostic-Code: smtp;550 5.1.1 no such user here" in content
        assert b"Original-Envelope-Id: QQ1" in content
        assert b"Subject: hello" in content
        assert b"\r\nbody\r\n" not in content
        assert world.names() == []
        assert "Failed: " in world.logs.mail
        (line,) = world.logs.security.lines
        assert line.startswith("Delivery failed: id=")
        assert ", from=<alice@example.test>, to=<bob@a.test>, status=5.1.1 (" in line
        assert "said: 550 5.1.1 no such user here)" in line


async def test_ret_full_returns_the_message(tmp_path: Path) -> None:
    async with (
        sink(lambda s, line: "554 5.7.1 no" if line == "." else None) as server,
        queue_world(tmp_path, server) as world,
    ):
        await world.send("bob@a.test", ret="FULL")
        await world.empty()
        assert MESSAGE in world.local.mail[0][2]


async def test_bounce_to_a_remote_sender_goes_through_the_queue_from_nobody(tmp_path: Path) -> None:
    def script(session: SinkSession, line: str) -> str | None:
        return "550 5.1.1 no" if line.startswith("RCPT TO:<bob@") else None

    async with sink(script) as server, queue_world(tmp_path, server) as world:
        await world.send("bob@a.test", sender="carol@b.test")
        (bounce,) = await server.got(1)
        await world.empty()
        assert bounce.mail.startswith("MAIL FROM:<> ")
        assert bounce.rcpts == ["RCPT TO:<carol@b.test> NOTIFY=NEVER"]
        assert b"Action: failed" in bounce.data


async def test_the_null_sender_is_never_told(tmp_path: Path) -> None:
    async with (
        sink(lambda s, line: "550 no" if line.startswith("RCPT") else None) as server,
        queue_world(tmp_path, server) as world,
    ):
        await world.send("bob@a.test", sender="")
        await world.empty()
        assert world.local.mail == []
        assert "notification to <bob@a.test> cannot be delivered" in world.logs.error


async def test_notify_never_is_honoured(tmp_path: Path) -> None:
    async with (
        sink(lambda s, line: "550 no" if line.startswith("RCPT") else None) as server,
        queue_world(tmp_path, server) as world,
    ):
        await world.send(QueuedRecipient(parse_address("bob@a.test"), notify="NEVER"))
        await world.empty()
        assert world.local.mail == []


async def test_half_the_recipients_refused(tmp_path: Path) -> None:
    def script(session: SinkSession, line: str) -> str | None:
        return "550 5.1.1 unknown" if line.startswith("RCPT TO:<no") else None

    async with sink(script) as server, queue_world(tmp_path, server) as world:
        await world.send("yes1@a.test", "no1@a.test", "yes2@a.test", "no2@a.test")
        (message,) = await server.got(1)
        await world.empty()
        assert list(message.rcpts) == ["RCPT TO:<yes1@a.test>", "RCPT TO:<yes2@a.test>"]
        ((_, _, content),) = world.local.mail
        assert b"no1@a.test" in content
        assert b"no2@a.test" in content
        assert b"Final-Recipient: rfc822;yes1@a.test" not in content


async def test_connection_refused_is_retried_and_then_bounced(tmp_path: Path) -> None:
    clock = FakeClock()
    async with sink() as server:
        port = server.port
    async with queue_world(tmp_path, clock=clock, port=port, bounce_hours=1, delay_notice_hours=0) as world:
        await world.send("bob@a.test")
        await world.until(lambda: any(entry.tries for entry in world.queue.entries()))
        (entry,) = world.queue.entries()
        assert "does not answer" in entry.last_reply
        for _ in range(16):
            await clock.advance(300)
            await world.settled()
        await world.empty()
        ((_, _, content),) = world.local.mail
        assert b"Status: 4.4.7" in content
        assert b"Action: failed" in content
        (line,) = world.logs.security.lines
        assert "to=<bob@a.test>, status=4.4.7 (" in line


async def test_the_sender_hears_of_a_delay_once(tmp_path: Path) -> None:
    clock = FakeClock()
    async with (
        sink(lambda s, line: "450 4.2.1 busy" if line.startswith("RCPT") else None) as server,
        queue_world(tmp_path, server, clock=clock, delay_notice_hours=1) as world,
    ):
        await world.send("bob@a.test", QueuedRecipient(parse_address("carl@a.test"), notify="FAILURE"))
        await world.until(lambda: any(entry.tries for entry in world.queue.entries()))
        for _ in range(10):
            await clock.advance(1900)
            await world.settled()
        await world.until(lambda: bool(world.local.mail))
        ((sender, _, content),) = world.local.mail
        assert sender is None
        assert b"Action: delayed" in content
        assert b"Will-Retry-Until:" in content
        assert b"carl@a.test" not in content
        assert b"450 4.2.1 busy" in content


async def test_no_answer_after_the_final_dot_is_retried(tmp_path: Path) -> None:
    seen = 0

    def script(session: SinkSession, line: str) -> str | None:
        nonlocal seen
        if line == ".":
            seen += 1
            return DROP if seen == 1 else None
        return None

    clock = FakeClock()
    async with sink(script) as server, queue_world(tmp_path, server, clock=clock) as world:
        await world.send("bob@a.test")
        await world.until(lambda: any(entry.tries for entry in world.queue.entries()))
        await world.settled()
        assert "it may arrive twice" in world.queue.entries()[0].last_reply
        await clock.advance(330)
        await server.got(1)
        await world.empty()


async def test_a_server_that_falls_silent_is_given_up_in_time(tmp_path: Path) -> None:
    clock = FakeClock()
    async with (
        sink(lambda s, line: SILENT if s.commands[1:] else None) as server,
        queue_world(tmp_path, server, clock=clock) as world,
    ):
        await world.send("bob@a.test")
        await server.until(lambda: any(line.startswith("MAIL") for line in server.commands))
        await clock.advance(299)
        assert world.queue.entries()[0].in_process
        await clock.advance(2)
        await world.settled()
        assert "did not answer within 300 seconds" in world.queue.entries()[0].last_reply


async def test_a_greeting_that_never_comes(tmp_path: Path) -> None:
    clock = FakeClock()
    async with (
        sink(lambda s, line: SILENT if line == "" else None) as server,
        queue_world(tmp_path, server, clock=clock) as world,
    ):
        await world.send("bob@a.test")
        await server.until(lambda: len(server.sessions) == 1)
        assert await world.pass_time(lambda: not world.queue.entries()[0].in_process) >= 300
        assert "did not answer within 300 seconds" in world.queue.entries()[0].last_reply


async def test_one_connection_carries_50_messages(tmp_path: Path) -> None:
    async with sink() as server, queue_world(tmp_path, server, domain_connections=1) as world:
        for number in range(50):
            await world.send("bob@a.test", content=MESSAGE + b"%d\r\n" % number)
        messages = await server.got(50)
        await world.empty()
        assert {message.data for message in messages} == {MESSAGE + b"%d\r\n" % n for n in range(50)}
        assert len(server.sessions) == 1


async def test_an_idle_connection_is_closed_with_quit(tmp_path: Path) -> None:
    clock = FakeClock()
    async with sink() as server, queue_world(tmp_path, server, clock=clock) as world:
        await world.send("bob@a.test")
        await server.got(1)
        await world.empty()
        assert await world.pass_time(lambda: server.sessions[0].ended, step=1) >= 10
        assert server.sessions[0].commands[-1] == "QUIT"
        await world.until(lambda: world.queue.connections == 0)


async def test_a_kept_connection_that_died_costs_no_try(tmp_path: Path) -> None:
    def script(session: SinkSession, line: str) -> str | None:
        second = session.number == 0 and sum(x.startswith("MAIL") for x in session.commands) == 2
        return "421 4.4.2 idle too long" if second else None

    async with sink(script) as server, queue_world(tmp_path, server) as world:
        await world.send("bob@a.test")
        await server.got(1)
        await world.empty()
        await world.send("bob@a.test")
        await server.got(2)
        await world.empty()
        assert len(server.sessions) == 2
        assert not any("Deferred" in line for line in world.logs.mail.lines)


async def test_five_connections_at_most_to_one_domain(tmp_path: Path) -> None:
    async with sink() as server, queue_world(tmp_path, server, domain_connections=5) as world:
        for _ in range(200):
            await world.send("bob@a.test")
        await server.got(200)
        await world.empty()
        assert server.most_open <= 5


async def test_thousand_messages_to_a_dead_host_use_one_probe(tmp_path: Path) -> None:
    clock = FakeClock()
    async with sink() as server:
        port = server.port
    async with queue_world(tmp_path, clock=clock, port=port) as world:
        dialled = 0
        most = 0
        connect = world.queue._dispatcher._caller._dialer.connect

        async def counting(*args: object, **more: object) -> object:
            nonlocal dialled, most
            dialled += 1
            most = max(most, world.queue.connections)
            return await connect(*args, **more)  # type: ignore[arg-type]

        world.queue._dispatcher._caller._dialer.connect = counting  # type: ignore[method-assign,assignment]
        before = len(asyncio.all_tasks())
        for start in range(0, 1000, 50):
            await asyncio.gather(*(world.send("bob@a.test") for _ in range(start, start + 50)))
        await world.until(lambda: all(entry.next_try for entry in world.queue.entries()), 30)
        assert len(world.queue.entries()) == 1000
        assert len(asyncio.all_tasks()) <= before + 10
        first = dialled
        assert first <= 5
        assert most <= 5
        for _ in range(30):
            await clock.advance(60)
            await world.until(lambda: world.queue.connections == 0, 30)
        assert 2 <= dialled - first <= 6  # in half an hour: first after 5 minutes, then 2, 4, 8 … apart
        # and when it comes back everything goes out
        async with sink() as back:
            world.queue.settings = type(world.settings)(port=back.port)
            await world.queue.retry_all()
            await back.got(1000, 60)
            await world.empty()
            assert back.most_open <= 5


async def test_two_domains_do_not_wait_for_each_other(tmp_path: Path) -> None:
    def script(session: SinkSession, line: str) -> str | None:
        return SILENT if line.startswith("MAIL") and "slow" in line else None

    async with sink(script) as server, queue_world(tmp_path, server) as world:
        await world.send("bob@a.test", sender="slow@example.test")
        await world.send("bob@b.test")
        (message,) = await server.got(1)
        assert message.rcpts == ["RCPT TO:<bob@b.test>"]


async def test_total_connections_are_bounded_and_idle_ones_give_way(tmp_path: Path) -> None:
    domains = [f"d{n}.test" for n in range(20)]
    async with sink() as server:
        resolver = resolver_for(*domains)
        async with queue_world(tmp_path, server, resolver=resolver, total_connections=3) as world:
            for domain in domains * 3:
                await world.send(f"bob@{domain}")
            await server.got(60)
            await world.empty()
            assert server.most_open <= 3


async def test_several_domains_of_one_message(tmp_path: Path) -> None:
    async with sink() as server, queue_world(tmp_path, server) as world:
        await world.send("bob@a.test", "carl@b.test", "dora@a.test")
        messages = await server.got(2)
        await world.empty()
        assert sorted(len(message.rcpts) for message in messages) == [1, 2]


async def test_more_than_a_hundred_recipients_go_in_several_transactions(tmp_path: Path) -> None:
    async with sink() as server, queue_world(tmp_path, server) as world:
        await world.send(*(f"u{n}@a.test" for n in range(250)))
        messages = await server.got(3)
        await world.empty()
        assert [len(message.rcpts) for message in messages] == [100, 100, 50]
        assert len(server.sessions) == 1


async def test_too_many_recipients_452_goes_on_at_once(tmp_path: Path) -> None:
    def script(session: SinkSession, line: str) -> str | None:
        return (
            "452 4.5.3 too many recipients" if line.startswith("RCPT") and len(session.rcpts) >= 2 else None
        )

    async with sink(script) as server, queue_world(tmp_path, server) as world:
        await world.send(*(f"u{n}@a.test" for n in range(5)))
        messages = await server.got(3)
        await world.empty()
        assert [len(message.rcpts) for message in messages] == [2, 2, 1]


async def test_retry_now_and_remove(tmp_path: Path) -> None:
    refuse = True

    def script(session: SinkSession, line: str) -> str | None:
        return "450 4.2.0 later" if refuse and line.startswith("RCPT") else None

    async with sink(script) as server, queue_world(tmp_path, server) as world:
        first = await world.send("bob@a.test")
        second = await world.send("bob@b.test")
        await world.until(lambda: all(entry.tries == 1 for entry in world.queue.entries()))
        await world.settled()
        await world.queue.remove(second)
        assert world.names() == [f"{first}.eml", f"{first}.env"]
        assert f"Removed: id={second}" in world.logs.mail
        refuse = False
        await world.queue.retry(first)
        await server.got(1)
        await world.empty()
        with pytest.raises(NotFound):
            await world.queue.retry(first)
        with pytest.raises(NotFound):
            await world.queue.remove("../../etc/passwd")


async def test_mail_for_a_domain_that_has_become_local_is_delivered_here(tmp_path: Path) -> None:
    async with queue_world(tmp_path, resolver=resolver_for()) as world:
        world.local.domains.add("new.test")
        await world.send("bob@new.test")
        await world.empty()
        assert world.local.mail == [(Address("alice", "example.test"), Address("bob", "new.test"), MESSAGE)]


async def test_a_bounce_that_finds_the_disk_full_is_made_later(tmp_path: Path) -> None:
    clock = FakeClock()
    async with (
        sink(lambda s, line: "550 no" if line.startswith("RCPT") else None) as server,
        queue_world(tmp_path, server, clock=clock) as world,
    ):
        world.local.failure = StorageFull("the disk is full")
        await world.send("bob@a.test")
        await world.until(lambda: "cannot be told now" in world.logs.error)
        await world.settled()
        assert len(world.queue.entries()) == 1
        await world.restart()
        assert len(world.queue.entries()) == 1
        world.local.failure = None
        await clock.advance(3600)
        await world.empty()
        assert len(world.local.mail) == 1
        assert world.names() == []
