"""postkeep queue, service, setting, status and log."""

import asyncio
import datetime
from pathlib import Path
from typing import Any

import click

from postkeep.cli.client import Client, call, part
from postkeep.cli.options import confirm, data_option, json_option, read_secret, search_option, yes_option
from postkeep.cli.output import print_fields, print_json, print_table, size
from postkeep.config.sections import Value, format_value
from postkeep.config.server import Place, find_setting
from postkeep.domain.errors import NotFound

_LOGS = click.Choice(["config", "debug", "error", "mail", "operations", "security", "spam", "warning"])


def _time(seconds: float | None) -> str:
    if seconds is None:
        return "now"
    return datetime.datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M:%S")


@click.group()
def queue() -> None:
    """Messages on their way out."""


@queue.command("list")
@search_option
@json_option
@data_option
def list_queue(search: str, as_json: bool, data: Path) -> None:
    """List messages that wait or are being sent."""
    found = call(data, lambda client: client.all("/queue", search=search))
    if as_json:
        print_json(found)
        return
    rows = [
        (
            one["id"],
            _time(one["created"]),
            size(one["size"]),
            one["sender"] or "<>",
            one["recipients"],
            "in process" if one["in_process"] else _time(one["next_try"]),
            one["tries"],
            one["last_reply"],
        )
        for one in found
    ]
    headings = ("ID", "CREATED", "SIZE", "FROM", "TO", "NEXT TRY", "TRIES", "LAST REPLY")
    print_table(headings, rows, "The queue is empty.")


@queue.command()
@click.argument("ids", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="All messages.")
@data_option
def retry(ids: tuple[str, ...], everything: bool, data: Path) -> None:
    """Try messages now."""
    if not ids and not everything:
        raise click.UsageError("name messages, or give --all")

    async def work(client: Client) -> None:
        if everything:
            await client.request("POST", "/queue/retry")
        for one in ids:
            await client.request("POST", f"/queue/{part(one)}/retry")

    call(data, work)


@queue.command()
@click.argument("ids", nargs=-1, required=True)
@yes_option
@data_option
def remove(ids: tuple[str, ...], yes: bool, data: Path) -> None:
    """Throw messages away. Nobody is told."""
    confirm(f"Remove {', '.join(ids)}?", yes)

    async def work(client: Client) -> None:
        for one in ids:
            await client.request("DELETE", f"/queue/{part(one)}")

    call(data, work)


@click.group()
def service() -> None:
    """SMTP, IMAP, POP3 and HTTP, each on its ports."""


@service.command("list")
@json_option
@data_option
def list_services(as_json: bool, data: Path) -> None:
    """List services, where they listen, and why they do not."""
    found = call(data, lambda client: client.get("/services"))
    if as_json:
        print_json(found)
        return
    rows = [
        (one["name"], one["title"], one["running"], one["listening"] or one["configured"], one["failure"])
        for one in found
    ]
    print_table(("NAME", "SERVICE", "RUNNING", "LISTENS ON", ""), rows, "There are no services.")


def _switch(name: str, data: Path, verb: str) -> None:
    state = call(data, lambda client: client.request("POST", f"/services/{part(name)}/{verb}"))
    running = f"listens on {', '.join(state['listening'])}" if state["running"] else "is stopped"
    click.echo(f"{state['title']} {running}.")


@service.command()
@click.argument("name")
@data_option
def start(name: str, data: Path) -> None:
    """Start a service."""
    _switch(name, data, "start")


@service.command()
@click.argument("name")
@data_option
def stop(name: str, data: Path) -> None:
    """Stop a service until it, or the engine, is started again. Open connections go on."""
    _switch(name, data, "stop")


@click.group()
def setting() -> None:
    """Settings of mailserver.cfg, named by their variables."""


@setting.command("list")
@click.argument("search", default="")
@json_option
@data_option
def list_settings(search: str, as_json: bool, data: Path) -> None:
    """List settings; SEARCH looks in names, help and keywords."""
    found = call(data, lambda client: client.get("/settings", search=search))
    if as_json:
        print_json(found)
        return
    rows = [
        (one["section"], one["variable"], f"{_value(one['value'])} {one['unit']}".strip(), one["help"])
        for one in found
    ]
    print_table(("SECTION", "VARIABLE", "VALUE", "MEANING"), rows, "No setting matches.")


def _value(value: Any) -> str:
    return format_value(tuple(value) if isinstance(value, list) else value)


def _place(variable: str) -> Place:
    try:
        return find_setting(variable)
    except NotFound as error:
        raise click.ClickException(str(error)) from error


@setting.command("get")
@click.argument("variable")
@json_option
@data_option
def get_setting(variable: str, as_json: bool, data: Path) -> None:
    """Show one setting."""
    place = _place(variable)
    found = call(data, lambda client: client.get(f"/settings/{place.section}"))
    one = next(item for item in found if item["variable"] == place.field.declaration.variable)
    if as_json:
        print_json(one)
    else:
        click.echo(_value(one["value"]))


@setting.command("set")
@click.argument("variable")
@click.argument("value", required=False)
@click.option(
    "--value-file",
    type=click.Path(dir_okay=False, allow_dash=True),
    help="File whose first line is the value; - is standard input. Secrets are taken this way only.",
)
@click.option("--default", "to_default", is_flag=True, help="Set it to what it is in a new server.")
@data_option
def set_setting(
    variable: str, value: str | None, value_file: str | None, to_default: bool, data: Path
) -> None:
    """Set VARIABLE to VALUE.

    Switches take 1 and 0, lists take values with commas between, sizes take octets or 10M, 1G.
    """
    place = _place(variable)
    declaration = place.field.declaration
    if (value is not None) + (value_file is not None) + to_default != 1:
        raise click.UsageError("give one of: a value, --value-file, --default")
    if declaration.secret and value:
        raise click.UsageError(f"{declaration.variable} is a secret: give it with --value-file")
    given: Value | list[str]
    if to_default:
        default = place.field.default
        given = list(default) if isinstance(default, tuple) else default
    else:
        given = value if value is not None else read_secret(value_file or "-")
    body = {declaration.variable: given}
    answer = call(data, lambda client: client.request("PATCH", f"/settings/{place.section}", json=body))
    said = (
        f"{declaration.variable} is set." if answer["changed"] else f"{declaration.variable} was so already."
    )
    click.echo(said + (" It holds after the next start of the engine." if answer["restart_needed"] else ""))


@click.command()
@json_option
@data_option
def status(as_json: bool, data: Path) -> None:
    """Show whether the engine runs, and its counters."""
    found = call(data, lambda client: client.get("/status"))
    if as_json:
        print_json(found)
    else:
        print_fields((name.replace("_", " "), value) for name, value in found.items())


@click.group()
def log() -> None:
    """The eight logs."""


@log.command()
@click.argument("name", type=_LOGS)
@search_option
@click.option("--lines", "-n", default=20, show_default=True, type=click.IntRange(1, 5000), help="How many.")
@click.option("--follow", "-f", is_flag=True, help="Go on with new lines until interrupted.")
@json_option
@data_option
def tail(name: str, search: str, lines: int, follow: bool, as_json: bool, data: Path) -> None:
    """Show the newest lines of a log."""

    async def work(client: Client) -> None:
        found = (await client.get(f"/logs/{name}", search=search, limit=lines))["lines"]
        if as_json:
            print_json(found)
            return
        for line in found:
            click.echo(line)
        while follow:
            await asyncio.sleep(1)
            newest = (await client.get(f"/logs/{name}", search=search, limit=1000))["lines"]
            for line in _new_lines(found, newest):
                click.echo(line)
            found = newest

    call(data, work)


def _new_lines(old: list[str], new: list[str]) -> list[str]:
    """What `new` has behind its longest beginning that is an end of `old`."""
    for keep in range(min(len(old), len(new)), 0, -1):
        if old[-keep:] == new[:keep]:
            return new[keep:]
    if old and old[-1] in new:
        return new[len(new) - new[::-1].index(old[-1]) :]
    return new
