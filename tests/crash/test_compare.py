"""The comparison after the kills must itself see what is missing, doubled, damaged or never sent."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.crash.load import Attempt, Fate, Load, compose
from tests.crash.sink import Sink
from tests.crash.test_kill import DOMAIN, REMOTE, USERS, compare
from tests.support.storing import deliver, inbox, open_store

FIRST, SECOND = f"{USERS[0]}@{DOMAIN}", f"{USERS[1]}@{DOMAIN}"


class Scene:
    """One answered message for two users, one for a user and a remote one, one without an answer."""

    def __init__(self) -> None:
        self.load = Load(lambda: (), [], [], lambda: None, 1)
        self.sink = Sink()
        self.copies: list[tuple[str, bytes]] = []
        self.contents: dict[str, bytes] = {}
        self._add("a", (FIRST, SECOND), Fate.ACCEPTED)
        self._add("b", (FIRST, f"x@{REMOTE}"), Fate.ACCEPTED)
        self._add("c", (SECOND,), Fate.SENT)
        self._add("d", (SECOND,), Fate.STARTED)
        self.copies = [
            (FIRST, self.contents["a"]),
            (SECOND, self.contents["a"]),
            (FIRST, self.contents["b"]),
            (SECOND, self.contents["c"]),
        ]
        self.sink._accept(self.contents["b"], [f"x@{REMOTE}"])

    def _add(self, mark: str, recipients: tuple[str, ...], fate: Fate) -> None:
        content = compose(mark, recipients, 500, 1)
        self.contents[mark] = content
        digest = hashlib.sha256(content).digest()
        self.load.attempts[mark] = Attempt(mark, recipients, len(content), digest, fate)

    async def compare(self, folder: Path) -> None:
        store = await open_store(folder)
        for user in USERS:
            await inbox(store, f"{user}@{DOMAIN}")
        for key, content in self.copies:
            await deliver(store, content, (await inbox(store, key),))
        await store.close()
        await compare(self.load, self.sink, folder)


async def test_what_is_right_passes(tmp_path: Path) -> None:
    scene = Scene()
    await scene.compare(tmp_path / "store")
    assert len(scene.copies) == 4  # none was taken for anything but what it is


WRONGS: dict[str, Callable[[Scene], object]] = {
    "has it 0 times": lambda scene: scene.copies.pop(0),
    "has it 2 times": lambda scene: scene.copies.append(scene.copies[0]),
    "has c 2 times": lambda scene: scene.copies.append(scene.copies[3]),
    "never got it": lambda scene: scene.sink.received.clear(),
    "never wholly sent": lambda scene: scene.copies.append((SECOND, scene.contents["d"])),
    "b is damaged": lambda scene: scene.copies.append((FIRST, scene.contents["b"][:-9] + b"\r\n")),
    "nobody sent": lambda scene: scene.copies.append((FIRST, b"Subject: stranger\r\n\r\n")),
    "went out damaged": lambda scene: scene.sink._accept(scene.contents["b"] + b"x", []),
    "bounces": lambda scene: scene.sink._accept(b"Subject: bounce\r\n\r\n", [FIRST]),
}


@pytest.mark.parametrize("words", WRONGS)
async def test_each_wrong_is_seen(tmp_path: Path, words: str) -> None:
    scene = Scene()
    WRONGS[words](scene)
    with pytest.raises(AssertionError, match=words):
        await scene.compare(tmp_path / "store")
