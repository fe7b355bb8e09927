"""postkeep verify and postkeep rebuild."""

from pathlib import Path

import click

from postkeep.cli.client import Refused, run
from postkeep.cli.options import data_option, json_option
from postkeep.cli.output import Progress, print_json
from postkeep.cli.owner import become_owner


def _store_folder(data: Path) -> Path:
    """DATA/store, or where the settings have it."""
    from postkeep.runtime.files import SystemFiles
    from postkeep.services.configuration import Configuration

    configuration = Configuration(data, SystemFiles(), lambda text: click.echo(text, err=True))
    if not configuration.exists:
        raise Refused(f"{data} is not set up")
    configuration.load()
    return data / configuration.server.storage.folder


@click.command()
@json_option
@click.option(
    "--rate",
    type=click.IntRange(0),
    help="Most MB a second to read; 0: as fast as the disk, at the cost of others.",
)
@data_option
def verify(as_json: bool, rate: int | None, data: Path) -> None:
    """Check every record, reference and counter of the store. Changes nothing.

    Exit status 1 when something is wrong.
    """
    from postkeep.storage import verify as checks

    become_owner(data)
    progress = Progress()

    async def work() -> checks.Report:
        folder = _store_folder(data)
        octets = checks.DEFAULT_RATE if rate is None else rate << 20
        return await checks.verify(folder, progress, queue=folder / "queue", rate=octets)

    report = run(work)
    progress.close()
    if as_json:
        print_json(report._asdict() | {"problems": [one._asdict() for one in report.problems]})
    else:
        for note in report.notes:
            click.echo(f"note: {note}")
        for problem in report.problems:
            click.echo(str(problem))
        click.echo(str(report))
    if not report.clean:
        raise SystemExit(1)


@click.command()
@click.option("--force", is_flag=True, help="Even when the database is sound; the old one is kept beside it.")
@data_option
def rebuild(force: bool, data: Path) -> None:
    """Make the database again when it is lost or damaged. The engine must be stopped.

    What can be read of a damaged one is kept, the rest comes from the packs: folders, dates and messages,
    with the flags of the delivery. With --force all comes from the packs.
    """
    from postkeep.storage import rebuild as rebuilding
    from postkeep.storage.rebuilt import Rebuilt

    become_owner(data)
    progress = Progress()

    async def work() -> Rebuilt:
        return await rebuilding.rebuild(_store_folder(data), progress, force=force)

    result = run(work)
    progress.close()
    for rescued in result.rescued:
        click.echo(str(rescued))
    for line in result.damaged:
        click.echo(line)
    click.echo(str(result))
