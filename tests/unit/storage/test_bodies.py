"""Messages on their way in and out: memory bounds, spool files, pieces."""

import asyncio
import errno
import hashlib
import random
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from postkeep.domain.errors import CorruptRecord, StorageFull
from postkeep.storage import records
from postkeep.storage.bodies import Incoming, StoredMessage
from postkeep.storage.records import BLOCK
from postkeep.storage.store import MailStore

from tests.support.faulty import FaultyFiles
from tests.support.storing import PREFIX, all_rows, deliver, inbox, letter, open_store


async def stored(store: MailStore, content: bytes) -> StoredMessage:
    target = await inbox(store, "a@example.test")
    (appended,) = await deliver(store, content, [target])
    (message,) = await store.messages(appended.rows)
    assert isinstance(message, StoredMessage)
    return message


@pytest.mark.parametrize(
    "size", [0, 1, 5000, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, 2 * BLOCK + 5, 5_000_000]
)
async def test_every_size_comes_back(tmp_path: Path, size: int) -> None:
    store = await open_store(tmp_path)
    content = random.Random(size).randbytes(size // 2) + b"text\r\n" * (size // 12) + b"." * size
    content = content[:size]
    message = await stored(store, content)
    whole = PREFIX + content
    assert message.size == len(whole)
    assert await message.read() == whole
    for start, length in ((0, 10), (len(PREFIX) - 3, 10), (len(whole) - 4, 100), (len(whole), 5), (3, 0)):
        assert await message.read(start, length) == whole[start : start + length]
    edge = len(PREFIX) + BLOCK
    assert await message.read(edge - 7, 14) == whole[edge - 7 : edge + 7]
    pieces = [await message.read(at, 65_536) for at in range(0, len(whole), 65_536)]
    assert b"".join(pieces) == whole
    await store.close()


async def test_a_big_message_is_written_once_and_never_whole_in_memory(tmp_path: Path) -> None:
    """Attack: 60 MB by DATA. A pack of its own; memory stays small on the way in and out."""
    store = await open_store(tmp_path)
    target = await inbox(store, "a@example.test")
    await deliver(store, letter("warm"), [target])
    piece = random.Random(1).randbytes(100_000)
    expected = hashlib.sha256(PREFIX)
    tracemalloc.start()
    incoming = store.incoming()
    for _ in range(600):
        incoming.write(memoryview(piece))
        expected.update(piece)
    assert len(list((tmp_path / "spool").iterdir())) == 1
    body = await incoming.finish(PREFIX)
    seen = hashlib.sha256()
    for chunk in body.chunks():
        seen.update(chunk)
    assert seen.digest() == expected.digest()
    (appended,) = await store.deliver(body, [target], 1)
    (message,) = await store.messages(appended.rows)
    assert isinstance(message, StoredMessage)
    seen = hashlib.sha256()
    for start in range(0, message.size, 1 << 20):
        seen.update(await message.read(start, 1 << 20))
    assert seen.digest() == expected.digest()
    assert tracemalloc.get_traced_memory()[1] < 16 << 20
    tracemalloc.stop()
    assert list((tmp_path / "spool").iterdir()) == []
    row = appended.rows[0]
    assert row.offset == 0
    with (tmp_path / "mail" / f"{row.pack:08d}.pack").open("rb") as file:
        assert records.parse_header(file.read(100)).length == file.seek(0, 2)  # a pack of its own
    await store.close()
    store = await open_store(tmp_path)
    (message,) = await store.messages(appended.rows)
    assert isinstance(message, StoredMessage)
    assert (await message.read(0, 10)) == PREFIX[:10]
    await store.close()


async def test_a_flipped_bit_in_a_big_message_is_noticed_in_its_block_only(tmp_path: Path) -> None:
    store = await open_store(tmp_path)
    target = await inbox(store, "a@example.test")
    content = random.Random(2).randbytes(4 * BLOCK)
    (appended,) = await deliver(store, content, [target])
    row = appended.rows[0]
    with (tmp_path / "mail" / f"{row.pack:08d}.pack").open("r+b") as file:
        file.seek(2 * BLOCK + 1000)
        file.write(b"\0\1\2\3")
    (message,) = await store.messages(appended.rows)
    assert isinstance(message, StoredMessage)
    assert await message.read(len(PREFIX), 1000) == content[:1000]
    assert await message.read(len(PREFIX) + 3 * BLOCK, 1000) == content[3 * BLOCK : 3 * BLOCK + 1000]
    with pytest.raises(CorruptRecord):
        await message.read(len(PREFIX) + 2 * BLOCK, 1000)
    with pytest.raises(CorruptRecord):
        await message.read()
    await store.close()


async def test_the_memory_budget_is_global(tmp_path: Path) -> None:
    """Attack: many senders, each with a message that fits. Beyond the budget they go to the spool folder,
    and small ones are still put into the active pack."""
    store = await open_store(tmp_path)
    store._intake.budget = 500_000
    target = await inbox(store, "a@example.test")
    incoming = [store.incoming() for _ in range(20)]
    for one in incoming:
        for _ in range(10):
            one.write(b"x" * 10_000)
    assert store._intake.used < 500_000 + 20 * 70_000
    assert len(list((tmp_path / "spool").iterdir())) >= 12
    bodies = await asyncio.gather(*[one.finish(PREFIX) for one in incoming])
    results = await asyncio.gather(*[store.deliver(body, [target], 1) for body in bodies])
    assert len({appended.rows[0].pack for (appended,) in results}) == 1
    assert store._intake.used == 0
    assert list((tmp_path / "spool").iterdir()) == []
    for message in await store.messages(await all_rows(store, target.account, target.mailbox)):
        assert isinstance(message, StoredMessage)
        assert await message.read() == PREFIX + b"x" * 100_000
    await store.close()


async def test_abort_and_discard_leave_nothing(tmp_path: Path) -> None:
    store = await open_store(tmp_path)
    for size in (0, 100, 3 << 20):
        incoming = store.incoming()
        incoming.write(b"x" * size)
        incoming.abort()
        incoming.abort()
        incoming = store.incoming()
        incoming.write(b"x" * size)
        body = await incoming.finish()
        incoming.abort()
        body.discard()
        body.discard()
    assert store._intake.used == 0
    await store.close()  # a worker that was still writing is done
    assert list((tmp_path / "spool").iterdir()) == []


async def test_the_spool_is_emptied_at_start(tmp_path: Path) -> None:
    store = await open_store(tmp_path)
    incoming = store.incoming()
    incoming.write(b"x" * (3 << 20))
    await store.close()
    assert list((tmp_path / "spool").iterdir())
    store = await open_store(tmp_path)
    assert list((tmp_path / "spool").iterdir()) == []
    await store.close()


async def write_all(incoming: Incoming) -> None:
    for _ in range(100):
        incoming.write(b"x" * 100_000)
    await incoming.finish()


async def test_disk_full_while_a_big_message_comes_in(tmp_path: Path) -> None:
    files = FaultyFiles()
    store = await open_store(tmp_path, files=files)
    files.fail("pwrite", errno.ENOSPC)
    incoming = store.incoming()
    with pytest.raises(StorageFull):
        await write_all(incoming)
    incoming.abort()
    files.heal()
    files.fail("open", errno.ENOSPC)
    incoming = store.incoming()
    with pytest.raises(StorageFull):
        await write_all(incoming)
    incoming.abort()
    files.heal()
    assert store._intake.used == 0
    assert list((tmp_path / "spool").iterdir()) == []
    await store.close()


async def test_octet_by_octet(tmp_path: Path) -> None:
    """Attack: a message in pieces of one octet costs no memory beyond its size."""
    store = await open_store(tmp_path)
    incoming = store.incoming()
    tracemalloc.start()
    for _ in range(100_000):
        incoming.write(b"x")
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()
    body = await incoming.finish()
    assert body.size == incoming.size == 100_000
    body.discard()
    await store.close()


async def test_the_caller_may_reuse_its_buffer(tmp_path: Path) -> None:
    store = await open_store(tmp_path)
    buffer = bytearray(b"first ")
    incoming = store.incoming()
    incoming.write(memoryview(buffer))
    buffer[:] = b"second"
    incoming.write(buffer)
    buffer[:] = b"xxxxxx"
    body = await incoming.finish(b"")
    assert b"".join(body.chunks()) == b"first second"
    body.discard()
    await store.close()


@given(
    prefix=st.binary(max_size=40),
    size=st.sampled_from([0, 10, 70_000, BLOCK + 10, 2 * BLOCK + 100_000]),
    skip=st.integers(0, 3 * BLOCK),
)
@settings(
    max_examples=40,
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_chunks_from_any_octet(tmp_path: Path, prefix: bytes, size: int, skip: int) -> None:
    async def run() -> None:
        store = await open_store(tmp_path)
        content = random.Random(size).randbytes(size)
        incoming = store.incoming()
        incoming.write(content)
        body = await incoming.finish(prefix)
        assert body.size == len(prefix) + size
        assert b"".join(body.chunks(skip)) == (prefix + content)[skip:]
        body.discard()
        await store.close()

    asyncio.run(run())


async def test_digest_names_the_body_without_prefix(tmp_path: Path) -> None:
    store = await open_store(tmp_path)
    digests = set()
    for size in (1000, 3 << 20):
        for prefix in (b"", b"X: y\r\n"):
            incoming = store.incoming()
            incoming.write(b"a" * size)
            body = await incoming.finish(prefix)
            assert body.digest == hashlib.sha256(b"a" * size).digest()[:16]
            digests.add(body.digest)
            body.discard()
    assert len(digests) == 2
    await store.close()


async def test_a_message_that_cannot_be_scanned_frees_its_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = await open_store(tmp_path)

    def fails(_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("postkeep.storage.bodies.scan", fails)
    for size in (100, 500_000):
        incoming = store.incoming()
        incoming.write(b"x" * size)
        with pytest.raises(MemoryError):
            await incoming.finish()
    used = store._intake.used
    await store.close()
    assert used == 0
