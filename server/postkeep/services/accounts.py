"""What an administrator can do with domains, users and aliases (rows DOM-1, DOM-2, USR-1, ALI-1, ADM-3).

Every verb takes who acts, checks their rights, is durable on return and leaves one line in the Config log.
Thousands of users in one call are one save.
"""

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from postkeep.config.users import UsersConfig
from postkeep.domain.account import Account, Alias, Domain, Profile
from postkeep.domain.address import Address, parse_address, parse_domain
from postkeep.domain.errors import AlreadyExists, InUse, InvalidName, NotFound
from postkeep.domain.naming import account_name, alias_pattern, has_control
from postkeep.formats.passwordhash import is_hash
from postkeep.runtime.logs import Logs
from postkeep.services import validation
from postkeep.services.boxes import AccountBoxes, without_notes
from postkeep.services.configuration import Configuration, State
from postkeep.services.directory import POSTMASTER, Directory, Resolution
from postkeep.services.ownership import require_names
from postkeep.services.passwords import PASSWORD_LIMIT, PasswordHashes
from postkeep.services.rights import Administrator, is_demotion
from postkeep.storage.store import MailStore

BATCH_LIMIT = 20_000
"""Users in one call."""


@dataclass(frozen=True, slots=True)
class NewUser(Profile):
    """A user to be made. `domain` "" means the primary one. `password_hash` is for imports; with neither it
    nor a password nobody can log in."""

    name: str
    domain: str = ""
    password: str | None = dataclasses.field(default=None, repr=False)
    password_hash: str = dataclasses.field(default="", repr=False)


PROFILE = tuple(one.name for one in dataclasses.fields(Profile))
CHANGEABLE = frozenset(PROFILE)


class AccountService:
    """Uses the configuration for what is durable, and keeps the directory in step with it."""

    def __init__(
        self,
        configuration: Configuration,
        directory: Directory,
        store: MailStore,
        hashes: PasswordHashes,
        logs: Logs,
        *,
        gone: Callable[[str, str], None] = lambda key, reason: None,
    ) -> None:
        """`gone(key, reason)` ends an account's sessions: disabled, removed, or another password."""
        self._boxes = AccountBoxes(store, configuration, logs)
        self._configuration = configuration
        self._directory = directory
        self._hashes = hashes
        self._logs = logs
        self._gone = gone
        self.hashes_wanted = self.hashes_made = 0
        """Passwords of users who are being added right now: how far it is (0 of 0 when nobody is)."""
        configuration.subscribe(self._publish)

    def _publish(self, old: State, new: State) -> None:
        if new.server.domains is not old.server.domains:
            self._directory.set_domains(new.server.domains)
        if new.users.accounts is not old.users.accounts:
            self._directory.update_accounts(_difference(old.users.accounts, new.users.accounts))
        if new.users.aliases is not old.users.aliases:
            self._directory.update_aliases(_difference(old.users.aliases, new.users.aliases))

    # --- users ----------------------------------------------------------------------------------

    async def add_users(self, who: Administrator, users: Sequence[NewUser]) -> list[Account]:
        """Make these users, all or none. Raises AlreadyExists, InvalidName, NotFound, Denied, …"""
        if len(users) > BATCH_LIMIT:
            raise InvalidName(f"at most {BATCH_LIMIT} users in one go")
        state = self._configuration.state
        accounts = [self._draft(state, who, user) for user in users]
        _add(state, accounts)  # names the mistake before the costly part
        keys = [account.key for account in accounts]
        with self._boxes.reserved(keys):
            hashes = await self._hash_all(users)
            accounts = [replace(one, password_hash=text) for one, text in zip(accounts, hashes, strict=True)]
            # First the mailboxes: one without a user harms nobody, the other way round mail bounces.
            await self._boxes.make(keys)
            await self._configuration.change(lambda newest: _add(newest, accounts))
        names = ", ".join(account.key for account in accounts[:20])
        more = f" and {len(accounts) - 20} more" if len(accounts) > 20 else ""
        self._logs.config.write(f"{who}: added users {names}{more}")
        return accounts

    def _draft(self, state: State, who: Administrator, user: NewUser) -> Account:
        domain = parse_domain(user.domain) if user.domain else validation.primary_domain(state)
        who.require_domain(domain)
        who.require_grant(user.rights)
        if user.password is not None:
            try:
                self.check_password(user.password)
            except InvalidName as error:  # one of thousands, perhaps
                raise InvalidName(f"“{user.name[:80]}”: {error}") from error
        if user.password_hash and not is_hash(user.password_hash):
            raise InvalidName("the password hash is none of argon2, {SHA…} or {SSHA…}")
        profile = {name: getattr(user, name) for name in PROFILE}
        account = Account(account_name(user.name), domain, **profile)
        account = replace(account, aliases=tuple(account_name(alias) for alias in user.aliases))
        require_names(who, state, domain, {account.name, *account.aliases} & {POSTMASTER})
        return account

    async def _hash_all(self, users: Sequence[NewUser]) -> list[str]:
        clear = [user.password for user in users if user.password is not None]
        done = 0

        def one_made() -> None:
            nonlocal done
            done += 1
            self.hashes_made += 1

        self.hashes_wanted += len(clear)
        try:
            made = iter(await self._hashes.make_all(clear, one_made))
        finally:
            self.hashes_wanted -= len(clear)
            self.hashes_made -= done
        return [next(made) if user.password is not None else user.password_hash for user in users]

    def check_password(self, password: str) -> None:
        """Raises InvalidName when it may not be set."""
        least = self._configuration.server.security.password_minimum
        if len(password) < least:
            raise InvalidName(f"a password has at least {least} characters")
        if len(password.encode("utf-8", "surrogatepass")) > PASSWORD_LIMIT:
            raise InvalidName(f"a password has at most {PASSWORD_LIMIT} octets")
        if has_control(password):
            raise InvalidName("a password may not hold control characters")

    async def change_user(self, who: Administrator, login: str, changes: Mapping[str, Any]) -> Account:
        """Set some of CHANGEABLE. Nobody disables or demotes themself (ADM-3)."""
        if unknown := set(changes) - CHANGEABLE:
            raise InvalidName(f"{min(unknown)} cannot be changed")

        def edit(state: State) -> State:
            account = validation.require_account(state, login)
            who.require_over(account)
            changed = replace(account, **changes)
            if changed.aliases != account.aliases:
                changed = replace(changed, aliases=tuple(account_name(one) for one in changed.aliases))
                require_names(
                    who, state, account.domain, {POSTMASTER} & {*changed.aliases} - {*account.aliases}
                )
            if account.enabled and not changed.enabled:
                who.require_other(account, "disable")
            if is_demotion(account.rights, changed.rights):
                who.require_other(account, "take rights from")
            if changed.rights is not account.rights:
                who.require_grant(changed.rights)
            taken = validation.own_aliases(state.users, account.domain, but=account.key)
            validation.check_account(state, changed, taken)
            new = _with_accounts(state, {account.key: changed})
            validation.check_administrator_left(state.users, new.users)
            return new

        state = await self._configuration.change(edit)
        account = validation.require_account(state, login)
        said = ", ".join(f"{name}={_shown(changes[name])}" for name in sorted(changes))
        self._logs.config.write(f"{who}: changed user {account.key}: {said}")
        if not account.enabled:
            self._gone(account.key, "the account was disabled")
        return account

    async def set_password(self, who: Administrator, login: str, password: str) -> None:
        self.check_password(password)
        who.require_over(validation.require_account(self._configuration.state, login))
        made = await self._hashes.make(password)

        def edit(state: State) -> State:
            account = validation.require_account(state, login)
            who.require_over(account)
            return _with_accounts(state, {account.key: replace(account, password_hash=made)})

        state = await self._configuration.change(edit)
        key = validation.require_account(state, login).key
        self._logs.config.write(f"{who}: set the password of {key}")
        self._gone(key, "the password was changed")

    async def remove_users(
        self, who: Administrator, logins: Iterable[str], *, keep_mail: bool = False
    ) -> list[str]:
        """Their mail goes too, unless kept (a user of the same name made later finds it again)."""
        state = self._configuration.state
        keys = list(dict.fromkeys(validation.require_account(state, login).key for login in logins))

        def edit(state: State) -> State:
            for key in keys:
                account = validation.require_account(state, key)
                who.require_over(account)
                who.require_other(account, "delete")
            new = _with_accounts(state, dict.fromkeys(keys))
            validation.check_administrator_left(state.users, new.users)
            return replace(new, users=self._boxes.noted(new.users, keys, keep_mail=keep_mail))

        with self._boxes.reserved(keys):
            await self._configuration.change(edit)
            for key in keys:
                self._gone(key, "the account was removed")
                self._logs.config.write(f"{who}: removed user {key}{', mail kept' if keep_mail else ''}")
                self._logs.warning.write(f"The user {key} was removed by {who}")
            if not keep_mail:
                await self._boxes.remove(keys)
        return keys

    async def finish_removals(self) -> None:
        """At start: the mail of removed users that an end of the engine left behind."""
        await self._boxes.finish_removals()

    # --- domains --------------------------------------------------------------------------------

    async def add_domain(self, who: Administrator, domain: Domain) -> Domain:
        """The first one is the primary one."""
        who.require_write()
        domain = _canonical(domain)

        def edit(state: State) -> State:
            validation.check_domain(state, domain)
            first = not state.server.domains
            others = state.server.domains
            if domain.primary:
                others = tuple(replace(one, primary=False) for one in others)
            return _with_domains(state, (*others, replace(domain, primary=domain.primary or first)))

        state = await self._configuration.change(edit)
        self._logs.config.write(f"{who}: added domain {domain.name}")
        return validation.require_domain(state, domain.name)

    async def change_domain(self, who: Administrator, name: str, changes: Mapping[str, Any]) -> Domain:
        """Set description, aliases, max_message_size or primary (True only: another takes it over)."""
        who.require_write()
        name = parse_domain(name)

        def edit(state: State) -> State:
            domain = validation.require_domain(state, name)
            changed = _canonical(replace(domain, **changes))
            if domain.primary and not changed.primary:
                raise InUse("make another domain the primary one instead")
            validation.check_domain(state, changed, but=name)
            taken_over = changed.primary and not domain.primary
            domains = [
                changed if one.name == name else replace(one, primary=one.primary and not taken_over)
                for one in state.server.domains
            ]
            return _with_domains(state, tuple(domains))

        state = await self._configuration.change(edit)
        said = ", ".join(f"{key}={_shown(changes[key])}" for key in sorted(changes))
        self._logs.config.write(f"{who}: changed domain {name}: {said}")
        return validation.require_domain(state, name)

    async def remove_domain(self, who: Administrator, name: str) -> None:
        """Refused while it is primary, has users or aliases (DOM-1)."""
        who.require_write()
        name = parse_domain(name)

        def edit(state: State) -> State:
            domain = validation.require_domain(state, name)
            if domain.primary:
                raise InUse(f"{name} is the primary domain")
            if domain.aliases:
                raise InUse(f"{name} has domain aliases")
            if any(account.domain == name for account in state.users.accounts.values()):
                raise InUse(f"{name} has users")
            if any(alias.domain == name for alias in state.users.aliases.values()):
                raise InUse(f"{name} has aliases")
            return _with_domains(state, tuple(one for one in state.server.domains if one.name != name))

        await self._configuration.change(edit)
        self._logs.config.write(f"{who}: removed domain {name}")

    # --- aliases --------------------------------------------------------------------------------

    async def add_alias(self, who: Administrator, alias: Alias, *, override: bool = False) -> Alias:
        """An alias goes before a user of its name and gets all their mail: with `override` only."""
        domain = alias.domain or validation.primary_domain(self._configuration.state)
        alias = replace(alias, pattern=alias_pattern(alias.pattern), domain=parse_domain(domain))
        who.require_domain(alias.domain)

        def edit(state: State) -> State:
            require_names(who, state, alias.domain, (alias.pattern,))
            if (alias.pattern, alias.domain) in state.users.aliases:
                raise AlreadyExists(f"there is an alias {alias.pattern}@{alias.domain} already")
            if not override and (key := f"{alias.pattern}@{alias.domain}") in state.users.accounts:
                raise AlreadyExists(
                    f"there is a user {key}: the alias would get all their mail in their stead; "
                    "say so (override) if that is wanted"
                )
            validation.check_alias(state, alias)
            return _with_alias(state, alias)

        await self._configuration.change(edit)
        self._logs.config.write(
            f"{who}: added alias {alias.pattern}@{alias.domain} to {', '.join(alias.targets)}"
        )
        return alias

    async def change_alias(
        self, who: Administrator, pattern: str, domain: str, changes: Mapping[str, Any]
    ) -> Alias:
        """Set targets or description."""
        key = alias_pattern(pattern), parse_domain(domain)
        who.require_domain(key[1])

        def edit(state: State) -> State:
            require_names(who, state, key[1], key[:1])
            if key not in state.users.aliases:
                raise NotFound(f"there is no alias {key[0]}@{key[1]}")
            changed = replace(state.users.aliases[key], **changes)
            validation.check_alias(state, changed)
            return _with_alias(state, changed)

        state = await self._configuration.change(edit)
        alias = state.users.aliases[key]
        self._logs.config.write(f"{who}: changed alias {key[0]}@{key[1]} to {', '.join(alias.targets)}")
        return alias

    async def remove_alias(self, who: Administrator, pattern: str, domain: str) -> None:
        key = alias_pattern(pattern), parse_domain(domain)
        who.require_domain(key[1])

        def edit(state: State) -> State:
            require_names(who, state, key[1], key[:1])
            if key not in state.users.aliases:
                raise NotFound(f"there is no alias {key[0]}@{key[1]}")
            aliases = {name: alias for name, alias in state.users.aliases.items() if name != key}
            return replace(state, users=replace(state.users, aliases=aliases))

        await self._configuration.change(edit)
        self._logs.config.write(f"{who}: removed alias {key[0]}@{key[1]}")

    def alias_warnings(self, alias: Alias) -> list[str]:
        """What is wrong with where an alias leads: mail to unknown users, or in a loop, gets nowhere."""
        return self._directory.dead_ends(alias)

    def check_address(self, text: str) -> tuple[Address, Resolution]:
        """Where mail to `text` (an address, or a name in the primary domain) would go (ALI-1)."""
        primary = self._directory.primary_domain
        address = parse_address(text if "@" in text else f"{text}@{primary}")
        return address, self._directory.resolve(address)


def _difference(old: Mapping[Any, Any], new: Mapping[Any, Any]) -> dict[Any, Any]:
    changed: dict[Any, Any] = {key: None for key in old if key not in new}
    changed.update((key, value) for key, value in new.items() if old.get(key) is not value)
    return changed


def _add(state: State, accounts: Sequence[Account]) -> State:
    taken: dict[str, set[str]] = {}
    for account in accounts:
        if account.domain not in taken:
            taken[account.domain] = validation.own_aliases(state.users, account.domain)
        validation.check_new_name(state.users, account, taken[account.domain])
    merged = {account.key: account for account in accounts}
    if len(merged) < len(accounts):
        twice = next(key for key, times in Counter(account.key for account in accounts).items() if times > 1)
        raise AlreadyExists(f"the user {twice} is named twice")
    added = _with_accounts(state, merged)
    added = replace(added, users=without_notes(added.users, merged))
    for account in accounts:
        validation.check_account(added, account, taken[account.domain])
        taken[account.domain].update(account.aliases)
    return added


def _with_accounts(state: State, changed: Mapping[str, Account | None]) -> State:
    users: UsersConfig = state.users
    accounts = dict(users.accounts)
    extras = users.extras
    for key, account in changed.items():
        if account is None:
            accounts.pop(key, None)
            if key in extras:
                extras = {name: table for name, table in extras.items() if name != key}
        else:
            accounts[key] = account
    return replace(state, users=replace(users, accounts=accounts, extras=extras))


def _with_domains(state: State, domains: tuple[Domain, ...]) -> State:
    return replace(state, server=replace(state.server, domains=domains))


def _with_alias(state: State, alias: Alias) -> State:
    aliases = {**state.users.aliases, (alias.pattern, alias.domain): alias}
    return replace(state, users=replace(state.users, aliases=aliases))


def _canonical(domain: Domain) -> Domain:
    return replace(
        domain, name=parse_domain(domain.name), aliases=tuple(parse_domain(one) for one in domain.aliases)
    )


def _shown(value: object) -> str:
    text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
    return text if len(text) <= 200 else f"{text[:200]}…"
