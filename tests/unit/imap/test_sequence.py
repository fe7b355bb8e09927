from array import array

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from postkeep.protocols.imap.sequence import (
    MAXIMUM,
    format_set,
    numbers_of,
    parse_set,
    present,
    ranges_of,
    resolve,
)


@pytest.mark.parametrize(
    ("text", "largest", "expected"),
    [
        ("1", 9, [(1, 1)]),
        ("1:3,5", 9, [(1, 3), (5, 5)]),
        ("5,1:3,4", 9, [(1, 5)]),
        ("3:1", 9, [(1, 3)]),
        ("*", 9, [(9, 9)]),
        ("7:*", 9, [(7, 9)]),
        ("*:7", 9, [(7, 9)]),
        ("12:*", 9, [(9, 12)]),
        ("*", 0, []),
        ("4294967295", 9, [(MAXIMUM, MAXIMUM)]),
    ],
)
def test_sets_resolve(text: str, largest: int, expected: list[tuple[int, int]]) -> None:
    assert resolve(parse_set(text), largest) == expected


@pytest.mark.parametrize(
    "text", ["", "0", "1:", ":1", "1,,2", "a", "1:2:3", "4294967296", "01", "1,", "-1", "1 "]
)
def test_what_is_no_set_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_set(text)


@settings(max_examples=200, derandomize=True, deadline=None)
@given(
    st.lists(st.integers(1, 60), unique=True).map(sorted),
    st.lists(st.tuples(st.integers(1, 70), st.integers(1, 70))),
)
def test_fuzz_maps_agree_with_plain_sets(known: list[int], pairs: list[tuple[int, int]]) -> None:
    uids = array("I", known)
    written = tuple(pairs)
    wanted = {n for low, high in pairs for n in range(min(low, high), max(low, high) + 1)}
    members = present(uids, resolve(written, 99))
    assert members == [uid for uid in known if uid in wanted]
    assert list(numbers_of(uids, members)) == [known.index(uid) + 1 for uid in members]
    assert resolve(parse_set(format_set(members).decode()), 0) == ranges_of(members) if members else True
