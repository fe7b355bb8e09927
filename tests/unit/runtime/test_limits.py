import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from postkeep.runtime.limits import ConnectionLimiter, network_of


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:aaaa::1", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:bbbb::9", "2001:db8:1:2::/64"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::1", "::/64"),
        ("", ""),
        ("not:an:address", "not:an:address"),
    ],
)
def test_network(address: str, network: str) -> None:
    assert network_of(address) == network


def test_bounds() -> None:
    limiter = ConnectionLimiter(3, 2)
    assert limiter.acquire("192.0.2.1")
    assert limiter.acquire("192.0.2.1")
    assert not limiter.acquire("192.0.2.1")
    assert limiter.acquire("192.0.2.2")
    assert not limiter.acquire("192.0.2.3")  # total
    limiter.release("192.0.2.1")
    assert limiter.acquire("192.0.2.3")
    assert limiter.open == 3


def test_one_ipv6_subscriber_is_one_peer() -> None:
    limiter = ConnectionLimiter(0, 1)
    assert limiter.acquire("2001:db8::1")
    assert not limiter.acquire("2001:db8::2")
    assert limiter.acquire("2001:db8:0:1::2")
    assert limiter.count("2001:db8::ffff") == 1


def test_exempt_counts_to_the_total_only() -> None:
    limiter = ConnectionLimiter(3, 1, ["127.0.0.1"])
    assert all(limiter.acquire("127.0.0.1") for _ in range(3))
    assert not limiter.acquire("127.0.0.1")


def test_release_without_acquire_is_harmless() -> None:
    limiter = ConnectionLimiter(1, 1)
    limiter.release("192.0.2.1")
    assert limiter.open == 0
    assert limiter.acquire("192.0.2.1")


@given(
    st.lists(
        st.tuples(st.booleans(), st.sampled_from(["192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::2"]))
    )
)
@settings(max_examples=200, derandomize=True, deadline=None)
def test_counts_never_drift_and_nothing_is_kept_for_who_is_gone(steps: list[tuple[bool, str]]) -> None:
    limiter = ConnectionLimiter(5, 3)
    held: list[str] = []
    for take, address in steps:
        if take and limiter.acquire(address):
            held.append(address)
        elif not take and address in held:
            held.remove(address)
            limiter.release(address)
        assert limiter.open == len(held) <= 5
        assert all(limiter.count(one) <= 3 for one in held)
    for address in held:
        limiter.release(address)
    assert limiter.open == 0
    assert limiter._by_network == {}
