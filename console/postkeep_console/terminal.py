"""The terminal of the console: tty1 (TERM=linux), a serial line (vt220), or a developer's xterm."""

import os
from collections.abc import Mapping

import urwid
from urwid.display import raw

from postkeep_console.look import COLUMNS, PALETTE, ROWS

PLAIN_TERMINALS = ("ansi", "cons25", "dumb", "su", "unknown", "vt52", "vt100", "vt102")
"""TERM of terminals that cannot be trusted with more than ASCII."""


def ascii_only(environment: Mapping[str, str]) -> bool:
    """Whether to draw with ASCII alone: an old terminal, or a locale that is not UTF-8."""
    term = environment.get("TERM", "")
    if not term or term in PLAIN_TERMINALS:
        return True
    named = (environment.get(name, "") for name in ("LC_ALL", "LC_CTYPE", "LANG"))
    locale = next((value for value in named if value), "")
    return "utf8" not in locale.lower().replace("-", "")


class Screen(raw.Screen):
    """urwid's raw screen for a console that nobody may leave and that need not answer questions."""

    def __init__(self) -> None:
        # False, not None: a serial line must not be asked for features; what answers looks like typing.
        super().__init__(bracketed_paste_mode=False, focus_reporting=False)
        self.set_terminal_properties(colors=16, bright_is_bold=os.environ.get("TERM", "linux") == "linux")
        self.register_palette(PALETTE)

    def _detect_terminal_modes(self) -> None:
        """urwid asks by DECRQM here; a terminal that does not know it may print the question."""

    def get_cols_rows(self) -> tuple[int, int]:
        """A serial line says 0x0: then the size that every terminal has."""
        columns, rows = super().get_cols_rows()
        if columns <= 0 or rows <= 0:
            columns, rows = COLUMNS, ROWS
            self.maxrow = rows
        return columns, rows


def make_screen(plain: bool, stays: bool = True) -> Screen:
    """A screen on standard input and output. If it `stays`, no key ends or suspends it (Ctrl+C, Ctrl+\\).

    Switching to another virtual terminal (Alt+F2) is the kernel's and stays.
    """
    urwid.set_encoding("ascii" if plain else "utf-8")
    screen = Screen()
    if stays:
        screen.tty_signal_keys("undefined", "undefined", "undefined", "undefined", "undefined")
    return screen
