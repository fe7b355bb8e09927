"""postkeep: the command line's entry."""

import asyncio
import os
from pathlib import Path

import click

from postkeep import __version__
from postkeep.cli.blocks import block
from postkeep.cli.client import run
from postkeep.cli.domains import alias, domain
from postkeep.cli.operation import log, queue, service, setting, status
from postkeep.cli.options import data_option, password_options, read_password
from postkeep.cli.owner import become_owner, foreign_owner
from postkeep.cli.store import rebuild, verify
from postkeep.cli.upgrade import TooNew, bring_up_if_needed, upgrade
from postkeep.cli.users import user
from postkeep.domain.errors import PostkeepError, StoreTooNew

_HIGHEST_OFFSET = 61_000
offset_option = click.option(
    "--port-offset",
    type=click.IntRange(0, _HIGHEST_OFFSET),
    default=0,
    show_default=True,
    help="Added to every port, so that ports below 1024 need no privilege.",
)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
def main() -> None:
    """Postkeep, an all-in-one mail server.

    Begin with `postkeep init`, then `postkeep serve`; or look around with `postkeep demo`. The other
    commands work on the data folder whether the engine runs or not.
    """


for command in (alias, block, domain, log, queue, rebuild, service, setting, status, upgrade, user, verify):
    main.add_command(command)


@main.command()
def version() -> None:
    """Print the version."""
    click.echo(f"postkeep {__version__}")


@main.command()
@click.option("--hostname", required=True, help="DNS name of this server, like mail.example.com.")
@click.option("--domain", required=True, help="The primary e-mail domain, like example.com.")
@click.option("--admin", required=True, help="Name of the first administrator, who is a user too.")
@click.option(
    "--remote-administration/--no-remote-administration",
    default=False,
    show_default=True,
    help="Whether other hosts may administer, or only this machine itself (setting RemoteAdministration).",
)
@password_options
@data_option
def init(
    hostname: str,
    domain: str,
    admin: str,
    password_file: str | None,
    password_stdin: bool,
    remote_administration: bool,
    data: Path,
) -> None:
    """Set a data folder up: layout, configuration, administrator, self-signed certificate."""
    from postkeep.runtime.clock import SystemClock
    from postkeep.runtime.files import SystemFiles
    from postkeep.services.passwords import PasswordHashes
    from postkeep.services.setup import Setup, set_up

    password = read_password(password_file, password_stdin, ask=f"Password of {admin}")
    become_owner(data)
    setup = Setup(hostname, domain, admin, password, remote_administration)

    async def work() -> str:
        hashes = PasswordHashes()
        try:
            return (await set_up(data, setup, SystemFiles(), SystemClock(), hashes)).key
        finally:
            hashes.close()

    click.echo(
        f"{data} is set up; the administrator is {run(work)}. Start with: postkeep serve --data {data}"
    )


@main.command()
@offset_option
@click.option("--address", help="Listen on this address instead of the ListenAddress setting.")
@data_option
def serve(port_offset: int, address: str | None, data: Path) -> None:
    """Run the server until SIGTERM or Ctrl+C. Prints `ready` when all services listen.

    In a folder that is not set up yet only the administration's port opens, for the first set-up over REST;
    the one-time code that it asks for is shown here and in the Security log. A mail store of an older version
    is upgraded first, as by `postkeep upgrade`. Exit status 3 when a newer version wrote the store.
    """
    import uvloop

    from postkeep.app import Engine
    from postkeep.app import serve as serve_engine
    from postkeep.cli.first_start import FirstStart
    from postkeep.runtime.clock import SystemClock
    from postkeep.runtime.files import SystemFiles
    from postkeep.runtime.systemd import ServiceManager
    from postkeep.storage.upgrade import forget_before

    data = data.absolute()
    if not data.is_dir():
        raise click.ClickException(f"{data} does not exist; run: postkeep init --data {data} (see --help)")
    if foreign_owner(data) is not None:
        raise click.ClickException(
            f"{data} is not root's: run this as its owner, or systemctl start postkeep"
        )

    async def work() -> None:
        manager = ServiceManager.from_environment(os.environ, SystemClock())
        first = FirstStart(
            data,
            port_offset,
            address,
            clock=SystemClock(),
            files=SystemFiles(),
            say=lambda text: click.echo(text, err=True),
            manager=manager,
        )
        engine = Engine(data, port_offset, address=address)

        async def before(ending: asyncio.Event) -> bool:
            if not await first.run(ending):
                return False
            with manager.patience("upgrading the mail store"):
                await bring_up_if_needed(data, lambda text: click.echo(text, err=True))
            return True

        def ready(started: Engine) -> None:
            click.echo("ready")
            # From here on mail may come in, so there is no way back to the database of an older version.
            asyncio.get_running_loop().run_in_executor(None, forget_before, started.house.store_folder)

        await serve_engine(engine, ready, before, manager)

    try:
        uvloop.run(work())
    except (PostkeepError, OSError) as error:
        too_new = isinstance(error, StoreTooNew) or isinstance(error.__cause__, StoreTooNew)
        raise (TooNew if too_new else click.ClickException)(str(error)) from error


@main.command()
@offset_option
@data_option
def demo(port_offset: int, data: Path) -> None:
    """Run a demo server on 127.0.0.1: domain example.test, users alice and bob, some mail."""
    import uvloop

    from postkeep.app import Engine
    from postkeep.app import serve as serve_engine
    from postkeep.cli.demo import announce, prepare
    from postkeep.runtime.files import SystemFiles
    from postkeep.services.setup import is_set_up

    data = data.absolute()
    become_owner(data)

    async def work() -> None:
        if is_set_up(data, SystemFiles()):
            await bring_up_if_needed(data, click.echo)
        passwords = await prepare(data)
        engine = Engine(data, port_offset, address="127.0.0.1")
        await serve_engine(engine, lambda started: announce(started, data, passwords))

    try:
        uvloop.run(work())
    except (PostkeepError, OSError) as error:
        raise click.ClickException(str(error)) from error


if __name__ == "__main__":
    main()
