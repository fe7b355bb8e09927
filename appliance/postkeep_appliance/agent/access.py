"""Who may come in from the network: SSH (row CON-5) and the administration (row WEB-3)."""

import logging

from postkeep_appliance.agent.engine import require_set_up
from postkeep_appliance.agent.sessions import Sessions
from postkeep_appliance.agent.work import Refused, Work
from postkeep_appliance.api.types import Changed, Done, SetRemoteAdministration, SetSsh
from postkeep_appliance.host.port import EnginePort, SystemPort

_log = logging.getLogger("postkeep.agent")


class Access:
    def __init__(self, system: SystemPort, engine: EnginePort, sessions: Sessions) -> None:
        self._system = system
        self._engine = engine
        self._sessions = sessions

    async def set_ssh(self, call: SetSsh, work: Work) -> Done:
        # The session would not get here with the first word; but it may have come back meanwhile (CON-3).
        if call.on and self._sessions.first_password:
            raise Refused("denied", "Change root's first password before SSH is switched on.")
        await self._system.set_ssh(call.on)
        _log.info("SSH %s by %s", "on" if call.on else "off", work.caller)
        return Done("SSH is on." if call.on else "SSH is off; open sessions have ended.")

    async def set_remote_administration(self, call: SetRemoteAdministration, work: Work) -> Changed:
        require_set_up(self._engine)
        await self._engine.set_setting("RemoteAdministration", "1" if call.on else "0")
        _log.info("remote administration %s by %s", "on" if call.on else "off", work.caller)
        return Changed(
            "",
            "Other hosts may administer now." if call.on else "Only this machine itself may administer now.",
        )
