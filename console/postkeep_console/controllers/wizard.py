"""The first start (CON-2): six questions, a summary, then the agent sets everything up."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace

from postkeep_appliance.api.client import AgentError
from postkeep_appliance.api.types import ChangePassword, Disks, Done, ListDisks, SetUp, Status, StatusAnswer

from postkeep_console import checks
from postkeep_console.controllers.network import NetworkController
from postkeep_console.controllers.session import PASSWORD_LIMIT, Locked, Session
from postkeep_console.controllers.sizes import size_text
from postkeep_console.controllers.time import TimeController
from postkeep_console.ports import Left
from postkeep_console.views.fields import NO, YES, Field, switch
from postkeep_console.views.form import Check, FormTexts, FormView, Submitted

QUESTIONS = ("root", "hostname", "domain", "administrator", "password", "store")
"""The six pages, in order. Page 6 is the summary."""

PAGE_OF = {
    "hostname": 1,
    "domain": 2,
    "administrator": 3,
    "administrator_password": 4,
    "store": 5,
    "remote_administration": 6,
    "statistics": 6,
}
"""Where a field of SetUp is asked for."""


@dataclass(frozen=True)
class Answers:
    hostname: str = ""
    domain: str = ""
    administrator: str = "admin"
    store: str = ""
    folder: str = ""
    remote: bool = True
    statistics: bool = False
    password: str = field(default="", repr=False)


class WizardController:
    """`run` ends True when the server was set up, "language" when another language is wanted."""

    def __init__(self, session: Session, network: NetworkController, time: TimeController) -> None:
        self._session, self._network, self._time = session, network, time
        self._answers = Answers()
        self._page = 0
        self._root_done = False
        self._refused: dict[int, tuple[str, str]] = {}
        self._status: StatusAnswer | None = None
        self._disks = Disks((), ())

    async def run(self, status: StatusAnswer) -> bool | str:
        """Page by page. The answers stay for a second `run` (in another language)."""
        self._status = status
        if not self._answers.hostname:
            name = status.hostname if not status.hostname.startswith("localhost") else ""
            self._answers = replace(self._answers, hostname=name, domain=status.suggested_domain)
        pages = (self._root, self._hostname, self._domain, self._administrator, self._password, self._store)
        while True:
            if not self._session.agent.session:
                self._page, self._root_done = 0, False
            go = await (pages[self._page] if self._page < len(pages) else self._summary)()
            if go in ("leave", "language", "done"):
                if go != "language":
                    self._answers = replace(self._answers, password="")
                return "language" if go == "language" else go == "done"
            self._page += 1 if go == "next" else -1 if go == "back" else 0

    # --- pages --------------------------------------------------------------------------------

    async def _ask(self, fields: list[Field], check: Check, intro: str = "", **values: object) -> Submitted:
        """Shows the page; entries of the last refusal are marked."""
        words = self._session.words
        name = QUESTIONS[self._page]
        form = FormView(
            FormTexts(
                words("wizard.title", step=self._page + 1, total=len(QUESTIONS)),
                words(intro or f"wizard.{name}.intro", **values),
                (
                    ("back", words("button.back" if self._page else "button.cancel")),
                    ("next", words("button.next")),
                ),
                [
                    *self._session.form_hints("hint.back" if self._page else "hint.cancel"),
                    ("F3", words("hint.language")),
                ],
                {"esc": "back", "f3": "language"},
            ),
            fields,
            check,
            self._session.look,
        )
        refused = self._refused.pop(self._page, None)
        if refused:
            form.refuse(*refused)
        done = await self._session.ui.show(form)
        if done.action == "back" and self._page == 0:
            return replace(done, action="leave")
        return done

    async def _root(self) -> str:
        session, words = self._session, self._session.words
        first = self._status is not None and self._status.first_password
        limit = PASSWORD_LIMIT
        if self._root_done:
            done = await self._ask([], lambda entries: {}, "wizard.root.done")
            return done.action
        hint = (
            words("wizard.root.first_hint", word=checks.FIRST_PASSWORD)
            if first
            else words("wizard.root.old_hint")
        )
        new_hint = words(
            "password.new_hint" if first else "wizard.root.keep_hint", least=checks.PASSWORD_LEAST
        )
        fields = [
            Field("old", words("password.old"), kind="password", hint=hint, limit=limit),
            *session.password_fields(new_hint),
        ]

        def check(entries: Mapping[str, str]) -> Mapping[str, str]:
            if not first and not entries["new"] and not entries["again"]:
                return session.required("old")(entries)
            return session.password_check(entries)

        done = await self._ask(fields, check)
        if done.action != "next":
            return done.action
        try:
            await session.open(done.entries["old"])
        except (AgentError, Left) as error:
            if isinstance(error, AgentError):
                self._refused[0] = ("old", session.reason(error))
            return "again"
        if done.entries["new"]:
            try:
                call = ChangePassword(done.entries["old"], done.entries["new"])
                await session.ask(call, Done, words("password.wait"), leave=False)
            except AgentError as error:
                self._refused[0] = ("old" if error.field == "old_password" else "new", session.reason(error))
                return "again"
        self._root_done = True
        return "next"

    async def _hostname(self) -> str:
        words = self._session.words
        fields = [
            Field(
                "hostname",
                words("wizard.hostname.label"),
                self._answers.hostname,
                hint=words("wizard.hostname.hint"),
            )
        ]
        done = await self._ask(fields, self._rule("hostname", checks.hostname))
        host = done.entries["hostname"].lower()
        domain = self._answers.domain
        if not domain or domain == checks.domain_of(self._answers.hostname):
            domain = checks.domain_of(host)
        self._answers = replace(self._answers, hostname=host, domain=domain)
        return done.action

    async def _domain(self) -> str:
        words = self._session.words
        fields = [
            Field(
                "domain", words("wizard.domain.label"), self._answers.domain, hint=words("wizard.domain.hint")
            )
        ]
        done = await self._ask(fields, self._rule("domain", checks.domain))
        self._answers = replace(self._answers, domain=done.entries["domain"].lower())
        return done.action

    async def _administrator(self) -> str:
        words = self._session.words
        fields = [
            Field(
                "administrator",
                words("wizard.administrator.label"),
                self._answers.administrator,
                hint=words("wizard.administrator.hint", domain=self._answers.domain),
                limit=64,
            )
        ]
        done = await self._ask(fields, self._rule("administrator", checks.administrator))
        self._answers = replace(self._answers, administrator=done.entries["administrator"])
        return done.action

    async def _password(self) -> str:
        session, words = self._session, self._session.words
        kept = bool(self._answers.password)

        def check(entries: Mapping[str, str]) -> Mapping[str, str]:
            if kept and not entries["new"] and not entries["again"]:
                return {}
            user = self._answers.administrator
            return session.say(checks.new_password(entries["new"], entries["again"], user))

        hint = words(
            "wizard.password.keep_hint" if kept else "password.new_hint", least=checks.PASSWORD_LEAST
        )
        name = words.shown(f"{self._answers.administrator}@{self._answers.domain}")
        done = await self._ask(session.password_fields(hint), check, name=name)
        if done.action == "next" and done.entries["new"]:
            self._answers = replace(self._answers, password=done.entries["new"])
        return done.action

    async def _store(self) -> str:
        session, words = self._session, self._session.words
        try:
            self._disks = await session.ask(ListDisks(), Disks)
        except AgentError as error:
            await session.show_error(error)
            return "back"
        except (Left, Locked):
            return "back"
        fields = [
            Field(
                "store",
                words("wizard.store.label"),
                self._answers.store,
                "list",
                words("wizard.store.hint"),
                self._places(),
            ),
            Field(
                "folder",
                words("wizard.store.folder"),
                self._answers.folder,
                hint=words("wizard.store.folder_hint"),
                when=("store", "/"),
            ),
        ]

        def check(entries: Mapping[str, str]) -> Mapping[str, str]:
            folder = entries["folder"]
            bad = entries["store"] == "/" and (
                not folder.startswith("/") or ".." in folder.split("/") or folder == "/"
            )
            return session.say({"folder": "wrong.folder"}) if bad else {}

        done = await self._ask(fields, check)
        self._answers = replace(self._answers, store=done.entries["store"], folder=done.entries["folder"])
        return done.action

    def _places(self) -> list[tuple[str, str]]:
        """The choices of page six: (value, text); "/" stands for a folder of one's own."""
        words = self._session.words
        spaces = sorted(
            (space for space in self._disks.spaces if "postkeep" in space.path),
            key=lambda space: -len(space.path),
        )
        spaces = spaces or list(self._disks.spaces[:1])
        default = words("wizard.store.default")
        if spaces:
            default = words("wizard.store.default_free", free=size_text(spaces[0].free))
        places = [("", default)]
        for disk in self._disks.disks:
            if disk.role == "empty":
                places.append(
                    (
                        disk.device,
                        words(
                            "wizard.store.disk", device=words.shown(disk.device), size=size_text(disk.size)
                        ),
                    )
                )
        return [*places, ("/", words("wizard.store.own"))]

    def _rule(self, name: str, rule: checks.Rule) -> Check:
        return lambda entries: self._session.say({name: rule(entries[name])})

    # --- the end ------------------------------------------------------------------------------

    async def _summary(self) -> str:
        session, words = self._session, self._session.words
        answers = self._answers
        off, on = words("switch.off"), words("switch.on")
        places = dict(self._places())
        store = answers.folder if answers.store == "/" else places.get(answers.store, answers.store)
        fields = [
            Field("a", words("wizard.hostname.label"), words.shown(answers.hostname), "fact"),
            Field("b", words("wizard.domain.label"), words.shown(answers.domain), "fact"),
            Field("c", words("wizard.administrator.label"), words.shown(answers.administrator), "fact"),
            Field("d", words("wizard.store.label"), words.shown(store), "fact"),
            Field(
                "e",
                words("start.addresses"),
                words.shown(", ".join(self._status.addresses[:3])) if self._status else "",
                "fact",
            ),
            Field(
                "f", words("time.zone"), words.shown(self._status.time_zone) if self._status else "", "fact"
            ),
            switch(
                Field(
                    "remote",
                    words("wizard.remote"),
                    YES if answers.remote else NO,
                    hint=words("wizard.remote_hint"),
                ),
                off,
                on,
            ),
            switch(
                Field(
                    "statistics",
                    words("wizard.statistics"),
                    YES if answers.statistics else NO,
                    hint=words("wizard.statistics_hint"),
                ),
                off,
                on,
            ),
        ]
        form = FormView(
            FormTexts(
                words("wizard.summary_title"),
                words("wizard.summary"),
                (
                    ("back", words("button.back")),
                    ("network", words("button.network")),
                    ("time", words("button.time")),
                    ("next", words("button.set_up")),
                ),
                [*session.form_hints("hint.back"), ("F3", words("hint.language"))],
                {"esc": "back", "f3": "language"},
            ),
            fields,
            lambda entries: {},
            session.look,
        )
        refused = self._refused.pop(self._page, None)
        if refused:
            form.refuse(*refused)
        done = await session.ui.show(form)
        self._answers = replace(
            answers, remote=done.entries["remote"] == YES, statistics=done.entries["statistics"] == YES
        )
        if done.action == "network":
            await self._network.run()
        elif done.action == "time":
            await self._time.run()
        elif done.action == "next":
            return await self._set_up()
        else:
            return done.action
        await self._refresh()
        return "again"

    async def _refresh(self) -> None:
        """The summary shows what network and time are now."""
        session = self._session
        with suppress(AgentError, Left):  # then it shows what it knew
            self._status = await session.ask(Status(), StatusAnswer)

    async def _set_up(self) -> str:
        session, words, answers = self._session, self._session.words, self._answers
        if not answers.password:
            self._page = PAGE_OF["administrator_password"]
            return "again"
        call = SetUp(
            answers.hostname,
            answers.domain,
            answers.administrator,
            answers.password,
            answers.folder if answers.store == "/" else answers.store,
            answers.remote,
            answers.statistics,
        )
        try:
            done = await session.ask(call, Done, words("wizard.working"), leave=False)
        except AgentError as error:
            page = PAGE_OF.get(error.field)
            if page is None:
                await session.show_error(error)
                return "again"
            self._refused[page] = (self._entry(error.field), session.reason(error))
            self._page = page
            return "again"
        text = words("wizard.finished", name=words.shown(f"{answers.administrator}@{answers.domain}"))
        await session.tell(words("wizard.finished_title"), f"{text}\n\n{words.shown(done.text)}".strip())
        return "done"

    def _entry(self, name: str) -> str:
        """The form's name of a field of SetUp."""
        if name == "store":
            return "folder" if self._answers.store == "/" else "store"
        return {"administrator_password": "new", "remote_administration": "remote"}.get(name, name)
