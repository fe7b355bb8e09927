"""New certificates while the engine runs: noticed, taken whole, and refused when they are broken."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from postkeep.runtime.certificates import Certificates, make_self_signed
from postkeep.runtime.certificatewatch import INTERVAL, SETTLE, CertificateWatch
from postkeep.runtime.files import SystemFiles

from tests.support.clock import FakeClock, until

HOST = "mail.example.test"


class World:
    """A folder with one pair, loaded and watched."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "sslcert"
        self.folder.mkdir()
        self.clock = FakeClock()
        self.put("hand")
        self.errors: list[str] = []
        self.operations: list[str] = []
        self.certificates = Certificates(
            self.folder, HOST, SystemFiles(), self.clock, lambda line: self.errors.append(line)
        )
        logs: Any = SimpleNamespace(
            error=SimpleNamespace(write=self.errors.append),
            operations=SimpleNamespace(write=self.operations.append),
        )
        self.watch = CertificateWatch(self.certificates, self.clock, logs)

    def put(self, name: str, *, crt: bytes | None = None, key: bytes | None = None) -> None:
        new_key, new_crt = make_self_signed(HOST, self.clock.now())
        (self.folder / f"{name}.key").write_bytes(key or new_key)
        (self.folder / f"{name}.crt").write_bytes(crt or new_crt)

    async def look(self, *, forced: bool = False) -> None:
        """One look, with the clock turned as long as it waits."""
        task = asyncio.ensure_future(self.watch.look(forced=forced))
        while not task.done():
            await self.clock.advance(SETTLE)
            await asyncio.sleep(0.001)
        await task


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    world = World(tmp_path)
    yield world
    await world.watch.stop()


async def test_what_did_not_change_is_not_read(world: World) -> None:
    before = world.certificates.server_context()
    await world.look()
    assert world.certificates.server_context() is before
    assert not world.operations


async def test_a_changed_pair_is_taken(world: World) -> None:
    before = world.certificates.server_context()
    world.put("hand")
    await world.look()
    assert world.certificates.server_context() is not before
    assert not world.errors
    assert world.operations == [
        "The certificates were read again: hand.crt is in use, valid until 2035-12-29"
    ]
    await world.look()
    assert len(world.operations) == 1


async def test_a_pair_is_taken_when_it_is_there_whole(world: World) -> None:
    """The certificate is there, its key comes a little later: nobody hears of an error."""
    key, crt = make_self_signed(HOST, world.clock.now())
    (world.folder / "hand.crt").write_bytes(crt)
    task = asyncio.ensure_future(world.watch.look())
    await until(lambda: world.clock._timers)
    (world.folder / "hand.key").write_bytes(key)
    while not task.done():
        await world.clock.advance(SETTLE)
        await asyncio.sleep(0.001)
    assert not world.errors
    assert world.operations


@pytest.mark.parametrize("damage", ["other key", "garbage", "empty"])
async def test_a_broken_pair_leaves_the_old_one_in_use(world: World, damage: str) -> None:
    before = world.certificates.server_context()
    match damage:
        case "other key":
            world.put("hand", key=make_self_signed(HOST, world.clock.now())[0])
        case "garbage":
            world.put("hand", crt=b"\0garbage")
        case "empty":
            (world.folder / "hand.crt").write_bytes(b"")
    await world.look()
    assert world.certificates.server_context() is before
    assert "hand.crt cannot be used" in world.errors[0]
    assert world.errors[1].endswith("hand.crt stays in use as it was read before")
    await world.look()
    assert len(world.errors) == 2  # said once
    assert "not all could be used (see the Error log)" in world.operations[0]
    world.put("hand")
    await world.look()
    assert world.certificates.server_context() is not before


@pytest.mark.parametrize("days", [0, 100 * 366])
async def test_a_folder_emptied_leaves_the_old_one_in_use(world: World, days: int) -> None:
    """Also one that has expired: a client can still decide to take it, and the listeners go on."""
    await world.clock.advance(days * 86_400)
    before = world.certificates.server_context()
    for path in world.folder.iterdir():
        path.unlink()
    await world.look()
    assert world.certificates.server_context() is before
    assert "has no certificate that can be used: the one in use stays" in world.errors[0]
    assert not list(world.folder.iterdir())  # nothing is made behind the administrator's back


async def test_a_pair_changed_while_the_engine_started_is_taken(world: World) -> None:
    before = world.certificates.server_context()
    world.put("hand")
    logs: Any = SimpleNamespace(error=SimpleNamespace(write=print), operations=SimpleNamespace(write=print))
    world.watch = CertificateWatch(world.certificates, world.clock, logs)
    await world.look()
    assert world.certificates.server_context() is not before


async def test_attack_a_fifo_among_the_files_holds_nobody(world: World) -> None:
    for name in ("pipe.crt", "pipe.key"):
        os.mkfifo(world.folder / name)
    world.put("hand")
    before = world.certificates.server_context()
    await world.look()
    assert "pipe.crt cannot be used" in world.errors[0]
    assert world.certificates.server_context() is not before


async def test_a_second_pair_broken_harms_no_other(world: World) -> None:
    world.put("hand")
    world.put("other", crt=b"broken")
    before = world.certificates.server_context()
    await world.look()
    assert world.certificates.server_context() is not before
    assert len(world.errors) == 1
    assert "other.crt" in world.errors[0]


async def test_new_intermediates_are_noticed(world: World) -> None:
    (world.folder.parent / "sslca").mkdir()
    (world.folder.parent / "sslca" / "between.pem").write_bytes(make_self_signed("ca", world.clock.now())[1])
    await world.look()
    assert world.operations
    assert not world.errors


async def test_it_looks_by_itself(world: World) -> None:
    world.watch.start()
    world.put("hand")
    await world.clock.advance(INTERVAL - 1)
    await asyncio.sleep(0.01)
    assert not world.operations
    for _ in range(2_000):
        await world.clock.advance(1)
        await asyncio.sleep(0.001)
        if world.operations:
            break
    assert world.operations


async def test_a_signal_has_them_read_at_once_though_nothing_changed(world: World) -> None:
    world.watch.start()
    before = world.certificates.server_context()
    world.watch.read_now()
    await until(lambda: world.operations)  # the clock stands
    assert world.certificates.server_context() is not before


async def test_the_time_of_one_comes_while_it_is_loaded(world: World) -> None:
    """A certificate valid from next week on takes over by itself then."""
    key, crt = make_self_signed(HOST, world.clock.now() + 7 * 86_400)
    world.put("next", crt=crt, key=key)
    await world.look()
    assert world.certificates.active.path.name == "hand.crt"
    await world.clock.advance(7 * 86_400)
    await world.look()
    assert world.certificates.active.path.name == "next.crt"


async def test_an_error_of_the_watch_itself_does_not_end_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise OSError("too many open files")

    world.watch.start()
    with monkeypatch.context() as patch:
        patch.setattr(world.certificates, "read_again", fail)
        world.watch.read_now()
        await until(lambda: world.errors)
    assert world.errors == ["The certificates could not be read again: too many open files"]
    world.watch.read_now()
    await until(lambda: world.operations)
    assert world.operations
