"""Trials of the network: a ping, a look-up (row CON-9)."""

from postkeep_appliance.agent.work import Refused, Work
from postkeep_appliance.api.types import Done, TestNetwork
from postkeep_appliance.host import names
from postkeep_appliance.host.port import NetworkPort

MAX_TRIALS = 2


class Diagnostics:
    def __init__(self, network: NetworkPort) -> None:
        self._network = network
        self._running = 0

    async def test(self, call: TestNetwork, work: Work) -> Done:
        target = names.host_or_address(call.target, "target")
        if self._running >= MAX_TRIALS:
            raise Refused("busy", "Other trials are under way; wait for their end.")
        self._running += 1
        try:
            if call.kind == "ping":
                good = await self._network.ping(target, work.say)
                return Done(f"{target} answers." if good else f"{target} does not answer.")
            good = await self._network.resolve(target, work.say)
            return Done(f"DNS knows {target}." if good else f"DNS has no answer for {target}.")
        finally:
            self._running -= 1
