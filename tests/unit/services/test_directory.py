"""Where addresses lead (rows DOM-2, USR-1, ALI-1): a table, and what must hold for any set of aliases."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from postkeep.domain.account import Account, Alias, Domain, Rights
from postkeep.domain.address import Address, parse_address
from postkeep.services import directory as module
from postkeep.services.directory import HOP_LIMIT, Directory
from postkeep.services.patterns import compile_pattern

D, E = "example.test", "other.test"


def directory() -> Directory:
    return Directory(
        [
            Domain(D, primary=True, aliases=("example.example", "xn--bcher-kva.test")),
            Domain(E),
        ],
        [
            Account("admin", D, rights=Rights.WRITE),
            Account("alice", D, aliases=("ally", "a.liddell")),
            Account("bob", D, forwards=("bob@elsewhere.example",)),
            Account("carol", D, forwards=("alice", "carol@elsewhere.example"), keep_copy=False),
            Account("dave", D, forwards=("erin",), keep_copy=False),
            Account("erin", D, forwards=("dave",), keep_copy=False),
            Account("off", D, enabled=False),
            Account("smith", D),
            Account("brown", D),
            Account("ann", E),
        ],
        [
            Alias("sales", D, ("alice", "bob")),
            Alias("chain", D, ("sales",)),
            Alias("smith", D, ("smith", "brown")),
            Alias("loop1", D, ("loop2",)),
            Alias("loop2", D, ("loop1",)),
            Alias("out", D, ("far@elsewhere.example",)),
            Alias("cross", D, ("ann@other.test",)),
            Alias("diamond", D, ("sales", "chain", "alice@example.example")),
            Alias("dead", D, ("nobody",)),
            Alias("?ill", D, ("alice",)),
            Alias("*erlock", D, ("bob",)),
            Alias("sh*", D, ("brown",)),
            Alias("*", E, ("ann",)),
        ],
    )


@pytest.mark.parametrize(
    ("address", "local", "remote"),
    [
        ("alice@example.test", ["alice"], []),
        ("ALICE@example.test", ["alice"], []),
        ("alice@example.example", ["alice"], []),
        ("alice@bücher.test", ["alice"], []),
        ("ally@example.test", ["alice"], []),
        ("a.liddell@example.example", ["alice"], []),
        ("alice@other.test", ["ann"], []),  # catch-all of the other domain
        ("ally@other.test", ["ann"], []),
        ("bob@example.test", ["bob"], ["bob@elsewhere.example"]),
        ("carol@example.test", ["alice"], ["carol@elsewhere.example"]),
        ("dave@example.test", ["erin"], []),  # a loop ends in the last one
        ("erin@example.test", ["dave"], []),
        ("sales@example.test", ["alice", "bob"], ["bob@elsewhere.example"]),
        ("chain@example.test", ["alice", "bob"], ["bob@elsewhere.example"]),
        ("diamond@example.test", ["alice", "bob"], ["bob@elsewhere.example"]),
        ("smith@example.test", ["smith", "brown"], []),  # an alias of a user's name keeps a copy
        ("out@example.test", [], ["far@elsewhere.example"]),
        ("cross@example.test", ["ann"], []),
        ("kill@example.test", ["alice"], []),
        ("will@example.test", ["alice"], []),
        ("sherlock@example.test", ["bob"], ["bob@elsewhere.example"]),  # more letters win: *erlock over sh*
        ("shoe@example.test", ["brown"], []),
        ("off@example.test", ["off"], []),
        ("postmaster@example.test", ["admin"], []),
        ("PostMaster@example.example", ["admin"], []),
        ("postmaster@other.test", ["admin"], []),  # no wildcard takes the mail of a name
        ("far@elsewhere.example", [], ["far@elsewhere.example"]),
        ("nobody@example.test", None, []),
        ("loop1@example.test", None, []),  # leads nowhere: refused at the door, never lost
        ("dead@example.test", None, []),
        ("ill@example.test", None, []),  # ? is exactly one character
        ("xxill@example.test", None, []),
        ("admin@example.example.test", [], ["admin@example.example.test"]),
    ],
)
def test_where_an_address_leads(address: str, local: list[str] | None, remote: list[str]) -> None:
    found = directory().resolve(parse_address(address))
    assert found.found == (local is not None)
    assert [account.name for account in found.accounts] == (local or [])
    assert [str(target) for target in found.remote] == remote


@pytest.mark.parametrize(
    ("login", "name"),
    [
        ("alice", "alice"),
        ("Alice", "alice"),
        ("alice@example.test", "alice"),
        (" alice@EXAMPLE.test ", "alice"),
        ("ann@other.test", "ann"),
        ("ann", None),  # not of the primary domain
        ("alice@example.example", None),  # DOM-2: not by a domain alias
        ("ally", None),
        ("sales", None),
        ("", None),
        ("@", None),
        ("alice@", None),
        ("alice@\ud800", None),
        ("x" * 100_000, None),
    ],
)
def test_who_logs_in(login: str, name: str | None) -> None:
    account = directory().account(login)
    assert (account.name if account else None) == name


def test_the_catch_all_comes_last() -> None:
    one = directory()
    one.update_aliases({("*", D): Alias("*", D, ("admin",))})
    assert one.resolve(Address("nobody", D)).accounts[0].name == "admin"
    assert one.resolve(Address("kill", D)).accounts[0].name == "alice"
    assert one.resolve(Address("ally", D)).accounts[0].name == "alice"


def test_postmaster_is_found_once_a_change(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[int] = []
    real = module.first_administrator
    monkeypatch.setattr(module, "first_administrator", lambda *a: looked.append(1) or real(*a))
    one = directory()
    for _ in range(100):
        assert [found.name for found in one.resolve(Address("postmaster", D)).accounts] == ["admin"]
    assert len(looked) == 1
    one.update_accounts({f"admin@{D}": Account("admin", D, rights=Rights.WRITE, enabled=False)})
    assert [found.name for found in one.resolve(Address("postmaster", D)).accounts] == ["alice"]
    one.update_accounts({f"boss@{E}": Account("boss", E, rights=Rights.WRITE)})
    assert [found.name for found in one.resolve(Address("postmaster", D)).accounts] == ["boss"]
    one.set_domains([Domain(D), Domain(E, primary=True)])
    one.update_accounts({f"boss@{D}": Account("boss", D, rights=Rights.WRITE)})
    assert [found.domain for found in one.resolve(Address("postmaster", D)).accounts] == [E]


def test_postmaster_without_any_administrator_goes_to_somebody() -> None:
    one = Directory([Domain(D, primary=True)], [Account("off", D, enabled=False), Account("alice", D)])
    assert one.resolve(Address("postmaster", D)).accounts[0].name == "alice"


def test_own_addresses() -> None:
    one = directory()
    alice = one.account("alice")
    assert alice is not None
    assert set(one.addresses(alice)) == {
        f"{name}@{host}"
        for name in ("alice", "ally", "a.liddell")
        for host in (D, "example.example", "xn--bcher-kva.test")
    }


def test_is_local() -> None:
    one = directory()
    assert one.is_local(D)
    assert one.is_local("EXAMPLE.example")
    assert not one.is_local("elsewhere.example")


def test_changes_are_seen_at_once() -> None:
    one = directory()
    alice = one.account("alice")
    assert alice is not None
    one.update_accounts({alice.key: Account("alice", D, aliases=("al",))})
    assert not one.resolve(Address("ally", D)).found
    assert one.resolve(Address("al", D)).accounts[0].aliases == ("al",)
    one.update_accounts({alice.key: None})
    assert one.account("alice") is None
    assert not one.resolve(Address("al", D)).found
    one.update_aliases({("?ill", D): None, ("out", D): None})
    assert not one.resolve(Address("kill", D)).found
    assert not one.resolve(Address("out", D)).found


def test_a_very_long_chain_ends_where_it_is() -> None:
    names = [f"n{number}" for number in range(HOP_LIMIT * 3)]
    accounts = [
        Account(name, D, forwards=(after,), keep_copy=False) for name, after in itertools.pairwise(names)
    ]
    one = Directory([Domain(D, primary=True)], [*accounts, Account(names[-1], D)])
    found = one.resolve(Address("n0", D))
    assert [account.name for account in found.accounts] == [f"n{HOP_LIMIT - 1}"]


def test_a_fan_of_fans_is_walked_once() -> None:
    """Ten levels of aliases that each name all of the next level: 10^10 paths, a hundred names."""
    aliases = [
        Alias(f"a{level}x{number}", D, tuple(f"a{level + 1}x{n}" for n in range(10)))
        for level in range(10)
        for number in range(10)
    ]
    accounts = [Account(f"a10x{number}", D) for number in range(10)]
    one = Directory([Domain(D, primary=True)], accounts, aliases)
    assert len(one.resolve(Address("a0x0", D)).accounts) == 10


NAMES = st.sampled_from(["a", "b", "c", "d", "e"])
TARGETS = st.lists(NAMES, min_size=1, max_size=3).map(tuple)


@settings(max_examples=400, derandomize=True, deadline=None)
@given(
    st.dictionaries(NAMES, TARGETS, max_size=5),
    st.dictionaries(NAMES, st.tuples(TARGETS | st.just(()), st.booleans()), max_size=5),
)
def test_any_aliases_and_forwards_end_and_lose_nothing(
    aliases: dict[str, tuple[str, ...]], users: dict[str, tuple[tuple[str, ...], bool]]
) -> None:
    one = Directory(
        [Domain(D, primary=True)],
        [Account(name, D, forwards=to, keep_copy=keep) for name, (to, keep) in users.items()],
        [Alias(name, D, to) for name, to in aliases.items()],
    )
    for name in "abcde":
        found = one.resolve(Address(name, D))
        keys = [account.key for account in found.accounts]
        assert len(keys) == len(set(keys))
        assert found.found == bool(keys)
        if name in users and name not in aliases and (users[name][1] or not users[name][0]):
            assert f"{name}@{D}" in keys


@settings(max_examples=400, derandomize=True, deadline=None)
@given(st.text("ab.?*", min_size=1, max_size=12), st.text("ab.x", max_size=14))
def test_patterns_match_as_declared(pattern: str, text: str) -> None:
    assert bool(compile_pattern(pattern).match(text)) == _matches(pattern, text)


def _matches(pattern: str, text: str) -> bool:
    """? is exactly one character, * any run: by the table."""
    row = [True] + [False] * len(text)
    for char in pattern:
        new = [row[0] and char == "*"]
        for at, letter in enumerate(text):
            new.append(new[at] or row[at + 1] if char == "*" else row[at] and char in ("?", letter))
        row = new
    return row[-1]


def test_a_hostile_pattern_takes_no_time() -> None:
    regex = compile_pattern("*a" * 31 + "b")
    assert regex.match("a" * 64) is None
