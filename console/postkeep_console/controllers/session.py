"""Asking the agent: with a session, with a sign of life while it works, with the reason when it refuses."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeVar

from postkeep_appliance.api.client import AgentError
from postkeep_appliance.api.types import Call, ChangePassword, Done, Lock, Unlock, Unlocked

from postkeep_console import checks
from postkeep_console.look import Look
from postkeep_console.ports import Agent, Left, OnProgress, Sleep, Ui
from postkeep_console.views.fields import Field, with_entries
from postkeep_console.views.form import Check, FormTexts, FormView
from postkeep_console.views.messages import MessageView
from postkeep_console.words import Words

R = TypeVar("R")

PASSWORD_LIMIT = 128


class Locked(Exception):
    """No session, and the one at the keyboard does not give the password."""


class Session:
    """What every controller works with: `ask` for calls, `tell`, `confirm` and `fill` for people."""

    def __init__(
        self, agent: Agent, ui: Ui, words: Words, look: Look, sleep: Sleep, now: Callable[[], float]
    ) -> None:
        self.agent, self.ui, self.words, self.look, self.sleep = agent, ui, words, look, sleep
        self._now = now
        self._idle_seconds = 0
        self._touched = 0.0
        self._calls = 0

    # --- calls --------------------------------------------------------------------------------

    async def ask(self, call: Call, answer: type[R], text: str = "", *, leave: bool = True) -> R:
        """The agent's answer. When the session has ended the password is asked for, once, and it goes on.

        Raises AgentError, Left, and Locked when nobody unlocks.
        """
        try:
            return await self._once(call, answer, text, leave)
        except AgentError as error:
            if error.code != "locked":
                raise
        if not await self.unlock():
            raise Locked
        return await self._once(call, answer, text, leave)

    async def attempt(self, call: Call, answer: type[R], text: str = "", *, leave: bool = True) -> R | None:
        """`ask`, but a refusal is shown and then None, as when the one who waits left."""
        try:
            return await self.ask(call, answer, text, leave=leave)
        except AgentError as error:
            await self.show_error(error)
        except Left:
            pass
        return None

    async def _once(self, call: Call, answer: type[R], text: str, leave: bool) -> R:
        async def work(progress: OnProgress) -> R:
            return await self.agent.call(call, answer, progress)

        self._calls += 1
        try:
            return await self.ui.busy(
                self.words("busy.title"), text or self.words("busy.text"), work, leave=leave
            )
        finally:
            self._calls -= 1
            self.touch()

    # --- the lock -----------------------------------------------------------------------------

    def touch(self) -> None:
        """Somebody is there."""
        self._touched = self._now()

    def idle(self) -> bool:
        """Whether nobody was there for as long as a session lasts."""
        if not self.agent.session or self._calls:
            return False
        return self._idle_seconds > 0 and self._now() - self._touched >= self._idle_seconds

    async def lock(self) -> None:
        """Ends the session, also when the agent does not answer."""
        if self.agent.session:
            with contextlib.suppress(AgentError, TimeoutError):
                await asyncio.wait_for(self.agent.call(Lock(), Done), 5)
        self.agent.session = ""

    async def unlock(self) -> bool:
        """Asks for root's password until it is right; has a new one set when it must be. False when left."""
        while True:
            opened = await self._ask_password()
            if opened is None:
                return False
            unlocked, password = opened
            if not unlocked.must_change or await self.change_password(password, must=True):
                return True
            await self.lock()
            return False

    async def _ask_password(self) -> tuple[Unlocked, str] | None:
        words = self.words
        opened: list[tuple[Unlocked, str]] = []

        async def act(entries: Mapping[str, str]) -> None:
            opened.append((await self.open(entries["password"]), entries["password"]))

        await self.fill(
            self.form("unlock", "unlock.intro", "button.unlock"),
            [Field("password", words("unlock.password"), kind="password", limit=PASSWORD_LIMIT)],
            self.required("password"),
            act,
        )
        return opened[0] if opened else None

    async def open(self, password: str) -> Unlocked:
        """Unlock with a password. Raises AgentError, Left."""
        unlocked = await self._once(Unlock(password), Unlocked, self.words("unlock.wait"), True)
        self._idle_seconds = unlocked.idle_seconds
        return unlocked

    async def change_password(self, old: str, *, must: bool) -> bool:
        """The dialog for root's new password; `old` is asked for when it is not known. False when left."""
        words = self.words
        fields = [] if old else [Field("old", words("password.old"), kind="password", limit=PASSWORD_LIMIT)]
        fields += self.password_fields(words("password.new_hint", least=checks.PASSWORD_LEAST))

        async def act(entries: Mapping[str, str]) -> None:
            call = ChangePassword(old or entries["old"], entries["new"])
            await self.ask(call, Done, words("password.wait"), leave=False)

        intro = "password.must" if must else "password.intro"
        form = self.form("password", intro, "button.change")
        done = await self.fill(
            form, fields, self.password_check, act, {"old_password": "old", "new_password": "new"}
        )
        if done is None:
            return False
        await self.tell(words("password.title"), words("password.done"))
        return True

    # --- people -------------------------------------------------------------------------------

    def form(self, room: str, intro: str, button: str, **values: object) -> FormTexts:
        """The usual form: a title `<room>.title`, Cancel and one button that acts."""
        words = self.words
        return FormTexts(
            words(f"{room}.title"),
            words(intro, **values),
            (("back", words("button.cancel")), ("ok", words(button))),
            self.form_hints("hint.cancel"),
            {"esc": "back"},
        )

    async def fill(
        self,
        texts: FormTexts,
        fields: Sequence[Field],
        check: Check,
        act: Callable[[Mapping[str, str]], Awaitable[None]],
        names: Mapping[str, str] | None = None,
    ) -> Mapping[str, str] | None:
        """Shows the form until `act` takes its entries, which are returned; None when it was left.

        What `act` raises as AgentError is shown at its field (`names`: the call's field -> the form's).
        """
        refused = ("", "")
        while True:
            form = FormView(texts, fields, check, self.look)
            if refused[1]:
                form.refuse(*refused)
            done = await self.ui.show(form)
            if done.action != texts.buttons[-1][0]:
                return None
            try:
                await act(done.entries)
            except AgentError as error:
                refused = ((names or {}).get(error.field, error.field), self.reason(error))
                if not any(refused[0] == field.name for field in fields):
                    refused = (fields[-1].name if len(fields) == 1 else "", refused[1])
            except Left:
                refused = ("", "")
            else:
                return done.entries
            fields = with_entries(fields, done.entries)

    async def tell(self, title: str, text: str, colour: str = "screen") -> None:
        words = self.words
        ok = ("ok", words("button.ok"))
        await self.ui.show(
            MessageView(title, words.shown(text), [ok], [("Enter", words("hint.on"))], self.look, colour)
        )

    async def show_error(self, error: AgentError) -> None:
        await self.tell(self.words("error.title"), self.reason(error), "warning")

    async def confirm(self, title: str, text: str, yes: str) -> bool:
        """No has the focus."""
        words = self.words
        actions = [("yes", yes), ("no", words("button.no"))]
        view = MessageView(title, words.shown(text), actions, self.message_hints(), self.look)
        return await self.ui.show(view) == "yes"

    def reason(self, error: AgentError) -> str:
        """The agent's words behind ours for the kind of refusal."""
        return self.words(f"error.{error.code}", text=self.words.shown(error.text))

    def required(self, *names: str) -> Callable[[Mapping[str, str]], Mapping[str, str]]:
        """A form's check that only asks for something in these fields."""
        return lambda entries: {name: self.words("wrong.empty") for name in names if not entries[name]}

    def form_hints(self, escape: str) -> list[tuple[str, str]]:
        words = self.words
        return [("Tab", words("hint.next")), ("Enter", words("hint.on")), ("Esc", words(escape))]

    def message_hints(self) -> list[tuple[str, str]]:
        words = self.words
        return [("Tab", words("hint.next")), ("Enter", words("hint.choose")), ("Esc", words("hint.cancel"))]

    def password_fields(self, hint: str) -> list[Field]:
        words = self.words
        return [
            Field("new", words("password.new"), kind="password", hint=hint, limit=PASSWORD_LIMIT),
            Field("again", words("password.again"), kind="password", limit=PASSWORD_LIMIT),
        ]

    def password_check(self, entries: Mapping[str, str]) -> Mapping[str, str]:
        wrong = dict(checks.new_password(entries["new"], entries["again"], "root"))
        if entries.get("old") == "":
            wrong["old"] = "wrong.empty"
        return self.say(wrong)

    def say(self, wrong: checks.Wrong) -> dict[str, str]:
        """Keys of texts to texts."""
        values = {"least": checks.PASSWORD_LEAST}
        return {name: self.words(key, **values) for name, key in wrong.items() if key}
