from hypothesis import given, settings
from hypothesis import strategies as st
from postkeep.domain.address import Address
from postkeep.queue.entry import Entry, QueuedRecipient, State, make_entry
from postkeep.queue.schedule import (
    DAY,
    Agenda,
    Times,
    delay_due,
    expired,
    host_down_interval,
    interval,
    next_try,
)

TIMES = Times()


ALICE = Address("a", "example.test")


def entry(sender: Address | None = ALICE, notify: str = "") -> Entry:
    return make_entry(
        "1", sender, [QueuedRecipient(Address("b", "b.test"), notify=notify)], 1000.0, smtputf8=False
    )


def test_the_first_tries_come_soon_for_greylisting() -> None:
    assert [interval(n, 0, TIMES) for n in range(1, 7)] == [300, 600, 1200, 1800, 1800, 1800]


def test_after_a_day_half_as_often() -> None:
    assert interval(9, DAY, TIMES) == 3600


def test_a_short_interval_is_never_exceeded() -> None:
    assert interval(1, 0, Times(retry=60)) == 60


@given(
    tries=st.integers(0, 10**6),
    age=st.floats(0, 10 * DAY),
    jitter=st.floats(0, 1),
    retry=st.floats(60, 86400),
)
@settings(max_examples=300, derandomize=True, deadline=None)
def test_the_next_try_is_later_and_not_after_the_end(
    tries: int, age: float, jitter: float, retry: float
) -> None:
    times = Times(retry=retry)
    created, now = 0.0, age
    due = next_try(tries, created, now, times, lambda: jitter)
    assert due >= now
    if now < times.bounce:
        assert now < due <= times.bounce or due == times.bounce
        assert due - now <= 2 * retry * 1.06


def test_expired_exactly_at_the_end() -> None:
    assert not expired(0, TIMES.bounce - 1, TIMES)
    assert expired(0, TIMES.bounce, TIMES)


def test_delay_notice_once_for_who_wants_it() -> None:
    late = 1000.0 + TIMES.delay_notice
    one = entry()
    (recipient,) = one.recipients
    assert not delay_due(one, recipient, late - 1, TIMES)
    assert delay_due(one, recipient, late, TIMES)
    assert not delay_due(one, recipient, late, Times(delay_notice=0))
    recipient.delay_told = True
    assert not delay_due(one, recipient, late, TIMES)
    for other, due in (
        (entry(notify="FAILURE"), False),
        (entry(notify="success,delay"), True),
        (entry(sender=None), False),
    ):
        assert delay_due(other, other.recipients[0], late, TIMES) is due
    done = entry()
    done.recipients[0].state = State.DONE
    assert not delay_due(done, done.recipients[0], late, TIMES)


def test_a_dead_host_is_left_alone_longer_and_longer() -> None:
    assert [host_down_interval(n, TIMES) for n in (1, 2, 3, 5, 6, 100)] == [60, 120, 240, 960, 1800, 1800]


def test_agenda_moves_drops_and_takes_in_order() -> None:
    agenda: Agenda[str] = Agenda()
    for key, due in (("a", 5.0), ("b", 3.0), ("c", 4.0)):
        agenda.set(key, due)
    agenda.set("b", 9.0)
    agenda.drop("c")
    assert agenda.next_due() == 5.0
    assert agenda.take(4.0) == []
    assert agenda.take(9.0) == ["a", "b"]
    assert agenda.next_due() is None
    assert len(agenda) == 0


@given(st.lists(st.tuples(st.integers(0, 20), st.floats(0, 100) | st.none()), max_size=400))
@settings(max_examples=200, derandomize=True, deadline=None)
def test_agenda_is_a_sorted_dict(steps: list[tuple[int, float | None]]) -> None:
    agenda: Agenda[int] = Agenda()
    model: dict[int, float] = {}
    for key, due in steps:
        if due is None:
            agenda.drop(key)
            model.pop(key, None)
        else:
            agenda.set(key, due)
            model[key] = due
    assert agenda.next_due() == min(model.values(), default=None)
    taken = agenda.take(50.0)
    assert sorted(taken) == sorted(key for key, due in model.items() if due <= 50.0)
    assert [model[key] for key in taken] == sorted(model[key] for key in taken)


def test_agenda_does_not_grow_when_keys_move() -> None:
    agenda: Agenda[int] = Agenda()
    for turn in range(10_000):
        agenda.set(turn % 10, float(turn))
    assert len(agenda._heap) <= 65
