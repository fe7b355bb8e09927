"""Unknown recipients are counted by address, over connections (SMT-2)."""

import pytest
from postkeep.services.admission import RECIPIENT_OK, TOO_MANY_UNKNOWN, UNKNOWN_USER
from postkeep.services.envelope import Client, Transaction
from postkeep.services.harvesting import ADDRESSES, WINDOW, Harvesters

from tests.support.clock import FakeClock
from tests.support.smtp import SmtpWorld

GUESS, ALICE = "guess@example.test", "alice@example.test"


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def world(clock: FakeClock, limit: int = 3) -> SmtpWorld:
    return SmtpWorld(clock=clock, maximum_unknown_recipients=limit, relay_networks=("198.51.100.0/24",))


def asks(world: SmtpWorld, address: str, path: str, times: int = 1, *, login: bool = False) -> object:
    """The last answer to `times` RCPTs, each on a connection of its own."""
    answer: object = None
    for _ in range(times):
        client = Client(address, trusted=world.receiver.admission.is_trusted(address))
        if login:
            client.account = world.directory.users["bob"]
        answer = world.receiver.admission.recipient(client, Transaction(), path)
    return answer


async def test_attack_guessing_on_many_connections_is_put_off(clock: FakeClock) -> None:
    one = world(clock)
    assert asks(one, "192.0.2.1", GUESS, 3) is UNKNOWN_USER
    assert asks(one, "192.0.2.1", ALICE) is RECIPIENT_OK
    assert asks(one, "192.0.2.1", GUESS) is TOO_MANY_UNKNOWN
    # Who exists is not told either, and not whom others ask for.
    assert asks(one, "192.0.2.1", ALICE) is TOO_MANY_UNKNOWN
    assert asks(one, "192.0.2.1", "x@elsewhere.test") is TOO_MANY_UNKNOWN
    assert asks(one, "192.0.2.2", GUESS) is UNKNOWN_USER
    assert "too many unknown recipients, peer=192.0.2.1" in one.logs.security.lines[-1]


async def test_it_is_forgotten_when_the_window_ends(clock: FakeClock) -> None:
    one = world(clock)
    asks(one, "192.0.2.1", GUESS)
    await clock.advance(WINDOW - 1)
    assert asks(one, "192.0.2.1", GUESS, 3) is TOO_MANY_UNKNOWN
    assert asks(one, "192.0.2.1", ALICE, 50) is TOO_MANY_UNKNOWN
    await clock.advance(1)
    assert asks(one, "192.0.2.1", ALICE) is RECIPIENT_OK
    assert asks(one, "192.0.2.1", GUESS, 3) is UNKNOWN_USER
    assert asks(one, "192.0.2.1", GUESS) is TOO_MANY_UNKNOWN


async def test_an_ipv6_network_is_one_address(clock: FakeClock) -> None:
    one = world(clock)
    for host in range(3):
        assert asks(one, f"2001:db8::{host}", GUESS) is UNKNOWN_USER
    assert asks(one, "2001:db8::ffff", GUESS) is TOO_MANY_UNKNOWN
    assert asks(one, "2001:db8:0:1::1", GUESS) is UNKNOWN_USER


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1", "local", "198.51.100.7", "::ffff:198.51.100.7"],
)
async def test_loopback_and_relay_networks_are_exempt(clock: FakeClock, address: str) -> None:
    assert asks(world(clock), address, GUESS, 10) is UNKNOWN_USER


async def test_users_that_are_logged_in_are_exempt(clock: FakeClock) -> None:
    """Counted by connection only: many of them may sit behind one address."""
    one = world(clock)
    assert asks(one, "192.0.2.1", GUESS, 10, login=True) is UNKNOWN_USER
    assert asks(one, "192.0.2.1", GUESS, 4) is TOO_MANY_UNKNOWN
    assert asks(one, "192.0.2.1", ALICE, login=True) is RECIPIENT_OK


async def test_no_limit(clock: FakeClock) -> None:
    assert asks(world(clock, 0), "192.0.2.1", GUESS, 100) is UNKNOWN_USER


async def test_attack_many_addresses_take_bounded_memory(clock: FakeClock) -> None:
    harvesters = Harvesters(1, clock)
    for number in range(ADDRESSES + 100):
        for _ in range(2):
            harvesters.count(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}")
    assert len(harvesters) == ADDRESSES
    assert not harvesters.is_over("10.0.0.99")
    assert harvesters.is_over("10.0.0.100")
    assert harvesters.is_over("10.0.16.99")
