"""Logging in: right and wrong passwords, guessing (row SRV-4), what is remembered and for how long."""

import asyncio
import base64
import hashlib
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from argon2 import PasswordHasher
from postkeep.config.security import SecuritySettings
from postkeep.domain.account import Account, Domain
from postkeep.domain.errors import AuthenticationFailed, Throttled
from postkeep.formats.passwordhash import is_hash
from postkeep.runtime.logs import Logs
from postkeep.services.authentication import Authenticator
from postkeep.services.directory import Directory
from postkeep.services.guessing import TRACKERS, GuessingGuard
from postkeep.services.passwords import PasswordHashes

from tests.support.clock import FakeClock

D = "example.test"


class CountingHashes(PasswordHashes):
    """Real argon2id with little memory; counts what was verified."""

    def __init__(self) -> None:
        super().__init__(2, memory_kib=64, passes=1)
        self.verified: list[str] = []

    async def verify(self, stored: str, password: str) -> bool:
        self.verified.append(stored)
        return await super().verify(stored, password)


class World:
    def __init__(self, folder: Path, **settings: Any) -> None:
        self.clock = FakeClock()
        self.hashes = CountingHashes()
        self.logs = Logs(folder, self.clock, stderr=None)
        alice = Account("alice", D, self.hashes._hasher.hash("secret"))
        self.directory = Directory(
            [Domain(D, primary=True)],
            [alice, replace(alice, name="off", enabled=False), Account("empty", D)],
        )
        self.security = SecuritySettings(**settings)
        self.authenticator = Authenticator(self.directory, self.logs, self.clock, self.security, self.hashes)
        self.folder = folder

    async def login(
        self, login: str = "alice", password: str = "secret", peer: str = "192.0.2.1", service: str = "IMAP"
    ) -> Account:
        return await self.authenticator.verify(login, password, peer=peer, service=service)

    async def fail(self, times: int, **more: str) -> None:
        for number in range(times):
            with pytest.raises(AuthenticationFailed):
                await self.login(**{"password": f"wrong {number}", **more})

    @property
    def log(self) -> str:
        return (self.folder / "security.log").read_text()


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


async def test_right_and_wrong(world: World) -> None:
    assert (await world.login()).key == "alice@example.test"
    assert (await world.login("ALICE@example.test")).name == "alice"
    for login, password in [
        ("alice", "Secret"), ("alice", ""), ("nobody", "secret"), ("", "secret"), ("off", "secret"),
        ("empty", ""), ("empty", "secret"), ("alice\x00", "secret"), ("alice", "secret\x00"),
        ("alice", "\ud800"), ("\ud800", "secret"),
    ]:  # fmt: skip
        with pytest.raises(AuthenticationFailed) as caught:
            await world.login(login, password, peer="192.0.2.2" if password else "192.0.2.3")
        assert str(caught.value) == "the user name or password is wrong"


async def test_every_failure_costs_one_argon2_whoever_it_is(world: World) -> None:
    for login in ("alice", "nobody", "off", "empty"):
        before = len(world.hashes.verified)
        with pytest.raises(AuthenticationFailed):
            await world.login(login, "wrong")
        assert len(world.hashes.verified) == before + 1
    assert world.hashes.verified[1:] == ["", "", ""]  # "" is verified against a dummy of equal cost
    assert world.hashes._dummy.startswith("$argon2id$")


async def test_a_verified_login_is_remembered_for_a_time(world: World) -> None:
    await world.login()
    await world.login()
    assert len(world.hashes.verified) == 1
    await world.clock.advance(world.security.login_memory_seconds)
    await world.login()
    assert len(world.hashes.verified) == 2


async def test_a_wrong_password_does_not_profit_from_what_is_remembered(world: World) -> None:
    await world.login()
    await world.fail(1)
    assert len(world.hashes.verified) == 2
    await world.login()
    assert len(world.hashes.verified) == 2


async def test_any_change_of_the_account_drops_what_is_remembered(world: World) -> None:
    account = await world.login()
    world.directory.update_accounts({account.key: replace(account, enabled=False)})
    with pytest.raises(AuthenticationFailed):
        await world.login()
    world.directory.update_accounts(
        {account.key: replace(account, password_hash=world.hashes._hasher.hash("new one"))}
    )
    with pytest.raises(AuthenticationFailed):
        await world.login()
    assert (await world.login(password="new one")).key == account.key
    world.directory.update_accounts({account.key: None})
    with pytest.raises(AuthenticationFailed):
        await world.login(password="new one")


async def test_an_account_disabled_while_its_password_is_checked_does_not_get_in(world: World) -> None:
    login = asyncio.ensure_future(world.login())
    while not world.hashes.verified:  # noqa: ASYNC110
        await asyncio.sleep(0)
    account = world.directory.account("alice")
    assert account is not None
    world.directory.update_accounts({account.key: replace(account, enabled=False)})
    with pytest.raises(AuthenticationFailed):
        await login


async def test_memory_can_be_switched_off(tmp_path: Path) -> None:
    world = World(tmp_path, login_memory_seconds=0)
    await world.login()
    await world.login()
    assert len(world.hashes.verified) == 2


async def test_many_logins_at_once_are_checked_once(world: World) -> None:
    found = await asyncio.gather(*(world.login(peer=f"192.0.2.{n}") for n in range(50)))
    assert len(found) == 50
    assert len(world.hashes.verified) == 1


async def test_a_client_that_hangs_up_does_not_spoil_the_check_of_others(world: World) -> None:
    first = asyncio.ensure_future(world.login())
    await asyncio.sleep(0)
    second = asyncio.ensure_future(world.login())
    await asyncio.sleep(0)
    first.cancel()
    assert (await second).name == "alice"
    assert len(world.hashes.verified) == 1


async def test_ten_failures_block_the_address_from_that_service(tmp_path: Path) -> None:
    world = World(tmp_path, lock_accounts=False)
    await world.fail(10)
    with pytest.raises(Throttled):
        await world.login()
    assert len(world.hashes.verified) == 10  # a blocked guess costs nothing
    assert (await world.login(service="POP3")).name == "alice"
    assert (await world.login(peer="192.0.2.9")).name == "alice"
    await world.clock.advance(299)
    with pytest.raises(Throttled):
        await world.login()
    await world.clock.advance(1)
    assert (await world.login()).name == "alice"
    assert "192.0.2.1 is blocked from IMAP for 300 seconds" in world.log


async def test_failures_of_more_than_a_minute_ago_do_not_count(tmp_path: Path) -> None:
    world = World(tmp_path, lock_accounts=False)
    for _ in range(4):
        await world.fail(5)
        await world.clock.advance(61)
    assert (await world.login()).name == "alice"


async def test_an_ipv6_network_is_one_peer(tmp_path: Path) -> None:
    world = World(tmp_path, lock_accounts=False)
    for number in range(10):
        await world.fail(1, peer=f"2001:db8::{number}")
    with pytest.raises(Throttled):
        await world.login(peer="2001:db8::ffff")


async def test_guesses_from_everywhere_lock_the_account(world: World) -> None:
    for number in range(10):
        await world.fail(1, peer=f"192.0.2.{number}")
    with pytest.raises(Throttled):
        await world.login(peer="198.51.100.1", service="POP3")
    assert [(block.name, block.service) for block in world.authenticator.blocks()] == [
        ("alice@example.test", "")
    ]
    assert world.authenticator.guard.release("alice@example.test")
    assert (await world.login()).name == "alice"
    assert not world.authenticator.guard.release("nobody")


async def test_a_locked_account_is_not_told_from_a_blocked_address(world: World) -> None:
    await world.fail(10)
    with pytest.raises(Throttled) as address:
        await world.login("nobody")
    with pytest.raises(Throttled) as account:
        await world.login(peer="198.51.100.1")
    assert str(address.value) == str(account.value)


async def test_a_lock_does_not_tell_whether_the_name_exists(world: World) -> None:
    for name in ("alice", "nobody", "off"):
        for number in range(10):
            login = f"{name}@EXAMPLE.test" if number % 2 else name
            await world.fail(1, login=login, peer=f"192.0.2.{number}", service=name)
        for login in (name, name.upper(), f"{name}@example.test"):
            with pytest.raises(Throttled) as caught:
                await world.login(login, "wrong", peer="198.51.100.1")
            assert str(caught.value) == "too many failed logins, try again later"
    await world.clock.advance(300)
    await world.fail(1, login="nobody", peer="192.0.2.99")


async def test_locked_names_that_nobody_has_are_not_listed_and_are_released(world: World) -> None:
    for number in range(10):
        await world.fail(1, login="nobody", peer=f"192.0.2.{number}")
    assert world.authenticator.blocks() == []
    assert "the name (which nobody has) nobody@example.test is locked" in world.log
    assert world.authenticator.guard.release("nobody@example.test")
    await world.fail(1, login="nobody", peer="192.0.2.99")


def test_invented_names_push_no_account_out_of_the_guard() -> None:
    guard = GuessingGuard(SecuritySettings(), FakeClock())
    for _ in range(9):
        guard.fail("", "IMAP", "alice@example.test")
    for number in range(TRACKERS + 500):
        guard.fail("", "IMAP", f"u{number}@example.test", exists=False)
    assert len(guard._unknown._all) <= TRACKERS
    guard.fail("", "IMAP", "alice@example.test")
    assert guard.account_locked("alice@example.test")


async def test_new_passwords_leave_logins_their_threads() -> None:
    hashes = PasswordHashes(1, memory_kib=64, passes=1)
    stored, go = await hashes.make("secret"), threading.Event()
    made: list[str] = []

    class Slow:
        def hash(self, password: str) -> str:
            go.wait(20)
            made.append(password)
            return stored

        verify = staticmethod(PasswordHasher(1, 64, 1).verify)

    hashes._hasher = Slow()  # type: ignore[assignment]
    batch = asyncio.create_task(hashes.make_all([f"new {number}" for number in range(50)]))
    await asyncio.sleep(0)
    assert await asyncio.wait_for(hashes.verify(stored, "secret"), 10)
    single = asyncio.create_task(hashes.make("single"))
    await asyncio.sleep(0)
    go.set()
    await single
    assert made.index("single") <= 2  # behind the one under way, not behind all
    assert len(await batch) == 50
    hashes.close()


async def test_two_spellings_of_one_login(world: World) -> None:
    same = world.authenticator.same_login
    assert same("alice", "ALICE@example.test")
    assert same("nobody", "nobody@EXAMPLE.test")  # says nothing of whether there is one
    assert not same("alice", "alice@other.test")
    assert not same("alice", "off")


async def test_exempt_networks_are_never_blocked(tmp_path: Path) -> None:
    world = World(tmp_path, guessing_exempt=("192.0.2.0/24", "nonsense"))
    await world.fail(30)
    await world.fail(3, peer="::ffff:192.0.2.1")
    assert (await world.login()).name == "alice"


async def test_a_flood_of_guesses_sent_at_once_gets_no_further(tmp_path: Path) -> None:
    world = World(tmp_path, lock_accounts=False)
    tries = [world.login(password=f"guess {number}") for number in range(60)]
    results = await asyncio.gather(*tries, return_exceptions=True)
    assert all(isinstance(one, AuthenticationFailed | Throttled) for one in results)
    assert len(world.hashes.verified) <= 10 + world.hashes.workers


async def test_logins_that_wait_are_bounded(world: World) -> None:
    tries = [world.login(password=f"guess {n}", peer="127.0.0.1") for n in range(300)]
    results = await asyncio.gather(*tries, return_exceptions=True)
    assert sum(isinstance(one, Throttled) for one in results) >= 300 - 64 - 10
    assert world.authenticator._waiting == {}
    assert world.authenticator._waiting_total == 0
    assert world.authenticator._running == {}


def test_memory_of_the_guard_is_bounded() -> None:
    guard = GuessingGuard(SecuritySettings(), FakeClock())
    for _ in range(10):
        guard.fail("192.0.2.1", "IMAP", "")
    for number in range(TRACKERS + 500):
        guard.fail(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", "IMAP", "")
    assert len(guard._addresses._all) <= TRACKERS
    assert guard.address_blocked("192.0.2.1", "IMAP")  # what is blocked is not pushed out


async def test_passwords_never_reach_the_log(world: World) -> None:
    with pytest.raises(AuthenticationFailed):
        await world.login("alice\n[01/Jan/2026 00:00:00] forged", "Tr0ub4dor")
    assert "Tr0ub4dor" not in world.log
    assert len(world.log.splitlines()) == 1
    assert "from 192.0.2.1, user alice\\n" in world.log


async def test_a_huge_password_is_refused_unseen(world: World) -> None:
    with pytest.raises(AuthenticationFailed):
        await world.login(password="x" * 2_000_000)
    assert world.hashes.verified == []


SALT = b"pepper"
IMPORTED = [
    "{SHA}" + base64.b64encode(hashlib.sha1(b"secret").digest()).decode(),
    "{SSHA}" + base64.b64encode(hashlib.sha1(b"secret" + SALT).digest() + SALT).decode(),
    "{SSHA256}" + base64.b64encode(hashlib.sha256(b"secret" + SALT).digest() + SALT).decode(),
    "{ssha512}" + base64.b64encode(hashlib.sha512(b"secret" + SALT).digest() + SALT).decode(),
    "{SHA512}" + base64.b64encode(hashlib.sha512(b"secret").digest()).decode(),
]


@pytest.mark.parametrize("stored", IMPORTED)
async def test_imported_hashes(stored: str) -> None:
    hashes = PasswordHashes(1, memory_kib=64, passes=1)
    assert is_hash(stored)
    assert await hashes.verify(stored, "secret")
    assert not await hashes.verify(stored, "Secret")
    assert hashes._dummy  # as slow as the others


@pytest.mark.parametrize(
    "text",
    [
        "", "secret", "{SHA}", "{SHA}!!", "{SHA}c2hvcnQ=", "{MD5}xxxx", "$argon2id$", "$1$abc$def",
        "$argon2id$v=19$m=99999999,t=2,p=1$c2FsdHNhbHQ$aGFzaA", "$argon2id$v=19$m=64,t=9999,p=1$c2FsdA$aGFzaA",
        *(f"$argon2id$v=19$m={m},t={t},p={p}$c2FsdHNhbHQ$aGFzaGhhc2hoYXNo" for m, t, p in (
            (1_048_576, 64, 16), (262_145, 1, 1), (262_144, 5, 1), (65_536, 17, 1), (64, 1, 17), ("64,m=64", 1, 1),
            ("1_0", 1, 1), ("+64", 1, 1),
        )),
    ],
)  # fmt: skip
async def test_what_is_no_hash(text: str) -> None:
    assert not is_hash(text)


@pytest.mark.parametrize("costs", ["m=262144,t=4,p=4", "m=65536,t=16,p=1", "m=19456,t=2,p=1"])
def test_hashes_of_ordinary_cost(costs: str) -> None:
    assert is_hash(f"$argon2id$v=19${costs}$c2FsdHNhbHQ$aGFzaGhhc2hoYXNo")


async def test_a_hash_beyond_the_bounds_is_not_even_tried() -> None:
    hashes = PasswordHashes(1, memory_kib=64, passes=1)
    tried: list[str] = []
    real = hashes._hasher
    costly = real.hash("secret").replace("m=64,t=1", "m=262144,t=5")

    class Watched:
        hash = staticmethod(real.hash)

        def verify(self, stored: str, password: str) -> bool:
            tried.append(stored)
            return real.verify(stored, password)

    hashes._hasher = Watched()  # type: ignore[assignment]
    assert not await hashes.verify(costly, "secret")
    assert tried == [hashes._dummy]


async def test_a_broken_hash_lets_nobody_in() -> None:
    hashes = PasswordHashes(1, memory_kib=64, passes=1)
    for stored in ("$argon2id$", "$argon2id$v=19$m=64,t=1,p=1$x$y", "{SHA}!!", "secret"):
        assert not await hashes.verify(stored, "secret")
