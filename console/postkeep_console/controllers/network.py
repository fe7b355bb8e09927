"""Adapters, their settings, and the countdown that takes a setting back when nobody confirms it (CON-4)."""

import asyncio
from collections.abc import Mapping

from postkeep_appliance.api.client import AgentError
from postkeep_appliance.api.types import (
    Adapter,
    Adapters,
    ConfirmNetwork,
    Done,
    ListAdapters,
    Method,
    Pending,
    Progress,
    SetNetwork,
    TestNetwork,
    UndoNetwork,
)

from postkeep_console import checks
from postkeep_console.controllers.session import Session
from postkeep_console.ports import Left, OnProgress
from postkeep_console.views.chooser import ChooserTexts, ChooserView, Option
from postkeep_console.views.fields import Field
from postkeep_console.views.messages import CountdownView

# The agent names fields as in its call: "settings.ipv4.address", "ipv4.address", ...
FIELDS = {
    "ipv4.method": "method4",
    "ipv4.address": "address4",
    "ipv4.gateway": "gateway4",
    "ipv6.method": "method6",
    "ipv6.address": "address6",
    "ipv6.gateway": "gateway6",
    "dns": "dns",
    "search": "search",
}


class NetworkController:
    def __init__(self, session: Session) -> None:
        self._session = session

    async def run(self) -> None:
        """The adapters, until left."""
        session, words = self._session, self._session.words
        current = ""
        while True:
            adapters = await session.attempt(ListAdapters(), Adapters)
            if adapters is None:
                return
            by_name = {adapter.name: adapter for adapter in adapters.adapters}
            view = ChooserView(
                ChooserTexts(
                    words("network.title"),
                    words("network.intro" if by_name else "network.none"),
                    session.message_hints(),
                ),
                [Option(adapter.name, self._describe(adapter)) for adapter in adapters.adapters],
                session.look,
                current,
            )
            chosen = await session.ui.show(view)
            if chosen is None:
                return
            current = chosen
            await self._edit(by_name[chosen])

    def _describe(self, adapter: Adapter) -> str:
        words = self._session.words
        link = words("network.link_up" if adapter.link else "network.link_down")
        addresses = " ".join(adapter.addresses[:2]) or words("network.no_address")
        return words.shown(f"{adapter.name:<8} {adapter.mac:<17} {link:<10} {addresses}")

    async def _edit(self, adapter: Adapter) -> None:
        session, words = self._session, self._session.words
        pending: list[Pending] = []

        async def act(entries: Mapping[str, str]) -> None:
            call = SetNetwork(adapter.name, checks.settings_of(entries))
            pending.append(await session.ask(call, Pending, words("network.trying"), leave=False))

        names = FIELDS | {f"settings.{name}": field for name, field in FIELDS.items()}
        form = session.form(
            "network",
            "network.edit",
            "button.apply",
            name=words.shown(adapter.name),
            mac=words.shown(adapter.mac),
        )
        done = await session.fill(
            form,
            self._fields(checks.entries_of(adapter.settings)),
            lambda entries: session.say(checks.adapter(entries)),
            act,
            names,
        )
        if done is not None:
            await self._countdown(pending[-1])

    def _fields(self, value: Mapping[str, str]) -> list[Field]:
        words = self._session.words
        static4, static6 = ("method4", Method.STATIC.value), ("method6", Method.STATIC.value)
        kinds4 = [(method.value, words(f"network.{method.value}4")) for method in Method]
        kinds6 = [(method.value, words(f"network.{method.value}6")) for method in Method]

        def text(name: str, when: tuple[str, str] | None = None, hint: str = "") -> Field:
            return Field(name, words(f"network.{name}"), value[name], hint=hint, when=when)

        turn = words("form.turn")
        return [
            Field("method4", "IPv4", value["method4"], "choice", turn, kinds4),
            text("address4", static4, words("network.address4_hint")),
            text("mask4", static4, words("network.mask4_hint")),
            text("gateway4", static4, words("network.gateway_hint")),
            Field("method6", "IPv6", value["method6"], "choice", turn, kinds6),
            text("address6", static6, words("network.address6_hint")),
            text("gateway6", static6, words("network.gateway_hint")),
            text("dns", hint=words("network.dns_hint")),
            text("search", hint=words("network.search_hint")),
        ]

    async def _countdown(self, pending: Pending) -> None:
        """Keep or undo; when the time is over the agent has undone it by itself."""
        session, words = self._session, self._session.words
        text = words("network.lost" if pending.lost else "network.tried")
        if pending.text:
            text += "\n\n" + words.shown(pending.text)
        view = CountdownView(
            words("network.title"),
            text,
            (words("button.keep"), words("button.undo")),
            [("Tab", words("hint.next")), ("Enter", words("hint.choose")), ("Esc", words("button.undo"))],
            session.look,
            pending.lost,
        )

        async def tick() -> None:
            for left in range(pending.seconds, 0, -1):
                view.tell(words("network.seconds", seconds=left))
                await session.sleep(1)
                session.touch()
            view.finish("expired")

        view.tell(words("network.seconds", seconds=pending.seconds))
        ticking = asyncio.create_task(tick())
        try:
            choice = await session.ui.show(view)
        finally:
            ticking.cancel()
            await asyncio.gather(ticking, return_exceptions=True)
        if choice == "expired":
            await session.tell(words("network.title"), words("network.expired"))
        elif choice == "keep":
            if await session.attempt(ConfirmNetwork(), Done, leave=False) is not None:
                await session.tell(words("network.title"), words("network.kept"))
        elif await session.attempt(UndoNetwork(), Done, words("network.undoing"), leave=False) is not None:
            await session.tell(words("network.title"), words("network.undone"))


class NetworkTestController:
    """ping and DNS, the answer line by line (CON-9)."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def run(self) -> None:
        session, words = self._session, self._session.words
        entries: Mapping[str, str] | None = {"kind": "ping", "target": ""}

        async def act(entries: Mapping[str, str]) -> None:
            await self._test(entries["kind"], entries["target"])

        while entries is not None:
            kinds = [(kind, words(f"nettest.{kind}")) for kind in ("ping", "dns")]
            fields = [
                Field("kind", words("nettest.kind"), entries["kind"], "choice", words("form.turn"), kinds),
                Field(
                    "target", words("nettest.target"), entries["target"], hint=words("nettest.target_hint")
                ),
            ]
            form = session.form("nettest", "nettest.intro", "button.test")
            entries = await session.fill(form, fields, session.required("target"), act)

    async def _test(self, kind: str, target: str) -> None:
        session, words = self._session, self._session.words
        lines: list[str] = []
        call = TestNetwork("dns" if kind == "dns" else "ping", target)

        async def work(progress: OnProgress) -> Done:
            def step(step: Progress) -> None:
                lines.append(words.shown(step.text))
                progress(step)

            return await session.agent.call(call, Done, step)

        try:
            done = await session.ui.busy(
                words("nettest.title"), f"{kind} {words.shown(target)}", work, leave=True
            )
            lines.append(words.shown(done.text))
        except Left:
            lines.append(words("nettest.left"))
        except AgentError as error:
            if error.code in ("locked", "invalid"):
                raise
            lines.append(session.reason(error))
        await session.tell(f"{kind} {words.shown(target)}", "\n".join(line for line in lines if line))
