"""Texts of the console in its languages: TOML files in locale/, nested keys joined by dots.

    words = Words.load("de")
    words("wizard.title", step=2, total=6)

A text that a language lacks comes from English; tests hold the languages complete.
"""

import tomllib
import unicodedata
from collections.abc import Mapping
from importlib import resources

LANGUAGES: Mapping[str, str] = {
    "en": "English",
    "de": "Deutsch",
    "cs": "Čeština",
    "es": "Español",
    "fr": "Français",
}
"""Two-letter codes and the languages' own names; the first one is the one that all others fall back to."""

_ASCII = str.maketrans(
    {"ä": "ae", "ö": "oe", "ü": "ue", "Ä": "Ae", "Ö": "Oe", "Ü": "Ue", "ß": "ss", "œ": "oe", "–": "-"}
    | {"„": '"', "“": '"', "”": '"', "’": "'", "…": "...", "·": "-", "«": '"', "»": '"', "¿": "", "¡": ""}
)


class Words:
    """One language. Called with a key it gives the text; `values` fill its {fields}."""

    def __init__(self, language: str, texts: Mapping[str, str], ascii_only: bool = False) -> None:
        self.language = language
        self.ascii_only = ascii_only
        self._texts = texts

    @classmethod
    def load(cls, language: str, ascii_only: bool = False) -> "Words":
        """An unknown language is English."""
        code = language if language in LANGUAGES else "en"
        return cls(code, {**catalogue("en"), **catalogue(code)}, ascii_only)

    def __call__(self, key: str, **values: object) -> str:
        text = self._texts[key]
        return self.shown(text.format(**values) if values else text)

    def shown(self, text: str) -> str:
        """`text`, from wherever it came, as this terminal can show it: see `printable`."""
        return printable(text, self.ascii_only)


def catalogue(language: str) -> dict[str, str]:
    """All texts of a language that has a file, by dotted key."""
    file = resources.files("postkeep_console").joinpath("locale", f"{language}.toml")
    return _flat(tomllib.loads(file.read_text(encoding="utf-8")), "")


def _flat(tree: Mapping[str, object], prefix: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in tree.items():
        if isinstance(value, dict):
            found |= _flat(value, f"{prefix}{name}.")
        else:
            found[prefix + name] = str(value).strip()
    return found


def printable(text: str, ascii_only: bool = False) -> str:
    """One line or more that a console font can show and that cannot command the terminal.

    Control characters (escape sequences in a log line!) and what is neither Latin, punctuation nor a box
    line become "?". With `ascii_only` letters lose their accents.
    """
    if text.isascii() and text.isprintable():
        return text
    text = unicodedata.normalize("NFC", text.replace("\t", "    "))
    if ascii_only:
        text = unicodedata.normalize("NFKD", text.translate(_ASCII))
        text = "".join(character for character in text if not unicodedata.combining(character))
    return "".join(character if _can_show(character, ascii_only) else "?" for character in text)


def _can_show(character: str, ascii_only: bool) -> bool:
    if character == "\n" or " " <= character <= "~":
        return True
    if ascii_only:
        return False
    return ("\u00a1" <= character <= "\u017f" and character != "\u00ad") or character in "„“”’–…─│┌┐└┘├┤"
