"""postkeep user …"""

import asyncio
import contextlib
import csv
import re
from pathlib import Path
from typing import Any

import click

from postkeep.cli.client import Client, Refused, call, part
from postkeep.cli.options import (
    Octets,
    confirm,
    data_option,
    json_option,
    password_options,
    read_password,
    search_option,
    split_name,
    yes_option,
)
from postkeep.cli.output import Progress, print_fields, print_json, print_table, size
from postkeep.domain.account import Rights

_RIGHTS = click.Choice([one.value for one in Rights])
_LOOK_SECONDS = 1.0
"""How often an import asks how far it is."""
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
        click.option(
            "--quota", "quota_bytes", type=Octets(), help="Most octets of mail (or 10M, 1G); 0: no limit."
        ),
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
    users, lines = read_csv(file, domain)
    progress = Progress()

    async def work(client: Client) -> int:
        watch = asyncio.create_task(_watch(client, sum("password" in one for one in users), progress))
        try:
            answer = await client.request("POST", "/users/batch", json={"users": users}, patient=True)
        finally:
            watch.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watch
            progress.close()
        return int(answer["added"])

    try:
        added = call(data, work)
    except Refused as error:
        at = _refused_user(error.message, users)
        if at is None:
            raise
        raise Refused(f"{file}, line {lines[at]}: {error.message}") from error
    click.echo(f"Added {added} users.")


def _refused_user(reason: str, users: list[dict[str, Any]]) -> int | None:
    """Which user a refusal of all is about: told by its place (`body/users/3/name: …`) or by its name."""
    if found := re.match(r"body/users/([0-9]{1,9})/", reason):
        return int(found[1]) if int(found[1]) < len(users) else None
    named = re.search("“([^”]+)”", reason) or re.search(r"([^ @]+@[^ @:;,]+)", reason)
    if named is None:
        return None
    wanted = named[1].lower()
    for at in range(len(users) - 1, -1, -1):  # of two with one name in the file the second is too much
        names = [name.lower() for name in (users[at]["name"], *users[at]["aliases"])]
        if wanted in names or (wanted.partition("@")[0] in names and "@" in wanted):
            return at
        if wanted.endswith("…") and any(name.startswith(wanted[:-1]) for name in names):
            return at
    return None


async def _watch(client: Client, total: int, progress: Progress) -> None:
    """Show how far the costly part of an import is: the server tells how many passwords it has hashed."""
    with contextlib.suppress(Refused):  # the import itself tells what went wrong
        while total:
            await asyncio.sleep(_LOOK_SECONDS)
            status = await client.get("/status")
            wanted, done = status["passwords_to_hash"], status["passwords_hashed"]
            if wanted:  # those of another import at the same time are among them
                progress(done, wanted, f"{done} of {wanted} passwords are hashed")


def read_csv(file: Path, domain: str) -> tuple[list[dict[str, Any]], list[int]]:
    """The users of a CSV file as POST /users/batch takes them, and the line of each."""
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
        users, lines = [], []
        for row in reader:
            if not any(row):
                continue
            if len(row) > len(names):
                raise click.UsageError(f"{file}, line {reader.line_num}: there are more fields than columns")
            fields = (field.strip() for field in row)
            users.append(_csv_user(dict(zip(names, fields, strict=False)), domain))
            lines.append(reader.line_num)
    except csv.Error as error:
        raise click.UsageError(f"{file}, line {reader.line_num}: {error}") from error
    return users, lines


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
