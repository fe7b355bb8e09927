"""A short run of tests/crash/test_power.py, so that every `make test` cuts the power a few times."""

from pathlib import Path

from tests.crash.outage import survive


async def test_fifteen_power_cuts_lose_nothing(tmp_path: Path) -> None:
    outcome = await survive(tmp_path, seed=3, generations=3, points=5, rounds=25)
    assert outcome.failures == []
    assert outcome.points == 15


async def test_without_the_sync_of_the_packs_it_fails(tmp_path: Path) -> None:
    outcome = await survive(
        tmp_path, seed=4, generations=1, points=15, rounds=25, without="the sync of a pack"
    )
    assert outcome.failures
