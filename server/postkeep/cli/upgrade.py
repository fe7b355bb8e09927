"""postkeep upgrade, and the same before `postkeep serve`."""

from collections.abc import Callable
from pathlib import Path

import click

from postkeep.cli.client import Refused, run
from postkeep.cli.options import data_option, json_option
from postkeep.cli.output import Progress, print_json
from postkeep.cli.owner import become_owner
from postkeep.domain.errors import StoreTooNew


class TooNew(Refused):
    """A newer version wrote the store; an exit status of its own, which systemd and packages look at."""

    exit_code = 3


@click.command()
@json_option
@click.option(
    "--back", is_flag=True, help="Undo the last upgrade; refused once mail came in or anything changed."
)
@data_option
def upgrade(as_json: bool, back: bool, data: Path) -> None:
    """Bring configuration and mail store of an older version to this one. The engine must be stopped.

    A copy of the database is migrated and checked, then put in place; interrupted or failed, the old one is
    as it was. Exit status 3 when a newer version wrote the store. The Debian package does this by itself.
    """
    become_owner(data)
    progress = Progress()

    async def work() -> dict[str, object]:
        if back:
            return await go_back(data)
        return await bring_up(data, progress, click.echo if not as_json else lambda text: None)

    try:
        result = run(work)
    except Refused as error:
        if isinstance(error.__cause__, StoreTooNew):
            raise TooNew(error.message) from error
        raise
    finally:
        progress.close()
    if as_json:
        print_json(result)
    elif back:
        click.echo(f"The store is at schema {result['schema']} again.")


async def bring_up(data: Path, progress: Progress, say: Callable[[str], object]) -> dict[str, object]:
    """Raises ConfigError, EngineRuns, StoreTooNew, StorageFull, StorageFailed; nothing was changed then."""
    from postkeep.house import LOCK
    from postkeep.runtime.files import SystemFiles
    from postkeep.runtime.folderlock import FolderLock
    from postkeep.services.configuration import Configuration
    from postkeep.services.setup import make_folders
    from postkeep.storage import upgrade as upgrading

    configuration = Configuration(data, SystemFiles(), lambda text: click.echo(text, err=True))
    if not configuration.exists:
        raise Refused(f"{data} is not set up")
    make_folders(data, SystemFiles())  # a version may have come to want more of them
    lock = FolderLock(data / LOCK)
    try:
        configuration.load()  # both files have to be readable for this version before the store is touched
        store = data / configuration.server.storage.folder
        done = await upgrading.upgrade(store, progress)
    finally:
        lock.release()
    say(str(done))
    return done._asdict() | {"kept": str(done.kept) if done.kept else None}


async def go_back(data: Path) -> dict[str, object]:
    """Raises NotFound, StorageFailed."""
    from postkeep.house import LOCK
    from postkeep.runtime.files import SystemFiles
    from postkeep.runtime.folderlock import FolderLock
    from postkeep.services.configuration import Configuration
    from postkeep.storage import upgrade as upgrading

    configuration = Configuration(data, SystemFiles(), lambda text: click.echo(text, err=True))
    lock = FolderLock(data / LOCK)
    try:
        configuration.load()
        return {"schema": await upgrading.go_back(data / configuration.server.storage.folder)}
    finally:
        lock.release()


async def bring_up_if_needed(data: Path, say: Callable[[str], object]) -> None:
    """What `serve` does first. A store that cannot be looked at is left to its opening, which says why."""
    from postkeep.runtime.files import SystemFiles
    from postkeep.services.configuration import Configuration
    from postkeep.storage.upgrade import needs_upgrade

    configuration = Configuration(data, SystemFiles(), lambda text: None)
    configuration.load()
    if needs_upgrade(data / configuration.server.storage.folder):
        say("the mail store is of an older version and is being upgraded")
        await bring_up(data, Progress(), say)
