"""postkeep-agent: serves the console's calls until SIGTERM."""

import argparse
import asyncio
import contextlib
import grp
import logging
import logging.handlers
import os
import pwd
import signal
import sys
from pathlib import Path

from postkeep_appliance import __version__
from postkeep_appliance.agent.app import Agent
from postkeep_appliance.agent.notify import notify
from postkeep_appliance.agent.server import AgentServer
from postkeep_appliance.api.client import SOCKET
from postkeep_appliance.host.clock import SystemClock
from postkeep_appliance.host.debian import DebianHost
from postkeep_appliance.host.dryrun import DryRunHost
from postkeep_appliance.host.port import Host, HostError

CONSOLE = "postkeep-console"
LOG = "/var/log/postkeep-agent/agent.log"
_FINISH_SECONDS = 45.0

_log = logging.getLogger("postkeep.agent")


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="postkeep-agent", description=__doc__)
    parser.add_argument("--socket", default=SOCKET, type=Path, help="Unix socket to serve (%(default)s)")
    parser.add_argument("--user", default=CONSOLE, help="who may connect beside root (%(default)s)")
    parser.add_argument("--group", default=CONSOLE, help="the socket's group (%(default)s)")
    parser.add_argument("--log", type=Path, help=f"the agent's log ({LOG}; none in a dry run)")
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="change nothing: serve a machine in memory to the user who runs this; root's word is “postkeep”",
    )
    parser.add_argument(
        "--set-up", action="store_true", help="in a dry run: begin with a server that is set up"
    )
    parser.add_argument("--version", action="version", version=f"postkeep-agent {__version__}")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Exit status 1 with one line when it cannot serve."""
    arguments = _arguments(argv)
    try:
        uid, gid = (os.getuid(), os.getgid()) if arguments.dry_run else _console(arguments)
        log_to(None if arguments.dry_run and arguments.log is None else arguments.log or Path(LOG))
        clock = SystemClock()
        host: Host = (
            DryRunHost(clock, set_up=arguments.set_up) if arguments.dry_run else DebianHost(clock=clock)
        )
        asyncio.run(serve(host, arguments.socket, uid, gid))
    except (OSError, HostError, LookupError) as error:
        sys.exit(f"postkeep-agent: {error}")


def _console(arguments: argparse.Namespace) -> tuple[int, int]:
    try:
        return pwd.getpwnam(arguments.user).pw_uid, grp.getgrnam(arguments.group).gr_gid
    except KeyError as error:
        raise LookupError(f"{error.args[0]}: create it first, or name another --user and --group") from error


def log_to(path: Path | None) -> None:
    """To standard error (the journal) and to `path`, root's alone, at most 4 MiB in all."""
    _log.setLevel(logging.INFO)
    _log.propagate = False
    journal = logging.StreamHandler()
    journal.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    handlers: list[logging.Handler] = [journal]
    if path is not None:
        os.umask(0o077)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = logging.handlers.RotatingFileHandler(path, maxBytes=1 << 20, backupCount=3, encoding="utf-8")
        file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        handlers.append(file)
    _log.handlers = handlers


async def serve(host: Host, path: Path, uid: int, gid: int) -> None:
    """Until SIGTERM or SIGINT. What changes the machine runs to its end first."""
    ending = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ending.set)
    clock = SystemClock()
    agent = Agent(host, clock)
    try:
        await agent.recover()
    except HostError as error:  # the console has to come up all the same: it is how a person helps
        _log.error("what was left half done cannot be ended: %s", error)
    server = AgentServer(agent.dispatcher, clock, {uid}, {gid})
    await server.start(path, gid)
    _log.info("the agent %s serves %s", __version__, path)
    notify("READY=1", "STATUS=Serving the console")
    try:
        await ending.wait()
        notify("STOPPING=1")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_FINISH_SECONDS):
                await agent.turn.finish()
    finally:
        await server.stop()
        path.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
