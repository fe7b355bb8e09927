"""Options that many commands share."""

import getpass
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from postkeep.config.sections import parse_octets

F = TypeVar("F", bound=Callable[..., Any])
DEFAULT_DATA = "/var/lib/postkeep"
_SECRET_LIMIT = 65_536

data_option = click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    envvar="POSTKEEP_DATA",
    default=DEFAULT_DATA,
    show_default=True,
    show_envvar=True,
    help="The data folder.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
search_option = click.option("--search", default="", help="Only what holds this text.")
yes_option = click.option("--yes", is_flag=True, help="Do not ask.")


def password_options(command: F) -> F:
    """--password-file and --password-stdin; never an argument, which every user of the machine could see."""
    command = click.option("--password-stdin", is_flag=True, help="Read the password from standard input.")(
        command
    )
    return click.option(
        "--password-file",
        type=click.Path(dir_okay=False, allow_dash=True),
        help="File whose first line is the password; - is standard input.",
    )(command)


def read_password(password_file: str | None, password_stdin: bool, *, ask: str = "Password") -> str:
    """The password from where the options say, or asked for on a terminal."""
    if password_stdin or password_file == "-":  # noqa: S105 - the name of standard input
        return read_secret("-")
    if password_file is not None:
        return read_secret(password_file)
    if not sys.stdin.isatty():
        raise click.UsageError("give the password with --password-file FILE or --password-stdin")
    password = getpass.getpass(f"{ask}: ")
    if getpass.getpass("Again: ") != password:
        raise click.UsageError("the two passwords differ")
    return password


def read_secret(source: str) -> str:
    """The first line of a file ("-": standard input), without its line end."""
    try:
        if source == "-":
            line = sys.stdin.readline(_SECRET_LIMIT)
        else:
            with open(source, encoding="utf-8") as file:
                line = file.readline(_SECRET_LIMIT)
    except OSError as error:
        raise click.UsageError(f"{source}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise click.UsageError(f"{source} is not UTF-8") from error
    line = line.rstrip("\r\n")
    if not line:
        raise click.UsageError("the password is empty")
    return line


class Octets(click.ParamType[int]):
    """A number of octets; 10M and 1G are understood."""

    name = "octets"

    def convert(self, value: Any, param: click.Parameter | None, context: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        text = str(value).strip()
        octets = parse_octets(text)
        if octets is None and text.isascii() and text.isdigit() and len(text) < 19:
            octets = int(text)
        if octets is None:
            self.fail(f"“{text[:40]}” is not a number of octets (like 1000000, 10M, 1G)", param, context)
        return octets


def split_name(text: str) -> tuple[str, str]:
    """`alice` → alice and "", `alice@example.com` → alice and example.com."""
    name, at, domain = text.rpartition("@") if "@" in text else (text, "", "")
    if not name or (at and not domain):
        raise click.UsageError(f"“{text[:80]}” is neither a name nor an address")
    return name, domain


def confirm(question: str, yes: bool) -> None:
    """Ask on a terminal; without one --yes is needed."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise click.UsageError("this needs --yes when nobody can be asked")
    click.confirm(question, abort=True)
