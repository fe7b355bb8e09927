"""Modified UTF-7 and LIST patterns."""

import re
import time
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from postkeep.protocols.imap import utf7
from postkeep.protocols.imap.encoding import single_line
from postkeep.protocols.imap.matching import Matcher, Pattern


@pytest.mark.parametrize(
    ("name", "encoded"),
    [
        ("~peter/mail/台北/日本語", "~peter/mail/&U,BTFw-/&ZeVnLIqe-"),  # RFC 3501 §5.1.3
        ("Entwürfe", "Entw&APw-rfe"),
        ("a&b", "a&-b"),
        ("&", "&-"),
        ("😀", "&2D3eAA-"),
        ("\t", "&AAk-"),
    ],
)
def test_utf7_both_ways(name: str, encoded: str) -> None:
    assert utf7.encode(name) == encoded
    assert utf7.decode(encoded) == name


@pytest.mark.parametrize(
    "text", ["&", "&A", "&APw", "&AGE-", "&APw-&APw-", "&2D0-", "&A-", "&????-", "ü", "&AP=w-"]
)
def test_utf7_that_does_not_round_trip_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        utf7.decode(text)


@settings(max_examples=300, derandomize=True, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_fuzz_utf7_round_trips(name: str) -> None:
    assert utf7.decode(utf7.encode(name)) == name


@settings(max_examples=300, derandomize=True, deadline=None)
@given(st.text(st.sampled_from("&-,+AaPw=/9 ")))
def test_fuzz_utf7_decodes_or_refuses(text: str) -> None:
    try:
        name = utf7.decode(text)
    except ValueError:
        return
    assert utf7.encode(name) == text


@pytest.mark.parametrize(
    ("pattern", "name", "expected"),
    [
        ("*", "a/b", True),
        ("%", "a/b", False),
        ("%", "a", True),
        ("%/%", "a/b", True),
        ("a%", "a", True),
        ("a*c", "a/b/c", True),
        ("a%c", "a/b/c", False),
        ("%*", "a/b", True),
        ("", "a", False),
        ("A", "a", False),
        ("inbox", "INBOX", True),
        ("iNb%", "INBOX", True),
        ("inbox/%", "INBOX/x", True),
        ("a.c", "abc", False),
    ],
)
def test_patterns(pattern: str, name: str, expected: bool) -> None:
    assert Matcher((pattern,))(name) is expected


@settings(max_examples=300, derandomize=True, deadline=None)
@given(st.text(st.sampled_from("ab/*%"), max_size=12), st.text(st.sampled_from("ab/"), max_size=12))
def test_fuzz_patterns_agree_with_regular_expressions(pattern: str, name: str) -> None:
    expression = "".join({"*": ".*", "%": "[^/]*"}.get(letter, re.escape(letter)) for letter in pattern)
    assert Pattern(pattern)(name) is bool(re.fullmatch(expression, name))


def test_attack_wildcard_bomb_is_linear() -> None:
    started = time.process_time()
    assert not Pattern("*a" * 200 + "b")("a" * 1000)
    assert time.process_time() - started < 1


def test_inbox_is_found_in_nfc_only_for_others() -> None:
    name = unicodedata.normalize("NFC", "Büro")
    assert Matcher((name,))(name)


def test_our_own_words_reach_clients_in_ascii() -> None:
    assert single_line("no mailbox “Ann’s…”") == b'no mailbox "Ann\'s..."'
    assert single_line("snow \u2603\r\n* BYE") == b"snow ???* BYE"
