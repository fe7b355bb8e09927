"""The console as a whole: start screen, language, menu, idle lock, and an agent that comes and goes."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

from postkeep_appliance.api.client import AgentError
from postkeep_appliance.api.types import Done, SetLanguage, Status, StatusAnswer

from postkeep_console.controllers.logs import LogsController
from postkeep_console.controllers.network import NetworkController, NetworkTestController
from postkeep_console.controllers.session import Locked, Session
from postkeep_console.controllers.start import clock_text, start_lines
from postkeep_console.controllers.system import SystemController
from postkeep_console.controllers.time import TimeController
from postkeep_console.controllers.wizard import WizardController
from postkeep_console.ports import Left
from postkeep_console.views.chooser import ChooserTexts, ChooserView, MenuView, Option
from postkeep_console.views.start import StartView
from postkeep_console.words import LANGUAGES, Words

REFRESH = 5.0
RETRY = 1.0
IDLE_LOOK = 1.0
PATIENCE = 10.0
"""Seconds that the agent has for a status."""

MENU = (
    "network", "hostname", "time", "ssh", "remote", "password", "engine", "disks", "logs", "nettest",
    "bundle", "keyboard", "language", "restart", "shutdown", "reset", "lock",
)  # fmt: skip


class Console:
    """`run` never ends by itself; `load_words` gives the texts of a language."""

    def __init__(
        self,
        session: Session,
        head: Callable[[str, str], None],
        load_words: Callable[[str], Words],
    ) -> None:
        self._session, self._head, self._load_words = session, head, load_words
        self._status: StatusAnswer | None = None
        self._known = asyncio.Event()
        self._start: StartView | None = None
        self._acting: asyncio.Task[None] | None = None
        self._language_chosen = False
        self._wizard: WizardController | None = None

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._watch())
            group.create_task(self._guard())
            group.create_task(self._stand())

    # --- in the background --------------------------------------------------------------------

    async def _watch(self) -> None:
        """Asks for the status every few seconds; says so when the agent does not answer, and tries on."""
        session = self._session
        while True:
            try:
                status = await asyncio.wait_for(session.agent.call(Status(), StatusAnswer), PATIENCE)
            except (AgentError, TimeoutError):
                session.ui.alarm(session.words("alarm.lost"))
                await session.sleep(RETRY)
                continue
            session.ui.alarm("")
            self._take(status)
            await session.sleep(REFRESH)

    def _take(self, status: StatusAnswer) -> None:
        self._status = status
        words = self._session.words
        if status.language and status.language != words.language and not self._language_chosen:
            self._speak(status.language)
        self._language_chosen = self._language_chosen or bool(status.language)
        self._show()
        self._known.set()

    def _show(self) -> None:
        status, words = self._status, self._session.words
        if status is None:
            return
        name = f"{status.product} {status.version}  {status.hostname}"
        self._head(words.shown(name), words.shown(clock_text(status)))
        if self._start is not None:
            self._start.show(start_lines(status, words))

    async def _guard(self) -> None:
        """The idle lock: back to the start screen once nobody was there for a session's time."""
        while True:
            await self._session.sleep(IDLE_LOOK)
            if self._session.idle():
                if self._acting is not None:
                    self._acting.cancel()
                await self._session.lock()

    # --- in front -----------------------------------------------------------------------------

    async def _stand(self) -> None:
        """The start screen; what a key asks for runs as a task of its own, which the idle lock may cancel."""
        await self._wait_for_agent()
        if self._status is not None and not self._status.language:
            await self._choose_language()
        while True:
            self._start = self._start_view()
            self._show()
            action = await self._session.ui.show(self._start)
            self._start = None
            await self._perform(action)

    async def _perform(self, action: str) -> None:
        acting = self._acting = asyncio.create_task(self._act(action))
        try:
            await asyncio.wait({acting})
        finally:
            self._acting = None
            acting.cancel()
            await asyncio.gather(acting, return_exceptions=True)
        if not acting.cancelled():
            acting.result()  # raises what was not foreseen

    async def _wait_for_agent(self) -> None:
        """Until the first status there is nothing to show but that."""
        session, words = self._session, self._session.words

        async def work(progress: object) -> None:
            await self._known.wait()

        await session.ui.busy(words("busy.title"), words("busy.agent"), work, leave=False)

    def _start_view(self) -> StartView:
        words = self._session.words
        set_up = self._status is None or self._status.set_up
        hints = [("F2", words("hint.actions" if set_up else "hint.set_up")), ("F3", words("hint.language"))]
        hints.append(("Alt+F2", words("hint.terminal")))
        keys = {"f2": "actions", "enter": "actions", "f3": "language"}
        return StartView(words("start.title"), hints, keys, self._session.look)

    async def _act(self, action: str) -> None:
        try:
            if action == "language":
                await self._choose_language()
            elif self._status is not None and not self._status.set_up:
                await self._first_start()
            else:
                await self._menu()
        except Locked:
            pass
        if self._session.agent.session:
            # Whoever comes to the start screen next has to give the password.
            await self._session.lock()
        await self._refresh()

    async def _choose_language(self) -> None:
        session, words = self._session, self._session.words
        view = ChooserView(
            ChooserTexts(words("language.title"), words("language.intro"), session.message_hints()),
            [Option(code, words.shown(name)) for code, name in LANGUAGES.items()],
            session.look,
            words.language,
        )
        code = await session.ui.show(view)
        if code is None:
            return
        self._language_chosen = True
        self._speak(code)
        await session.attempt(SetLanguage(code), Done)

    def _speak(self, code: str) -> None:
        self._session.words = self._load_words(code)
        if self._start is not None:
            self._start.finish("again")

    async def _first_start(self) -> None:
        session = self._session
        self._wizard = self._wizard or WizardController(
            session, NetworkController(session), TimeController(session)
        )
        status = self._status
        while status is not None:
            done = await self._wizard.run(status)
            if done != "language":
                break
            await self._choose_language()
        else:
            return
        if done is True:
            self._wizard = None

    async def _refresh(self) -> None:
        with suppress(AgentError, Left):  # the watch will tell
            self._take(await self._session.ask(Status(), StatusAnswer))

    async def _menu(self) -> None:
        session = self._session
        if not session.agent.session and not await session.unlock():
            return
        current = "network"
        while session.agent.session:
            words = session.words
            options = [Option(name, words(f"menu.{name}"), words(f"menu.{name}_text")) for name in MENU]
            hints = [
                ("Enter", words("hint.choose")),
                ("F3", words("hint.language")),
                ("Esc", words("hint.lock")),
            ]
            view = MenuView(words("menu.title"), options, hints, session.look, current, "f3")
            chosen = await session.ui.show(view)
            if chosen in (None, "lock"):
                break
            if chosen != "f3":
                current = chosen or current
            await self._entry("language" if chosen == "f3" else current)

    async def _entry(self, name: str) -> None:
        session = self._session
        system = SystemController(session)
        entries: dict[str, Callable[[], Awaitable[object]]] = {
            "network": NetworkController(session).run,
            "hostname": system.hostname,
            "time": TimeController(session).run,
            "ssh": system.ssh,
            "remote": system.remote_administration,
            "password": lambda: session.change_password("", must=False),
            "engine": system.engine,
            "disks": system.disks,
            "logs": LogsController(session).run,
            "nettest": NetworkTestController(session).run,
            "bundle": system.bundle,
            "keyboard": system.keyboard,
            "language": self._choose_language,
            "restart": lambda: system.power("restart"),
            "shutdown": lambda: system.power("shutdown"),
            "reset": system.factory_reset,
        }
        await entries[name]()
