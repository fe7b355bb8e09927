"""Time zone and time servers (CON-6)."""

from collections.abc import Mapping

from postkeep_appliance.api.types import Changed, GetTime, SetTime, TimeSettings

from postkeep_console import checks
from postkeep_console.controllers.session import Session
from postkeep_console.views.chooser import ChooserTexts, ChooserView, Option
from postkeep_console.views.fields import Field
from postkeep_console.views.form import FormTexts, FormView


class TimeController:
    def __init__(self, session: Session) -> None:
        self._session = session

    async def run(self) -> None:
        """Zone and servers as they are; change either; what it takes to make it hold is said at the end."""
        session, words = self._session, self._session.words
        now = await session.attempt(GetTime(), TimeSettings)
        if now is None:
            return
        zone, ntp = now.time_zone, " ".join(now.ntp)
        while True:
            fields = [
                Field("zone", words("time.zone"), words.shown(zone), "fact"),
                Field(
                    "state", words("time.state"), words("time.yes" if now.synchronized else "time.no"), "fact"
                ),
                Field("ntp", words("time.ntp"), ntp, hint=words("time.ntp_hint")),
            ]
            form = FormView(
                FormTexts(
                    words("time.title"),
                    words("time.intro"),
                    (
                        ("back", words("button.cancel")),
                        ("zone", words("button.zone")),
                        ("apply", words("button.apply")),
                    ),
                    [*session.form_hints("hint.cancel"), ("F4", words("time.choose"))],
                    {"esc": "back", "f4": "zone"},
                ),
                fields,
                self._check,
                session.look,
            )
            done = await session.ui.show(form)
            ntp = done.entries["ntp"]
            if done.action == "zone":
                zone = await self._choose(now.zones, zone) or zone
            elif done.action == "back":
                return
            else:
                changed = await session.attempt(SetTime(zone, checks.split(ntp)), Changed)
                if changed is not None:
                    await tell_changed(session, words("time.title"), changed)
                    return

    def _check(self, entries: Mapping[str, str]) -> Mapping[str, str]:
        return self._session.say({"ntp": checks.servers(entries["ntp"], names=True)})

    async def _choose(self, zones: tuple[str, ...], current: str) -> str | None:
        session, words = self._session, self._session.words
        view = ChooserView(
            ChooserTexts(
                words("time.choose"),
                words("form.search_intro"),
                session.message_hints(),
                words("form.search"),
                words("form.nothing"),
            ),
            [Option(zone, words.shown(zone)) for zone in zones],
            session.look,
            current,
        )
        return await session.ui.show(view)


async def tell_changed(session: Session, title: str, changed: Changed) -> None:
    """That it holds, or what has to be restarted first."""
    words = session.words
    key = {"": "changed.now", "engine": "changed.engine", "appliance": "changed.appliance"}[changed.restart]
    await session.tell(title, f"{words(key)}\n\n{words.shown(changed.text)}".strip())
