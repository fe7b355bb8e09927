"""LIST and LSUB patterns (RFC 3501 §6.3.8). A name takes time by its letters times a 64th of the pattern's,
however the wildcards stand."""

import re

from postkeep.domain.mailbox import DELIMITER, INBOX

_RUNS = re.compile(r"[*%]+")


class Pattern:
    """One pattern: `*` matches anything, `%` anything within one level.

    A regular expression would backtrack for minutes on `*a*a*a*b`; this runs all possibilities at once as
    the bits of one integer: bit i set means that the first i tokens match what was read.
    """

    __slots__ = ("_final", "_letters", "_level", "_literal", "_stars", "_wild")

    def __init__(self, pattern: str) -> None:
        # Adjacent wildcards are one: `*` if any of them is.
        merged = _RUNS.sub(lambda run: "*" if "*" in run[0] else "%", pattern)
        self._literal = merged if not _RUNS.search(merged) else None
        self._letters: dict[str, int] = {}
        self._stars = self._level = 0
        for bit, letter in enumerate(merged):
            if letter == "*":
                self._stars |= 1 << bit
            elif letter == "%":
                self._level |= 1 << bit
            else:
                self._letters[letter] = self._letters.get(letter, 0) | 1 << bit
        self._wild = self._stars | self._level
        self._final = 1 << len(merged)

    def __call__(self, name: str) -> bool:
        if self._literal is not None:
            return name == self._literal
        letters, stars, wild = self._letters, self._stars, self._wild
        states = 1 | (1 & wild) << 1
        for letter in name:
            stay = stars if letter == DELIMITER else wild
            states = (states & letters.get(letter, 0)) << 1 | states & stay
            if not states:
                return False
            states |= (states & wild) << 1
        return bool(states & self._final)


class Matcher:
    """Several patterns at once, each already joined with its reference."""

    __slots__ = ("_patterns", "_upper")

    def __init__(self, patterns: tuple[str, ...]) -> None:
        self._patterns = tuple(map(Pattern, map(_fold_inbox, patterns)))
        self._upper = tuple(Pattern(pattern.upper()) for pattern in patterns)

    def __call__(self, name: str) -> bool:
        if name == INBOX:
            # INBOX has no case, so `inb%` finds it too.
            return any(pattern(name) for pattern in self._upper)
        return any(pattern(name) for pattern in self._patterns)


def _fold_inbox(pattern: str) -> str:
    """`inbox/…` means `INBOX/…`."""
    head, delimiter, rest = pattern.partition(DELIMITER)
    return INBOX + delimiter + rest if delimiter and head.upper() == INBOX else pattern
