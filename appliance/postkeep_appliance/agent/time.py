"""Time zone and time servers (row CON-6)."""

import logging

from postkeep_appliance.agent.work import Work
from postkeep_appliance.api.types import Changed, GetTime, SetTime, TimeSettings
from postkeep_appliance.host import names
from postkeep_appliance.host.port import EnginePort, Invalid, SystemPort

MAX_NTP = 8

_log = logging.getLogger("postkeep.agent")


class Time:
    def __init__(self, system: SystemPort, engine: EnginePort) -> None:
        self._system = system
        self._engine = engine

    async def get(self, call: GetTime, work: Work) -> TimeSettings:
        facts = await self._system.time()
        return TimeSettings(facts.zone, facts.ntp, facts.synchronized, await self._system.zones())

    async def set(self, call: SetTime, work: Work) -> Changed:
        if call.time_zone not in await self._system.zones():
            raise Invalid("time_zone", "There is no such time zone; choose one of the list.")
        if len(call.ntp) > MAX_NTP:
            raise Invalid("ntp", f"At most {MAX_NTP} time servers can be used.")
        servers = tuple(dict.fromkeys(names.host_or_address(text, "ntp") for text in call.ntp))
        before = await self._system.time()
        await self._system.set_time(call.time_zone, servers)
        _log.info("time zone %s, NTP %s, by %s", call.time_zone, servers or "of the image", work.caller)
        if before.zone == call.time_zone or not self._engine.is_set_up():
            return Changed("", "The time settings are in force.")
        # A process keeps the zone that it began with: the engine's logs and dates would go on in the old one.
        return Changed("engine", "The time zone is set; restart the engine so that its logs follow.")
