"""Root's password opens a session (CON-3)."""

import asyncio
import logging

import pytest
from postkeep_appliance.agent.sessions import IDLE_SECONDS, LONGEST_DELAY, MAX_SESSIONS
from postkeep_appliance.agent.work import Work
from postkeep_appliance.api.types import (
    Answer,
    ChangePassword,
    Done,
    Failure,
    ListDisks,
    Lock,
    Request,
    SetLanguage,
    SetSsh,
    Status,
    StatusAnswer,
    Unlock,
)
from postkeep_appliance.guestinfo.values import read_password
from postkeep_appliance.host.names import PASSWORD_MINIMUM
from postkeep_console.checks import PASSWORD_LEAST

from tests.support.agentbench import CONSOLE, GOOD, Bench, drive


async def test_without_a_session_only_status_unlock_and_language() -> None:
    bench = Bench()
    assert (await bench.refusal(ListDisks())).code == "locked"
    assert (await bench.refusal(ListDisks(), session="x" * 43)).code == "locked"
    await bench.ask(Status(), StatusAnswer)
    await bench.ask(SetLanguage("de"), Done)
    assert (await bench.ask(Status(), StatusAnswer)).language == "de"


async def test_a_language_is_a_code() -> None:
    assert (await Bench().refusal(SetLanguage("../etc"))).field == "language"


async def test_the_right_password_opens_and_lock_closes() -> None:
    bench = Bench()
    unlocked = await bench.unlock()
    assert not unlocked.must_change
    assert (await bench.reply(ListDisks())).__class__ is Answer
    await bench.ask(Lock(), Done)
    assert (await bench.refusal(ListDisks())).code == "locked"


async def test_a_session_ends_when_nothing_is_asked() -> None:
    bench = Bench()
    await bench.unlock()
    await bench.clock.advance(IDLE_SECONDS - 5)
    await bench.ask(Status(), StatusAnswer)  # needs no session, so does not keep one
    await bench.clock.advance(10)
    assert (await bench.refusal(ListDisks())).code == "locked"


async def test_use_keeps_a_session() -> None:
    bench = Bench()
    await bench.unlock()
    for _ in range(4):
        await bench.clock.advance(IDLE_SECONDS - 5)
        assert isinstance(await bench.reply(ListDisks()), Answer)


async def test_sessions_are_bounded_and_the_oldest_goes() -> None:
    bench = Bench()
    await bench.unlock()
    first = bench.session
    for _ in range(MAX_SESSIONS):
        await bench.unlock()
    assert (await bench.refusal(ListDisks(), session=first)).code == "locked"
    assert isinstance(await bench.reply(ListDisks()), Answer)


async def test_wrong_passwords_are_answered_later_and_later(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench()
    logging.getLogger("postkeep.agent").propagate = True
    waits = []
    for _ in range(7):
        begin = bench.clock.monotonic()
        failure = await bench.refusal(Unlock("wrong"))
        assert (failure.code, failure.field) == ("denied", "password")
        waits.append(bench.clock.monotonic() - begin)
    assert [round(wait) for wait in waits] == [1, 2, 4, 8, 16, LONGEST_DELAY, LONGEST_DELAY]
    assert "wrong password from tty1 (uid 997, pid 411), number 7" in caplog.text
    assert "wrong password from" in caplog.text
    await bench.unlock()
    begin = bench.clock.monotonic()
    await bench.refusal(Unlock("wrong"))
    assert bench.clock.monotonic() - begin < 2, "the right one did not clear the count"


async def test_no_password_is_ever_logged(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench()
    logging.getLogger("postkeep.agent").propagate = True
    with caplog.at_level(logging.DEBUG):
        await bench.refusal(Unlock("hunter2-wrong"))
        await bench.unlock()
        await bench.ask(ChangePassword(GOOD, "hunter2-new-word"), Done)
    assert "hunter2" not in caplog.text
    assert GOOD not in caplog.text


async def test_guessing_in_parallel_gains_nothing() -> None:
    """Fifty at once: four wait in line, one after the other; all others are turned away at once."""
    bench = Bench()

    def guess(number: int) -> "asyncio.Task[Answer | Failure]":
        work = Work(CONSOLE, "", lambda text, done, total: None)
        return asyncio.ensure_future(
            bench.agent.dispatcher.answer(Request(number, Unlock(f"guess {number}")), work)
        )

    tasks = [guess(number) for number in range(50)]
    begin = bench.clock.monotonic()
    replies = await drive(bench.clock, asyncio.gather(*tasks))
    codes = [reply.code for reply in replies if isinstance(reply, Failure)]
    assert codes.count("busy") == 46
    assert codes.count("denied") == 4
    assert bench.clock.monotonic() - begin >= 1 + 2 + 4 + 8


async def test_the_right_password_waits_behind_a_wrong_one() -> None:
    """Else a guesser would tell right from wrong by speed alone, without waiting."""
    bench = Bench()
    work = Work(CONSOLE, "", lambda text, done, total: None)
    wrong = asyncio.ensure_future(bench.agent.dispatcher.answer(Request(1, Unlock("wrong")), work))
    right = asyncio.ensure_future(bench.agent.dispatcher.answer(Request(2, Unlock(GOOD)), work))
    await bench.clock.advance(0.5)
    assert not right.done()
    await bench.clock.advance(1.0)
    assert wrong.done()
    assert isinstance(await right, Answer)


# --- the documented first word


async def test_with_the_first_word_nothing_but_a_change_is_allowed() -> None:
    bench = Bench(set_up=False)
    assert (await bench.unlock("postkeep")).must_change
    for call in (ListDisks(), SetSsh(True)):
        failure = await bench.refusal(call)
        assert failure.code == "denied"
        assert "change it first" in failure.text
    await bench.ask(ChangePassword("postkeep", "a much better 1"), Done)
    assert isinstance(await bench.reply(ListDisks()), Answer)
    assert bench.machine.password == "a much better 1"
    assert bench.host.state.read("first-password") is None
    assert not (await bench.unlock("a much better 1")).must_change


async def test_a_password_changed_in_a_shell_takes_the_mark_away() -> None:
    bench = Bench(set_up=False)
    bench.machine.password = "set by passwd"
    assert not (await bench.unlock("set by passwd")).must_change
    assert bench.host.state.read("first-password") is None


async def test_the_first_word_put_back_in_a_shell_must_be_changed_again() -> None:
    bench = Bench()
    bench.machine.password = "postkeep"
    assert (await bench.unlock("postkeep")).must_change


@pytest.mark.parametrize(
    "word",
    ["short", "postkeep", "Postkeep123", "aaaaaaaaaaaaaa", "with\nnewline 12", "x" * 300, "nul\0nul nul nul"],
)
async def test_bad_new_passwords_are_refused(word: str) -> None:
    bench = Bench()
    await bench.unlock()
    failure = await bench.refusal(ChangePassword(GOOD, word))
    assert (failure.code, failure.field) == ("invalid", "new_password")
    assert word not in failure.text
    assert bench.machine.password == GOOD


async def test_root_and_accounts_need_passwords_of_the_same_length() -> None:
    """What the deployment takes, and console and documentation say, the agent does not refuse."""
    word = "Tr4u-m!x"
    assert len(word) == PASSWORD_MINIMUM == PASSWORD_LEAST
    bench = Bench()
    await bench.unlock()
    assert (await bench.refusal(ChangePassword(GOOD, word[:-1]))).field == "new_password"
    await bench.ask(ChangePassword(GOOD, word), Done)
    assert read_password(word) == word


async def test_the_new_password_is_not_the_old_one() -> None:
    bench = Bench()
    await bench.unlock()
    assert (await bench.refusal(ChangePassword(GOOD, GOOD))).field == "new_password"


async def test_a_wrong_old_password_is_late_too() -> None:
    bench = Bench()
    await bench.unlock()
    begin = bench.clock.monotonic()
    failure = await bench.refusal(ChangePassword("wrong", "a much better 1"))
    assert (failure.code, failure.field) == ("denied", "old_password")
    assert bench.clock.monotonic() - begin >= 1


async def test_a_change_ends_all_other_sessions() -> None:
    bench = Bench()
    await bench.unlock()
    other = bench.session
    await bench.unlock()
    await bench.ask(ChangePassword(GOOD, "a much better 1"), Done)
    assert isinstance(await bench.reply(ListDisks()), Answer)
    assert (await bench.refusal(ListDisks(), session=other)).code == "locked"
