"""Aliases with ? (exactly one character) and * (any run) of one domain (row ALI-1)."""

import re
from collections.abc import Iterable

from postkeep.domain.account import Alias

CATCH_ALL = "*"


def has_wildcard(pattern: str) -> bool:
    return "*" in pattern or "?" in pattern


def compile_pattern(pattern: str) -> re.Pattern[str]:
    """Matches whole local parts, lower-case. Never backtracks: each piece takes its first place for good."""
    first, *others = (re.escape(piece).replace(r"\?", ".") for piece in re.split(r"\*+", pattern))
    if not others:
        return re.compile(rf"{first}\Z", re.DOTALL)
    *middle, last = others
    pieces = "".join(f"(?>.*?{piece})" for piece in middle)
    return re.compile(rf"{first}{pieces}.*{last}\Z", re.DOTALL)


class Patterns:
    """The wildcard aliases of a domain. The most specific one that matches wins; `*` alone comes last."""

    def __init__(self, aliases: Iterable[Alias] = ()) -> None:
        self._aliases = {alias.pattern: alias for alias in aliases}
        self._compiled: list[tuple[re.Pattern[str], Alias]] | None = None

    def all(self) -> list[Alias]:
        return list(self._aliases.values())

    def put(self, alias: Alias) -> None:
        self._aliases[alias.pattern] = alias
        self._compiled = None

    def remove(self, pattern: str) -> None:
        self._aliases.pop(pattern, None)
        self._compiled = None

    def match(self, local: str) -> Alias | None:
        """`local` is lower-case."""
        if self._compiled is None:
            ordered = sorted(self._aliases.values(), key=_specificity)
            self._compiled = [(compile_pattern(alias.pattern), alias) for alias in ordered]
        return next((alias for regex, alias in self._compiled if regex.match(local)), None)


def _specificity(alias: Alias) -> tuple[int, int, str]:
    """More letters first, then fewer stars; the name decides ties, so the order never changes by itself."""
    stars = alias.pattern.count("*")
    return -(len(alias.pattern) - stars), stars, alias.pattern
