"""What a valid account, alias or domain is, given all others (rows USR-1, ALI-1, DOM-1). Pure."""

from postkeep.config.users import UsersConfig
from postkeep.domain.account import Account, Alias, Domain, Rights
from postkeep.domain.address import parse_address, parse_domain
from postkeep.domain.errors import AlreadyExists, InUse, InvalidAddress, InvalidName, NotFound
from postkeep.domain.naming import account_name, alias_pattern, has_control
from postkeep.services.configuration import State

TEXT_LIMIT = 1_024
LIST_LIMIT = 1_000
TARGETS_LIMIT = 10_000
NUMBER_LIMIT = 1 << 60
PUBLIC_FOLDER = "#public/"


def require_domain(state: State, name: str) -> Domain:
    """By its own name. Raises NotFound."""
    for domain in state.server.domains:
        if domain.name == name:
            return domain
    raise NotFound(f"there is no domain {name[:80]}")


def primary_domain(state: State) -> str:
    for domain in state.server.domains:
        if domain.primary:
            return domain.name
    raise NotFound("there is no primary domain")


def account_key(state: State, login: str) -> str:
    """The key that `login` (a name, or name@domain) stands for; it need not exist."""
    name, at, domain = login.strip().rpartition("@")
    if not at:
        return f"{account_name(domain)}@{primary_domain(state)}"
    return f"{account_name(name)}@{parse_domain(domain)}"


def require_account(state: State, login: str) -> Account:
    """Raises NotFound, also for what cannot be a name."""
    try:
        return state.users.accounts[account_key(state, login)]
    except (KeyError, InvalidName, InvalidAddress) as error:
        raise NotFound(f"there is no user “{login[:80]}”") from error


def check_administrator_left(old: UsersConfig, new: UsersConfig) -> None:
    """Somebody can still log in and administer the whole server, if anybody could. Raises InUse."""
    if any(map(_administers, new.accounts.values())):
        return
    last = next(filter(_administers, old.accounts.values()), None)
    if last is not None:
        raise InUse(f"{last.key} is the last administrator of the whole server; make another one first")


def _administers(account: Account) -> bool:
    return account.rights is Rights.WRITE and account.enabled and bool(account.password_hash)


def check_text(name: str, text: str) -> None:
    if len(text) > TEXT_LIMIT:
        raise InvalidName(f"the {name} is longer than {TEXT_LIMIT} characters")
    if has_control(text.replace("\n", "")):
        raise InvalidName(f"the {name} holds control characters")


def check_account(state: State, account: Account, taken: set[str]) -> None:
    """Everything about an account that does not depend on whether it is new.

    `taken`: own_aliases() of all others in its domain.
    """
    require_domain(state, account.domain)
    check_text("full name", account.full_name)
    check_text("description", account.description)
    if not 0 <= account.quota_bytes < NUMBER_LIMIT or not 0 <= account.quota_items < NUMBER_LIMIT:
        raise InvalidName("a quota is a number, 0 for none")
    if max(len(account.aliases), len(account.forwards)) > LIST_LIMIT:
        raise InvalidName(f"at most {LIST_LIMIT} aliases and {LIST_LIMIT} forwarding addresses")
    for alias in account.aliases:
        if account_name(alias) != alias:
            raise InvalidName(f"“{alias[:80]}” cannot be an alias")
    for target in account.forwards:
        check_target(target, account.domain)
    if account.aliases:
        _check_aliases_free(state.users, account, taken)


def _check_aliases_free(users: UsersConfig, account: Account, taken: set[str]) -> None:
    if len(set(account.aliases)) < len(account.aliases) or account.name in account.aliases:
        raise AlreadyExists("an alias is named twice")
    for alias in account.aliases:
        if alias in taken or f"{alias}@{account.domain}" in users.accounts:
            raise AlreadyExists(f"the address {alias}@{account.domain} belongs to another user")
        if (alias, account.domain) in users.aliases:
            raise AlreadyExists(f"there is an alias {alias}@{account.domain} already")


def own_aliases(users: UsersConfig, domain: str, but: str = "") -> set[str]:
    """Aliases that users of this domain have in their accounts."""
    return {
        alias
        for account in users.accounts.values()
        if account.aliases and account.domain == domain and account.key != but
        for alias in account.aliases
    }


def check_new_name(users: UsersConfig, account: Account, taken: set[str]) -> None:
    """`taken`: own_aliases() of the domain."""
    if account.key in users.accounts:
        raise AlreadyExists(f"there is a user {account.key} already")
    if account.name in taken or (account.name, account.domain) in users.aliases:
        raise AlreadyExists(f"there is an alias {account.key} already")


def check_target(text: str, domain: str) -> None:
    """An address, or a local name in `domain`."""
    if text.startswith(PUBLIC_FOLDER):
        raise InvalidAddress("there are no public folders yet")
    parse_address(text if "@" in text else f"{text}@{domain}")


def check_alias(state: State, alias: Alias) -> None:
    require_domain(state, alias.domain)
    check_text("description", alias.description)
    if alias_pattern(alias.pattern) != alias.pattern:
        raise InvalidName(f"“{alias.pattern[:80]}” cannot be an alias")
    if not alias.targets:
        raise InvalidAddress("an alias needs an address that it leads to")
    if len(alias.targets) > TARGETS_LIMIT:
        raise InvalidAddress(f"at most {TARGETS_LIMIT} addresses")
    for target in alias.targets:
        check_target(target, alias.domain)
    # Not even knowingly: the user's own alias would be there and lead nowhere.
    if alias.pattern in own_aliases(state.users, alias.domain):
        raise AlreadyExists(f"the address {alias.pattern}@{alias.domain} is an alias of a user's account")


def check_domain(state: State, domain: Domain, but: str = "") -> None:
    """All names of `domain` are free; those of the domain `but` do not count."""
    check_text("description", domain.description)
    if not 0 <= domain.max_message_size < NUMBER_LIMIT:
        raise InvalidName("the largest message is a number of octets, 0 for no limit")
    names = (domain.name, *domain.aliases)
    for name in names:
        if parse_domain(name) != name or name.startswith("["):
            raise InvalidAddress(f"“{name[:80]}” is not a domain name")
    if len(set(names)) < len(names):
        raise AlreadyExists("a name is given twice")
    for other in state.server.domains:
        if other.name != but and (clash := {other.name, *other.aliases}.intersection(names)):
            raise AlreadyExists(f"{min(clash)} is a name of the domain {other.name} already")
