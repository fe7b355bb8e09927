"""Back to the state of the image (row CON-9). A power cut in the middle is finished at the next start."""

import hmac
import logging

from postkeep_appliance.agent.power import Power
from postkeep_appliance.agent.work import Work
from postkeep_appliance.api.types import Done, FactoryReset
from postkeep_appliance.api.types import Power as PowerCall
from postkeep_appliance.host.port import Host, HostError, Invalid
from postkeep_appliance.host.reset import RESET_MARK

_log = logging.getLogger("postkeep.agent")


class Reset:
    def __init__(self, host: Host, power: Power) -> None:
        self._host = host
        self._power = power

    async def reset(self, call: FactoryReset, work: Work) -> Done:
        expected = self._host.system.hostname()
        if not hmac.compare_digest(call.confirm.encode("utf-8", "replace"), expected.encode()):
            raise Invalid("confirm", f"Nothing was removed: type the host name {expected} to confirm.")
        _log.warning("factory reset by %s", work.caller)
        self._host.state.write(RESET_MARK, b"")
        await self._finish(work)
        return Done("All is removed; the appliance restarts.")

    async def recover(self, work: Work) -> bool:
        """At the agent's start: whether a reset had begun; it is done then and a restart is on its way."""
        if self._host.state.read(RESET_MARK) is None:
            return False
        _log.warning("a factory reset was cut off: it is finished now")
        await self._finish(work)
        return True

    async def _finish(self, work: Work) -> None:
        """The mark goes last. A step that fails leaves it, so that the next start tries again."""
        steps = self._host.reset.steps()
        failed: HostError | None = None
        for number, step in enumerate(steps):
            work.say(step, number, len(steps))
            try:
                await self._host.reset.do(step)
            except HostError as error:  # the others are done all the same: rather half a reset than none
                _log.error("factory reset: %s", error)
                if number == 0:  # under a running engine nothing is removed
                    raise HostError(f"Nothing was removed: {error}") from error
                failed = failed or error
        if failed is not None:
            raise HostError(f"The reset is not complete: {failed} Restart the appliance to go on with it.")
        self._host.state.remove(RESET_MARK)
        work.say("The appliance restarts", len(steps), len(steps))
        self._power.soon(PowerCall("restart"))
