import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from postkeep.domain.address import Address, parse_address
from postkeep.domain.errors import PostkeepError
from postkeep.queue.entry import (
    Entry,
    Names,
    QueuedRecipient,
    State,
    decode_entry,
    encode_entry,
    make_entry,
    view,
)


def sample() -> Entry:
    return make_entry(
        "0001",
        Address("jürgen", "example.test"),
        [
            QueuedRecipient(parse_address('"odd name"@a.test'), "rfc822;x", "FAILURE"),
            QueuedRecipient(Address("b", "b.test")),
        ],
        1000.0,
        smtputf8=True,
        envid="QQ",
        ret="FULL",
    )


def test_there_and_back() -> None:
    entry = sample()
    entry.recipients[0].state = State.FAILED
    data = encode_entry(entry)
    assert decode_entry(data, "0001") == entry
    assert data.count(b"\n") == 1
    assert b'"version":1' in data
    assert entry.recipients[0].parsed == Address("odd name", "a.test")
    assert [one.domain for one in entry.recipients] == ["a.test", "b.test"]


def test_fields_of_a_later_minor_version_are_ignored() -> None:
    data = encode_entry(sample()).replace(b'{"version":1', b'{"colour":"blue","version":1')
    assert decode_entry(data, "0001").envid == "QQ"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b'{"version":1}',
        encode_entry(sample())[:-5],
        encode_entry(sample()).replace(b'"version":1', b'"version":2'),
        encode_entry(sample()).replace(b"b@b.test", b"b@b.test\\r\\nX"),
        encode_entry(sample()).replace(b'"0001"', b'"0002"'),
        encode_entry(sample()).replace(b'"pending"', b'"perhaps"'),
        b"\xff\xfe",
        b'{"a":' * 10_000,
    ],
)
def test_damaged_envelopes_are_refused(data: bytes) -> None:
    with pytest.raises(PostkeepError):
        decode_entry(data, "0001")


@given(st.integers(0, 400), st.integers(0, 255))
@settings(max_examples=300, derandomize=True, deadline=None)
def test_any_flipped_octet_is_refused_or_harmless(place: int, octet: int) -> None:
    data = bytearray(encode_entry(sample()))
    data[place % len(data)] = octet
    try:
        entry = decode_entry(bytes(data), "0001")
    except PostkeepError:
        return
    assert entry.id == "0001"
    assert all(one.parsed for one in entry.recipients)


def test_names_sort_by_time_and_never_repeat() -> None:
    names = Names()
    made = [names.make(1_767_225_600.0 + n // 100) for n in range(1000)]
    assert len(set(made)) == 1000
    assert [name[:12] for name in made] == sorted(name[:12] for name in made)
    assert all(name.isalnum() and len(name) == 16 for name in made)


def test_view_shows_what_is_left() -> None:
    entry = sample()
    entry.recipients[0].state = State.DONE
    entry.recipients[1].next = 2000.0
    entry.recipients[1].reply, entry.recipients[1].tried, entry.recipients[1].tries = "450 busy", 1500.0, 2
    shown = view(entry, in_process=False)
    assert (shown.recipients, shown.next_try, shown.last_reply, shown.tries) == (
        ("b@b.test",),
        2000.0,
        "450 busy",
        2,
    )
    assert view(entry, in_process=True).next_try is None


def test_wants() -> None:
    one = sample().recipients[1]
    assert one.wants("FAILURE")
    assert one.wants("DELAY")
    assert not one.wants("SUCCESS")
    one.notify = "never"
    assert not one.wants("FAILURE")
    one.notify = "SUCCESS, FAILURE"
    assert one.wants("SUCCESS")
    assert not one.wants("DELAY")
