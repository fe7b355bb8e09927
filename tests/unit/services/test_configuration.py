"""Saving: durable before the answer, many changes one save, the last good copy, hand edits."""

import asyncio
import errno
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from postkeep.config.server import ServerConfig, change_settings
from postkeep.config.users import UsersConfig
from postkeep.domain.account import Account, Domain
from postkeep.domain.errors import ConfigError, NotFound, StorageFailed, StorageFull
from postkeep.runtime.files import SystemFiles
from postkeep.services.configuration import Configuration, Edit, State

D = "example.test"


class CountingFiles(SystemFiles):
    """Counts renames by name: one a save of a file."""

    def __init__(self) -> None:
        self.saves: dict[str, int] = {}
        self.fail: Exception | None = None
        self.fail_for: str | tuple[str, ...] = ""

    def rename(self, source: Path, target: Path) -> None:  # type: ignore[override]
        if self.fail is not None and target.name.endswith(self.fail_for):
            raise self.fail
        self.saves[target.name] = self.saves.get(target.name, 0) + 1
        SystemFiles.rename(source, target)


def fresh(folder: Path) -> tuple[Configuration, CountingFiles, list[str]]:
    files, said = CountingFiles(), list[str]()
    return Configuration(folder, files, said.append), files, said


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    configuration, _, _ = fresh(tmp_path)
    configuration.create(State(ServerConfig(domains=(Domain(D, primary=True),)), UsersConfig()))
    return tmp_path


def loaded(folder: Path) -> tuple[Configuration, CountingFiles, list[str]]:
    configuration, files, said = fresh(folder)
    configuration.load()
    return configuration, files, said


def adding(*names: str) -> Edit:
    def edit(state: State) -> State:
        more = {f"{name}@{D}": Account(name, D) for name in names}
        return replace(state, users=replace(state.users, accounts={**state.users.accounts, **more}))

    return edit


async def test_a_change_is_durable_before_it_is_answered(folder: Path) -> None:
    configuration, _, _ = loaded(folder)
    heard: list[int] = []
    configuration.subscribe(lambda old, new: heard.append(len(new.users.accounts)))
    await configuration.change(adding("alice"))
    assert f"alice@{D}" in loaded(folder)[0].users.accounts
    assert heard == [1]


async def test_five_thousand_users_are_one_save_and_settings_are_not_touched(folder: Path) -> None:
    configuration, files, _ = loaded(folder)
    await configuration.change(adding(*(f"u{number}" for number in range(5000))))
    assert files.saves == {"users.cfg": 1, "users.cfg.good": 1}
    assert len(loaded(folder)[0].users.accounts) == 5000


async def test_changes_that_come_together_share_saves(folder: Path) -> None:
    configuration, files, _ = loaded(folder)
    await asyncio.gather(*(configuration.change(adding(f"u{number}")) for number in range(200)))
    assert files.saves["users.cfg"] <= 2
    assert len(loaded(folder)[0].users.accounts) == 200


async def test_a_refused_change_does_not_spoil_its_neighbours(folder: Path) -> None:
    configuration, _, _ = loaded(folder)

    def refuse(state: State) -> State:
        raise NotFound("no")

    results = await asyncio.gather(
        configuration.change(adding("a")),
        configuration.change(refuse),
        configuration.change(adding("b")),
        return_exceptions=True,
    )
    assert isinstance(results[1], NotFound)
    assert set(loaded(folder)[0].users.accounts) == {f"a@{D}", f"b@{D}"}


async def test_a_full_disk_changes_nothing_and_is_said(folder: Path) -> None:
    configuration, files, _ = loaded(folder)
    files.fail = OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(StorageFull):
        await configuration.change(adding("alice"))
    assert configuration.users.accounts == {}
    files.fail = None
    await configuration.change(adding("bob"))
    assert set(loaded(folder)[0].users.accounts) == {f"bob@{D}"}


async def test_a_caller_that_goes_away_does_not_stop_the_save(folder: Path) -> None:
    configuration, _, _ = loaded(folder)
    first = asyncio.ensure_future(configuration.change(adding("a")))
    second = asyncio.ensure_future(configuration.change(adding("b")))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    first.cancel()
    await second
    await configuration.close()
    assert set(loaded(folder)[0].users.accounts) == {f"a@{D}", f"b@{D}"}


def test_hand_edits_made_while_stopped_hold(folder: Path) -> None:
    path = folder / "mailserver.cfg"
    path.write_text(path.read_text().replace('"MaxRecipients">1000<', '"MaxRecipients">42<'))
    configuration, _, said = loaded(folder)
    assert configuration.server.smtp.maximum_recipients == 42
    assert said == []


BREAKS: list[Callable[[Path], object]] = [
    lambda path: path.write_bytes(path.read_bytes()[:-20]),
    lambda path: path.write_bytes(b""),
    lambda path: path.write_bytes(b"\x00" * 4096),
    lambda path: path.write_text(path.read_text().replace('"MaxRecipients">1000<', '"MaxRecipients">no<')),
    lambda path: path.unlink(),
]


@pytest.mark.parametrize("damage", BREAKS)
async def test_a_broken_file_is_named_and_the_last_good_one_used(
    folder: Path, damage: Callable[[Path], object]
) -> None:
    before = loaded(folder)[0].server
    path = folder / "mailserver.cfg"
    damage(path)
    broken = path.read_bytes() if path.exists() else None
    configuration, _, said = loaded(folder)
    assert configuration.server.smtp == before.smtp
    assert configuration.server.domains == before.domains
    (line,) = said
    assert line.startswith("mailserver.cfg")
    assert "mailserver.cfg.good, is used" in line
    if broken is not None:
        assert "line " in line
        assert path.read_bytes() == broken  # not touched by reading
    await configuration.change(
        lambda state: replace(state, server=change_settings(state.server, "SMTP", {"MaxHops": 77}))
    )
    assert loaded(folder)[0].server.smtp.maximum_hops == 77
    if broken is not None:
        assert (folder / "mailserver.cfg.broken").read_bytes() == broken


def test_without_a_good_copy_a_broken_file_is_refused(folder: Path) -> None:
    (folder / "users.cfg.good").unlink()
    (folder / "users.cfg").write_text('<config>\n<list name="User">\n<listitem>x</listitem></list></config>')
    with pytest.raises(ConfigError, match=r"^users\.cfg, line 3: "):
        loaded(folder)


async def test_an_edit_made_while_the_engine_runs_is_kept_aside(folder: Path) -> None:
    configuration, _, said = loaded(folder)
    path = folder / "users.cfg"
    path.write_text(path.read_text() + "<!-- mine -->\n")
    await configuration.change(adding("alice"))
    assert "<!-- mine -->" in (folder / "users.cfg.edited").read_text()
    assert "was edited while the engine runs" in said[0]
    assert f"alice@{D}" in loaded(folder)[0].users.accounts


def test_files_are_for_the_engines_user_alone(folder: Path) -> None:
    for name in ("users.cfg", "users.cfg.good", "mailserver.cfg"):
        assert (folder / name).stat().st_mode & 0o777 == 0o600


def test_a_folder_that_was_never_set_up(tmp_path: Path) -> None:
    configuration, _, _ = fresh(tmp_path)
    assert not configuration.exists
    with pytest.raises(ConfigError, match=r"mailserver\.cfg cannot be read"):
        configuration.load()


def more_hops(state: State) -> State:
    return replace(state, server=change_settings(state.server, "SMTP", {"MaxHops": 77}))


async def test_what_cannot_be_staged_changes_neither_file(folder: Path) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    configuration, files, _ = loaded(folder)
    written: list[Path] = []
    real = files.open

    def full(path: Path, flags: int, mode: int = 0o600) -> int:
        written.append(path)
        if path.name == "users.cfg.new":
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(path, flags, mode)

    files.open = full  # type: ignore[method-assign]
    results = await asyncio.gather(
        configuration.change(more_hops), configuration.change(adding("a")), return_exceptions=True
    )
    assert [type(one) for one in results] == [StorageFull, StorageFull]
    assert written
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert configuration.server.smtp.maximum_hops == loaded(folder)[0].server.smtp.maximum_hops == 50


async def test_a_failure_behind_the_point_of_no_return_is_a_success_and_a_warning(folder: Path) -> None:
    configuration, files, said = loaded(folder)
    files.fail, files.fail_for = OSError(errno.EIO, "Input/output error"), "users.cfg.good"
    await configuration.change(adding("alice"))
    assert set(configuration.users.accounts) == set(loaded(folder)[0].users.accounts) == {f"alice@{D}"}
    assert len(said) == 1
    assert said[0].startswith("users.cfg was saved, but")


async def test_when_the_second_file_fails_the_first_is_taken_back(folder: Path) -> None:
    configuration, files, _ = loaded(folder)
    heard: list[State] = []
    configuration.subscribe(lambda old, new: heard.append(new))
    files.fail, files.fail_for = OSError(errno.EIO, "Input/output error"), "users.cfg"
    results = await asyncio.gather(
        configuration.change(more_hops), configuration.change(adding("a")), return_exceptions=True
    )
    assert [type(one) for one in results] == [StorageFailed, StorageFailed]
    assert heard == []
    assert configuration.server.smtp.maximum_hops == loaded(folder)[0].server.smtp.maximum_hops == 50
    files.fail = None
    await configuration.change(adding("b"))
    assert set(loaded(folder)[0].users.accounts) == {f"b@{D}"}


async def test_what_cannot_be_taken_back_is_what_holds(folder: Path) -> None:
    configuration, files, _ = loaded(folder)
    real = files.rename

    def rename(source: Path, target: Path) -> None:
        if target.name == "users.cfg":
            files.fail = OSError(errno.EIO, "Input/output error")  # from here on the disk takes nothing
        real(source, target)

    files.rename = rename  # type: ignore[method-assign]
    results = await asyncio.gather(
        configuration.change(more_hops), configuration.change(adding("a")), return_exceptions=True
    )
    assert isinstance(results[0], State)
    assert isinstance(results[1], StorageFailed)
    assert configuration.server.smtp.maximum_hops == loaded(folder)[0].server.smtp.maximum_hops == 77
    assert configuration.users.accounts == loaded(folder)[0].users.accounts == {}


@pytest.mark.parametrize("where", ["rename", "publish"])
async def test_an_unexpected_error_leaves_nobody_waiting(folder: Path, where: str) -> None:
    configuration, files, said = loaded(folder)

    def broken(old: State, new: State) -> None:
        raise RuntimeError("unexpected")

    if where == "rename":
        files.fail = RuntimeError("unexpected")
    else:
        configuration.subscribe(broken)
    results = await asyncio.wait_for(
        asyncio.gather(*(configuration.change(adding(f"u{n}")) for n in range(5)), return_exceptions=True), 10
    )
    if where == "rename":
        assert [str(one) for one in results] == ["unexpected"] * 5
        files.fail = None
    else:
        assert all(isinstance(one, State) for one in results)
        assert "not in use everywhere" in said[0]
    await asyncio.wait_for(configuration.change(adding("last")), 10)
    assert f"last@{D}" in loaded(folder)[0].users.accounts


async def test_a_huge_edited_file_is_set_aside_unread(folder: Path) -> None:
    configuration, _, said = loaded(folder)
    with (folder / "users.cfg").open("r+b") as file:
        file.truncate(600 << 20)
    await asyncio.wait_for(configuration.change(adding("alice")), 10)
    assert (folder / "users.cfg.edited").stat().st_size == 600 << 20
    assert len(said) == 1
    assert set(loaded(folder)[0].users.accounts) == {f"alice@{D}"}


async def test_a_failed_save_puts_an_edited_file_back(folder: Path) -> None:
    configuration, files, _ = loaded(folder)
    path = folder / "users.cfg"
    path.write_text(path.read_text() + "<!-- mine -->\n")
    real = files.rename

    def rename(source: Path, target: Path) -> None:
        if source.name == "users.cfg.new":
            raise OSError(errno.EIO, "Input/output error")
        real(source, target)

    files.rename = rename  # type: ignore[method-assign]
    with pytest.raises(StorageFailed):
        await configuration.change(adding("alice"))
    assert "<!-- mine -->" in path.read_text()
