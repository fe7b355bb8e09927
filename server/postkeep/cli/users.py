"""postkeep user …"""

import csv
from pathlib import Path
from typing import Any

import click

from postkeep.cli.client import Client, call, part
from postkeep.cli.options import (
    confirm,
    data_option,
    json_option,
    password_options,
    read_password,
    search_option,
    split_name,
    yes_option,
)
from postkeep.cli.output import print_fields, print_json, print_table, size
from postkeep.domain.account import Rights

_RIGHTS = click.Choice([one.value for one in Rights])
_COLUMNS = {"name", "password", "fullname", "description", "mailaddress", "groups"}


@click.group()
def user() -> None:
    """Users: add, change, disable, remove.

    USER is a name in the primary domain (alice), or a whole address (alice@example.com).
    """


@user.command("list")
@search_option
@click.option("--domain", default="", help="Only users of this domain.")
@json_option
@data_option
def list_users(search: str, domain: str, as_json: bool, data: Path) -> None:
    """List users."""
    found = call(data, lambda client: client.all("/users", search=search, domain=domain))
    if as_json:
        print_json(found)
        return
    rows = [
        (
            one["address"],
            one["full_name"],
            _state(one),
            one["rights"],
            size(one["used_bytes"]),
            one["used_items"],
        )
        for one in found
    ]
    print_table(("ADDRESS", "FULL NAME", "STATE", "RIGHTS", "SIZE", "ITEMS"), rows, "There are no users.")


def _state(one: dict[str, Any]) -> str:
    return "disabled" if not one["enabled"] else "locked" if one["locked"] else "enabled"


@user.command()
@click.argument("user")
@json_option
@data_option
def show(user: str, as_json: bool, data: Path) -> None:
    """Show one user."""
    found = call(data, lambda client: client.get(f"/users/{part(user)}"))
    if as_json:
        print_json(found)
    else:
        print_fields(found.items())


def _attributes(command: Any) -> Any:
    options = (
        click.option("--full-name", help="Full name."),
        click.option("--description", help="Description."),
        click.option("--rights", type=_RIGHTS, help="What the user may administer."),
        click.option(
            "--alias", "aliases", multiple=True, help="Another name in the same domain (repeat it)."
        ),
        click.option(
            "--forward", "forwards", multiple=True, help="Address that gets the mail too (repeat it)."
        ),
        click.option("--keep-copy/--no-keep-copy", default=None, help="Whether forwarded mail is kept here."),
        click.option("--quota", "quota_bytes", type=int, help="Most octets of mail; 0: no limit."),
        click.option("--quota-items", type=int, help="Most messages; 0: no limit."),
    )
    for option in reversed(options):
        command = option(command)
    return command


def _given(attributes: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in attributes.items() if value is not None and value != ()}


@user.command()
@click.argument("user")
@password_options
@click.option("--no-password", is_flag=True, help="No password yet: nobody can log in.")
@_attributes
@data_option
def add(
    user: str,
    password_file: str | None,
    password_stdin: bool,
    no_password: bool,
    data: Path,
    **attributes: Any,
) -> None:
    """Add a user."""
    body = _given(attributes)
    body["name"], body["domain"] = split_name(user)
    if not no_password:
        body["password"] = read_password(password_file, password_stdin)
    added = call(data, lambda client: client.request("POST", "/users", json=body))
    click.echo(f"Added {added['address']}.")


@user.command("set")
@click.argument("user")
@_attributes
@click.option("--no-aliases", is_flag=True, help="Take all aliases away.")
@click.option("--no-forwards", is_flag=True, help="Forward no more.")
@data_option
def change(user: str, no_aliases: bool, no_forwards: bool, data: Path, **attributes: Any) -> None:
    """Change a user. Given aliases or forwards take the place of the old ones."""
    body = _given(attributes)
    if no_aliases:
        body["aliases"] = []
    if no_forwards:
        body["forwards"] = []
    if not body:
        raise click.UsageError("nothing to change was given")
    changed = call(data, lambda client: client.request("PATCH", f"/users/{part(user)}", json=body))
    click.echo(f"Changed {changed['address']}.")


@user.command()
@click.argument("user")
@password_options
@data_option
def password(user: str, password_file: str | None, password_stdin: bool, data: Path) -> None:
    """Set a user's password. Their sessions end."""
    body = {"password": read_password(password_file, password_stdin)}
    call(data, lambda client: client.request("PUT", f"/users/{part(user)}/password", json=body))
    click.echo(f"The password of {user} is set.")


def _enable(user: str, data: Path, on: bool) -> None:
    body = {"enabled": on}
    changed = call(data, lambda client: client.request("PATCH", f"/users/{part(user)}", json=body))
    click.echo(f"{'Enabled' if on else 'Disabled'} {changed['address']}.")


@user.command()
@click.argument("user")
@data_option
def enable(user: str, data: Path) -> None:
    """Let a user log in again."""
    _enable(user, data, True)


@user.command()
@click.argument("user")
@data_option
def disable(user: str, data: Path) -> None:
    """Keep a user from logging in. Mail and settings stay, new mail is refused."""
    _enable(user, data, False)


@user.command()
@click.argument("users", nargs=-1, required=True)
@click.option("--keep-mail", is_flag=True, help="Keep the mailboxes for a user of the same name made later.")
@yes_option
@data_option
def remove(users: tuple[str, ...], keep_mail: bool, yes: bool, data: Path) -> None:
    """Remove users and all their mail."""
    confirm(f"Remove {', '.join(users)}{'' if keep_mail else ' and all their mail'}?", yes)

    async def work(client: Client) -> None:
        for one in users:
            await client.request("DELETE", f"/users/{part(one)}", params={"keep_mail": keep_mail})
            click.echo(f"Removed {one}.")

    call(data, work)


@user.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--domain", default="", help="Domain of the new users; the primary one if not given.")
@data_option
def import_users(file: Path, domain: str, data: Path) -> None:
    """Add the users of a CSV file, all or none.

    Its first line names the columns, in any order: Name (the only needed one), Password, FullName,
    Description, MailAddress (aliases, separated by “,” or “;”). Columns are separated by “;” or “,”.
    """
    users = read_csv(file, domain)
    added = call(data, lambda client: client.request("POST", "/users/batch", json={"users": users}))
    click.echo(f"Added {added['added']} users.")


def read_csv(file: Path, domain: str) -> list[dict[str, Any]]:
    """The users of a CSV file as POST /users/batch takes them."""
    try:
        text = file.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise click.UsageError(f"{file} is not UTF-8") from error
    heading = text.partition("\n")[0]
    delimiter = ";" if ";" in heading else ","
    reader = csv.reader(text.splitlines(), delimiter=delimiter, strict=True)
    try:
        names = [name.strip().lower() for name in next(reader, [])]
        if "name" not in names or not set(names) <= _COLUMNS:
            raise click.UsageError(
                f"{file}, line 1: the columns are Name, Password, FullName, Description, …"
            )
        users = []
        for row in reader:
            if not any(row):
                continue
            if len(row) > len(names):
                raise click.UsageError(f"{file}, line {reader.line_num}: there are more fields than columns")
            users.append(_csv_user(dict(zip(names, (field.strip() for field in row), strict=False)), domain))
    except csv.Error as error:
        raise click.UsageError(f"{file}, line {reader.line_num}: {error}") from error
    return users


def _csv_user(row: dict[str, str], domain: str) -> dict[str, Any]:
    user: dict[str, Any] = {"name": row["name"], "domain": domain}
    if row.get("password"):
        user["password"] = row["password"]
    user["full_name"] = row.get("fullname", "")
    user["description"] = row.get("description", "")
    addresses = row.get("mailaddress", "").replace(";", ",").split(",")
    names = [address.strip().partition("@")[0] for address in addresses if address.strip()]
    user["aliases"] = [name for name in names if name.lower() != row["name"].lower()]
    return user
