"""Settings sections (frozen dataclasses of setting(...) fields) ↔ text, checked as declared."""

import dataclasses
import re
import typing
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, NamedTuple, TypeVar

from postkeep.config.declare import Declaration
from postkeep.config.document import Item, Table
from postkeep.domain.errors import ConfigError, PostkeepError
from postkeep.domain.naming import has_control

T = TypeVar("T")
Value = bool | int | float | str | tuple[str, ...]
"""What a setting may hold (a StrEnum is a str)."""
_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"0", "false", "no", "off"})
_LIST_LIMIT = 10_000
_TEXT_LIMIT = 65_536
_NUMBER_LIMIT = 1 << 40
"""For numbers that declare no maximum: more is a slip of the hand, and times that long overflow timers."""
_SIZE = re.compile(r"([0-9]{1,15}) ?([KMGT])(?:i?B)?\Z", re.IGNORECASE)
_POWERS = {"K": 10, "M": 20, "G": 30, "T": 40}


class Field(NamedTuple):
    """One setting of a section class: its attribute, type, default and declaration."""

    attribute: str
    type: Any
    default: Value
    declaration: Declaration

    @property
    def is_list(self) -> bool:
        return typing.get_origin(self.type) is tuple

    @property
    def choices(self) -> tuple[str, ...]:
        """The words that an enumerated setting takes."""
        if isinstance(self.type, type) and issubclass(self.type, StrEnum):
            return tuple(member.value for member in self.type)
        return ()

    @property
    def type_name(self) -> str:
        if self.is_list:
            return "list"
        return (
            "choice"
            if self.choices
            else {bool: "switch", int: "number", float: "number"}.get(self.type, "text")
        )


_FIELDS: dict[Any, tuple[Field, ...]] = {}


def fields_of(section: Any) -> tuple[Field, ...]:
    """The settings of a section class, in their order."""
    if section not in _FIELDS:
        hints = typing.get_type_hints(section)
        _FIELDS[section] = tuple(
            Field(one.name, hints[one.name], typing.cast(Value, one.default), one.metadata["setting"])
            for one in dataclasses.fields(section)
            if "setting" in one.metadata
        )
    return _FIELDS[section]


def parse_value(field: Field, raw: object) -> Value:
    """`raw` (text from a file or command line, or a JSON value) as the setting's type.

    Raises ConfigError with the reason, without the place.
    """
    if field.is_list:
        return _parse_list(field, raw)
    if isinstance(raw, Mapping | list | tuple) or raw is None:
        raise ConfigError(f"{field.declaration.variable} takes one value")
    text = str(int(raw)) if isinstance(raw, bool) else str(raw).strip()
    if len(text) > _TEXT_LIMIT:
        raise ConfigError(f"{field.declaration.variable} is too long")
    if field.type is bool:
        return _parse_switch(field, text)
    if field.type in (int, float):
        return _parse_number(field, text)
    if field.choices:
        if text not in field.choices:
            raise ConfigError(f"{field.declaration.variable} takes one of: {', '.join(field.choices)}")
        return typing.cast(str, field.type(text))
    if has_control(text):
        raise ConfigError(f"{field.declaration.variable} may not hold control characters")
    _check(field, text)
    return text


def _check(field: Field, text: str) -> None:
    if field.declaration.check is not None:
        try:
            field.declaration.check(text)
        except ConfigError as error:
            raise ConfigError(f"{field.declaration.variable}: {error}") from error


def parse_octets(text: str) -> int | None:
    """`10M`, `1 GiB` → octets (K, M, G and T are powers of 1024); None when it is not of this form."""
    found = _SIZE.match(text)
    return int(found[1]) << _POWERS[found[2].upper()] if found else None


def _parse_list(field: Field, raw: object) -> tuple[str, ...]:
    if isinstance(raw, str):
        raw = [part.strip() for part in raw.replace("\n", ",").split(",")]
    if not isinstance(raw, list | tuple):
        raise ConfigError(f"{field.declaration.variable} takes a list")
    values = tuple(str(one).strip() for one in raw if str(one).strip())
    if len(values) > _LIST_LIMIT or any(len(one) > _TEXT_LIMIT for one in values):
        raise ConfigError(f"{field.declaration.variable} is too long")
    if any(has_control(one) for one in values):
        raise ConfigError(f"{field.declaration.variable} may not hold control characters")
    for one in values:
        _check(field, one)
    return values


def _parse_switch(field: Field, text: str) -> bool:
    if text.lower() in _TRUE:
        return True
    if text.lower() in _FALSE:
        return False
    raise ConfigError(f"{field.declaration.variable} takes 1 or 0, not “{text[:40]}”")


def _parse_number(field: Field, text: str) -> int | float:
    declaration = field.declaration
    if declaration.unit == "octets" and (octets := parse_octets(text)) is not None:
        text = str(octets)
    try:
        number: int | float = int(text) if field.type is int and len(text) < 25 else float(text)
    except ValueError:
        number = float("nan")
    if (
        number != number
        or number in (float("inf"), float("-inf"))
        or (field.type is int and number != int(number))
    ):
        raise ConfigError(f"{declaration.variable} takes a number, not “{text[:40]}”")
    if declaration.minimum is not None and number < declaration.minimum:
        raise ConfigError(f"{declaration.variable} must be at least {declaration.minimum}, not {text[:40]}")
    maximum = _NUMBER_LIMIT if declaration.maximum is None else declaration.maximum
    if number > maximum:
        raise ConfigError(f"{declaration.variable} must be at most {maximum}, not {text[:40]}")
    return int(number) if field.type is int else number


def read_section(section: type[T], table: Table, file: str) -> T:
    """A section from its <table>; what the table does not name has its default."""
    values: dict[str, Value] = {}
    for field in fields_of(section):
        variable = field.declaration.variable
        raw: object
        if field.is_list and variable in table.lists:
            raw = [item.text for item in table.lists[variable]]
        elif variable in table.variables:
            raw = table.variables[variable]
        else:
            continue
        try:
            values[field.attribute] = parse_value(field, raw)
        except ConfigError as error:
            raise ConfigError(f"{file}, line {table.lines.get(variable, table.line)}: {error}") from error
    try:
        return section(**values)
    except (PostkeepError, ValueError) as error:  # a section that checks its settings against each other
        raise ConfigError(f"{file}, line {table.line}: {error}") from error


def write_section(section: object, table: Table) -> Table:
    """A copy of `table` with all settings of `section` in it; what it does not declare stays."""
    result = Table(dict(table.variables), dict(table.lists), dict(table.tables))
    for field in fields_of(type(section)):
        value = getattr(section, field.attribute)
        variable = field.declaration.variable
        if field.is_list:
            result.variables.pop(variable, None)
            result.lists[variable] = [Item(text=one) for one in value]
        else:
            result.variables[variable] = format_value(value)
    return result


def format_value(value: Value) -> str:
    """As in a file: switches are 1 and 0, lists joined by a comma."""
    if isinstance(value, bool):
        return str(int(value))
    return ",".join(value) if isinstance(value, tuple) else str(value)


def change_section(section: T, values: Mapping[str, object]) -> T:
    """`section` with some settings (named by variable) changed. Raises ConfigError."""
    declared = {field.declaration.variable: field for field in fields_of(type(section))}
    changed: dict[str, Any] = {}
    for variable, raw in values.items():
        field = declared.get(variable)
        if field is None:
            raise ConfigError(f"there is no setting “{variable[:80]}” in this section")
        changed[field.attribute] = parse_value(field, raw)
    try:
        return dataclasses.replace(section, **changed)  # type: ignore[type-var]
    except (PostkeepError, ValueError) as error:  # a section that checks its settings against each other
        raise ConfigError(str(error)) from error
