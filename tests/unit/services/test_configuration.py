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
from postkeep.domain.errors import ConfigError, NotFound, StorageFull
from postkeep.runtime.files import SystemFiles
from postkeep.services.configuration import Configuration, Edit, State

D = "example.test"


class CountingFiles(SystemFiles):
    """Counts renames by name: one a save of a file."""

    def __init__(self) -> None:
        self.saves: dict[str, int] = {}
        self.fail: OSError | None = None

    def rename(self, source: Path, target: Path) -> None:  # type: ignore[override]
        if self.fail is not None:
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
