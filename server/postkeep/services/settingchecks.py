"""What is asked of settings and files beyond their form: do the places exist, is something misspelt?"""

import difflib
import os
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

from postkeep.config import server as server_file
from postkeep.config import users as users_file
from postkeep.config.document import Table
from postkeep.config.queue import QueueSettings
from postkeep.config.sections import Field, fields_of
from postkeep.config.server import DOMAIN_LIST, DOMAIN_LISTS, DOMAIN_VARIABLES, SECTIONS, ServerConfig
from postkeep.domain.errors import ConfigError
from postkeep.formats.passwordhash import is_hash
from postkeep.runtime.resolver import Resolver, SystemResolver, ZoneFileResolver
from postkeep.services.configuration import State

_LINES = 20
"""Of each kind; how many there are besides is said in one more."""


def make_resolver(data: Path, settings: QueueSettings) -> Resolver:
    """As the settings ask. Raises ConfigError naming the setting, and what is wrong with it; blocking."""
    try:
        if settings.resolver_file:
            return ZoneFileResolver(data / settings.resolver_file)
        return SystemResolver(settings.name_servers)
    except ConfigError as error:
        name = "ResolverFile" if settings.resolver_file else "NameServers"
        raise ConfigError(f"{name}: {error}") from error


def check_change(data: Path, old: ServerConfig, new: ServerConfig) -> None:
    """Whether the places that changed settings name can be used. Raises ConfigError; blocking."""
    if new.queue.resolver_file != old.queue.resolver_file:
        make_resolver(data, new.queue)
    if new.storage.folder != old.storage.folder:
        _check_folder(data / new.storage.folder)


def _check_folder(folder: Path) -> None:
    try:
        place = next(path for path in (folder, *folder.parents) if os.path.lexists(path))
        usable = place.is_dir() and os.access(place, os.W_OK | os.X_OK)
    except (OSError, ValueError) as error:
        raise ConfigError(f"MailStoreDirectory: {str(folder)[:200]} cannot be used: {error}") from error
    if not usable:
        kind = "may not be written" if place.is_dir() else "is not a folder"
        raise ConfigError(f"MailStoreDirectory: {str(folder)[:200]} cannot be used: {place} {kind}")


def doubts(state: State) -> Iterator[str]:
    """Lines for the Warning log at start: what the files hold that is probably not meant so. Bounded."""
    yield from _some(_unknown(state.server.rest), "unknown variables, lists and tables")
    yield from _some(_odd_users(state), "users and aliases like these")


def _some(lines: Iterable[str], what: str) -> Iterator[str]:
    lines = iter(lines)
    yield from islice(lines, _LINES)
    if more := sum(1 for _ in lines):
        yield f"… and {more} more {what}"


def _unknown(root: Table) -> Iterator[str]:
    """What the table of mailserver.cfg `root` holds that no setting is named like."""
    yield from _strangers(root, {}, "at the top")
    for name, table in root.tables.items():
        if name not in SECTIONS:
            yield _line("table", name, "at the top", table.line, SECTIONS)
            continue
        section = getattr(_DEFAULTS, SECTIONS[name])
        declared = {field.declaration.variable: field for field in fields_of(type(section))}
        yield from _strangers(table, declared, f"in table {name}")
        for inner, stranger in table.tables.items():
            yield _line("table", inner, f"in table {name}", stranger.line, ())
    for item in root.lists.get(DOMAIN_LIST, []):
        if item.table is not None:
            for variable in item.table.variables:
                if variable not in DOMAIN_VARIABLES:
                    line = item.table.lines.get(variable, item.line)
                    yield _line("variable", variable, "of a domain", line, DOMAIN_VARIABLES)
            for variable in item.table.lists:
                if variable not in DOMAIN_LISTS:
                    line = item.table.lines.get(variable, item.line)
                    yield _line("list", variable, "of a domain", line, DOMAIN_LISTS)


def _strangers(table: Table, declared: dict[str, Field], where: str) -> Iterator[str]:
    for name in table.variables:
        if name not in declared:
            yield _line("variable", name, where, table.lines.get(name, table.line), declared)
    lists = {name for name, field in declared.items() if field.is_list}
    lists |= {DOMAIN_LIST} if where == "at the top" else set()
    for name in table.lists:
        if name not in lists:
            yield _line("list", name, where, table.lines.get(name, table.line), lists)


def _line(kind: str, name: str, where: str, line: int, known: Iterable[str]) -> str:
    words = {word.lower(): word for word in known}
    near = difflib.get_close_matches(name.lower()[:80], words, 1, 0.7)
    hint = f"; did you mean {words[near[0]]}?" if near else ""
    return f"{server_file.FILE}, line {line}: unknown {kind} “{name[:80]}” {where}: kept, not used{hint}"


def _odd_users(state: State) -> Iterator[str]:
    domains = {name for domain in state.server.domains for name in (domain.name, *domain.aliases)}
    own = {domain.name for domain in state.server.domains}
    for account in state.users.accounts.values():
        if account.domain not in own:
            yield f"{users_file.FILE}: user {account.key}: there is no domain {account.domain}; no mail comes"
        if account.password_hash and not is_hash(account.password_hash):
            yield (
                f"{users_file.FILE}: user {account.key}: the password is none of argon2, {{SHA…}} or "
                "{SSHA…}; nobody can log in"
            )
    for alias in state.users.aliases.values():
        if alias.domain not in domains:
            yield (
                f"{users_file.FILE}: alias {alias.pattern}@{alias.domain}: there is no domain {alias.domain}"
            )


_DEFAULTS = ServerConfig()
