"""postkeep domain … and postkeep alias …"""

from pathlib import Path

import click

from postkeep.cli.client import Client, call, part
from postkeep.cli.options import confirm, data_option, json_option, search_option, split_name, yes_option
from postkeep.cli.output import print_json, print_table


@click.group()
def domain() -> None:
    """Local domains and their other names."""


@domain.command("list")
@search_option
@json_option
@data_option
def list_domains(search: str, as_json: bool, data: Path) -> None:
    """List domains."""
    found = call(data, lambda client: client.all("/domains", search=search))
    if as_json:
        print_json(found)
        return
    rows = [(one["name"], one["primary"], one["users"], one["aliases"], one["description"]) for one in found]
    print_table(("DOMAIN", "PRIMARY", "USERS", "ALIASES", "DESCRIPTION"), rows, "There are no domains.")


@domain.command("add")
@click.argument("name")
@click.option("--description", default="", help="Description.")
@data_option
def add_domain(name: str, description: str, data: Path) -> None:
    """Add a domain."""
    body = {"name": name, "description": description}
    added = call(data, lambda client: client.request("POST", "/domains", json=body))
    click.echo(f"Added {added['name']}.")


@domain.command()
@click.argument("name")
@data_option
def primary(name: str, data: Path) -> None:
    """Make a domain the primary one: its users log in by name alone."""
    call(data, lambda client: client.request("PATCH", f"/domains/{part(name)}", json={"primary": True}))
    click.echo(f"{name} is the primary domain.")


@domain.command("remove")
@click.argument("name")
@yes_option
@data_option
def remove_domain(name: str, yes: bool, data: Path) -> None:
    """Remove a domain. It must not be the primary one, nor have users or aliases."""
    confirm(f"Remove the domain {name}?", yes)
    call(data, lambda client: client.request("DELETE", f"/domains/{part(name)}"))
    click.echo(f"Removed {name}.")


@domain.command("alias")
@click.argument("name")
@click.argument("aliases", nargs=-1)
@click.option("--remove", is_flag=True, help="Take these aliases away instead.")
@data_option
def domain_alias(name: str, aliases: tuple[str, ...], remove: bool, data: Path) -> None:
    """Give a domain further names (for delivery only, not for logging in)."""

    async def work(client: Client) -> list[str]:
        known = (await client.get(f"/domains/{part(name)}"))["aliases"]
        changed = [one for one in known if one not in aliases] if remove else [*known, *aliases]
        body = {"aliases": list(dict.fromkeys(changed))}
        answer = await client.request("PATCH", f"/domains/{part(name)}", json=body)
        return list(answer["aliases"])

    click.echo(f"{name} has the aliases: {', '.join(call(data, work)) or 'none'}.")


@click.group()
def alias() -> None:
    """Aliases: other addresses, with ? (one character) and * (any run).

    ALIAS is a name in the primary domain (sales), or with its domain (sales@example.com). The alias * takes
    all mail to unknown addresses.
    """


@alias.command("list")
@search_option
@json_option
@data_option
def list_aliases(search: str, as_json: bool, data: Path) -> None:
    """List aliases."""
    found = call(data, lambda client: client.all("/aliases", search=search))
    if as_json:
        print_json(found)
        return
    rows = [(f"{one['pattern']}@{one['domain']}", one["targets"], one["description"]) for one in found]
    print_table(("ALIAS", "DELIVERED TO", "DESCRIPTION"), rows, "There are no aliases.")


@alias.command("add")
@click.argument("alias")
@click.argument("targets", nargs=-1, required=True)
@click.option("--description", default="", help="Description.")
@click.option("--override", is_flag=True, help="Even if it takes all mail of the user of this name.")
@data_option
def add_alias(alias: str, targets: tuple[str, ...], description: str, override: bool, data: Path) -> None:
    """Add an alias that leads to TARGETS: addresses, or names in its domain."""
    pattern, name = split_name(alias)
    body = {
        "pattern": pattern,
        "domain": name,
        "targets": targets,
        "description": description,
        "override": override,
    }
    added = call(data, lambda client: client.request("POST", "/aliases", json=body))
    click.echo(f"Added {added['pattern']}@{added['domain']}.")
    for warning in added["warnings"]:
        click.echo(f"Warning: {warning}.", err=True)


@alias.command("remove")
@click.argument("alias")
@data_option
def remove_alias(alias: str, data: Path) -> None:
    """Remove an alias."""

    async def work(client: Client) -> None:
        pattern, name = split_name(alias)
        if not name:
            domains = await client.all("/domains")
            name = next((one["name"] for one in domains if one["primary"]), "")
        await client.request("DELETE", f"/aliases/{part(name)}/{part(pattern)}")

    call(data, work)
    click.echo(f"Removed {alias}.")


@alias.command()
@click.argument("address")
@json_option
@data_option
def check(address: str, as_json: bool, data: Path) -> None:
    """Show where mail to ADDRESS would go; exit status 1 when it would be refused."""
    found = call(data, lambda client: client.get("/aliases/check", address=address))
    if as_json:
        print_json(found)
    else:
        for target in found["users"]:
            click.echo(f"{target} (mailbox)")
        for target in found["remote"]:
            click.echo(f"{target} (sent on)")
        if found["loop"]:
            refused = "" if found["found"] else ": mail to it is refused"
            click.echo(f"{found['address']} leads in a loop{refused}.")
        elif not found["found"]:
            click.echo(f"{found['address']} is unknown: mail to it is refused.")
    if not found["found"]:
        raise SystemExit(1)
