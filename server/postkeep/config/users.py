"""users.cfg: accounts, groups and aliases (row SET-2) ↔ values.

What this version does not know (groups of a later one, a variable written by hand) is kept as it is.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from postkeep.config.document import Item, Table, escape, parse_document, write_table
from postkeep.domain.account import Account, Alias, Rights
from postkeep.domain.address import parse_domain
from postkeep.domain.errors import ConfigError, PostkeepError
from postkeep.domain.naming import account_name, alias_pattern
from postkeep.formats.passwordhash import is_too_costly

FILE = "users.cfg"
_USERS, _ALIASES = "User", "Alias"
_KEPT, _REMOVED = "KeptMail", "RemovedMail"
_TEXTS = {"Password": "password_hash", "FullName": "full_name", "Description": "description"}
_SWITCHES = {"Enabled": "enabled", "KeepCopy": "keep_copy"}
_NUMBERS = {"QuotaBytes": "quota_bytes", "QuotaItems": "quota_items"}
_LISTS = {"EmailAddress": "aliases", "Forward": "forwards"}
_KNOWN = frozenset({"Name", "Domain", "Rights", *_TEXTS, *_SWITCHES, *_NUMBERS})

AliasKey = tuple[str, str]
"""(pattern, domain)"""


@dataclass(frozen=True, slots=True)
class UsersConfig:
    """All that users.cfg holds. The mappings are never changed in place."""

    accounts: Mapping[str, Account] = field(default_factory=dict)
    """By Account.key."""
    aliases: Mapping[AliasKey, Alias] = field(default_factory=dict)
    kept: frozenset[str] = frozenset()
    """Keys of removed users whose mail waits for a new user of that name."""
    removed: frozenset[str] = frozenset()
    """Keys of removed users whose mail goes too; perhaps it is gone already."""
    extras: Mapping[str, Table] = field(default_factory=dict)
    """By Account.key: what its entry holds that this version does not know."""
    rest: Table = field(default_factory=Table)
    """What the file holds besides."""


def parse_users(data: bytes) -> UsersConfig:
    """Raises ConfigError with file, line and reason."""
    root = parse_document(data, FILE)
    accounts: dict[str, Account] = {}
    extras: dict[str, Table] = {}
    for item in root.lists.pop(_USERS, []):
        table = _table(item)
        account = _at(item.line, _read_account, table)
        if account.key in accounts:
            raise ConfigError(f"{FILE}, line {item.line}: a second user “{account.key}”")
        accounts[account.key] = account
        extra = Table(
            {name: value for name, value in table.variables.items() if name not in _KNOWN},
            {name: items for name, items in table.lists.items() if name not in _LISTS},
            table.tables,
        )
        if not extra.empty:
            extras[account.key] = extra
    aliases: dict[AliasKey, Alias] = {}
    for item in root.lists.pop(_ALIASES, []):
        alias = _at(item.line, _read_alias, _table(item))
        if (alias.pattern, alias.domain) in aliases:
            raise ConfigError(f"{FILE}, line {item.line}: a second alias “{alias.pattern}@{alias.domain}”")
        aliases[alias.pattern, alias.domain] = alias
    kept, removed = (
        frozenset(item.text.strip().lower() for item in root.lists.pop(name, []) if item.text.strip())
        for name in (_KEPT, _REMOVED)
    )
    return UsersConfig(accounts, aliases, kept, removed, extras, root)


def _table(item: Item) -> Table:
    if item.table is None:
        raise ConfigError(f"{FILE}, line {item.line}: variables are expected in this <listitem>")
    return item.table


def _at(line: int, read: Any, table: Table) -> Any:
    try:
        return read(table)
    except PostkeepError as error:
        raise ConfigError(f"{FILE}, line {line}: {error}") from error


def _read_account(table: Table) -> Account:
    variables = table.variables
    values: dict[str, Any] = {attribute: variables.get(name, "") for name, attribute in _TEXTS.items()}
    for name, attribute in _SWITCHES.items():
        values[attribute] = _switch(name, variables.get(name, "1"))
    for name, attribute in _NUMBERS.items():
        values[attribute] = _number(name, variables.get(name, "0"))
    for name, attribute in _LISTS.items():
        values[attribute] = tuple(
            item.text.strip() for item in table.lists.get(name, []) if item.text.strip()
        )
    values["aliases"] = tuple(account_name(alias) for alias in values["aliases"])
    rights = variables.get("Rights", Rights.NONE.value)
    if rights not in {one.value for one in Rights}:
        raise ConfigError(f"Rights takes one of: {', '.join(one.value for one in Rights)}")
    if is_too_costly(values["password_hash"]):
        raise ConfigError("Password: this argon2 hash takes more memory or time than a login may")
    name = account_name(variables.get("Name", ""))
    return Account(name, parse_domain(variables.get("Domain", "")), rights=Rights(rights), **values)


def _switch(name: str, text: str) -> bool:
    if text.strip() not in {"0", "1"}:
        raise ConfigError(f"{name} takes 1 or 0, not “{text[:40]}”")
    return text.strip() == "1"


def _number(name: str, text: str) -> int:
    text = text.strip()
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise ConfigError(f"{name} takes a number, not “{text[:40]}”")
    return int(text)


def _read_alias(table: Table) -> Alias:
    targets = tuple(item.text.strip() for item in table.lists.get("DeliverTo", []) if item.text.strip())
    variables = table.variables
    return Alias(
        alias_pattern(variables.get("Name", "")),
        parse_domain(variables.get("Domain", "")),
        targets,
        variables.get("Description", ""),
    )


class UsersWriter:
    """Values → users.cfg. Keeps the text of each account, so that one change among thousands is cheap."""

    def __init__(self) -> None:
        self._texts: dict[str, tuple[Account, Table | None, str]] = {}

    def write(self, users: UsersConfig) -> bytes:
        old, new = self._texts, {}
        parts = ['<?xml version="1.0" encoding="UTF-8"?>\n<config>\n  <list name="User">\n']
        for key, account in users.accounts.items():
            extra = users.extras.get(key)
            known = old.get(key)
            if known is None or known[0] is not account or known[1] is not extra:
                known = (account, extra, _account_text(account, extra))
            new[key] = known
            parts.append(known[2])
        self._texts = new
        parts.append('  </list>\n  <list name="Alias">\n')
        parts.extend(_alias_text(alias) for alias in users.aliases.values())
        parts.append("  </list>\n")
        for name, keys in ((_KEPT, users.kept), (_REMOVED, users.removed)):
            if keys:
                parts.append(_list_text(name, sorted(keys), "  "))
        write_table(parts, users.rest, "  ")
        parts.append("</config>\n")
        return "".join(parts).encode("utf-8", "replace")


def _account_text(account: Account, extra: Table | None) -> str:
    parts = [
        f'    <listitem>\n      <variable name="Name">{account.name}</variable>\n'
        f'      <variable name="Domain">{account.domain}</variable>\n'
        f'      <variable name="Enabled">{int(account.enabled)}</variable>\n'
        f'      <variable name="Rights">{account.rights.value}</variable>\n'
    ]
    for name, attribute in _TEXTS.items():
        if text := getattr(account, attribute):
            parts.append(f'      <variable name="{name}">{escape(text)}</variable>\n')
    if not account.keep_copy:
        parts.append('      <variable name="KeepCopy">0</variable>\n')
    for name, attribute in _NUMBERS.items():
        if number := getattr(account, attribute):
            parts.append(f'      <variable name="{name}">{number}</variable>\n')
    for name, attribute in _LISTS.items():
        if values := getattr(account, attribute):
            parts.append(_list_text(name, values))
    if extra is not None:
        write_table(parts, extra, "      ")
    parts.append("    </listitem>\n")
    return "".join(parts)


def _list_text(name: str, values: Iterable[str], indent: str = "      ") -> str:
    items = "".join(f"{indent}  <listitem>{escape(value)}</listitem>\n" for value in values)
    return f'{indent}<list name="{name}">\n{items}{indent}</list>\n'


def _alias_text(alias: Alias) -> str:
    description = ""
    if alias.description:
        description = f'      <variable name="Description">{escape(alias.description)}</variable>\n'
    return (
        f'    <listitem>\n      <variable name="Name">{alias.pattern}</variable>\n'
        f'      <variable name="Domain">{alias.domain}</variable>\n{description}'
        f"{_list_text('DeliverTo', alias.targets)}    </listitem>\n"
    )
