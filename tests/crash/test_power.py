"""The power goes at any moment: nothing acknowledged is lost, nothing half done is seen (issue 9, 2)."""

from pathlib import Path

import pytest

from tests.crash.outage import SYNCS, Outcome, survive

POINTS = 300


@pytest.mark.crash
async def test_three_hundred_power_cuts_lose_nothing(tmp_path: Path) -> None:
    outcome = await survive(tmp_path, seed=20261124, generations=10, points=POINTS // 10)
    print(f"\n{outcome}")
    assert outcome.failures == []
    assert outcome.points == POINTS
    assert (
        min(outcome.done[step] for step in ("delivery", "flags", "move", "copy", "expunge", "mailbox")) > 50
    )
    assert outcome.done["compacted"] > 50


@pytest.mark.crash
@pytest.mark.parametrize("name", SYNCS)
async def test_with_one_sync_removed_it_fails(tmp_path: Path, name: str) -> None:
    """The proof that the test above can fail."""
    outcome: Outcome = await survive(tmp_path, seed=7, generations=1, points=25, without=name)
    print(f"\nwithout {name}: {len(outcome.failures)} of {outcome.points} cuts lose something")
    assert outcome.failures
