"""postkeep block …: what guessing passwords has locked."""

from pathlib import Path

import click

from postkeep.cli.client import Client, call, part
from postkeep.cli.options import data_option, json_option
from postkeep.cli.output import print_json, print_table


@click.group()
def block() -> None:
    """Addresses blocked and users locked for guessing passwords. A stopped engine knows none."""


@block.command("list")
@json_option
@data_option
def list_blocks(as_json: bool, data: Path) -> None:
    """List what is blocked now, and for how long."""
    found = call(data, lambda client: client.get("/blocks"))
    if as_json:
        print_json(found)
        return
    rows = [(one["name"], one["service"] or "all (user locked)", f"{one['seconds']} s") for one in found]
    print_table(("NAME", "SERVICE", "STILL"), rows, "Nothing is blocked.")


@block.command()
@click.argument("names", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="All users and addresses.")
@data_option
def remove(names: tuple[str, ...], everything: bool, data: Path) -> None:
    """Unlock users (alice) or addresses (192.0.2.1) now; their failures so far are forgotten."""
    if bool(names) == everything:
        raise click.UsageError("name users or addresses, or give --all")

    async def work(client: Client) -> None:
        if everything:
            await client.request("DELETE", "/blocks")
            click.echo("Unlocked all.")
        for name in names:
            await client.request("DELETE", f"/blocks/{part(name)}")
            click.echo(f"Unlocked {name}.")

    call(data, work)
