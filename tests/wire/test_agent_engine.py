"""The agent's set-up with the real command `postkeep`, as its own user would run it."""

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from postkeep_appliance.host.engine import DebianEngine
from postkeep_appliance.host.port import HostError
from postkeep_appliance.host.run import Output, SystemRunner


class AsOurselves:
    """Runs what `runuser … /usr/bin/postkeep` would, with the data folder of this test."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._run = SystemRunner()

    async def __call__(
        self,
        argv: Sequence[str],
        *,
        stdin: str = "",
        seconds: float = 60.0,
        check: bool = True,
        line: Callable[[str], None] | None = None,
    ) -> Output:
        assert argv[:5] == ["runuser", "-u", "postkeep", "--", "/usr/bin/postkeep"]
        command = [str(Path(sys.executable).with_name("postkeep")), *argv[5:-1], f"{self._root}{argv[-1]}"]
        return await self._run(command, stdin=stdin, seconds=60, check=check, line=line)


@pytest.fixture
def engine(tmp_path: Path) -> DebianEngine:
    return DebianEngine(tmp_path, AsOurselves(tmp_path), lambda path: os.chmod(path, 0o700))


async def test_set_up_settings_and_fingerprint(
    engine: DebianEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not engine.is_set_up()
    await engine.init("mail.example.com", "example.com", "admin", "secret-4711")
    assert engine.is_set_up()
    assert await engine.setting("RemoteAdministration") == "0"
    await engine.set_setting("RemoteAdministration", "1")
    assert await engine.setting("RemoteAdministration") == "1"
    await engine.set_setting("InternetHostname", "mx.example.org")
    assert await engine.setting("InternetHostname") == "mx.example.org"
    await engine.set_setting("MailStoreDirectory", "/srv/mail")
    assert await engine.setting("MailStoreDirectory") == "/srv/mail"

    async def nothing_is_served() -> None:
        return None

    monkeypatch.setattr(engine, "_served", nothing_is_served)
    assert len(await engine.fingerprint()) == 95


async def test_a_second_init_is_refused_until_the_first_is_undone(engine: DebianEngine) -> None:
    await engine.init("mail.example.com", "example.com", "admin", "secret-4711")
    with pytest.raises(HostError, match="set up already"):
        await engine.init("mail.example.com", "example.org", "boss", "secret-4711")
    engine.undo_init()
    await engine.init("mail.example.com", "example.org", "boss", "secret-4711")
    assert await engine.setting("InternetHostname") == "mail.example.com"


async def test_refusals_are_the_engines_words(engine: DebianEngine) -> None:
    with pytest.raises(HostError, match="The engine refuses: a password has at least 8"):
        await engine.init("mail.example.com", "example.com", "admin", "short")
    with pytest.raises(HostError, match="The engine refuses"):
        await engine.setting("NoSuchSetting")
