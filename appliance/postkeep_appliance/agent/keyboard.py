"""The keyboard's layout (row CON-9)."""

from postkeep_appliance.agent.work import Work
from postkeep_appliance.api.types import Done, Keyboards, ListKeyboards, SetKeyboard
from postkeep_appliance.host.port import Invalid, SystemPort


class Keyboard:
    def __init__(self, system: SystemPort) -> None:
        self._system = system

    async def list(self, call: ListKeyboards, work: Work) -> Keyboards:
        return Keyboards(self._system.keyboard(), self._system.keyboards())

    async def set(self, call: SetKeyboard, work: Work) -> Done:
        name = dict(self._system.keyboards()).get(call.layout)
        if name is None:
            raise Invalid("layout", "There is no such keyboard layout; choose one of the list.")
        await self._system.set_keyboard(call.layout)
        return Done(f"The keyboard's layout is {name}.")
