"""mailserver.cfg: all settings and the domains (row SET-2) ↔ values.

What this version does not know (a variable written by hand, a table of a later version) is kept as it is.
"""

import dataclasses
import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from postkeep.config.document import Item, Table, parse_document, write_document
from postkeep.config.general import GeneralSettings
from postkeep.config.imap import ImapSettings
from postkeep.config.logs import LogSettings
from postkeep.config.pop3 import Pop3Settings
from postkeep.config.queue import QueueSettings
from postkeep.config.sections import Field, change_section, fields_of, read_section, write_section
from postkeep.config.security import SecuritySettings
from postkeep.config.services import ServiceSettings
from postkeep.config.smtp import SmtpSettings
from postkeep.config.storage import StorageSettings
from postkeep.domain.account import Domain
from postkeep.domain.address import parse_domain
from postkeep.domain.errors import ConfigError, NotFound, PostkeepError

FILE = "mailserver.cfg"
DOMAIN_LIST = "Domain"
DOMAIN_VARIABLES = frozenset({"Name", "Primary", "Description", "MaxMessageSize"})
DOMAIN_LISTS = frozenset({"Alias"})
"""What the entry of a domain holds."""


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """All that mailserver.cfg holds. One attribute a section; its <table> has the name in SECTIONS."""

    general: GeneralSettings = field(default_factory=GeneralSettings)
    services: ServiceSettings = field(default_factory=ServiceSettings)
    security: SecuritySettings = field(default_factory=SecuritySettings)
    logs: LogSettings = field(default_factory=LogSettings)
    smtp: SmtpSettings = field(default_factory=SmtpSettings)
    imap: ImapSettings = field(default_factory=ImapSettings)
    pop3: Pop3Settings = field(default_factory=Pop3Settings)
    queue: QueueSettings = field(default_factory=QueueSettings)
    storage: StorageSettings = field(default_factory=StorageSettings)
    domains: tuple[Domain, ...] = ()
    extras: Mapping[str, Table] = field(default_factory=dict)
    """By domain name: what its entry holds that this version does not know."""
    rest: Table = field(default_factory=Table)
    """The file as it was read."""

    @property
    def hostname(self) -> str:
        return self.general.hostname


SECTIONS = {
    "General": "general",
    "Services": "services",
    "Security": "security",
    "Logs": "logs",
    "SMTP": "smtp",
    "IMAP": "imap",
    "POP3": "pop3",
    "Queue": "queue",
    "Storage": "storage",
}


class Place(NamedTuple):
    """Where a setting lives."""

    section: str
    field: Field


def settings_of(config: ServerConfig) -> list[tuple[Place, Any]]:
    """Every setting with its value, section by section."""
    found = []
    for section, attribute in SECTIONS.items():
        settings = getattr(config, attribute)
        for one in fields_of(type(settings)):
            found.append((Place(section, one), getattr(settings, one.attribute)))
    return found


def find_setting(name: str) -> Place:
    """By variable, or Section.Variable where two sections know the same one; any case.

    Raises NotFound, with the nearest names.
    """
    wanted_section, _, wanted = name.rpartition(".")
    places = [place for place, _ in settings_of(ServerConfig())]
    matching = [
        place
        for place in places
        if place.field.declaration.variable.lower() == wanted.lower()
        and (not wanted_section or place.section.lower() == wanted_section.lower())
    ]
    if len(matching) == 1:
        return matching[0]
    if matching:
        names = ", ".join(f"{place.section}.{place.field.declaration.variable}" for place in matching)
        raise NotFound(f"several settings have this name: {names}")
    variables = [place.field.declaration.variable for place in places]
    near = difflib.get_close_matches(wanted, variables, 3, 0.6)
    hint = f"; did you mean {' or '.join(near)}?" if near else ""
    raise NotFound(f"there is no setting “{name[:80]}”{hint}")


def change_settings(config: ServerConfig, section: str, values: Mapping[str, object]) -> ServerConfig:
    """`config` with settings of one section (named by variable) changed. Raises NotFound, ConfigError."""
    attribute = SECTIONS.get(section)
    if attribute is None:
        raise NotFound(f"there is no section “{section[:80]}”; there are {', '.join(SECTIONS)}")
    changed: dict[str, Any] = {attribute: change_section(getattr(config, attribute), values)}
    return dataclasses.replace(config, **changed)


def parse_server(data: bytes) -> ServerConfig:
    """Raises ConfigError with file, line and reason."""
    root = parse_document(data, FILE)
    sections: dict[str, Any] = {}
    for name, attribute in SECTIONS.items():
        kind = type(getattr(_DEFAULTS, attribute))
        sections[attribute] = read_section(kind, root.tables.get(name, Table()), FILE)
    domains: dict[str, Domain] = {}
    extras: dict[str, Table] = {}
    for item in root.lists.get(DOMAIN_LIST, []):
        try:
            domain, extra = _read_domain(item)
        except PostkeepError as error:
            raise ConfigError(f"{FILE}, line {item.line}: {error}") from error
        taken = {name for one in domains.values() for name in (one.name, *one.aliases)}
        if clash := taken.intersection((domain.name, *domain.aliases)):
            raise ConfigError(f"{FILE}, line {item.line}: a second domain “{min(clash)}”")
        domains[domain.name] = domain
        if not extra.empty:
            extras[domain.name] = extra
    ordered = tuple(domains.values())
    if ordered and sum(domain.primary for domain in ordered) != 1:
        line = root.lines.get(DOMAIN_LIST, 1)
        raise ConfigError(f"{FILE}, line {line}: exactly one domain must have Primary 1")
    return ServerConfig(**sections, domains=ordered, extras=extras, rest=root)


def _read_domain(item: Item) -> tuple[Domain, Table]:
    if item.table is None:
        raise ConfigError("variables are expected in this <listitem>")
    table = item.table
    variables = table.variables
    size = variables.get("MaxMessageSize", "0").strip()
    if not size.isascii() or not size.isdigit() or len(size) > 18:
        raise ConfigError(f"MaxMessageSize takes a number, not “{size[:40]}”")
    domain = Domain(
        parse_domain(variables.get("Name", "").strip()),
        variables.get("Primary", "0").strip() == "1",
        variables.get("Description", ""),
        tuple(parse_domain(alias.text.strip()) for alias in table.lists.get("Alias", [])),
        int(size),
    )
    extra = Table(
        {name: value for name, value in variables.items() if name not in DOMAIN_VARIABLES},
        {name: items for name, items in table.lists.items() if name not in DOMAIN_LISTS},
        table.tables,
    )
    return domain, extra


def write_server(config: ServerConfig) -> bytes:
    """The whole file; everything of `config.rest` that this version does not know stays in it."""
    rest = config.rest
    root = Table(dict(rest.variables), dict(rest.lists), dict(rest.tables))
    for name, attribute in SECTIONS.items():
        root.tables[name] = write_section(getattr(config, attribute), rest.tables.get(name, Table()))
    root.lists[DOMAIN_LIST] = [
        Item(table=_domain_table(domain, config.extras.get(domain.name))) for domain in config.domains
    ]
    return write_document(root)


def _domain_table(domain: Domain, extra: Table | None) -> Table:
    extra = extra or Table()
    variables = {
        "Name": domain.name,
        "Primary": str(int(domain.primary)),
        "Description": domain.description,
        "MaxMessageSize": str(domain.max_message_size),
    }
    aliases = [Item(text=alias) for alias in domain.aliases]
    return Table(variables | extra.variables, {"Alias": aliases} | extra.lists, dict(extra.tables))


_DEFAULTS = ServerConfig()
