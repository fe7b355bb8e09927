"""Host name, switches, engine, power, keyboard, disks, bundle, factory reset (CON-5, CON-8, CON-9)."""

from collections.abc import Mapping
from typing import Literal

from postkeep_appliance.api.types import (
    Bundle,
    Changed,
    Disks,
    Done,
    Engine,
    EngineState,
    FactoryReset,
    GrowDisks,
    Keyboards,
    ListDisks,
    ListKeyboards,
    Power,
    SetHostname,
    SetKeyboard,
    SetRemoteAdministration,
    SetSsh,
    Status,
    StatusAnswer,
    SupportBundle,
)

from postkeep_console import checks
from postkeep_console.controllers.session import Session
from postkeep_console.controllers.sizes import size_text
from postkeep_console.controllers.time import tell_changed
from postkeep_console.views.chooser import ChooserTexts, ChooserView, MenuView, Option
from postkeep_console.views.fields import Field
from postkeep_console.views.messages import MessageView

EngineAction = Literal["start", "stop", "restart", "enable", "disable"]
ENGINE_ACTIONS: tuple[EngineAction, ...] = ("start", "stop", "restart", "enable", "disable")


class SystemController:
    """One method an entry of the menu."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def status(self) -> StatusAnswer | None:
        return await self._session.attempt(Status(), StatusAnswer)

    async def hostname(self) -> None:
        session, words = self._session, self._session.words
        status = await self.status()
        if status is None:
            return
        changed: list[Changed] = []

        async def act(entries: Mapping[str, str]) -> None:
            call = SetHostname(entries["hostname"].lower())
            changed.append(await session.ask(call, Changed, leave=False))

        await session.fill(
            session.form("hostname", "hostname.intro", "button.apply"),
            [
                Field(
                    "hostname",
                    words("wizard.hostname.label"),
                    status.hostname,
                    hint=words("wizard.hostname.hint"),
                )
            ],
            lambda entries: session.say({"hostname": checks.hostname(entries["hostname"])}),
            act,
        )
        if changed:
            await tell_changed(session, words("hostname.title"), changed[0])

    async def ssh(self) -> None:
        session, words = self._session, self._session.words
        status = await self.status()
        if status is None:
            return
        title, text = words("ssh.title"), words("ssh.on" if status.ssh else "ssh.off")
        if await session.confirm(title, text, words("button.off" if status.ssh else "button.on")):
            done = await session.attempt(SetSsh(not status.ssh), Done, leave=False)
            if done is not None:
                await session.tell(title, words("ssh.is_off" if status.ssh else "ssh.is_on"))

    async def remote_administration(self) -> None:
        session, words = self._session, self._session.words
        actions = [("on", words("button.on")), ("off", words("button.off")), ("no", words("button.cancel"))]
        title = words("remote.title")
        view = MessageView(title, words("remote.intro"), actions, session.message_hints(), session.look)
        choice = await session.ui.show(view)
        if choice != "no":
            changed = await session.attempt(SetRemoteAdministration(choice == "on"), Changed, leave=False)
            if changed is not None:
                await tell_changed(session, title, changed)

    async def engine(self) -> None:
        session, words = self._session, self._session.words
        current = "restart"
        while True:
            status = await self.status()
            if status is None:
                return
            state = words("engine.now", state=state_text(session, status.engine))
            options = [
                Option(action, words(f"engine.{action}"), f"{words(f'engine.{action}_text')}\n\n{state}")
                for action in ENGINE_ACTIONS
            ]
            view = MenuView(
                words("engine.title"), options, session.message_hints(), session.look, current, ""
            )
            chosen = await session.ui.show(view)
            action = next((action for action in ENGINE_ACTIONS if action == chosen), None)
            if action is None:
                return
            current = action
            sure = action in ("start", "enable") or await session.confirm(
                words("engine.title"), words(f"engine.{action}_text"), words(f"engine.{action}")
            )
            if sure and await session.attempt(Engine(action), Done, words(f"engine.{action}")) is not None:
                await session.tell(words("engine.title"), words("engine.done"))

    async def power(self, action: Literal["restart", "shutdown"]) -> None:
        session, words = self._session, self._session.words
        title = words(f"power.{action}")
        if not await session.confirm(title, words(f"power.{action}_text"), title):
            return
        if await session.attempt(Power(action), Done, leave=False) is not None:
            await session.tell(title, words(f"power.{action}_now"))

    async def disks(self) -> None:
        session, words = self._session, self._session.words
        while True:
            disks = await session.attempt(ListDisks(), Disks)
            if disks is None:
                return
            actions = [("grow", words("button.grow")), ("close", words("button.close"))]
            view = MessageView(
                words("disks.title"), self._disk_text(disks), actions, session.message_hints(), session.look
            )
            if await session.ui.show(view) != "grow":
                return
            changed = await session.attempt(GrowDisks(), Changed, words("disks.growing"), leave=False)
            if changed is not None:
                await tell_changed(session, words("disks.title"), changed)

    def _disk_text(self, disks: Disks) -> str:
        words = self._session.words
        roles = {role: words(f"disks.{role}") for role in ("system", "store", "empty")}
        lines = [words("disks.intro"), ""]
        for disk in disks.disks:
            role = roles.get(disk.role, words("disks.other"))
            lines.append(
                words.shown(f"{disk.device:<12} {size_text(disk.size):>10}  {role}  {disk.description}")
            )
        lines.append("")
        for space in disks.spaces:
            free = words("disks.free", free=size_text(space.free), size=size_text(space.size))
            lines.append(words.shown(f"{space.path:<28} {free}"))
        return "\n".join(lines)

    async def bundle(self) -> None:
        session, words = self._session, self._session.words
        title = words("bundle.title")
        if await session.confirm(title, words("bundle.intro"), words("button.make")):
            bundle = await session.attempt(SupportBundle(), Bundle, words("bundle.making"))
            if bundle is not None:
                path = words.shown(bundle.path)
                await session.tell(title, words("bundle.done", path=path, size=size_text(bundle.size)))

    async def keyboard(self) -> None:
        session, words = self._session, self._session.words
        keyboards = await session.attempt(ListKeyboards(), Keyboards)
        if keyboards is None:
            return
        view = ChooserView(
            ChooserTexts(
                words("keyboard.title"),
                words("form.search_intro"),
                session.message_hints(),
                words("form.search"),
                words("form.nothing"),
            ),
            [Option(code, words.shown(f"{name} ({code})")) for code, name in keyboards.layouts],
            session.look,
            keyboards.current,
        )
        chosen = await session.ui.show(view)
        if chosen is not None and await session.attempt(SetKeyboard(chosen), Done, leave=False) is not None:
            await session.tell(words("keyboard.title"), words("keyboard.done", layout=words.shown(chosen)))

    async def factory_reset(self) -> None:
        session, words = self._session, self._session.words
        status = await self.status()
        if status is None:
            return
        name = status.hostname

        async def act(entries: Mapping[str, str]) -> None:
            await session.ask(FactoryReset(entries["confirm"]), Done, words("reset.working"), leave=False)

        def check(entries: Mapping[str, str]) -> Mapping[str, str]:
            return session.say({"confirm": "" if entries["confirm"] == name else "wrong.confirm"})

        form = session.form("reset", "reset.intro", "button.reset", name=words.shown(name))
        fields = [Field("confirm", words("wizard.hostname.label"), hint=words("reset.hint"))]
        if await session.fill(form, fields, check, act) is not None:
            await session.tell(words("reset.title"), words("reset.done"))


def state_text(session: Session, state: EngineState) -> str:
    return session.words(f"engine_state.{state.name.lower()}")
