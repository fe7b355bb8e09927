"""How a setting is declared: once, with everything that files, pages, search and documentation need."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

T = TypeVar("T")


class Declaration(NamedTuple):
    """Metadata of one setting. `variable` is its name in mailserver.cfg; `unit` as shown to people.

    `check` looks at a text, or at each of a list (see config.checks). Where the unit is "octets", 10M is
    understood too.
    """

    variable: str
    help: str
    keywords: str = ""
    unit: str = ""
    minimum: int | None = None
    maximum: int | None = None
    secret: bool = False
    check: Callable[[str], None] | None = None


def setting(default: T, variable: str, help: str, **more: Any) -> T:
    """A field of a frozen settings dataclass (one section of mailserver.cfg).

    Types: bool, int, float, str, StrEnum, tuple[str, ...]. Example:
    `retry_minutes: int = setting(30, "RetryInterval", "Minutes between tries", minimum=1)`
    """
    field: Any = dataclasses.field(default=default, metadata={"setting": Declaration(variable, help, **more)})
    return field  # type: ignore[no-any-return]
