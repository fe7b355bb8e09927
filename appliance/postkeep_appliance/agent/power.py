"""Restart and shutdown of the whole appliance (row CON-8)."""

import asyncio
import logging

from postkeep_appliance.agent.work import Refused, Turn, Work
from postkeep_appliance.api.types import Done
from postkeep_appliance.api.types import Power as PowerCall
from postkeep_appliance.host.clock import Clock
from postkeep_appliance.host.port import HostError, SystemPort

SECONDS = 1.0
"""So long the answer has to reach the console before everything ends."""

_log = logging.getLogger("postkeep.agent")


class Power:
    def __init__(self, system: SystemPort, clock: Clock, turn: Turn) -> None:
        self._system = system
        self._clock = clock
        self._turn = turn
        self._going: asyncio.Task[None] | None = None

    async def act(self, call: PowerCall, work: Work) -> Done:
        if self._turn.atomic:
            raise Refused("busy", f"{self._turn.now} is under way and must not be cut off; wait for its end.")
        _log.warning("%s by %s", call.action, work.caller)
        self.soon(call)
        return Done("The appliance restarts." if call.action == "restart" else "The appliance shuts down.")

    def soon(self, call: PowerCall) -> None:
        if self._going is None or self._going.done():
            self._going = asyncio.create_task(self._go(call))

    async def _go(self, call: PowerCall) -> None:
        await self._clock.sleep(SECONDS)
        try:
            await self._system.power(call.action)
        except HostError as error:
            _log.error("%s: %s", call.action, error)
