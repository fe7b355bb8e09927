"""The name of this machine, for Linux and for the engine."""

import logging

from postkeep_appliance.agent.work import Work
from postkeep_appliance.api.types import Changed, SetHostname
from postkeep_appliance.host import names
from postkeep_appliance.host.port import EnginePort, HostError, SystemPort

_log = logging.getLogger("postkeep.agent")


class Hostname:
    def __init__(self, system: SystemPort, engine: EnginePort) -> None:
        self._system = system
        self._engine = engine

    async def set(self, call: SetHostname, work: Work) -> Changed:
        name = names.hostname(call.hostname)
        await self._system.set_hostname(name)
        _log.info("the host name is %s, by %s", name, work.caller)
        if not self._engine.is_set_up():
            return Changed("", f"The host name is {name}.")
        try:
            await self._engine.set_setting("InternetHostname", name)
        except HostError as error:
            raise HostError(
                f"Linux has the new name, the mail server not yet: {error} Try again when it runs."
            ) from error
        return Changed(
            "engine", f"The host name is {name}; restart the engine for a certificate of this name."
        )
