"""Attack: a bit of the WAL flips between a crash and the next start. SQLite takes a frame that does not fit
for the end of the WAL; what was acknowledged behind it must not vanish without a word."""

import random
import shutil
from pathlib import Path

import pytest
from postkeep.domain.errors import DatabaseDamaged
from postkeep.storage import database, wal
from postkeep.storage.rebuild import rebuild
from postkeep.storage.store import MailStore
from postkeep.storage.verify import Kind, verify

from tests.support.clock import FakeClock
from tests.support.storing import all_rows, contents, deliver, inbox, letter, open_store

ALICE = "alice@example.test"
MESSAGES = 20
FRAME = 24 + 4096


@pytest.fixture
async def crashed(tmp_path: Path) -> Path:
    """A store as a crash leaves it: twenty deliveries in the WAL, each a commit."""
    store = await open_store(tmp_path / "store")
    target = await inbox(store, ALICE)
    for number in range(MESSAGES):
        await deliver(store, letter(f"m{number}"), [target])
    shutil.copytree(tmp_path / "store", tmp_path / "crashed")
    await store.close()
    for path in (tmp_path / "crashed").glob("*-shm"):
        path.unlink()
    return tmp_path / "crashed"


def log(folder: Path) -> Path:
    return folder / f"{database.NAME}-wal"


def frames(folder: Path) -> int:
    data = log(folder).read_bytes()
    salt = data[16:24]
    starts = range(32, len(data) - FRAME + 1, FRAME)
    return sum(1 for start in starts if data[start + 8 : start + 16] == salt)


def flip(folder: Path, place: int, bit: int = 2) -> None:
    data = bytearray(log(folder).read_bytes())
    data[place] ^= 1 << bit
    log(folder).write_bytes(data)


def look(folder: Path, valid: int | None = None) -> int | None:
    data = log(folder).read_bytes()
    return wal.damaged(lambda length, offset: data[offset : offset + length], len(data), valid)


async def test_a_sound_wal_is_recovered(crashed: Path) -> None:
    assert frames(crashed) > MESSAGES
    assert look(crashed) is None
    store = await open_store(crashed)
    target = await inbox(store, ALICE)
    assert len(await all_rows(store, target.account, target.mailbox)) == MESSAGES
    await store.close()


@pytest.mark.parametrize("inside", [0, 5, 9, 17, 24, 24 + 4000], ids=str)
async def test_a_flip_in_the_middle_is_refused_and_nothing_is_cut(crashed: Path, inside: int) -> None:
    """The bodies behind it are in the pack still: a rebuild finds them, for the pack was not shortened."""
    flip(crashed, 32 + (frames(crashed) // 2) * FRAME + inside)
    packs = {path: path.read_bytes() for path in (crashed / "mail").iterdir()}
    with pytest.raises(DatabaseDamaged, match="WAL"):
        await MailStore.open(crashed, FakeClock())
    assert packs == {path: path.read_bytes() for path in (crashed / "mail").iterdir()}
    report = await verify(crashed, rate=0)
    assert any(one.kind is Kind.PAGE and "-wal is damaged" in one.text for one in report.problems)
    await rebuild(crashed)
    store = await open_store(crashed)
    assert len((await contents(store, ALICE))["INBOX"]) == MESSAGES
    await store.close()


async def test_a_flip_in_the_header_of_the_wal_is_refused(crashed: Path) -> None:
    for place in (3, 17, 25):
        folder = crashed.with_name(f"header-{place}")
        shutil.copytree(crashed, folder)
        flip(folder, place)
        with pytest.raises(DatabaseDamaged, match="WAL"):
            await MailStore.open(folder, FakeClock())


async def test_a_torn_end_is_no_damage(crashed: Path) -> None:
    """The last transaction was not durable when the power went: any of its octets may be missing."""
    whole = log(crashed).read_bytes()
    end = 32 + frames(crashed) * FRAME
    rng = random.Random(5)
    for number in range(20):
        folder = crashed.with_name(f"torn-{number}")
        shutil.copytree(crashed, folder)
        torn = bytearray(whole)
        place = end - rng.randrange(1, FRAME)
        torn[place:end] = bytes(end - place)
        log(folder).write_bytes(torn)
        store = await open_store(folder)
        target = await inbox(store, ALICE)
        assert len(await all_rows(store, target.account, target.mailbox)) >= MESSAGES - 1
        await store.close()


async def test_after_a_clean_end_the_wal_holds_nothing_that_matters(tmp_path: Path) -> None:
    """A flip anywhere in it changes nothing: the next start does not read old frames over newer pages."""
    store = await open_store(tmp_path / "store")
    target = await inbox(store, ALICE)
    for number in range(MESSAGES):
        await deliver(store, letter(f"m{number}"), [target])
    truth = await contents(store, ALICE)
    await store.close()
    used = frames(tmp_path / "store")
    assert used <= 2
    assert log(tmp_path / "store").stat().st_size > 10 * FRAME  # its size is kept
    for number, place in enumerate((3, 17, 40, 32 + 100, 32 + 5 * FRAME + 50)):
        folder = tmp_path / f"flipped-{number}"
        shutil.copytree(tmp_path / "store", folder)
        flip(folder, place)
        store = await open_store(folder)
        assert await contents(store, ALICE) == truth
        await store.close()
        assert (await verify(folder, rate=0)).clean
