"""A stage runs when something that it is made from changed, and only then."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.scripts import load

stages = load("packer/stages.py")


class Silent:
    def begin(self, number: int, total: int, name: str) -> None: ...
    def say(self, text: str) -> None: ...
    def end(self, name: str, seconds: float, skipped: bool) -> None: ...


def _stage(tmp_path: Path, name: str, ran: list[str], **more: Any) -> Any:
    output = tmp_path / f"{name}.out"

    def make(say: Callable[[str], None]) -> None:
        ran.append(name)
        output.write_text("made")

    values = {"after": (), "inputs": (), "words": (), "outputs": (output,), "make": make, **more}
    return stages.Stage(name, **values)


def _run(tmp_path: Path, *todo: Any, **more: Any) -> list[tuple[str, float, bool]]:
    result: list[tuple[str, float, bool]] = stages.run(todo, tmp_path / "stamps", Silent(), **more)
    return result


def test_what_is_unchanged_is_kept(tmp_path: Path) -> None:
    ran: list[str] = []
    source = tmp_path / "source"
    source.write_text("1")
    stage = _stage(tmp_path, "one", ran, inputs=(source,))
    _run(tmp_path, stage)
    assert [skipped for _, _, skipped in _run(tmp_path, stage)] == [True]
    assert ran == ["one"]


@pytest.mark.parametrize("change", ["content", "mode", "name", "new", "word", "output"])
def test_each_change_runs_it_again(tmp_path: Path, change: str) -> None:
    ran: list[str] = []
    folder = tmp_path / "sources"
    folder.mkdir()
    source = folder / "file"
    source.write_text("1")
    stage = _stage(tmp_path, "one", ran, inputs=(folder,))
    _run(tmp_path, stage)
    match change:
        case "content":
            source.write_text("2")
        case "mode":
            source.chmod(0o755)
        case "name":
            source.rename(folder / "other")
        case "new":
            (folder / "more").write_text("")
        case "word":
            stage = _stage(tmp_path, "one", ran, inputs=(folder,), words=("other",))
        case "output":
            (tmp_path / "one.out").unlink()
    _run(tmp_path, stage)
    assert ran == ["one", "one"]


def test_caches_of_tools_are_no_inputs(tmp_path: Path) -> None:
    ran: list[str] = []
    folder = tmp_path / "sources"
    folder.mkdir()
    stage = _stage(tmp_path, "one", ran, inputs=(folder,))
    _run(tmp_path, stage)
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__/x.pyc").write_text("")
    _run(tmp_path, stage)
    assert ran == ["one"]


def test_a_change_runs_what_builds_on_it_and_nothing_else(tmp_path: Path) -> None:
    ran: list[str] = []
    source = tmp_path / "source"
    source.write_text("1")
    todo = (
        _stage(tmp_path, "server", ran, inputs=(source,)),
        _stage(tmp_path, "disk", ran),
        _stage(tmp_path, "system", ran, after=("server", "disk")),
    )
    _run(tmp_path, *todo)
    source.write_text("2")
    ran.clear()
    _run(tmp_path, *todo)
    assert ran == ["server", "system"]


def test_a_failed_stage_runs_again(tmp_path: Path) -> None:
    ran: list[str] = []

    def fail(say: Callable[[str], None]) -> None:
        (tmp_path / "one.out").write_text("half")
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        _run(tmp_path, _stage(tmp_path, "one", ran, make=fail))
    _run(tmp_path, _stage(tmp_path, "one", ran))
    assert ran == ["one"]


def test_a_stage_that_makes_nothing_is_an_error(tmp_path: Path) -> None:
    stage = _stage(tmp_path, "one", [], make=lambda say: None)
    with pytest.raises(RuntimeError, match=r"without making .*one\.out"):
        _run(tmp_path, stage)


def test_force_runs_everything(tmp_path: Path) -> None:
    ran: list[str] = []
    stage = _stage(tmp_path, "one", ran)
    _run(tmp_path, stage)
    _run(tmp_path, stage, force=True)
    assert ran == ["one", "one"]
