"""Every screen, in every language, at the sizes of text consoles: nothing is cut, nothing is hidden."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import urwid
from postkeep_console.words import LANGUAGES
from urwid.str_util import calc_width

from tests.support.console import VGA, VT, ConsoleWorld
from tests.support.screens import DOCUMENT, SCENES, illustrated, make_world

Drawn = tuple[str, int, str]
BOX = "─│┌┐└┘"


@contextmanager
def drawn(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Drawn]]:
    """All texts that a rendering draws: (text, columns, wrap)."""
    found: list[Drawn] = []
    render = urwid.Text.render

    def recording(self: urwid.Text, size: tuple[int], focus: bool = False) -> urwid.Canvas:
        if not isinstance(self, urwid.Edit):
            columns = size[0] if size else self.pack()[0]
            found.append((str(self.text), columns, str(self.wrap)))
        return render(self, size, focus)

    with monkeypatch.context() as patch:
        patch.setattr(urwid.Text, "render", recording)
        patch.setattr(urwid.SelectableIcon, "render", recording_icon(found))
        urwid.CanvasCache.clear()
        yield found


def recording_icon(found: list[Drawn]):
    render = urwid.SelectableIcon.render

    def recording(self: urwid.SelectableIcon, size: tuple[int], focus: bool = False) -> urwid.Canvas:
        found.append((str(self.text), size[0] if size else self.pack()[0], str(self.wrap)))
        return render(self, size, focus)

    return recording


def cut(world: ConsoleWorld, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is on the screen but not wholly."""
    with drawn(monkeypatch) as texts:
        screen = world.lines()
    assert texts
    words = " ".join(screen).replace("│", " ").split()
    bad = []
    for text, columns, wrap in texts:
        for line in text.split("\n"):
            if wrap in ("clip", "ellipsis") and calc_width(line, 0, len(line)) > columns:
                bad.append(f"{line!r} has {calc_width(line, 0, len(line))} columns of {columns}")
        if wrap == "space" and text not in BOX and not in_order(text.split(), words):
            bad.append(f"not all of {text!r}")
    return bad


def in_order(some: list[str], all_words: list[str]) -> bool:
    rest = iter(all_words)
    return all(word in rest for word in some)


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("name", SCENES)
async def test_nothing_is_cut(name: str, language: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for size in (VT, VGA) if language == "en" else (VT,):
        world = make_world(name, language, size)
        async with world.running():
            await SCENES[name].steps(world)
            assert len(world.lines()) == size[1]
            assert not cut(world, monkeypatch), world.text()


def test_a_text_that_is_too_long_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    world = make_world("start")
    world.shell.head("host " * 30, "clock")
    assert cut(world, monkeypatch)


async def test_a_text_that_is_cut_below_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    world = make_world("ssh")
    long = "word " * 400 + "end"
    async with world.running():
        await SCENES["menu"].steps(world)
        monkeypatch.setitem(world.session.words._texts, "ssh.off", long)  # type: ignore[arg-type]
        await world.choose("SSH")
        assert cut(world, monkeypatch)


@pytest.mark.parametrize("name", SCENES)
async def test_a_plain_terminal_gets_ascii_alone(name: str) -> None:
    world = make_world(name, "cs", ascii_only=True)
    async with world.running():
        await SCENES[name].steps(world)
        assert world.text().isascii(), world.text()


@pytest.mark.parametrize("size", [(160, 50), (61, 20)])
@pytest.mark.parametrize("name", SCENES)
async def test_other_sizes_are_filled_too(name: str, size: tuple[int, int]) -> None:
    world = make_world(name, "de", size)
    async with world.running():
        await SCENES[name].steps(world)
        assert len(world.lines()) == size[1]
        assert all(calc_width(line, 0, len(line)) == size[0] for line in world.lines())


@pytest.mark.parametrize("size", [(1, 1), (2, 1), (1, 30), (59, 24), (80, 19), (3, 3)])
async def test_a_tiny_terminal_is_asked_to_grow_and_works_again_after_it(size: tuple[int, int]) -> None:
    world = make_world("menu")
    async with world.running():
        await SCENES["menu"].steps(world)
        world.size = size
        world.lines()
        await world.press("enter", "down", "esc", "x")
        world.size = VT
        assert "Factory reset" in world.text()


async def test_the_documents_show_the_screens_as_they_are() -> None:
    """`python -m tests.support.screens` writes them anew."""
    text = DOCUMENT.read_text(encoding="utf-8")
    assert await illustrated(text) == text
    assert text.count("<!-- screen:") >= 20
