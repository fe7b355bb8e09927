"""The bus of changes."""

import logging

import pytest
from postkeep.domain.change import Change, Expunged
from postkeep.services.changes import ChangeBus


def change(account: int, number: int = 1) -> Expunged:
    return Expunged(account, 1, (number,), number)


def test_subscribers_hear_their_account_in_order() -> None:
    bus, heard = ChangeBus(), []
    bus.subscribe(1, heard.append)
    bus.publish(change(1, 1), change(2, 2), change(1, 3))
    assert [one.modseq for one in heard] == [1, 3]


def test_who_subscribes_to_all_hears_first() -> None:
    bus = ChangeBus()
    heard: list[str] = []
    bus.subscribe(1, lambda one: heard.append("account"))
    unsubscribe = bus.subscribe_all(lambda one: heard.append("all"))
    bus.publish(change(1), change(2))
    assert heard == ["all", "account", "all"]
    unsubscribe()
    unsubscribe()
    bus.publish(change(1))
    assert heard[3:] == ["account"]


def test_unsubscribing_leaves_nothing_behind() -> None:
    bus, heard = ChangeBus(), []
    first = bus.subscribe(1, heard.append)
    second = bus.subscribe(1, heard.append)
    assert bus.subscribers(1) == 2
    first()
    first()
    bus.publish(change(1))
    assert len(heard) == 1
    second()
    assert bus.subscribers(1) == 0
    assert bus._by_account == {}


def test_the_same_callback_may_subscribe_twice() -> None:
    bus, heard = ChangeBus(), []
    bus.subscribe(1, heard.append)
    bus.subscribe(1, heard.append)
    bus.publish(change(1))
    assert len(heard) == 2


def test_removal_while_publishing_is_safe() -> None:
    bus = ChangeBus()
    heard: list[str] = []
    undo: dict[str, object] = {}

    def first(one: Change) -> None:
        heard.append("first")
        undo["second"]()  # type: ignore[operator]
        undo["first"]()  # type: ignore[operator]
        bus.subscribe(1, lambda one: heard.append("late"))

    undo["first"] = bus.subscribe(1, first)
    undo["second"] = bus.subscribe(1, lambda one: heard.append("second"))
    bus.subscribe(1, lambda one: heard.append("third"))
    bus.publish(change(1))
    assert heard == ["first", "third"]
    bus.publish(change(1))
    assert heard[2:] == ["third", "late"]


def test_one_that_raises_does_not_keep_it_from_the_others(caplog: pytest.LogCaptureFixture) -> None:
    bus, heard = ChangeBus(), []

    def broken(one: Change) -> None:
        raise ZeroDivisionError

    bus.subscribe(1, broken)
    bus.subscribe(1, heard.append)
    with caplog.at_level(logging.ERROR):
        bus.publish(change(1))
    assert len(heard) == 1
    assert "a subscriber of changes failed" in caplog.text
