"""The catalogues: complete, with the same fields, and safe to show."""

import re
import string
from pathlib import Path

import postkeep_console
import pytest
from hypothesis import given
from hypothesis import strategies as st
from postkeep_console.words import LANGUAGES, Words, catalogue, printable

OTHERS = [language for language in LANGUAGES if language != "en"]
SOURCES = sorted(Path(postkeep_console.__file__).parent.rglob("*.py"))
SAME_EVERYWHERE = re.compile(r"(\{[a-z]+\}|ping|DNS|SSH|OK|No|Menu|Test|terminal|Administration|[^a-z]*)\Z")


def fields(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


@pytest.mark.parametrize("language", OTHERS)
def test_each_language_has_every_text_with_the_same_fields(language: str) -> None:
    english, other = catalogue("en"), catalogue(language)
    assert set(other) == set(english)
    for key, text in english.items():
        assert fields(other[key]) == fields(text), key
        assert other[key], key


@pytest.mark.parametrize("language", OTHERS)
def test_texts_are_translated(language: str) -> None:
    english, other = catalogue("en"), catalogue(language)
    same = [key for key, text in english.items() if other[key] == text and not SAME_EVERYWHERE.match(text)]
    assert len(same) <= 6, same


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_console_font_can_show_each_text(language: str) -> None:
    for key, text in catalogue(language).items():
        assert printable(text) == text, key
        assert printable(text, ascii_only=True).isascii(), key


def test_each_key_that_the_code_names_exists_and_each_text_is_used() -> None:
    english = catalogue("en")
    code = "\n".join(path.read_text(encoding="utf-8") for path in SOURCES)
    named = set(re.findall(r'"([a-z_]+(?:\.[a-z_0-9]+)+)"', code)) - {"postkeep_appliance.api", "ipv4.method"}
    missing = {key for key in named if key.split(".")[0] in {k.split(".")[0] for k in english}} - set(english)
    assert not missing
    patterns = [re.escape(text) for text in re.findall(r'f"([a-z_{}]+\.[^"]+)"', code)]
    made = [re.compile(re.sub(r"\\\{.*?\\\}", r"[a-z_0-9]+", pattern) + r"\Z") for pattern in patterns]
    unused = [key for key in english if key not in named and not any(one.match(key) for one in made)]
    assert not unused


def test_an_unknown_language_is_english() -> None:
    assert Words.load("tlh").language == "en"
    assert Words.load("")("button.ok") == "OK"


@given(st.text())
def test_whatever_comes_cannot_command_the_terminal(text: str) -> None:
    for ascii_only in (False, True):
        shown = printable(text, ascii_only)
        assert not any(ord(one) < 32 and one != "\n" for one in shown)
        assert not any(0x7F <= ord(one) < 0xA0 for one in shown)
        assert printable(shown, ascii_only) == shown


@pytest.mark.parametrize(
    "attack", ["\x1b[2J", "\x9b31m", "\u202eabc", "\u200b", "\x07", "\r", "\x0e", "日本", "\ud800"]
)
def test_attacks_by_text_are_shown_as_question_marks(attack: str) -> None:
    shown = printable(f"before {attack} after")
    assert shown.startswith("before ?")
    assert shown.isprintable()
