"""Structures that wait to be written into the database are bounded by their octets."""

from pathlib import Path

import pytest
from postkeep.storage import structures

from tests.support.storing import all_rows, deliver, inbox, letter, open_store


async def test_those_that_wait_are_bounded_by_octets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Attack: messages with enormous structures, all read at once."""
    store = await open_store(tmp_path)
    target = await inbox(store, "a@example.test")
    for number in range(40):
        await deliver(store, letter(f"m{number}"), [target])
    rows = await all_rows(store, target.account, target.mailbox)
    keeper = store._structures
    monkeypatch.setattr(structures, "KEEP", 1000)
    found, new = await keeper.read(rows)
    assert len(found) == 40
    assert new
    held = sum(map(len, keeper._new.values()))
    assert 0 < held == keeper._octets <= 1000
    await keeper.read(rows)  # the same again takes no more room
    assert keeper._octets == held
    await keeper.keep()
    assert keeper._octets == 0
    assert not keeper._new
    await store.close()
