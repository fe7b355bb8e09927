"""The program `postkeep-console`: puts terminal, screen, controllers and the agent's client together."""

import argparse
import asyncio
import os
import sys
import traceback
from collections.abc import Sequence
from typing import Any

import urwid
from postkeep_appliance.api.client import SOCKET, AgentClient

from postkeep_console import __version__
from postkeep_console.controllers.console import Console
from postkeep_console.controllers.session import Session
from postkeep_console.desk import Desk, Shell
from postkeep_console.look import Look
from postkeep_console.notify import Notifier
from postkeep_console.terminal import ascii_only, make_screen
from postkeep_console.words import LANGUAGES, Words


async def serve(socket: str, language: str, plain: bool, stays: bool) -> None:
    """The console on this terminal until it is hung up or something unforeseen is raised."""
    loop = asyncio.get_running_loop()
    broken: asyncio.Future[None] = loop.create_future()

    def fail(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if not broken.done():
            broken.set_exception(context.get("exception") or RuntimeError(context["message"]))

    loop.set_exception_handler(fail)
    look = Look(plain)
    words = Words.load(language, plain)
    client = AgentClient(socket)
    shell = Shell(words, lambda key: session.touch())
    desk = Desk(shell, look, asyncio.sleep)
    session = Session(client, desk, words, look, asyncio.sleep, loop.time)

    def load(code: str) -> Words:
        shell.words = Words.load(code, plain)
        return shell.words

    main_loop = urwid.MainLoop(
        shell,
        screen=make_screen(plain, stays),
        handle_mouse=False,
        event_loop=urwid.AsyncioEventLoop(loop=loop),
        input_filter=lambda keys, raw: _redraw(main_loop, keys),
    )
    with main_loop.start():
        desk.redraw = _Later(loop, main_loop.draw_screen)
        console = asyncio.create_task(Console(session, desk.head, load).run())
        living = asyncio.create_task(Notifier(os.environ).live())
        try:
            await asyncio.wait({console, broken}, return_when=asyncio.FIRST_COMPLETED)
            for ended in (console, broken):
                if ended.done():
                    ended.result()
        finally:
            desk.redraw = lambda: None
            console.cancel()
            living.cancel()
            await asyncio.gather(console, living, return_exceptions=True)
            await client.close()


def _redraw(main_loop: urwid.MainLoop, keys: list[Any]) -> list[Any]:
    """Ctrl+L draws everything anew, as after a kernel message on the console."""
    if "ctrl l" in keys:
        main_loop.screen.clear()
    return keys


class _Later:
    """Draws once the loop is done with what it does now, however often it was asked to."""

    def __init__(self, loop: asyncio.AbstractEventLoop, draw: Any) -> None:
        self._loop, self._draw = loop, draw
        self._waiting = False

    def __call__(self) -> None:
        if not self._waiting:
            self._waiting = True
            self._loop.call_soon(self._now)

    def _now(self) -> None:
        self._waiting = False
        self._draw()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="postkeep-console", description="The Postkeep boot console.")
    parser.add_argument("--socket", default=SOCKET, help="of the agent (default: %(default)s)")
    parser.add_argument("--language", default="en", choices=LANGUAGES, help="until one was chosen")
    parser.add_argument("--ascii", action="store_true", help="draw with ASCII alone")
    parser.add_argument("--leave", action="store_true", help="Ctrl+C ends it (for trying it out)")
    parser.add_argument("--version", action="version", version=__version__)
    options = parser.parse_args(arguments)
    if not (os.isatty(0) and os.isatty(1)):
        print("postkeep-console: standard input and output have to be a terminal", file=sys.stderr)
        return 2
    try:
        plain = options.ascii or ascii_only(os.environ)
        asyncio.run(serve(options.socket, options.language, plain, not options.leave))
    except KeyboardInterrupt:
        return 0
    except Exception:
        # Where it ended; no values, so no secret. systemd starts the console anew.
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
