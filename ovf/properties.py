"""The OVF properties: properties.toml as frozen values. What the file means is said at its head."""

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path

FILE = Path(__file__).with_name("properties.toml")
PREFIX = "guestinfo.postkeep."

TYPES = frozenset(
    {
        "hostname",
        "address",
        "netmask",
        "address-list",
        "host-list",
        "password",
        "ssh-key",
        "domain",
        "user",
        "time-zone",
        "boolean",
        "language",
    }
)
UNATTENDED = ("needed", "access", "optional")
# DSP0243 §9.5: MinLen, MaxLen and ValueMap are the qualifiers of a string.
_QUALIFIERS = re.compile(r'(?:MaxLen\([1-9]\d*\)|ValueMap\{"[^"{}]*"(?:,"[^"{}]*")*\})?')
_KEY = re.compile(r"guestinfo\.postkeep\.[a-z][a-z_]*")


class PropertyError(ValueError):
    """properties.toml says something that no deployment could use."""


@dataclass(frozen=True, slots=True)
class Category:
    """A heading of the deployment form."""

    name: str
    description: str


@dataclass(frozen=True, slots=True)
class Property:
    """One thing that a deployment may set; the fields are those of properties.toml."""

    key: str
    category: str
    type: str
    ovf_type: str
    qualifiers: str
    default: str
    label: str
    description: str
    example: str
    unset: str
    secret: bool
    user_configurable: bool
    unattended: str

    @property
    def name(self) -> str:
        """The key without its prefix, such as "hostname"."""
        return self.key.removeprefix(PREFIX)


@dataclass(frozen=True, slots=True)
class Properties:
    """All of them, in the order of the file."""

    categories: tuple[Category, ...]
    properties: tuple[Property, ...]

    def of(self, category: Category) -> tuple[Property, ...]:
        """Those under one heading."""
        return tuple(item for item in self.properties if item.category == category.name)


def load(path: Path = FILE) -> Properties:
    """Read and check the file. Raises PropertyError, or what tomllib and the file system raise."""
    table = tomllib.loads(path.read_text(encoding="utf-8"))
    try:
        categories = tuple(Category(**entry) for entry in table["category"])
        properties = tuple(Property(**entry) for entry in table["property"])
    except (KeyError, TypeError) as error:
        raise PropertyError(f"{path.name}: {error}") from error
    for item in properties:
        _check(item, {category.name for category in categories})
    keys = [item.key for item in properties]
    if len(set(keys)) != len(keys):
        raise PropertyError(f"{path.name}: a key is declared twice")
    return Properties(categories, properties)


def _check(item: Property, categories: set[str]) -> None:
    complaints = {
        "key": not _KEY.fullmatch(item.key),
        "category": item.category not in categories,
        "type": item.type not in TYPES,
        "ovf_type": item.ovf_type != ("boolean" if item.type == "boolean" else "string"),
        "qualifiers": not _QUALIFIERS.fullmatch(item.qualifiers),
        "default": item.secret and item.default != "",
        "secret": item.secret != (item.type == "password"),
        "unattended": item.unattended not in UNATTENDED,
        "label": not item.label or not item.label.isprintable(),
        # vCenter shows a line break in a description as garbage.
        "description": not item.description or not item.description.isprintable(),
    }
    for field, wrong in complaints.items():
        if wrong:
            raise PropertyError(f"{item.key}: {field} = {getattr(item, field)!r} will not do")
