"""Logs: choose, search, scroll, follow (CON-9)."""

import asyncio
from collections.abc import Mapping

from postkeep_appliance.api.client import AgentError
from postkeep_appliance.api.types import LogLines, ReadLog

from postkeep_console.controllers.session import Session
from postkeep_console.views.chooser import ChooserTexts, ChooserView, Option
from postkeep_console.views.fields import Field
from postkeep_console.views.logs import LogView

FIRST = "mail"
LINES = 200
PAUSE = 2.0
"""Seconds between two looks at a log that is followed."""


class LogsController:
    def __init__(self, session: Session) -> None:
        self._session = session

    async def run(self) -> None:
        session, words = self._session, self._session.words
        name, search = FIRST, ""
        while True:
            read = await session.attempt(ReadLog(name, LINES, search), LogLines)
            if read is None:
                return
            title = words("logs.shown", name=words.shown(name))
            if search:
                title = words("logs.found", name=words.shown(name), search=words.shown(search))
            view = LogView(title, self._hints(), session.look, words("logs.nothing"), words("logs.following"))
            view.show([words.shown(line) for line in read.lines])
            following = asyncio.create_task(self._follow(view, ReadLog(name, LINES, search), read.lines))
            try:
                action = await session.ui.show(view)
            finally:
                following.cancel()
                await asyncio.gather(following, return_exceptions=True)
            if action == "choose":
                name = await self._choose(read.names, name)
            elif action == "search":
                search = await self._search(search)
            else:
                return

    def _hints(self) -> list[tuple[str, str]]:
        words = self._session.words
        keys = (("F4", "logs.choose"), ("F6", "logs.follow"), ("F7", "logs.search"), ("Esc", "hint.back"))
        return [(key, words(text)) for key, text in keys]

    async def _follow(self, view: LogView, call: ReadLog, last: tuple[str, ...]) -> None:
        """New lines as they come. Does not count as somebody being there: the idle lock still comes."""
        session = self._session
        while True:
            await session.sleep(PAUSE)
            if not view.following:
                continue
            try:
                read = await session.agent.call(call, LogLines)
            except AgentError as error:
                view.trouble(session.reason(error))
                continue
            if read.lines != last and view.following:
                last = read.lines
                view.show([session.words.shown(line) for line in last])

    async def _choose(self, names: tuple[str, ...], current: str) -> str:
        session, words = self._session, self._session.words
        view = ChooserView(
            ChooserTexts(words("logs.title"), words("logs.intro"), session.message_hints()),
            [Option(name, words.shown(name)) for name in names],
            session.look,
            current,
        )
        return await session.ui.show(view) or current

    async def _search(self, current: str) -> str:
        session, words = self._session, self._session.words

        async def act(entries: Mapping[str, str]) -> None:
            return None

        form = session.form("logs", "logs.search_intro", "button.search")
        field = Field("search", words("form.search"), current, limit=200)
        entries = await session.fill(form, [field], lambda entries: {}, act)
        return current if entries is None else entries["search"]
