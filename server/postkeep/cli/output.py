"""What commands print: tables for people, JSON for programs, progress for the patient."""

import json
import shutil
import sys
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

import click

_STEP = 0.01


def print_json(value: Any) -> None:
    click.echo(json.dumps(value, ensure_ascii=False, indent=2))


def print_table(headings: Sequence[str], rows: Iterable[Sequence[object]], empty: str) -> None:
    """Columns as wide as they need; `empty` is said when there are no rows."""
    lines = [[_cell(value) for value in row] for row in rows]
    if not lines:
        click.echo(empty)
        return
    widths = [max(_width(line[at]) for line in [list(headings), *lines]) for at in range(len(headings))]
    for line in [list(headings), *lines]:
        padded = [text + " " * (width - _width(text)) for text, width in zip(line, widths, strict=True)]
        click.echo("  ".join(padded).rstrip())


def print_fields(fields: Iterable[tuple[str, object]]) -> None:
    """One `name  value` a line."""
    pairs = [(name, _cell(value)) for name, value in fields]
    width = max((len(name) for name, _ in pairs), default=0)
    for name, value in pairs:
        click.echo(f"{name.ljust(width)}  {value}".rstrip())


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(str(one) for one in value)
    if value is None:
        return "-"
    text = str(value)
    return text if text.isprintable() else "".join(one if one.isprintable() else "\ufffd" for one in text)


def _width(text: str) -> int:
    """Columns on a terminal."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(one) else 2 if unicodedata.east_asian_width(one) in "WF" else 1
        for one in text
    )


def size(octets: int) -> str:
    """Octets for people: 1.5 MB."""
    amount = float(octets)
    for unit in ("B", "KB", "MB", "GB", "TB"):
        if amount < 1024 or unit == "TB":
            return f"{amount:.0f} {unit}" if unit == "B" or amount >= 100 else f"{amount:.1f} {unit}"
        amount /= 1024
    raise AssertionError("unreachable")


class Progress:
    """A bar on a terminal's stderr; elsewhere a line at each tenth. Call it with (done, total, text)."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._shown = -1.0
        self._text = ""

    def __call__(self, done: int, total: int, text: str) -> None:
        share = min(done / total, 1.0) if total else 1.0
        step = _STEP if self._terminal else 0.1
        if text == self._text and 0 <= share - self._shown < step and share < 1.0:
            return
        if text == self._text and share == self._shown:
            return
        self._shown, self._text = share, text
        if not self._terminal:
            click.echo(f"{share:4.0%} {text}", err=True)
            return
        columns = shutil.get_terminal_size().columns
        bar = "#" * int(share * 30)
        line = f"[{bar:<30}] {share:4.0%} {text}"
        click.echo("\r" + line[: columns - 1].ljust(columns - 1), nl=False, err=True)

    def close(self) -> None:
        if self._terminal and self._shown >= 0:
            click.echo(err=True)
