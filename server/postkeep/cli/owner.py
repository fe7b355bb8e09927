"""Root working on a data folder that belongs to another user (the package's `postkeep`) becomes that user:
no file of root's is left where the engine then could not write, and nothing is done with more rights than
needed."""

import os
import pwd
from pathlib import Path

import click


def become_owner(data: Path) -> None:
    """For good. What only root may read (a password file) has to be read before this.

    Nothing happens unless we are root, the folder exists and belongs to somebody else.
    """
    owner = foreign_owner(data)
    if owner is None:
        return
    try:
        entry = pwd.getpwuid(owner)
    except KeyError:
        raise click.ClickException(f"{data} belongs to the user number {owner}, who does not exist") from None
    os.initgroups(entry.pw_name, entry.pw_gid)
    os.setgid(entry.pw_gid)
    os.setuid(owner)
    os.umask(0o077)
    os.environ["HOME"] = entry.pw_dir


def foreign_owner(data: Path) -> int | None:
    """The number of the folder's owner when we are root and the owner is not."""
    if os.geteuid() != 0:
        return None
    try:
        owner = data.stat().st_uid
    except FileNotFoundError:
        return None
    return owner or None
