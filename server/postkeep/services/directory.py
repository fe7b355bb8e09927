"""Who is here: domains, accounts and aliases in memory, and where an address leads (rows DOM, USR-1, ALI-1).

All lookups of exact names are one or two dictionary accesses; wildcard aliases are tried only when nothing
exact matches. services.accounts keeps it in step with what is durable in the configuration files.

An address is looked up in this order: alias, user name, a user's own alias, `postmaster` at the
administrator, wildcard alias (`*` last): no wildcard takes the mail of a name. Disabled accounts are found
too: what becomes of their mail is for the receiver to say.
"""

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from postkeep.domain.account import Account, Alias, Domain, Rights
from postkeep.domain.address import Address, parse_address, parse_domain
from postkeep.domain.errors import InvalidAddress
from postkeep.services.patterns import Patterns, has_wildcard

HOP_LIMIT = 50
"""Aliases and forwards one behind the other; what is longer ends where it is."""
TARGET_LIMIT = 50_000
"""Accounts and addresses that one address may lead to."""
DEAD_ENDS = 20
"""Ways that lead to nobody, as far as they are told."""


POSTMASTER = "postmaster"


class Resolution(NamedTuple):
    """Where mail to an address goes. `found` False: the address is unknown (or leads nowhere).

    `loop`: some way from it leads in a circle, to nobody.
    """

    accounts: tuple[Account, ...]
    remote: tuple[Address, ...]
    found: bool
    loop: bool = False


UNKNOWN = Resolution((), (), False)


class Directory:
    """In memory and synchronous. Names are compared without regard to case."""

    def __init__(
        self,
        domains: Iterable[Domain] = (),
        accounts: Iterable[Account] = (),
        aliases: Iterable[Alias] = (),
    ) -> None:
        self._domains: dict[str, Domain] = {}
        self._local: dict[str, str] = {}
        self._primary = ""
        self._accounts: dict[str, Account] = {}
        self._administrators: dict[str, Account] = {}
        self._postmaster: Account | None = None
        self._postmaster_known = False
        self._own_aliases: dict[str, str] = {}
        self._aliases: dict[str, Alias] = {}
        self._patterns: dict[str, Patterns] = {}
        self.set_domains(domains)
        self.update_accounts({account.key: account for account in accounts})
        self.update_aliases({(alias.pattern, alias.domain): alias for alias in aliases})

    # --- keeping it current ---------------------------------------------------------------------

    def set_domains(self, domains: Iterable[Domain]) -> None:
        self._domains = {domain.name: domain for domain in domains}
        self._local = {alias: one.name for one in self._domains.values() for alias in one.aliases}
        self._local.update((name, name) for name in self._domains)
        self._primary = next((one.name for one in self._domains.values() if one.primary), "")
        self._postmaster_known = False

    def update_accounts(self, changed: Mapping[str, Account | None]) -> None:
        """Accounts by key, as they are from now on; None: gone."""
        for key, account in changed.items():
            known = self._accounts.pop(key, None)
            self._administrators.pop(key, None)
            if known is not None:
                for alias in known.aliases:
                    if self._own_aliases.get(f"{alias}@{known.domain}") == key:
                        del self._own_aliases[f"{alias}@{known.domain}"]
            if account is not None:
                self._accounts[key] = account
                if account.rights is not Rights.NONE:
                    self._administrators[key] = account
                for alias in account.aliases:
                    self._own_aliases.setdefault(f"{alias}@{account.domain}", key)
        self._postmaster_known = False

    def update_aliases(self, changed: Mapping[tuple[str, str], Alias | None]) -> None:
        """Aliases by (pattern, domain), as they are from now on; None: gone."""
        for (pattern, domain), alias in changed.items():
            if has_wildcard(pattern):
                patterns = self._patterns.setdefault(domain, Patterns())
                if alias is None:
                    patterns.remove(pattern)
                else:
                    patterns.put(alias)
            elif alias is None:
                self._aliases.pop(f"{pattern}@{domain}", None)
            else:
                self._aliases[f"{pattern}@{domain}"] = alias

    # --- looking up -----------------------------------------------------------------------------

    @property
    def primary_domain(self) -> str:
        """The name of the primary domain; "" while there is none."""
        return self._primary

    def domains(self) -> Sequence[Domain]:
        return tuple(self._domains.values())

    def domain(self, name: str) -> Domain | None:
        """A domain by its own name (not by an alias)."""
        return self._domains.get(name)

    def accounts(self) -> Sequence[Account]:
        return tuple(self._accounts.values())

    def aliases(self) -> Sequence[Alias]:
        wild = [alias for patterns in self._patterns.values() for alias in patterns.all()]
        return (*self._aliases.values(), *wild)

    def account(self, login: str) -> Account | None:
        """The account that logs in as `login`: `alice` in the primary domain, or `alice@example.test`.

        Domain aliases and users' aliases are for delivery only (DOM-2).
        """
        return self._accounts.get(self.login_key(login))

    def is_local(self, domain: str) -> bool:
        """Whether mail for `domain` (canonical, or any case) is for this server; domain aliases too."""
        return domain in self._local or domain.lower() in self._local

    def addresses(self, account: Account) -> list[str]:
        """All that are the account's own: its name and aliases at its domain and the domain's aliases."""
        domain = self._domains.get(account.domain)
        hosts = (account.domain, *(domain.aliases if domain else ()))
        return [f"{name}@{host}" for host in hosts for name in (account.name, *account.aliases)]

    def resolve(self, address: Address) -> Resolution:
        """Where mail to `address` goes in the end; aliases and forwards are followed, loops end.

        For an address that is not local: remote = (address,), found.
        """
        if address.domain not in self._local:
            return Resolution((), (address,), True)
        walk = _Walk(self)
        walk.visit(address, ())
        accounts, remote = tuple(walk.accounts.values()), tuple(walk.remote.values())
        loop = bool(walk.loops)
        if accounts or remote or loop:
            return Resolution(accounts, remote, bool(accounts or remote), loop)
        return UNKNOWN

    def dead_ends(self, alias: Alias) -> list[str]:
        """One sentence for each way from `alias` that ends at nobody, the first DEAD_ENDS of them."""
        walk = _Walk(self)
        walk.follow(alias.targets, alias.domain, (f"{alias.pattern}@{alias.domain}",))
        said = [f"{key} leads in a loop, mail to it is refused" for key in walk.loops]
        said += [f"there is no user {key}, mail to it is refused" for key in walk.unknown]
        return said[:DEAD_ENDS]

    def target(self, text: str, domain: str) -> Address | None:
        """An alias's or forward's target: an address, or a local name in `domain`."""
        try:
            return parse_address(text if "@" in text else f"{text}@{domain}")
        except InvalidAddress:
            return None

    def canonical(self, address: Address) -> str | None:
        """local@domain in lower-case with the domain's own name; None when it is not local."""
        domain = self._local.get(address.domain)
        return None if domain is None else f"{address.local.lower()}@{domain}"

    def exact_alias(self, key: str) -> Alias | None:
        return self._aliases.get(key)

    def owner(self, key: str) -> Account | None:
        """The account whose name or own alias is `key` (canonical)."""
        account = self._accounts.get(key)
        return account or self._accounts.get(self._own_aliases.get(key, ""))

    def wildcard_alias(self, key: str) -> Alias | None:
        local, _, domain = key.rpartition("@")
        patterns = self._patterns.get(domain)
        return patterns.match(local) if patterns is not None else None

    def postmaster(self) -> Account | None:
        """Who gets postmaster's mail when nobody has that name (RFC 5321 §4.5.1). Found once a change."""
        if not self._postmaster_known:
            found = first_administrator(self._administrators.values(), self._primary)
            if found is None or not found.enabled:
                found = first_administrator(self._accounts.values(), self._primary)
            self._postmaster = found
            self._postmaster_known = True
        return self._postmaster

    def login_key(self, login: str) -> str:
        """name@domain that `login` stands for, whether there is such an account or not."""
        name, at, domain = login.strip().lower().rpartition("@")
        if not at:
            return f"{domain}@{self._primary}"
        if not domain.isascii():
            with contextlib.suppress(InvalidAddress):
                domain = parse_domain(domain)
        return f"{name}@{domain}"


def first_administrator(accounts: Iterable[Account], primary: str) -> Account | None:
    """The enabled account with the most rights, in the primary domain if there is one; None of none."""
    return min(
        accounts,
        key=lambda one: (not one.enabled, _RANK[one.rights], one.domain != primary),
        default=None,
    )


_RANK = {Rights.WRITE: 0, Rights.READ: 1, Rights.DOMAIN: 2, Rights.NONE: 3}


class _Walk:
    """Follows one address. A name that is visited again on its own path is a loop.

    The mail then ends in the mailbox of the last name before it that has one (ALI-1), so an alias
    `smith` → `smith, brown` keeps a copy for smith, and two users who forward to each other both stay
    reachable. A name that is reached twice on different paths counts once.
    """

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._visited: set[str] = set()
        self.loops: dict[str, None] = {}
        """Names that lead back to where they were reached from, where no mailbox takes the mail."""
        self.unknown: dict[str, None] = {}
        self.accounts: dict[str, Account] = {}
        self.remote: dict[str, Address] = {}

    def visit(self, address: Address, path: tuple[str, ...]) -> None:
        key = self._directory.canonical(address)
        if key is None:
            self._add_remote(address)
            return
        if key in path or len(path) >= HOP_LIMIT:
            self._end_of_loop(path, key)
            return
        if key in self._visited:
            return
        self._visited.add(key)
        alias = self._directory.exact_alias(key)
        account = None if alias else self._directory.owner(key)
        if alias is None and account is None and key.startswith(f"{POSTMASTER}@"):
            account = self._directory.postmaster()
        if alias is None and account is None:
            alias = self._directory.wildcard_alias(key)
        if alias is not None:
            self.follow(alias.targets, alias.domain, (*path, key))
        elif account is not None:
            self._reach(account, path, key)
        elif len(self.unknown) < DEAD_ENDS:
            self.unknown[key] = None

    def _reach(self, account: Account, path: tuple[str, ...], key: str) -> None:
        if account.key != key:  # by an alias of the account: the account itself is a stop of its own
            if account.key in path:
                self._end_of_loop(path, key)
                return
            if account.key in self._visited:
                return
            self._visited.add(account.key)
        if account.keep_copy or not account.forwards:
            self._add_account(account)
        self.follow(account.forwards, account.domain, (*path, account.key))

    def follow(self, targets: Iterable[str], domain: str, path: tuple[str, ...]) -> None:
        for text in targets:
            target = self._directory.target(text, domain)
            if target is not None:
                self.visit(target, path)

    def _end_of_loop(self, path: tuple[str, ...], again: str) -> None:
        for key in reversed(path):
            account = self._directory.owner(key)
            if account is not None:
                self._add_account(account)
                return
        if len(self.loops) < DEAD_ENDS:
            self.loops[again] = None

    def _add_account(self, account: Account) -> None:
        if len(self.accounts) < TARGET_LIMIT:
            self.accounts.setdefault(account.key, account)

    def _add_remote(self, address: Address) -> None:
        if len(self.remote) < TARGET_LIMIT:
            self.remote.setdefault(address.key, address)
