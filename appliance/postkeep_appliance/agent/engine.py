"""The engine's unit: start, stop, restart, on and off at boot (row CON-8)."""

import logging

from postkeep_appliance.agent.work import Refused, Work
from postkeep_appliance.api.types import Done, Engine, EngineState
from postkeep_appliance.host.clock import Clock
from postkeep_appliance.host.port import EnginePort, HostError, UnitFacts

SETTLE_SECONDS = 180.0
_LOOK = 0.5
_AIM = {"start": True, "restart": True, "enable": True, "stop": False, "disable": False}
_DONE = {
    "start": "The engine runs.",
    "restart": "The engine runs again.",
    "enable": "The engine runs, and starts with the appliance.",
    "stop": "The engine is stopped.",
    "disable": "The engine is stopped and stays off when the appliance starts.",
}

_log = logging.getLogger("postkeep.agent")


def state_of(unit: UnitFacts, set_up: bool) -> EngineState:
    """systemd's words in ours. An engine that waits for its set-up runs, but is not of use yet."""
    if unit.active == "failed" or unit.sub in ("auto-restart", "auto-restart-queued"):
        return EngineState.FAILED
    if unit.active == "active" or unit.active == "reloading":
        return EngineState.RUNNING if set_up else EngineState.NOT_SET_UP
    if unit.active in ("activating", "deactivating"):
        return EngineState.STARTING if unit.active == "activating" else EngineState.STOPPED
    if unit.enabled in ("disabled", "masked", "masked-runtime"):
        return EngineState.DISABLED
    return EngineState.STOPPED if set_up else EngineState.NOT_SET_UP


class EngineControl:
    """Asks systemd and waits until the unit has settled."""

    def __init__(self, host: EnginePort, clock: Clock) -> None:
        self._host = host
        self._clock = clock

    async def act(self, call: Engine, work: Work) -> Done:
        _log.info("engine: %s by %s", call.action, work.caller)
        await self.reach(call, work)
        return Done(_DONE[call.action])

    async def reach(self, call: Engine, work: Work) -> None:
        """Raises HostError when the unit does not get there."""
        before = await self._host.unit()
        await self._host.command(call.action)
        begin = self._clock.monotonic()
        restarted = call.action != "restart" or before.active != "active"
        while True:
            unit = await self._host.unit()
            waited = self._clock.monotonic() - begin
            restarted = restarted or unit.active != "active" or waited > 1.0
            if _AIM[call.action]:
                if unit.active == "active" and restarted:
                    return
                if unit.active == "failed" or unit.sub.startswith("auto-restart"):
                    why = await self._host.why_failed()
                    raise HostError(
                        f"The engine does not start: {why or 'see the logs “error” and “system”.'}"
                    )
            elif unit.active in ("inactive", "failed"):
                return
            if waited > SETTLE_SECONDS:
                raise HostError(
                    f"The engine is “{unit.active}” for {waited:.0f} s; see the logs “error” and “system”."
                )
            work.say(f"The engine is {unit.active} ({unit.sub})", int(waited), int(SETTLE_SECONDS))
            await self._clock.sleep(_LOOK)


def require_set_up(host: EnginePort) -> None:
    if not host.is_set_up():
        raise Refused("failed", "Set Postkeep up first: it has no domain and no administrator yet.")
